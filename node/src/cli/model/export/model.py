"""A model that was trained with Kith, as a PyTorch module.

    from model import load, normalise
    model, config = load("FOLDER")
    logits = model(normalise(config, rows))
    labels = [config["labels"][row] for row in logits.argmax(1)]

The module takes normalised rows. `normalise` is a function of its own, so that the module's state
holds the trained weights alone.
"""

import json
import pathlib
import struct

import torch
from torch import nn
from torch.nn import functional


class Model(nn.Module):
    """From normalised rows, float32 [rows, *input_shape], to logits [rows, labels]."""

    def __init__(self, config):
        super().__init__()
        self.layers = config["layers"]
        for layer in self.layers:
            if layer["kind"] == "convolution":
                side = layer["kernel"]
                module = nn.Conv2d(layer["inputs"], layer["outputs"], side, padding=side // 2)
            elif layer["kind"] == "linear":
                module = nn.Linear(layer["inputs"], layer["outputs"])
            else:
                continue
            self.add_module(layer["name"], module)

    def forward(self, values):
        for layer in self.layers:
            kind = layer["kind"]
            if kind == "relu":
                values = functional.relu(values)
            elif kind == "max-pool":
                values = functional.max_pool2d(values, 2)
            elif kind == "flatten":
                values = values.flatten(1)
            else:
                values = getattr(self, layer["name"])(values)
        return values


def load(folder):
    """The model with its trained weights, ready for inference, and its configuration."""
    folder = pathlib.Path(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    model = Model(config)
    model.load_state_dict(weights(folder / "model.safetensors"), strict=True)
    return model.eval(), config


def weights(path):
    """The tensors of a safetensors file of float32, by name. Kith writes no other."""
    content = bytearray(pathlib.Path(path).read_bytes())
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    header.pop("__metadata__", None)
    values = torch.frombuffer(content, dtype=torch.float32, offset=8 + length)
    found = {}
    for name, tensor in header.items():
        start, end = (place // 4 for place in tensor["data_offsets"])
        found[name] = values[start:end].reshape(tensor["shape"])
    return found


def normalise(config, rows):
    """What the model takes of rows as files hold them.

    If the charter names columns, a row is a dictionary of texts, as csv.DictReader gives them. Else
    it is a list of all its numbers in order.
    """
    normalisation = config["normalisation"]
    if "columns" in normalisation:
        values = torch.tensor([_cells(normalisation, row) for row in rows], dtype=torch.float64)
    else:
        mean, deviation = (
            torch.tensor(normalisation[key], dtype=torch.float64) for key in ("mean", "deviation")
        )
        values = torch.tensor(rows, dtype=torch.float64).reshape(len(rows), -1)
        values = (values - mean) / deviation
    return values.to(torch.float32).reshape(len(rows), *config["input_shape"])


def _cells(normalisation, row):
    values = []
    for column in normalisation["columns"]:
        cell = row[column["name"]].strip()
        missing = cell in normalisation["missing"]
        if column["kind"] == "category":
            if cell not in column["values"] and not missing:
                raise ValueError(f"{column['name']}: expected one of {column['values']}, found {cell!r}")
            values.extend(float(value == cell) for value in column["values"])
            continue
        if missing or float(cell) in column["missing"]:
            if column["impute"] is None:
                raise ValueError(f"{column['name']}: expected a number, found {cell!r}")
            cell = column["impute"]
        values.append((float(cell) - column["mean"]) / column["deviation"])
    return values

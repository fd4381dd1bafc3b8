"""Opacus' time for a step of DP-SGD, beside `cargo bench -p kith-models --bench private`, which prints Kith's for the same models.

One thread, noise multiplier 1, clip norm 1, stochastic gradient descent, cross-entropy, float32, 1,024 random rows. Opacus runs twice: with
lots that its own loader draws by Poisson sampling, as Kith draws them, and with ready batches in their place. Each way of Opacus to find
the rows' norms is tried, and the fastest counts. Its noise comes from PyTorch's generator, not from a secure one. Needs one free core:

    pip install torch opacus
    RAYON_NUM_THREADS=1 cargo bench -p kith-models --bench private && python3 experiments/reference/opacus_training.py

Prints steps a second of processor time, those of the fastest of several rounds of 8 steps.
"""

import os
import sys
import time
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "1")
warnings.simplefilter("ignore")
import opacus  # noqa: E402
import torch  # noqa: E402
from opacus import PrivacyEngine  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

from torch_training import cnn, mlp  # noqa: E402

STEPS = 8
SECONDS = 2.0
ROWS = 1024

MODELS = {
    "softmax 784-10": lambda: mlp(784, 10),
    "mlp 784-128-64-10": lambda: mlp(784, 128, 64, 10),
    "cnn 6-16, 120 hidden": lambda: cnn(6, 16, 120),
}
WAYS = ["hooks", "functorch", "ew", "ghost"]


def measure(make, batch, way, draws):
    """Steps a second; `draws` has Opacus draw its lots."""
    torch.manual_seed(0)
    model, loss = make(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    rows, labels = torch.rand(ROWS, 1, 28, 28), torch.randint(0, 10, (ROWS,))
    made = PrivacyEngine().make_private(
        module=model,
        optimizer=optimizer,
        criterion=loss,
        data_loader=DataLoader(TensorDataset(rows, labels), batch_size=batch),
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        grad_sample_mode=way,
    )
    model, optimizer, loader = made[0], made[1], made[-1]
    loss = made[2] if way == "ghost" else loss

    def lots():
        while True:
            if draws:
                yield from loader
            else:
                yield from zip(rows.split(batch), labels.split(batch))

    source, least, begin = lots(), float("inf"), time.process_time()
    while time.process_time() - begin < SECONDS:
        started = time.process_time()
        for _ in range(STEPS):
            inputs, targets = next(source)
            optimizer.zero_grad()
            loss(model(inputs), targets).backward()
            optimizer.step()
        least = min(least, time.process_time() - started)
    return STEPS / least


def main():
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, opacus {opacus.__version__}")
    for name, make in MODELS.items():
        for batch in (32, 64, 256):
            if any(argument not in f"{name}, batch {batch}" for argument in sys.argv[1:]):
                continue
            for draws in (False, True):
                rates = {way: measure(make, batch, way, draws) for way in WAYS}
                best = max(rates, key=rates.get)
                lots = "lots drawn" if draws else "lots given"
                listed = ", ".join(f"{way} {rate:.0f}" for way, rate in rates.items())
                print(f"{name}, batch {batch}, {lots}: {rates[best]:.0f} steps/s by {best} ({listed})", flush=True)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""The worlds of experiments/allouah-2023-nnm.toml with the rules and attacks of byzfl 0.0.11 in place of Kith's.

    pip install byzfl==0.0.11 blake3==1.0.11
    python experiments/reference/byzfl_h5.py --out docs/results/allouah-2023-nnm-byzfl.csv --seeds 0,1,2 --jobs 2

Run from the root of the repository. A line for each run is appended to the file; runs that are there are left out, so that the command
goes on where it was stopped. `--check` compares the shortcuts below with byzfl called on whole momenta.

Kith's and this program's runs of one seed are the same world: liars, rows of each peer, batches of each round and initial parameters are
drawn as Kith draws them (BLAKE3 streams, consensus/src/random.rs). What stays different is named in the results' page.

byzfl gets the momenta, as in its own benchmark. What it computes on distances alone (Average, Krum, GeometricMedian, NNM, Bucketing) it is
given in coordinates of the rows' span, with a small multiple of the unit vectors behind them: distances are the same, and what comes out
behind tells the weight of each row. That is exact up to rounding and some ten times faster than 79,510 coordinates.
"""

import argparse
import csv
import gzip
import itertools
import math
import multiprocessing
import os
import struct
import sys
import time
from pathlib import Path

for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import byzfl  # noqa: E402
import numpy as np  # noqa: E402
from blake3 import blake3  # noqa: E402

PEERS, LIARS, ROUNDS, EVALUATE_EVERY = 17, 4, 300, 50
INPUTS, HIDDEN, CLASSES, BATCH = 784, 100, 10, 25
RATE, MOMENTUM, DECAY, CLIP = np.float32(0.1), np.float32(0.9), np.float32(1e-4), 2.0
MEAN, DEVIATION = np.float32(72.93), np.float32(90.015)
SIZES = (HIDDEN * INPUTS, HIDDEN, CLASSES * HIDDEN, CLASSES)
ENDS = np.cumsum(SIZES)

ALPHAS = ("0.1", "1", "10")
ATTACKS = ("ipm:10", "alie:1.5", "sign-flip:1", "gaussian:1000")
RULES = (
    "mean",
    "krum",
    "nnm+krum",
    "trimmed-mean",
    "nnm+trimmed-mean",
    "bucketing+trimmed-mean",
    "median",
    "nnm+median",
    "bucketing+median",
    "geometric-median",
    "nnm+geometric-median",
    "bucketing+geometric-median",
)


# ---------------------------------------------------------------------------------------------------------------- Kith's draws


def seed_of(number):
    return blake3(struct.pack("<Q", number), derive_key_context="kith.v1 seed").digest()


def child(seed, name):
    return blake3(seed + name.encode(), derive_key_context="kith.v1 child seed").digest()


class Stream:
    """Named random numbers, as consensus/src/random.rs has them."""

    def __init__(self, context, seed, round_=0, sender=0, tensor=0):
        self.hasher = blake3(seed + struct.pack("<QQQ", round_, sender, tensor), derive_key_context=context)
        self.place = 0

    def words(self, count):
        data = self.hasher.digest(length=8 * count, seek=8 * self.place)
        self.place += count
        return np.frombuffer(data, dtype="<u8")

    def unit(self):
        return (int(self.words(1)[0]) >> 11) * 2.0**-53

    def units(self, count):
        return (self.words(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def normal(self):
        radius = math.sqrt(-2.0 * math.log(1.0 - self.unit()))
        return radius * math.cos(math.tau * self.unit())

    def shuffled(self, count):
        bounds = np.arange(count, 1, -1, dtype=np.uint64)
        words = self.words(count - 1)
        # A word this near to 2^64 would be drawn again; with these bounds that happens once in 10^14 draws.
        assert not (words > np.uint64(2**64 - 1 - count)).any()
        order = list(range(count))
        for last, other in zip(range(count - 1, 0, -1), (words % bounds).tolist()):
            order[last], order[other] = order[other], order[last]
        return order


def log_gamma(alpha, stream):
    if alpha < 1.0:
        above = log_gamma(alpha + 1.0, stream)
        return above + math.log(1.0 - stream.unit()) / alpha
    d = alpha - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * d)
    while True:
        x = stream.normal()
        v = 1.0 + c * x
        v *= v * v
        if v > 0.0 and math.log(1.0 - stream.unit()) < 0.5 * x * x + d - d * v + d * math.log(v):
            return math.log(d) + math.log(v)


def deal(labels, alpha, seed, least=10):
    """Each peer's rows, ascending: models/src/partition/dirichlet.rs."""
    stream = Stream("kith.v1 partition", seed)
    classes = [np.flatnonzero(labels == label) for label in range(CLASSES)]
    while True:
        parts = [[] for _ in range(PEERS)]
        for rows in classes:
            logs = [log_gamma(alpha, stream) for _ in range(PEERS)]
            weights = [math.exp(log - max(logs)) for log in logs]
            shares = [weight / sum(weights) for weight in weights]
            start, total = 0, 0.0
            for peer, share in enumerate(shares):
                total += share
                end = len(rows) if peer + 1 == PEERS else min(int(total * len(rows)), len(rows))
                parts[peer].append(rows[start:end])
                start = end
        parts = [np.sort(np.concatenate(part)) for part in parts]
        if all(len(part) >= least for part in parts):
            return parts


def initial_parameters(seed):
    """He uniform before the ReLU, Glorot uniform after it, biases 0: models/src/model.rs. Its tensors are in the order of their names."""
    parameters = np.zeros(ENDS[-1], np.float32)
    bounds = (math.sqrt(6.0 / INPUTS), 0.0, math.sqrt(6.0 / (HIDDEN + CLASSES)), 0.0)
    for tensor, size, end, bound in zip((1, 0, 3, 2), SIZES, ENDS, bounds):
        if bound > 0.0:
            units = Stream("kith.v1 init", seed, tensor=tensor).units(size)
            parameters[end - size : end] = ((2.0 * units - 1.0) * bound).astype(np.float32)
    return parameters


# ------------------------------------------------------------------------------------------------------------------- the data


def read_idx(folder, name):
    path = folder / name
    data = path.read_bytes() if path.exists() else gzip.decompress((folder / f"{name}.gz").read_bytes())
    dimensions = struct.unpack(f">{data[3]}I", data[4 : 4 + 4 * data[3]])
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(dimensions[0], -1)


class Data:
    def __init__(self, folder):
        self.rows = read_idx(folder, "train-images-idx3-ubyte")
        self.labels = read_idx(folder, "train-labels-idx1-ubyte").ravel()
        self.test = normalised(read_idx(folder, "t10k-images-idx3-ubyte"))
        self.test_labels = read_idx(folder, "t10k-labels-idx1-ubyte").ravel()


def normalised(pixels):
    return (pixels.astype(np.float32) - MEAN) / DEVIATION


class World:
    """What a seed and a partition decide. Honest peers come first, then the liars."""

    def __init__(self, data, alpha, number):
        seed = seed_of(number)
        lying = sorted(Stream("kith.v1 adversaries", seed).shuffled(PEERS)[:LIARS])
        peers = [peer for peer in range(PEERS) if peer not in lying] + lying
        parts = deal(data.labels, float(alpha), seed)
        # Rows of each round and peer, padded to the batch; a part that is smaller is a batch by itself.
        self.batches = np.zeros((ROUNDS, PEERS, BATCH), np.int64)
        self.sizes = np.array([min(BATCH, len(parts[peer])) for peer in peers])
        for place, peer in enumerate(peers):
            batches = child(seed, f"batches {peer}")
            for round_ in range(ROUNDS):
                order = Stream("kith.v1 batches", batches, round_).shuffled(len(parts[peer]))[:BATCH]
                self.batches[round_, place, : len(order)] = parts[peer][order]
        self.scales = np.where(np.arange(BATCH) < self.sizes[:, None], 1.0 / self.sizes[:, None], 0.0).astype(np.float32)
        self.initial = initial_parameters(seed)


# --------------------------------------------------------------------------------------------------------------- the training


def tensors(parameters):
    w1, b1, w2, b2 = np.split(parameters, ENDS[:-1])
    return w1.reshape(HIDDEN, INPUTS), b1, w2.reshape(CLASSES, HIDDEN), b2


def gradients(parameters, inputs, labels, scales):
    """Gradients of each peer's mean cross-entropy at common parameters: inputs [peers, batch, 784], scales 1 / rows or 0."""
    peers, batch = labels.shape
    w1, b1, w2, b2 = tensors(parameters)
    hidden = np.maximum(inputs.reshape(-1, INPUTS) @ w1.T + b1, 0)
    logits = hidden @ w2.T + b2
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    residuals = powers / powers.sum(axis=1, keepdims=True)
    residuals[np.arange(len(residuals)), labels.ravel()] -= 1
    residuals *= scales.reshape(-1, 1)
    below = (residuals @ w2) * (hidden > 0)
    residuals, hidden = residuals.reshape(peers, batch, -1), hidden.reshape(peers, batch, -1)
    below = below.reshape(peers, batch, -1)
    out = np.empty((peers, len(parameters)), np.float32)
    np.matmul(below.transpose(0, 2, 1), inputs, out=out[:, : ENDS[0]].reshape(peers, HIDDEN, INPUTS))
    out[:, ENDS[0] : ENDS[1]] = below.sum(axis=1)
    out[:, ENDS[1] : ENDS[2]] = np.matmul(residuals.transpose(0, 2, 1), hidden).reshape(peers, -1)
    out[:, ENDS[2] :] = residuals.sum(axis=1)
    return out


def accuracy(data, parameters):
    w1, b1, w2, b2 = tensors(parameters)
    logits = np.maximum(data.test @ w1.T + b1, 0) @ w2.T + b2
    return float((logits.argmax(axis=1) == data.test_labels).mean())


# ---------------------------------------------------------------------------------------------------------- byzfl's rules, attacks

# Kith's Krum is Blanchard's, over n - f - 2 others; byzfl's is over n - f - 1, so that its f is one higher. Its geometric median
# stops after three steps from 0 by default; Kith's goes on until nothing moves.
KRUM = byzfl.Krum(LIARS + 1)
GEOMETRIC_MEDIAN = byzfl.GeometricMedian(nu=1e-6, T=100)
MIXING, BUCKETING = byzfl.NNM(LIARS), byzfl.Bucketing(2)


def coordinates(rows):
    """Rows in coordinates of their span, and behind these a small multiple of the unit vectors."""
    wide = rows.astype(np.float64)
    gram = wide @ wide.T
    tag = 1e-5 * math.sqrt(np.median(np.diag(gram))) + 1e-30
    # Equal rows, as of liars who say the same, have no inverse; this much they may differ.
    factor = np.linalg.cholesky(gram + np.diag(1e-13 * np.diag(gram) + 1e-60))
    return np.hstack([factor, tag * np.eye(len(rows))]), tag


def middle(rows):
    """byzfl.Median of an odd number of rows, which is what its TrMean leaves when all but one are cut; four times faster."""
    return byzfl.TrMean(len(rows) // 2)(rows)


def combine(rule, rows, whole=False):
    """What the rule makes of the rows; with `whole`, of all their coordinates at once."""
    before, last = rule.split("+") if "+" in rule else (None, rule)
    whole = whole or rule in ("trimmed-mean", "median")  # nothing in them is about distances
    inner, tag = (rows, None) if whole else coordinates(rows)
    if before:
        inner = {"nnm": MIXING, "bucketing": BUCKETING}[before](inner)
    if last in ("trimmed-mean", "median"):
        if not whole:
            inner = (inner[:, len(rows) :] / tag).astype(np.float32) @ rows
        return byzfl.TrMean(LIARS)(inner) if last == "trimmed-mean" else middle(inner)
    out = {"mean": byzfl.Average(), "krum": KRUM, "geometric-median": GEOMETRIC_MEDIAN}[last](inner)
    return out if whole else (out[len(rows) :] / tag).astype(np.float32) @ rows


def lies(attack, honest, own):
    """The liars' momenta: a liar's model is its start minus the learning rate times this."""
    kind, _, value = attack.partition(":")
    value = float(value)
    if kind == "ipm":
        return np.tile(byzfl.InnerProductManipulation(tau=value)(honest), (len(own), 1))
    if kind == "alie":
        return np.tile(byzfl.ALittleIsEnough(tau=value)(honest), (len(own), 1))
    if kind == "sign-flip":
        # Kith's reverses the liar's own step; byzfl's the mean of what it is given.
        return np.stack([value * byzfl.SignFlipping()(row[None]) for row in own])
    # Kith's noise is added to the model, so that on momenta it is 1 / learning rate times as large.
    return np.stack([byzfl.Gaussian(mu=0.0, sigma=value / float(RATE))(honest) for _ in own])


def run(data, world, attack, rule, number, own_starts):
    """With `own_starts` a liar goes on from what the rule makes of the others' rows and of its own true one, as a peer of Kith does, and
    lies as seen from there; without, everybody starts a round from the same parameters, as with a server."""
    # Other buckets and other noise for each rule, as with Kith, whose buckets follow from the charter.
    np.random.seed([number, RULES.index(rule)])
    honest_count = PEERS - LIARS
    parameters = world.initial.copy()
    # How far each liar's start is from everybody's, in units of a step: a model is the start minus the learning rate times a row.
    aside = np.zeros((LIARS, len(parameters)), np.float32)
    momenta = np.zeros((PEERS, len(parameters)), np.float32)
    found = []
    for round_ in range(ROUNDS):
        rows = world.batches[round_]
        inputs, labels = normalised(data.rows[rows]), data.labels[rows]
        starts = [parameters] * honest_count + [parameters - RATE * way for way in aside]
        if own_starts:
            fresh = gradients(parameters, inputs[:honest_count], labels[:honest_count], world.scales[:honest_count])
            for liar in range(honest_count, PEERS):
                own_rows = (part[liar : liar + 1] for part in (inputs, labels, world.scales))
                fresh = np.concatenate([fresh, gradients(starts[liar], *own_rows)])
        else:
            fresh = gradients(parameters, inputs, labels, world.scales)
        norms = np.sqrt([np.dot(row, row) for row in fresh])
        fresh *= np.minimum(1.0, CLIP / np.maximum(norms, 1e-30)).astype(np.float32)[:, None]
        for row, start in zip(fresh, starts):
            row += DECAY * start
        momenta *= MOMENTUM
        fresh *= 1 - MOMENTUM
        momenta += fresh
        honest, own = momenta[:honest_count], momenta[honest_count:]
        if own_starts:
            # The honest rows as this liar sees them, its lie, and that as everybody sees it.
            said = np.concatenate([way + lies(attack, honest - way, row[None]) for way, row in zip(aside, own)]).astype(np.float32)
        else:
            said = lies(attack, honest, own).astype(np.float32)
        told = np.concatenate([honest, said])
        state = np.random.get_state()
        way = combine(rule, told).astype(np.float32)
        if own_starts:
            ends = []
            for liar in range(LIARS):
                kept = told[honest_count + liar].copy()
                told[honest_count + liar] = aside[liar] + own[liar]
                np.random.set_state(state)  # everybody draws the same buckets
                ends.append(combine(rule, told).astype(np.float32) - way)
                told[honest_count + liar] = kept
            aside = np.stack(ends)
        with np.errstate(all="ignore"):
            parameters = parameters - RATE * way
        if (round_ + 1) % EVALUATE_EVERY == 0:
            found.append(accuracy(data, parameters))
    return found


# ------------------------------------------------------------------------------------------------------------------- the command

DATA, WORLDS = None, {}


def prepare(folder):
    global DATA
    DATA = Data(folder)


def work(job):
    alpha, seed, attack, rule, starts = job
    if (alpha, seed) not in WORLDS:
        WORLDS.clear()
        WORLDS[alpha, seed] = World(DATA, alpha, seed)
    started = time.process_time()
    return job, run(DATA, WORLDS[alpha, seed], attack, rule, seed, starts == "own"), time.process_time() - started


def check(data):
    """Every rule with and without the shortcuts, on momenta of a few rounds."""
    world = World(data, "0.1", 0)
    momenta = np.zeros((PEERS, len(world.initial)), np.float32)
    for round_ in range(5):
        rows = world.batches[round_]
        momenta += gradients(world.initial, normalised(data.rows[rows]), data.labels[rows], world.scales)
    assert np.array_equal(middle(momenta), byzfl.Median()(momenta))
    for attack, rule in itertools.product(ATTACKS, RULES):
        np.random.seed(1)
        rows = np.concatenate([momenta[:13], lies(attack, momenta[:13], momenta[13:])]).astype(np.float64)
        results = []
        for whole in (False, True):
            np.random.seed(2)
            results.append(combine(rule, rows, whole))
        error = np.linalg.norm(results[0] - results[1]) / np.linalg.norm(results[1])
        print(f"{attack:14} {rule:28} relative difference {error:.1e}")
        assert error < 1e-4, "the shortcut is wrong"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default="/usr/share/datasets/fashion-mnist", help="folder of the four files")
    parser.add_argument("--out", type=Path, help="CSV to append to")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--alphas", default=",".join(ALPHAS))
    parser.add_argument("--attacks", default=",".join(ATTACKS))
    parser.add_argument("--rules", default=",".join(RULES))
    parser.add_argument("--starts", default="common", help="common, own, or both: where liars start a round from")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--check", action="store_true", help="compare the shortcuts with byzfl on whole momenta, and end")
    arguments = parser.parse_args()
    if arguments.check:
        return check(Data(arguments.data))
    if arguments.out is None:
        parser.error("--out is missing")
    done = set()
    if arguments.out.exists():
        with arguments.out.open() as file:
            done = {(row["alpha"], int(row["seed"]), row["attack"], row["rule"], row["starts"]) for row in csv.DictReader(file)}
    else:
        rounds = [str(round_) for round_ in range(EVALUATE_EVERY, ROUNDS + 1, EVALUATE_EVERY)]
        arguments.out.write_text(",".join(["alpha", "attack", "rule", "starts", "seed", *(f"accuracy_{r}" for r in rounds)]) + "\n")
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    lists = (arguments.alphas.split(","), seeds, arguments.attacks.split(","), arguments.rules.split(","), arguments.starts.split(","))
    jobs = [job for job in itertools.product(*lists) if job not in done]
    with multiprocessing.Pool(arguments.jobs, prepare, (arguments.data,)) as pool, arguments.out.open("a") as file:
        for count, ((alpha, seed, attack, rule, starts), found, seconds) in enumerate(pool.imap_unordered(work, jobs), 1):
            file.write(",".join([alpha, attack, rule, starts, str(seed), *(f"{value:.4f}" for value in found)]) + "\n")
            file.flush()
            print(f"{count}/{len(jobs)} {alpha} {attack} {rule} {starts} seed {seed}: {found[-1]:.4f}, {seconds:.1f} s", file=sys.stderr)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Aggregation rules of numpy and byzfl beside Kith's, in one run on one machine, one thread.

    pip install numpy byzfl==0.0.11
    python experiments/reference/rules.py [--models 20] [--values 1000000] [--byzantine 4]

Builds and runs `cargo bench -p kith-consensus --bench rules`, then times the same rules on rows of the same shape. What is not
installed is left out. Ratios are printed for what was measured in this run and for nothing else. Each time is the least of three; let
nothing else run meanwhile.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

ROOT = Path(__file__).resolve().parents[2]


def ours(sizes):
    """Milliseconds of each of our rules, by name."""
    command = ["cargo", "bench", "-q", "-p", "kith-consensus", "--bench", "rules", "--", *map(str, sizes)]
    lines = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    table = [line.split() for line in lines if len(line.split()) == 4]
    return {name: float(ms) for name, ms, *_ in table if ms.replace(".", "").isdigit()}


def least_of(work, times=3):
    def once():
        start = time.perf_counter()
        work()
        return 1e3 * (time.perf_counter() - start)

    return min(once() for _ in range(times))


def gram_rules(numpy, rows, byzantine):
    """Krum and mixing by one product of all rows: what numpy does best, with the digits that it loses where rows are nearly equal."""

    def distances():
        product = rows @ rows.T
        squares = product.diagonal()
        return squares[:, None] + squares[None, :] - 2 * product

    def krum():
        nearest = numpy.sort(distances(), axis=1)[:, 1 : len(rows) - byzantine - 1]
        return rows[nearest.sum(axis=1).argmin()]

    def mixing():
        nearest = numpy.argsort(distances(), axis=1)[:, : len(rows) - byzantine]
        weights = numpy.zeros((len(rows), len(rows)), dtype=rows.dtype)
        numpy.put_along_axis(weights, nearest, 1 / (len(rows) - byzantine), axis=1)
        return weights @ rows

    yield "mean", lambda: rows.mean(axis=0)
    yield "median", lambda: numpy.median(rows, axis=0)
    yield "trimmed-mean", lambda: numpy.sort(rows, axis=0)[byzantine : len(rows) - byzantine].mean(axis=0)
    yield "krum", krum
    yield "nnm+mean", lambda: mixing().mean(axis=0)


def byzfl_rules(byzfl, rows, byzantine):
    mixing, average = byzfl.NNM(byzantine), byzfl.Average()
    yield "mean", lambda: average(rows)
    yield "median", lambda: byzfl.Median()(rows)
    yield "trimmed-mean", lambda: byzfl.TrMean(byzantine)(rows)
    yield "krum", lambda: byzfl.Krum(byzantine)(rows)
    yield "multi-krum", lambda: byzfl.MultiKrum(byzantine)(rows)
    yield "geometric-median", lambda: byzfl.GeometricMedian(nu=1e-6, T=100)(rows)
    yield "nnm+mean", lambda: average(mixing(rows))


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--models", type=int, default=20)
    options.add_argument("--values", type=int, default=1_000_000)
    options.add_argument("--byzantine", type=int, default=4)
    given = options.parse_args()
    try:
        import numpy
    except ImportError:
        sys.exit("numpy is missing: pip install numpy")
    kith = ours((given.models, given.values, given.byzantine))
    rows = numpy.random.default_rng(1).random((given.models, given.values), dtype=numpy.float32) - 0.5
    found = {"numpy": dict(gram_rules(numpy, rows, given.byzantine))}
    try:
        import byzfl
        import torch

        torch.set_num_threads(1)
        found["byzfl (numpy)"] = dict(byzfl_rules(byzfl, rows, given.byzantine))
        found["byzfl (torch)"] = dict(byzfl_rules(byzfl, torch.from_numpy(rows), given.byzantine))
    except ImportError as missing:
        print(f"left out: {missing}", file=sys.stderr)
    print(f"{given.models} models of {given.values} values, byzantine = {given.byzantine}, one thread, milliseconds (times Kith's)")
    print(f"{'rule':<18} {'Kith':>8}" + "".join(f"{name:>22}" for name in found))
    for rule in ("mean", "median", "trimmed-mean", "krum", "multi-krum", "geometric-median", "nnm+mean"):
        cells = []
        for rules in found.values():
            if rule not in rules:
                cells.append(f"{'–':>22}")
                continue
            time_taken = least_of(rules[rule])
            cells.append(f"{f'{time_taken:.1f} ({time_taken / kith[rule]:.1f})':>22}")
        print(f"{rule:<18} {kith[rule]:>8.1f}" + "".join(cells), flush=True)


if __name__ == "__main__":
    main()

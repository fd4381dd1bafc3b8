#!/usr/bin/env python3
"""Plain gossip on the dumbbell of experiments/he-2022-dumbbell.toml, with three ways of dealing the classes to the cliques.

    pip install byzfl==0.0.11 blake3==1.0.11
    python experiments/reference/dumbbell_splits.py --seeds 0,1,2

Run from the root of the repository. Written apart from Kith, in numpy: the graph, Metropolis-Hastings weights, heavy ball and initial
parameters are those of the experiment; rows and batches are other draws. Prints each clique's mean accuracy on the whole test set and, for
one peer of each, the share of each class that is told right. (byzfl is only needed because functions of byzfl_h5.py are used.)
"""

import argparse
from pathlib import Path

import byzfl_h5 as common
import numpy as np

PEERS, BATCH, RATE, MOMENTUM = 20, 32, np.float32(0.01), np.float32(0.9)
SPLITS = {
    "0-4 | 5-9": [0, 1, 2, 3, 4],
    "5-9 | 0-4": [5, 6, 7, 8, 9],
    "even | odd": [0, 2, 4, 6, 8],
}


def weights():
    edges = np.zeros((PEERS, PEERS), bool)
    edges[:10, :10] = edges[10:, 10:] = True
    edges[0, PEERS - 1] = edges[PEERS - 1, 0] = True
    np.fill_diagonal(edges, False)
    degrees = edges.sum(axis=1)
    mixing = np.where(edges, 1.0 / (1 + np.maximum.outer(degrees, degrees)), 0.0)
    np.fill_diagonal(mixing, 1.0 - mixing.sum(axis=1))
    return mixing.astype(np.float32)


def predictions(data, parameters):
    w1, b1, w2, b2 = common.tensors(parameters)
    return (np.maximum(data.test @ w1.T + b1, 0) @ w2.T + b2).argmax(axis=1)


def run(data, first, rounds, seed):
    draws = np.random.default_rng(seed)
    inside = np.isin(data.labels, first)
    parts = [part for rows in (inside, ~inside) for part in np.array_split(draws.permutation(np.flatnonzero(rows)), 10)]
    parameters = np.tile(common.initial_parameters(common.seed_of(seed)), (PEERS, 1))
    velocities, mixing = np.zeros_like(parameters), weights()
    scales = np.full((1, BATCH), 1 / BATCH, np.float32)
    for _ in range(rounds):
        for peer, part in enumerate(parts):
            rows = draws.choice(part, BATCH, replace=False)
            gradient = common.gradients(parameters[peer], common.normalised(data.rows[rows])[None], data.labels[rows][None], scales)
            velocities[peer] = MOMENTUM * velocities[peer] + gradient[0]
        parameters = mixing @ (parameters - RATE * velocities)
    told = [predictions(data, own) == data.test_labels for own in parameters]
    classes = [[float(told[peer][data.test_labels == label].mean()) for label in range(10)] for peer in (1, 11)]
    return np.mean([part.mean() for part in told[:10]]), np.mean([part.mean() for part in told[10:]]), classes


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default="/usr/share/datasets/fashion-mnist", help="folder of the four files")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--rounds", type=int, default=900)
    arguments = parser.parse_args()
    data = common.Data(arguments.data)
    for name, first in SPLITS.items():
        results = [run(data, first, arguments.rounds, int(seed)) for seed in arguments.seeds.split(",")]
        for clique, place in (("A", 0), ("B", 1)):
            values = np.array([result[place] for result in results]) * 100
            shares = " ".join(f"{100 * np.mean([result[2][place][label] for result in results]):3.0f}" for label in range(10))
            deviation = values.std(ddof=1) if len(values) > 1 else 0.0
            print(f"{name:11} clique {clique}: {values.mean():.1f} ± {deviation:.1f}; by class {shares}", flush=True)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Peer-rounds a second of gossipy beside Kith's simulator, in one run on one machine, on one core each.

    pip install torch scikit-learn pandas networkx dill rich matplotlib tqdm && pip install --no-deps gossipy-dfl==0.0.1
    python experiments/reference/scale.py [PEERS ...]

Both train softmax regression on 64 features and ten classes, 18 rows a peer, one step a round, over a random regular graph of degree
four, for ten rounds. They do not do the same: in gossipy a peer pushes its model to one neighbour a round, in Kith to all four, signed,
and every invariant of the protocol is checked meanwhile. Evaluation is left out as far as it can be: one peer at a time. The ratio is of
rounds of peers. Let nothing else run meanwhile.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 10
ROWS = 18
FEATURES = 64
CLASSES = 10


def ours(sizes):
    """Peer-rounds a second of processor time by number of peers."""
    command = ["cargo", "bench", "-q", "-p", "kith-simulations", "--bench", "scale", "--", *map(str, sizes)]
    lines = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    table = [line.split() for line in lines]
    return {int(row[0]): float(row[3]) for row in table if len(row) > 3 and row[2] == "keyed-hash"}


def gossipy(peers):
    """Peer-rounds a second of processor time."""
    import networkx
    import torch
    from gossipy.core import AntiEntropyProtocol, ConstantDelay, CreateModelMode, StaticP2PNetwork
    from gossipy.data import DataDispatcher
    from gossipy.data.handler import ClassificationDataHandler
    from gossipy.model.handler import TorchModelHandler
    from gossipy.model.nn import LogisticRegression
    from gossipy.node import GossipNode
    from gossipy.simul import GossipSimulator

    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn((peers * ROWS + 100, FEATURES), generator=generator)
    labels = torch.randint(0, CLASSES, (peers * ROWS + 100,), generator=generator)
    data = ClassificationDataHandler(rows, labels, test_size=100 / len(rows))
    dispatcher = DataDispatcher(data, n=peers, eval_on_user=False, auto_assign=True)
    graph = networkx.to_numpy_array(networkx.random_regular_graph(4, peers, seed=1))
    nodes = GossipNode.generate(
        data_dispatcher=dispatcher,
        p2p_net=StaticP2PNetwork(peers, graph),
        model_proto=TorchModelHandler(
            net=LogisticRegression(FEATURES, CLASSES),
            optimizer=torch.optim.SGD,
            optimizer_params={"lr": 0.1},
            criterion=torch.nn.CrossEntropyLoss(),
            local_epochs=1,
            batch_size=ROWS,
            create_model_mode=CreateModelMode.MERGE_UPDATE,
        ),
        round_len=100,
        sync=True,
    )
    simulator = GossipSimulator(
        nodes=nodes,
        data_dispatcher=dispatcher,
        delta=100,
        protocol=AntiEntropyProtocol.PUSH,
        delay=ConstantDelay(0),
        sampling_eval=1 / peers,
    )
    simulator.init_nodes(seed=1)
    started = time.process_time()
    simulator.start(n_rounds=ROUNDS)
    return peers * ROUNDS / (time.process_time() - started)


def main():
    sizes = [int(argument) for argument in sys.argv[1:]] or [100, 1000]
    kith = ours(sizes)
    print(f"{'peers':>7} {'Kith':>10} {'gossipy':>10}  (peer-rounds a second of one core)")
    for peers in sizes:
        try:
            other = gossipy(peers)
        except ImportError as error:
            sys.exit(f"gossipy is not installed: {error}")
        print(f"{peers:>7} {kith[peers]:>10.0f} {other:>10.0f}  {kith[peers] / other:.0f} times")


if __name__ == "__main__":
    main()

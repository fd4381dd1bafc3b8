"""PyTorch's time for a step of training, beside `cargo bench -p kith-models --bench training`, which prints Kith's for the same models.

One thread, batch 32, stochastic gradient descent with momentum 0.9, cross-entropy, float32, random rows; forward, backward and
step. Needs torch (`pip install torch`, or Debian's python3-torch) and one free core:

    RAYON_NUM_THREADS=1 cargo bench -p kith-models --bench training -- step && python3 experiments/reference/torch_training.py

Prints the median of rounds of 19 steps in wall-clock and in processor time; on a busy machine compare the latter.
"""

import os
import statistics
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
import torch  # noqa: E402
from torch import nn  # noqa: E402

STEPS = 19
SECONDS = 3.0


def mlp(*sizes):
    layers = [nn.Flatten()]
    for inputs, outputs in zip(sizes, sizes[1:]):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def cnn(first, second, hidden):
    """Convolutions of 5 x 5 padded to the same size, each with 2 x 2 max-pooling and ReLU, as Kith's `cnn`."""
    return nn.Sequential(
        nn.Conv2d(1, first, 5, padding=2), nn.MaxPool2d(2), nn.ReLU(),
        nn.Conv2d(first, second, 5, padding=2), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(second * 49, hidden), nn.ReLU(), nn.Linear(hidden, 10),
    )


MODELS = {
    "mlp 784-128-64-10": lambda: mlp(784, 128, 64, 10),
    "mlp 784-1024-1024-10": lambda: mlp(784, 1024, 1024, 10),
    "mlp 784-4096-4096-10": lambda: mlp(784, 4096, 4096, 10),
    "cnn 6-16, 120 hidden": lambda: cnn(6, 16, 120),
    "cnn 32-64, 512 hidden": lambda: cnn(32, 64, 512),
}


def measure(make):
    torch.manual_seed(0)
    model = make()
    rows, labels = torch.rand(STEPS * 32, 1, 28, 28), torch.randint(0, 10, (STEPS * 32,))
    loss = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    wall, processor, begin = [], [], time.perf_counter()
    while len(wall) < 3 or time.perf_counter() - begin < SECONDS:
        started = time.perf_counter(), time.process_time()
        for step in range(STEPS):
            batch = slice(step * 32, step * 32 + 32)
            optimizer.zero_grad()
            loss(model(rows[batch]), labels[batch]).backward()
            optimizer.step()
        wall.append((time.perf_counter() - started[0]) / STEPS)
        processor.append((time.process_time() - started[1]) / STEPS)
    # The first round warms up.
    return statistics.median(wall[1:]) * 1e3, statistics.median(processor[1:]) * 1e3


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread")
    for name, make in MODELS.items():
        if not sys.argv[1:] or any(word in name for word in sys.argv[1:]):
            wall, processor = measure(make)
            print(f"{name}: {wall:.2f} ms a step, {processor:.2f} ms of processor time", flush=True)

"""What the benchmarks share: the network, how a call is timed, and a unit of time."""

import time
from collections.abc import Callable
from itertools import pairwise
from statistics import median

import torch
from goals import Row, at_most
from torch import nn

STEPS = 300
ADDITIONS = 14_000_000


def network(width: int, depth: int = 20) -> nn.Sequential:
    """A plain ReLU network: 784 inputs, 10 outputs."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise([784, *[width] * (depth - 1)]):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, 10))


def timed(call: Callable[[], object]) -> float:
    """Processor seconds of a call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def unit() -> float:
    """Seconds of the piece of work by which times of different machines compare.

    Half of it is small steps of training, half plain Python; about one second on a
    fast core. The median of three, so that a disturbance does not count.
    """
    torch.set_num_threads(1)
    model = network(64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x, y = torch.randn(32, 784), torch.randint(10, (32,))

    def train(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()

    def work() -> None:
        train(STEPS)
        total = 0
        for i in range(ADDITIONS):
            total += i

    train(STEPS // 10)
    return median(timed(work) for _ in range(3))


def time_rows(what: str, seconds: float, unit: float, bound: float) -> list[Row]:
    """A time in seconds, and in units beside the goal."""
    return [
        Row(f"{what}, s", seconds),
        at_most(f"{what}, units", seconds / unit, bound),
    ]

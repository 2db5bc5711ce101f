"""What the benchmarks of training share: the network, and how a call is timed."""

import time
from collections.abc import Callable
from itertools import pairwise

from torch import nn


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

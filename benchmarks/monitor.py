"""What watching costs: a training step with a monitor over one without.

    python benchmarks/monitor.py

One thread, a 20-layer ReLU network, batches of 32. Costs repeat every 20 steps.
Plain and watched runs take turns, round after round; each of the 20 positions
counts with its fastest step of all rounds, and the ratio is that of the means.
"""

import argparse
import time
from collections.abc import Callable
from contextlib import nullcontext
from itertools import pairwise
from statistics import fmean
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from gradlib.monitor import GradientMonitor

CYCLE = 20
SETTINGS: dict[str, dict[str, Any]] = {
    "every step": {"every": 1},
    "every tenth step": {"every": 10},
    "every step, all updates": {"every": 1, "updates_every": 1},
    "every step, activations": {"every": 1, "activations": True},
    "every tenth step, activations": {"every": 10, "activations": True},
}
Step = Callable[[GradientMonitor | None], None]


def network(width: int, depth: int = 20) -> nn.Sequential:
    """A plain ReLU network: 784 inputs, 10 outputs."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise([784, *[width] * (depth - 1)]):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, 10))


def training(width: int) -> tuple[nn.Module, Step]:
    """A network, and a function that makes one step of training."""
    model = network(width)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    x, y = torch.randn(32, 784), torch.randint(10, (32,))

    def step(monitor: GradientMonitor | None) -> None:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        if monitor is not None:
            monitor.log(loss)
        optimizer.step()

    return model, step


def cycle(step: Step, monitor: GradientMonitor | None) -> list[float]:
    """Seconds of each step of the second cycle; the first warms up."""
    seconds = []
    for _ in range(2 * CYCLE):
        start = time.perf_counter()
        step(monitor)
        seconds.append(time.perf_counter() - start)
    return seconds[CYCLE:]


def shares(width: int, rounds: int) -> tuple[float, dict[str, float]]:
    """Seconds of a plain step, and what each setting adds as a share of it."""
    model, step = training(width)
    best = {name: [float("inf")] * CYCLE for name in ["plain", *SETTINGS]}
    for _ in range(rounds):
        for name, fastest in best.items():
            plain = name == "plain"
            watch = nullcontext() if plain else GradientMonitor(model, **SETTINGS[name])
            with watch as monitor:
                best[name] = list(map(min, fastest, cycle(step, monitor)))
    seconds = fmean(best.pop("plain"))
    return seconds, {name: fmean(s) / seconds - 1 for name, s in best.items()}


def main() -> None:
    """Print the shares for networks of some widths."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--widths", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for width in options.widths:
        seconds, found = shares(width, options.rounds)
        print(f"width {width}: a plain step takes {seconds * 1e3:.2f} ms")
        for name, share in found.items():
            print(f"  {name:<32}{share:+7.1%}")


if __name__ == "__main__":
    main()

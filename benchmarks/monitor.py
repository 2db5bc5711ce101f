"""What watching costs: a training step with a monitor over one without.

    python benchmarks/monitor.py

One thread, a 20-layer ReLU network, batches of 32. Plain and watched steps take
turns in blocks, so that both meet the same noise of the machine, and the fastest
block of each counts.
"""

import argparse
import time
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import nn
from torch.nn import functional as F

from gradlib.monitor import GradientMonitor

SETTINGS: dict[str, dict[str, int | bool]] = {
    "every step": {"every": 1},
    "every tenth step": {"every": 10},
    "every step, all updates": {"every": 1, "updates_every": 1},
    "every step, activations": {"every": 1, "activations": True},
    "every tenth step, activations": {"every": 10, "activations": True},
}


def network(width: int, depth: int = 20) -> nn.Sequential:
    """A plain ReLU network: 784 inputs, 10 outputs."""
    sizes = [784, *[width] * (depth - 1)]
    layers: list[nn.Module] = []
    for fan_in, fan_out in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, 10))


def training(width: int) -> tuple[nn.Module, Callable[[GradientMonitor | None], None]]:
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


def block(
    step: Callable[[GradientMonitor | None], None],
    monitor: GradientMonitor | None,
    steps: int,
) -> float:
    """Seconds a step, over a block of steps."""
    start = time.perf_counter()
    for _ in range(steps):
        step(monitor)
    return (time.perf_counter() - start) / steps


def ratios(width: int, rounds: int, steps: int) -> dict[str, float]:
    """Seconds of a plain step, and for each setting the share that watching adds."""
    model, step = training(width)
    best = dict.fromkeys(["plain", *SETTINGS], float("inf"))
    for _ in range(rounds):
        for name in best:
            settings = SETTINGS.get(name)
            watch = nullcontext() if settings is None else GradientMonitor(model, **settings)
            with watch as monitor:
                block(step, monitor, 10)
                best[name] = min(best[name], block(step, monitor, steps))
    plain = best.pop("plain")
    return {"plain": plain, **{n: s / plain - 1 for n, s in best.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for width in options.widths:
        found = ratios(width, options.rounds, options.steps)
        print(f"width {width}: a plain step takes {found.pop('plain') * 1e3:.2f} ms")
        for name, share in found.items():
            print(f"  {name:<32}{share:+7.1%}")


if __name__ == "__main__":
    main()

"""What watching costs: a training step with a monitor over one without.

    python benchmarks/monitor.py

One thread, a 20-layer ReLU network, batches of 32. Costs repeat every 50 steps.
Plain and watched runs take turns, round after round; each of the 50 positions
counts with its fastest step of all rounds, in seconds of the processor, so that
other programs disturb little; the ratio is that of the means.
"norms by torch" is the floor: one ``torch._foreach_norm`` and one read a step. Freed
memory stays with the process, for else page faults, and with them the plain step,
depend on what a monitor happens to hold.
"""

import argparse
import ctypes
import time
from collections.abc import Callable
from itertools import pairwise
from statistics import fmean
from typing import Any

import torch
from goals import Row, at_most, show
from torch import Tensor, nn
from torch.nn import functional as F

from gradlib.monitor import GradientMonitor

CYCLE = 50
WIDTHS = (128, 256)
ROUNDS = 30
SETTINGS: dict[str, dict[str, Any]] = {
    "every step": {"every": 1},
    "every tenth step": {"every": 10},
    "every step, all updates": {"every": 1, "updates_every": 1},
    "every step, activations": {"every": 1, "activations": True},
    "every tenth step, activations": {"every": 10, "activations": True},
}
BOUNDS = {"every step": 0.10, "every tenth step": 0.02}
FLOOR = "norms by torch"
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
Log = Callable[[Tensor], object] | None
Step = Callable[[Log], None]


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

    def step(log: Log) -> None:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        if log is not None:
            log(loss)
        optimizer.step()

    return model, step


def norms_by_torch(model: nn.Module) -> Log:
    """The least that gives the norm of each gradient and the loss as numbers."""
    parameters = list(model.parameters())

    @torch.no_grad()
    def log(loss: Tensor) -> list[float]:
        norms = torch._foreach_norm([p.grad for p in parameters])
        return torch.stack([*norms, loss]).tolist()

    return log


def prepare() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Ask glibc, where it is used, not to give memory back to the system."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(TRIM_THRESHOLD, 1 << 30)
        mallopt(MMAP_THRESHOLD, 1 << 25)


def cycle(step: Step, log: Log) -> list[float]:
    """Seconds of each step of the second cycle; the first warms up."""
    seconds = []
    for _ in range(2 * CYCLE):
        start = time.process_time()
        step(log)
        seconds.append(time.process_time() - start)
    return seconds[CYCLE:]


def shares(
    width: int, rounds: int, settings: dict[str, dict[str, Any]]
) -> tuple[float, dict[str, float]]:
    """Seconds of a plain step, and what each setting adds as a share of it."""
    model, step = training(width)
    logs = {"plain": None, FLOOR: norms_by_torch(model)}
    best = {name: [float("inf")] * CYCLE for name in [*logs, *settings]}
    for _ in range(rounds):
        for name, fastest in best.items():
            if name in logs:
                found = cycle(step, logs[name])
            else:
                with GradientMonitor(model, **settings[name]) as monitor:
                    found = cycle(step, monitor.log)
            best[name] = list(map(min, fastest, found))
    seconds = fmean(best.pop("plain"))
    return seconds, {name: fmean(s) / seconds - 1 for name, s in best.items()}


def goals(width: int, found: dict[str, float]) -> list[Row]:
    """What a width's shares say about the goals."""
    return [
        Row(f"{FLOOR} alone, width {width}: added / step", found[FLOOR]),
        *(
            at_most(f"monitor {name}, width {width}: added / step", found[name], bound)
            for name, bound in BOUNDS.items()
        ),
    ]


def rows() -> list[Row]:
    """The goals, measured without the settings that have none."""
    prepare()
    settings = {name: SETTINGS[name] for name in BOUNDS}
    return [
        row
        for width in WIDTHS
        for row in goals(width, shares(width, ROUNDS, settings)[1])
    ]


def main() -> None:
    """Print the shares for networks of some widths, and the goals."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    prepare()
    met = []
    for width in options.widths:
        seconds, found = shares(width, options.rounds, SETTINGS)
        print(f"width {width}: a plain step takes {seconds * 1e3:.2f} ms")
        for name, share in found.items():
            print(f"  {name:<32}{share:+7.1%}")
        met += goals(width, found)
    show(met)


if __name__ == "__main__":
    main()

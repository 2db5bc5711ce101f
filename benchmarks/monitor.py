"""What watching costs: a training step with a monitor over one without.

    python benchmarks/monitor.py

One thread, a 20-layer ReLU network, batches of 32. Costs repeat every 200 steps.
Plain and watched networks take turns each 7 steps: a processor that slows down slows
all of them, and recorded steps fall everywhere in a turn. Each of the 200 positions
counts with the median of its rounds, in seconds of the processor; the ratio is that
of the means.
Where its memory lies makes a network faster or slower by a point: five sets of
networks are made, and the median share counts.
"norms by torch" is the floor: one ``torch._foreach_norm`` a step, and its numbers.
Freed memory stays with the process, for else page faults, and with them the plain
step, depend on what a monitor happens to hold.
"""

import argparse
import ctypes
import math
from collections.abc import Callable
from contextlib import ExitStack
from statistics import fmean, median
from typing import Any

import torch
from goals import Row, at_most, show
from timing import network, timed
from torch import Tensor, nn
from torch.nn import functional as F

from gradlib.monitor import GradientMonitor

CYCLE = 200
TURN = 7
WIDTHS = (128, 256)
ROUNDS = 3
SETS = 5
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
Step = Callable[[], None]


def training(model: nn.Module, log: Log) -> Step:
    """A function that makes one step of training."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    x, y = torch.randn(32, 784), torch.randint(10, (32,))

    def step() -> None:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        if log is not None:
            log(loss)
        optimizer.step()

    return step


def norms_by_torch(model: nn.Module) -> Log:
    """The least that gives the norm of each gradient and the loss as numbers."""
    parameters = list(model.parameters())

    @torch.no_grad()
    def log(loss: Tensor) -> list[float]:
        norms = torch._foreach_norm([p.grad for p in parameters])
        return [scalar.item() for scalar in [*norms, loss]]

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


def shares(
    width: int, rounds: int, settings: dict[str, dict[str, Any]]
) -> tuple[float, dict[str, float]]:
    """Seconds of a plain step, and what each setting adds as a share of it."""
    names = [FLOOR, *settings]
    sets = [seconds_of_steps(width, rounds, settings) for _ in range(SETS)]
    added = {
        name: median(seconds[k] / seconds[0] for seconds in sets) - 1
        for k, name in enumerate(names, start=1)
    }
    plain = median(seconds[0] for seconds in sets)
    return plain, added


def seconds_of_steps(
    width: int, rounds: int, settings: dict[str, dict[str, Any]]
) -> list[float]:
    """Seconds of a step: plain, with the floor, with each setting; new networks."""
    models = {name: network(width) for name in ["plain", FLOOR, *settings]}
    logs: dict[str, Log] = {"plain": None, FLOOR: norms_by_torch(models[FLOOR])}
    with ExitStack() as stack:
        for name, setting in settings.items():
            monitor = GradientMonitor(models[name], **setting)
            logs[name] = stack.enter_context(monitor).log
        steps = [training(model, logs[name]) for name, model in models.items()]
        return take_turns(steps, rounds)


def take_turns(steps: list[Step], rounds: int, cycle: int = CYCLE) -> list[float]:
    """Seconds of each kind of step; the first round warms up."""
    seconds: list[list[float]] = [[] for _ in steps]
    for _ in range(math.ceil((rounds + 1) * cycle / TURN)):
        for step, found in zip(steps, seconds, strict=True):
            found += [timed(step) for _ in range(TURN)]
    return [
        fmean(median(found[cycle + at :: cycle]) for at in range(cycle))
        for found in seconds
    ]


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

"""What a sweep saves: 32 small networks at once against 32 runs one by one.

    python benchmarks/sweep.py

One thread; 8 learning rates times 4 seeds of a 4-layer ReLU network on digits of
7 x 7 pixels. The plain loop is the shortest that does the same: it records the loss
and steps torch's SGD. ``fit`` is gradlib's loop, which also measures the gradient.
The three take turns, and the fastest round of each counts, in seconds of the
processor, so that other programs disturb little.
"""

import argparse
from collections.abc import Callable
from functools import partial

import torch
from goals import Row, at_least, show
from timing import timed
from torch import Tensor
from torch.nn import functional as F

from gradlib.data import batches, mnist
from gradlib.models import deep_mlp
from gradlib.sweep import build, sweep
from gradlib.training import fit

LRS = [0.01 * 1.5**k for k in range(8)]
SEEDS = range(4)
WIDTHS = (16, 32, 64, 128)
SMALL = 64
BATCH_SIZE, STEPS, ROUNDS = 32, 50, 5
Batches = list[tuple[Tensor, Tensor]]


def plain_loop(model: Callable[[], torch.nn.Module], data: Batches) -> None:
    for lr in LRS:
        for seed in SEEDS:
            net = build(model, seed, "he")
            optimizer = torch.optim.SGD(net.parameters(), lr=lr)
            losses = []
            for x, y in data:
                optimizer.zero_grad()
                loss = F.cross_entropy(net(x), y)
                loss.backward()
                losses.append(loss.item())
                optimizer.step()


def by_fit(model: Callable[[], torch.nn.Module], data: Batches) -> None:
    for lr in LRS:
        for seed in SEEDS:
            fit(build(model, seed, "he"), data, lr=lr)


def at_once(model: Callable[[], torch.nn.Module], data: Batches) -> None:
    sweep(model, data, lrs=LRS, seeds=SEEDS, schemes=["he"])


def fastest(calls: list[Callable[[], None]], rounds: int) -> list[float]:
    """Seconds of the fastest round of each call, after one that does not count."""
    best = [float("inf")] * len(calls)
    for turn in range(rounds + 1):
        for k, call in enumerate(calls):
            seconds = timed(call)
            if turn:
                best[k] = min(best[k], seconds)
    return best


def seconds(
    width: int, batch_size: int = BATCH_SIZE, steps: int = STEPS, rounds: int = ROUNDS
) -> list[float]:
    """Seconds of the plain loop, of ``fit`` and of the sweep."""
    torch.set_num_threads(1)
    x, y = mnist("train", batch_size * steps, pool=4)
    data = list(batches(x, y, batch_size, epochs=1))
    model = partial(deep_mlp, 4, width, in_features=49)
    ways = [plain_loop, by_fit, at_once]
    return fastest([partial(way, model, data) for way in ways], rounds)


def goals(width: int, plain: float, swept: float) -> list[Row]:
    """What a width's seconds say about the goal, which is for small networks."""
    what = f"sweep of 32 runs, width {width}: plain loop / sweep"
    return [at_least(what, plain / swept, 3.0)] if width <= SMALL else []


def rows() -> list[Row]:
    """The goals for small networks."""
    found = []
    for width in WIDTHS:
        if width <= SMALL:
            plain, _, swept = seconds(width)
            found += goals(width, plain, swept)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    runs = len(LRS) * len(SEEDS)
    print(f"{runs} runs of {options.steps} steps, batches of {options.batch_size}")
    met = []
    for width in options.widths:
        plain, fitted, swept = seconds(
            width, options.batch_size, options.steps, options.rounds
        )
        print(
            f"width {width:>3}: sweep {swept:.2f} s; plain loop {plain:.2f} s, "
            f"{plain / swept:.1f} times as long; fit {fitted:.2f} s, "
            f"{fitted / swept:.1f} times"
        )
        met += goals(width, plain, swept)
    show(met)


if __name__ == "__main__":
    main()

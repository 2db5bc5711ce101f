"""What a sweep saves: 32 small networks at once against 32 runs one by one.

    python benchmarks/sweep.py

One thread; 8 learning rates times 4 seeds of a 4-layer ReLU network on digits of
7 x 7 pixels. The plain loop is the shortest that does the same: it records the loss
and steps torch's SGD. ``fit`` is gradlib's loop, which also measures the gradient.
The three take turns, and the fastest round of each counts, in seconds of the
processor, so that other programs disturb little.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from gradlib.data import batches, mnist
from gradlib.models import deep_mlp
from gradlib.sweep import build, sweep
from gradlib.training import fit

LRS = [0.01 * 1.5**k for k in range(8)]
SEEDS = range(4)
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
            start = time.process_time()
            call()
            if turn:
                best[k] = min(best[k], time.process_time() - start)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 32, 64, 128])
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    x, y = mnist("train", options.batch_size * options.steps, pool=4)
    data = list(batches(x, y, options.batch_size, epochs=1))
    runs = len(LRS) * len(SEEDS)
    print(f"{runs} runs of {options.steps} steps, batches of {options.batch_size}")
    for width in options.widths:
        model = partial(deep_mlp, 4, width, in_features=49)
        ways = [plain_loop, by_fit, at_once]
        plain, fitted, swept = fastest(
            [partial(way, model, data) for way in ways], options.rounds
        )
        print(
            f"width {width:>3}: sweep {swept:.2f} s; plain loop {plain:.2f} s, "
            f"{plain / swept:.1f} times as long; fit {fitted:.2f} s, "
            f"{fitted / swept:.1f} times"
        )


if __name__ == "__main__":
    main()

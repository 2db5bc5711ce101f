"""What clipping costs: gradlib beside torch and timm, in steps of training.

    python benchmarks/clipping.py

One thread, a 20-layer ReLU network, batches of 32, SGD. Each step clips in another
way, in turn, so that all meet the same noise of the machine; of each way the fastest
call counts, in seconds of the processor. The bounds are such that gradients are
clipped, but in the row "norm, below the bound". Ratios above 1 mean that gradlib is
slower.
"""

import argparse
import runpy
from collections.abc import Callable, Iterable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
from goals import Row, at_most, show
from markdown_text import table
from timing import network, timed
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from gradlib import initialize_
from gradlib.clip import (
    AutoClip,
    ZClip,
    clip_adaptive_,
    clip_each_norm_,
    clip_norm_,
    clip_value_,
    normalize_,
)

WIDTHS = (64, 128, 256)
ROUNDS = 200
BOUNDS = {"norm": 1.0, "adaptive (timm)": 0.5}
COLUMNS = ("width", "clipping", "gradlib", "torch, timm", "ratio", "gradlib / step")
Clip = Callable[[list[nn.Parameter]], object]


def adaptive_of_timm() -> Clip:
    """timm's function, without the import of all of timm, which takes seconds."""
    spec = find_spec("timm")
    if spec is None or spec.origin is None:
        raise SystemExit("expected timm beside gradlib: pip install gradlib[test]")
    path = Path(spec.origin).parent / "utils" / "agc.py"
    clip: Clip = runpy.run_path(str(path))["adaptive_clip_grad"]
    return clip


def each_of_torch(parameters: list[nn.Parameter]) -> None:
    for parameter in parameters:
        clip_grad_norm_(parameter, 1e-3)


def pairs() -> dict[str, tuple[Clip, Clip | None]]:
    """What is compared: gradlib's way and, where there is one, the other's."""
    return {
        "norm": (
            lambda p: clip_norm_(p, 1e-3),
            lambda p: clip_grad_norm_(p, 1e-3),
        ),
        "norm, below the bound": (
            lambda p: clip_norm_(p, 1e6),
            lambda p: clip_grad_norm_(p, 1e6),
        ),
        "value": (
            lambda p: clip_value_(p, 1e-4),
            lambda p: clip_grad_value_(p, 1e-4),
        ),
        "each parameter": (lambda p: clip_each_norm_(p, 1e-3), each_of_torch),
        "adaptive (timm)": (lambda p: clip_adaptive_(p, 1e-4), adaptive_of_timm()),
        "normalize": (normalize_, None),
        "AutoClip": (AutoClip(), None),
        "ZClip": (ZClip(), None),
    }


def fastest_clips(width: int, rounds: int, ways: dict[str, Clip]) -> dict[str, float]:
    """Seconds of the fastest call of each way, and of a step without clipping."""
    model = initialize_(network(width), "he")
    parameters = list(model.parameters())
    optimizer = torch.optim.SGD(parameters, lr=1e-6)
    x, y = torch.randn(32, 784), torch.randint(10, (32,))

    def measure_gradients() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()

    best = dict.fromkeys(["step", *ways], float("inf"))
    for _ in range(rounds):
        for name, clip in ways.items():
            step = timed(measure_gradients)
            clipping = timed(partial(clip, parameters))
            step += timed(optimizer.step)
            best[name] = min(best[name], clipping)
            best["step"] = min(best["step"], step)
    return best


def goals(width: int, best: dict[str, float]) -> list[Row]:
    """What a width's seconds say about the goals."""
    return [
        at_most(
            f"clip {name}, width {width}: gradlib / the other",
            best[f"gradlib {name}"] / best[name],
            bound,
        )
        for name, bound in BOUNDS.items()
    ]


def ways_of(names: Iterable[str]) -> dict[str, Clip]:
    """gradlib's way and the other's, in turn."""
    found: dict[str, Clip] = {}
    compared = pairs()
    for name in names:
        ours, theirs = compared[name]
        found[f"gradlib {name}"] = ours
        if theirs is not None:
            found[name] = theirs
    return found


def rows() -> list[Row]:
    """The goals, measured without the clippers that have none."""
    torch.set_num_threads(1)
    ways = ways_of(BOUNDS)
    return [
        row
        for width in WIDTHS
        for row in goals(width, fastest_clips(width, ROUNDS, ways))
    ]


def microseconds(seconds: float) -> str:
    return f"{1e6 * seconds:.0f} µs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    names = list(pairs())
    ways = ways_of(names)
    met = []
    costs = []
    for width in options.widths:
        best = fastest_clips(width, options.rounds, ways)
        for name in names:
            cost, reference = best[f"gradlib {name}"], best.get(name)
            beside = ["-", "-"]
            if reference is not None:
                beside = [microseconds(reference), f"{cost / reference:.2f}"]
            share = f"{cost / best['step']:.1%}"
            costs.append([str(width), name, microseconds(cost), *beside, share])
        met += goals(width, best)
    print(table(COLUMNS, costs))
    show(met)


if __name__ == "__main__":
    main()

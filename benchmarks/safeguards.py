"""What a black box and a guard cost: a training step with one over one without.

    python benchmarks/safeguards.py

One thread, a transformer of six layers and width 96, batches of 8 sequences of 64
tokens, AdamW. Plain and watched networks take turns as in `monitor`; costs repeat
every 200 steps, since a recorder copies the state each 50 and a guard each 100.
"As large a copy" is the floor of the recorder: a copy of the state, each 50 steps.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import median

import torch
from goals import Row, at_most, show
from monitor import Step, prepare, take_turns
from torch import nn
from torch.nn import functional as F

from gradlib.guard import SpikeGuard
from gradlib.models import Transformer, small_transformer
from gradlib.recorder import FlightRecorder
from gradlib.training_state import TrainingState

ROUNDS = 2
SETS = 3
EVERY = 50
BOUND = 1.03


def training(kind: str, folder: Path) -> Step:
    """A function that makes one step of training."""
    model: Transformer = small_transformer(64, 96, 6, 4, seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    tokens = torch.randint(64, (8, 65), generator=torch.Generator().manual_seed(0))
    x, y = tokens[:, :-1], tokens[:, 1:]
    recorder = guard = copied = None
    if kind == "recorder":
        recorder = FlightRecorder(model, optimizer, path=folder / "box.pt", every=EVERY)
    if kind == "guard":
        guard = SpikeGuard(model, optimizer, threshold=1e6)
    if kind == "as large a copy":
        copied = TrainingState(model, optimizer)
    count = 0

    def step() -> None:
        nonlocal count
        if recorder is not None:
            recorder.batch((x, y))
        if copied is not None and count % EVERY == 0:
            copied.copy()
        count += 1
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if guard is None or guard.judge(loss, norm) == "go":
            optimizer.step()

    return step


KINDS = ("plain", "as large a copy", "recorder", "guard")


def ratios(rounds: int, sets: int) -> dict[str, float]:
    """Time of a step with each over that of the plain one."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(sets):
            steps = [training(kind, Path(folder)) for kind in KINDS]
            found.append(take_turns(steps, rounds))
    return {
        kind: median(seconds[k] / seconds[0] for seconds in found)
        for k, kind in enumerate(KINDS)
    }


def goals(found: dict[str, float]) -> list[Row]:
    """What the ratios say about the goals."""
    return [
        Row("as large a copy every 50 steps: step / plain step", found[KINDS[1]]),
        at_most(
            "recorder every 50 steps, nothing happens: step / plain step",
            found["recorder"],
            BOUND,
        ),
        at_most("guard: step / plain step", found["guard"], BOUND),
    ]


def rows() -> list[Row]:
    """The goals, measured."""
    prepare()
    return goals(ratios(ROUNDS, SETS))


def main() -> None:
    """Print the ratios, and the goals."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--sets", type=int, default=SETS)
    options = parser.parse_args()
    prepare()
    show(goals(ratios(options.rounds, options.sets)))


if __name__ == "__main__":
    main()

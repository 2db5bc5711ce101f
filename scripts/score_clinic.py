#!/usr/bin/env python3
"""Score diagnose() on the clinic, under several draws and several roundings.

    python scripts/score_clinic.py [--seeds 3] [--capabilities default avx2]
                                   [--record] [folder ...]

A case counts as right only if its cause is named, and its cured form called healthy,
under every seed and every capability. Seed 0 is the case as it is written; another one
is added, times 1000, to what the case gives to ``torch.manual_seed``, so that its data
and its initial weights are drawn anew. A capability is the widest kind of vector
instructions that torch may use: another one sums in another order, so results differ in
their last bits. Folders are those of ``tests/clinic`` unless named. With ``--record``,
the scores are kept in ``tests/clinic/scores.md``. The exit code is 1 if a set that the
rules were written on has a wrong case.
"""

import argparse
import csv
import fnmatch
import importlib.util
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import comb
from pathlib import Path
from types import ModuleType
from typing import Any

from book import ROOT

CLINIC = ROOT / "tests" / "clinic"
SCORES = CLINIC / "scores.md"
UNSEEN = (
    "blind",
    "today",
    "later",
    "unseen",
    "fresh",
    "recent",
    "visible",
    "early",
    "catalogue",
    "control",
    "retest",
)
ACCURACY = 0.85
ALARMS = 0.05
SURE = 0.99
# Enough on a busy machine: the slowest case needs 10.
SECONDS = 120.0


@dataclass(frozen=True)
class Outcome:
    """What was said about one form of a case, under one seed and capability."""

    folder: str
    case: str
    cured: bool
    seed: int
    capability: str
    cause: str
    right: bool


def at_most(count: int, trials: int, chance: float) -> float:
    """Probability of at most ``count`` successes.

    Example:
        >>> at_most(0, 2, 0.5), at_most(1, 2, 0.5), at_most(-1, 2, 0.5)
        (0.25, 0.75, 0)
    """
    terms = range(count + 1)
    return sum(
        comb(trials, k) * chance**k * (1 - chance) ** (trials - k) for k in terms
    )


def fewest_right(cases: int) -> int:
    """What a diagnosis that names 85 % of causes reaches 99 times in 100.

    Example:
        >>> fewest_right(25)
        17
    """
    counts = range(cases + 1)
    return max(k for k in counts if 1 - at_most(k - 1, cases, ACCURACY) >= SURE)


def most_alarms(cases: int) -> int:
    """What a diagnosis that calls 5 % of the healthy ill keeps to 99 times in 100.

    Example:
        >>> most_alarms(34)
        5
    """
    counts = range(cases + 1)
    return min(k for k in counts if at_most(k, cases, ALARMS) >= SURE)


def load(path: Path) -> ModuleType:
    """The case in a file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def other_draws(seed: int) -> Iterator[None]:
    """Let ``torch.manual_seed`` give other numbers; seed 0 changes nothing."""
    import torch

    original = torch.manual_seed
    torch.manual_seed = lambda own: original(own + 1000 * seed)
    try:
        yield
    finally:
        torch.manual_seed = original


def examine(case: dict[str, Any]) -> Any:
    """The report on what ``make()`` or ``make_fixed()`` of a case gives."""
    from gradlib.diagnosis import diagnose

    return diagnose(**case, seconds=SECONDS)


def expected_layers() -> dict[str, list[str]]:
    """Case -> patterns of the layers that may be named."""
    expected = {}
    for table in CLINIC.glob("*/expected_layers.tsv"):
        for row in csv.DictReader(table.read_text().splitlines(), delimiter="\t"):
            expected[row["slug"]] = row["expected_layer"].split("|")
    return expected


def matches(layer: str, wanted: list[str]) -> bool:
    """The layer is one of those wanted, or inside one of them.

    Example:
        >>> matches("body.0.1", ["body.*"]), matches("head.0", ["head"])
        (True, True)
    """
    return any(fnmatch.fnmatch(layer, w) or layer.startswith(f"{w}.") for w in wanted)


def outcomes(path: Path, seed: int, capability: str) -> Iterator[Outcome]:
    """Diagnose the broken form of a case, if it has one, and the cured one."""
    module = load(path)
    forms = [(True, module.make_fixed)]
    if module.CAUSE != "healthy":
        forms.insert(0, (False, module.make))
    for cured, make in forms:
        answers = {"healthy"} if cured else {module.CAUSE, *module.ALSO_OK}
        with other_draws(seed):
            case = make()
        cause = examine(case).cause
        yield Outcome(
            path.parent.name,
            path.stem,
            cured,
            seed,
            capability,
            cause,
            cause in answers,
        )


def in_child(paths: list[Path], seeds: list[int], capability: str) -> list[Outcome]:
    """Outcomes under one capability: torch reads it when it is loaded."""
    work = json.dumps([[str(path) for path in paths], seeds, capability])
    done = subprocess.run(
        [sys.executable, __file__, "--child"],
        input=work,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={
            **os.environ,
            "ATEN_CPU_CAPABILITY": capability,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
        },
    )
    return [Outcome(**json.loads(line)) for line in done.stdout.splitlines()]


def child() -> None:
    """Print one outcome a line."""
    import torch

    torch.set_num_threads(1)
    paths, seeds, capability = json.loads(sys.stdin.read())
    for path in map(Path, paths):
        for seed in seeds:
            for outcome in outcomes(path, seed, capability):
                print(json.dumps(asdict(outcome)), flush=True)


Key = tuple[str, str, bool]


def by_form(found: list[Outcome]) -> dict[Key, list[Outcome]]:
    """Outcomes by folder, case and whether it is cured."""
    groups: dict[Key, list[Outcome]] = defaultdict(list)
    for outcome in found:
        groups[outcome.folder, outcome.case, outcome.cured].append(outcome)
    return groups


def wrong(found: list[Outcome]) -> Iterator[str]:
    """A line for each form of a case that is not right throughout."""
    for (folder, case, cured), group in by_form(found).items():
        if not all(outcome.right for outcome in group):
            said = [f"{o.seed}/{o.capability} {o.cause}" for o in group if not o.right]
            form = "cured" if cured else "broken"
            yield (
                f"{folder} {case} ({form}), {len(said)} of {len(group)}: "
                + ", ".join(said)
            )


def scores(found: list[Outcome]) -> list[list[str]]:
    """A row a folder: right throughout, right in each run, and called ill."""
    rows = []
    groups = by_form(found)
    for folder in dict.fromkeys(outcome.folder for outcome in found):
        mine = {key: g for key, g in groups.items() if key[0] == folder}
        broken = [g for key, g in mine.items() if not key[2]]
        cured = [g for key, g in mine.items() if key[2]]
        runs = [sum(o.right for o in run) for run in zip(*broken, strict=True)]
        rows.append(
            [
                folder,
                f"{sum(all(o.right for o in g) for g in broken)} of {len(broken)}",
                f"{min(runs, default=0)} to {max(runs, default=0)}",
                f"{sum(not all(o.right for o in g) for g in cured)} of {len(cured)}",
            ]
        )
    return rows


HEAD = [
    "set",
    "causes right throughout",
    "right in one run",
    "called ill at least once",
]


def page(rows: list[list[str]], seeds: int, capabilities: list[str]) -> str:
    """The scores as a page in Markdown."""
    lines = [
        "# Scores of the clinic",
        "",
        f"Measured by `make clinic` under {seeds} seeds and "
        f"`ATEN_CPU_CAPABILITY={'`, `'.join(capabilities)}`.",
        "",
        f"| {' | '.join(HEAD)} |",
        f"|{'---|' * len(HEAD)}",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--capabilities", nargs="+", default=["default", "avx2"])
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child()
        return 0
    folders = options.folders or sorted(p for p in CLINIC.iterdir() if p.is_dir())
    paths = [path for folder in folders for path in sorted(folder.glob("*.py"))]
    seeds = list(range(options.seeds))
    found = [o for c in options.capabilities for o in in_child(paths, seeds, c)]
    for line in wrong(found):
        print(line)
    rows = scores(found)
    for row in [HEAD, *rows]:
        print(" | ".join(row))
    if options.record:
        SCORES.write_text(page(rows, options.seeds, options.capabilities), "utf8")
    return int(any(not o.right for o in found if o.folder not in UNSEEN))


if __name__ == "__main__":
    sys.exit(main())

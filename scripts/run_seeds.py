#!/usr/bin/env python3
"""Run every chapter under several base seeds and print how each claim fared.

    python scripts/run_seeds.py [--first 0] [--seeds 10] [--jobs 2] [--record]
                                [chapter ...]

Two chapters run at a time, unless ``--jobs`` says otherwise, with one thread each. The
margin of a claim is its distance to the nearest bound: over half the width of a band,
else over the size of the bound; below zero where the claim failed. Claims that are
plain assertions have none. Rivals are what the claim is told apart from. With
``--record``, the result is kept in ``recorded/claims.json``, which a page of the book
can show; behind a first seed above 0, it is added to that of the seeds before. The exit
code is 1 if a chapter raised or a claim failed under any seed.
"""

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from book import ROOT, NotReadyError, code_hash
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from recording import RECORDS, read_records, record

CHAPTERS = ROOT / "chapters"
CLAIMS = RECORDS / "claims.json"
TIMEOUT = 600
ASSERTIONS = "plain assertions"


@dataclass(frozen=True)
class Outcome:
    """A claim, or the plain assertions of a cell, under one seed."""

    section: str
    claim: str
    holds: bool
    margin: float | None = None
    rivals: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """One chapter under one seed."""

    name: str
    seed: int
    seconds: float
    outcomes: list[Outcome]
    errors: list[str]


def margin(record: dict[str, Any]) -> float:
    """Distance to the nearest bound, as a share; negative outside.

    Example:
        >>> margin({"value": 3.0, "above": 2.0, "below": 6.0})
        0.5
        >>> margin({"value": 20.0, "above": 10.0, "below": math.inf})
        1.0
    """
    value, above, below = (record[key] for key in ("value", "above", "below"))
    if math.isinf(below):
        return (value - above) / (abs(above) or 1.0)
    if math.isinf(above):
        return (below - value) / (abs(below) or 1.0)
    return min(value - above, below - value) / ((below - above) / 2)


def chapter(name: str) -> Path:
    return CHAPTERS / f"{name}.ipynb"


def sections(notebook: NotebookNode) -> list[str]:
    """The heading above each cell."""
    found, heading = [], ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            lines = cell.source.splitlines()
            heading = next((li[3:] for li in lines if li.startswith("## ")), heading)
        found.append(heading)
    return found


def run(name: str, seed: int) -> Run:
    """Run all cells of a chapter, also those after a claim that failed."""
    notebook = nbformat.read(chapter(name), as_version=4)
    headings = sections(notebook)
    outcomes: list[Outcome] = []
    errors: list[str] = []
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "claims.jsonl"

        def collect(cell: NotebookNode, cell_index: int, **_: object) -> None:
            heading = headings[cell_index]
            records = []
            if log.exists():
                records = [json.loads(x) for x in log.read_text("utf8").splitlines()]
                log.unlink()
            outcomes.extend(
                Outcome(heading, r["claim"], r["holds"], margin(r), tuple(r["rivals"]))
                for r in records
            )
            raised = [out for out in cell.outputs if out.output_type == "error"]
            errors.extend(f"{heading}: {out.ename}: {out.evalue}" for out in raised)
            reached = all(r["holds"] for r in records)
            claims = "claims" in cell.metadata.get("tags", [])
            if claims and "assert " in cell.source and reached:
                outcomes.append(Outcome(heading, ASSERTIONS, not raised))

        client = NotebookClient(
            notebook,
            timeout=TIMEOUT,
            allow_errors=True,
            on_cell_executed=collect,
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
            resources={"metadata": {"path": str(CHAPTERS)}},
        )
        environment = os.environ | {
            "GRADLIB_SEED": str(seed),
            "GRADLIB_CLAIMS": str(log),
            "OMP_NUM_THREADS": "1",
        }
        environment.pop("MPLBACKEND", None)
        try:
            client.execute(env=environment)
        except (CellTimeoutError, DeadKernelError) as error:
            errors.append(f"{type(error).__name__}: {error}")
    return Run(name, seed, time.monotonic() - start, outcomes, errors)


def summarize(runs: list[Run]) -> list[list[str]]:
    """Section, claim, how often it held, smallest margin, rivals; as in the chapter."""
    found: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for outcome in (outcome for each in runs for outcome in each.outcomes):
        found[outcome.section, outcome.claim].append(outcome)
    rows = []
    for (section, claim), outcomes in found.items():
        margins = [o.margin for o in outcomes if o.margin is not None]
        held = f"{sum(o.holds for o in outcomes)}/{len(outcomes)}"
        rivals = ", ".join(dict.fromkeys(r for o in outcomes for r in o.rivals))
        least = written(min(margins, default=None))
        rows.append([section, claim, held, least, rivals])
    return rows


def written(margin: float | None) -> str:
    """A margin as a reader reads it.

    Example:
        >>> written(0.256), written(12.0), written(None)
        ('26 %', 'over 1000 %', '')
    """
    if margin is None:
        return ""
    return "over 1000 %" if margin > 10 else f"{margin:.0%}".replace("%", " %")


def joined(before: list[list[str]], after: list[list[str]]) -> list[list[str]]:
    """The rows of two sets of seeds as those of both.

    Example:
        >>> after = ["s", "c", "5/5", "7 %", "y"]
        >>> joined([["s", "c", "9/10", "26 %", "x"]], [after])
        [['s', 'c', '14/15', '7 %', 'x, y']]
    """
    rows = {(section, claim): rest for section, claim, *rest in before}
    for section, claim, held, least, rivals in after:
        if known := rows.get((section, claim)):
            pairs = zip(counts(known[0]), counts(held), strict=True)
            held = "/".join(str(sum(pair)) for pair in pairs)
            least = min(known[1], least, key=percent)
            named = filter(None, [*known[2].split(", "), *rivals.split(", ")])
            rivals = ", ".join(dict.fromkeys(named))
        rows[section, claim] = [held, least, rivals]
    return [[*key, *rest] for key, rest in rows.items()]


def counts(held: str) -> tuple[int, ...]:
    return tuple(map(int, held.split("/")))


def percent(margin: str) -> float:
    """A margin as `written`, in percent; infinite without one."""
    return float(margin.removeprefix("over ").removesuffix(" %") or math.inf)


def rows_before(name: str, first: int) -> list[list[str]]:
    """The recorded rows of the seeds below ``first``.

    Raises:
        NotReadyError: they are not recorded, or the chapter has other code now.
    """
    if not first:
        return []
    kept = read_records(CLAIMS).get(name, {"code": "", "rows": []})
    rows = kept["rows"] if kept["code"] == code_hash(chapter(name)) else []
    seeds = min((counts(held)[1] for _, _, held, *_ in rows), default=0)
    if seeds != first:
        raise NotReadyError(
            f"{name}: expected a record of {first} base seeds, got {seeds} in {CLAIMS} "
            f"for the code as it is; run --seeds {first} --record first"
        )
    return rows


def show(name: str, runs: list[Run], rows: list[list[str]]) -> None:
    seconds = [each.seconds for each in runs]
    print(f"\n{name}: {min(seconds):.0f} to {max(seconds):.0f} s a run")
    for section, claim, held, least, rivals in rows:
        print(f"  {held:>8} {least:>12}  {claim}  [{section}]")
        if rivals:
            print(f"{'not ':>26}{rivals}")
    for each in runs:
        for error in each.errors:
            print(f"  seed {each.seed}: {error}")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--first", type=int, default=0, help="the first base seed")
    parser.add_argument("--seeds", type=int, default=10, help="how many base seeds")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--record", action="store_true", help="keep the result")
    parser.add_argument("chapters", nargs="*", help="names; by default all of them")
    options = parser.parse_args()
    for option in ("seeds", "jobs"):
        if (got := getattr(options, option)) < 1:
            parser.error(f"--{option}: expected at least 1, got {got}")
    known = sorted(p.stem for p in CHAPTERS.glob("*.ipynb") if p.stem != "template")
    names = options.chapters or known
    unknown = set(names) - set(known)
    if unknown:
        parser.error(f"unknown chapter {sorted(unknown)}; expected {known}")
    if options.first < 0:
        parser.error(f"--first: expected at least 0, got {options.first}")
    seeds = range(options.first, options.first + options.seeds)
    before: dict[str, list[list[str]]] = {}
    if options.record:
        try:
            before = {name: rows_before(name, options.first) for name in names}
        except NotReadyError as error:
            parser.error(str(error))
    broken = 0
    with ThreadPoolExecutor(options.jobs) as pool:
        jobs = {
            name: [pool.submit(run, name, seed) for seed in seeds] for name in names
        }
        for name, futures in jobs.items():
            runs = [future.result() for future in futures]
            rows = summarize(runs)
            show(name, runs, rows)
            broken += sum(bool(each.errors) for each in runs)
            if options.record:
                record(
                    CLAIMS,
                    name,
                    f"make seeds CHAPTERS={name} SEEDS={seeds.stop}",
                    ["section", "claim", "held", "smallest margin", "rivals"],
                    joined(before[name], rows),
                    code_hash(chapter(name)),
                )
    total = len(names) * options.seeds
    print(f"\n{total - broken} of {total} runs held every claim")
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())

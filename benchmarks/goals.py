"""What the library and the book promise about their cost, beside what was measured.

    python benchmarks/goals.py [--record] [name ...]

Runs the benchmarks named, or all, and prints one line a goal. Each benchmark has a
function `rows` that returns its lines. With ``--record``, they are kept in
``recorded/performance.json``, which a page of the book can show.
"""

import argparse
import importlib
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from book import NotReadyError
from markdown_text import table
from recording import RECORDS, record

TITLES = {
    "monitor": "What watching costs",
    "safeguards": "What a black box and a guard cost",
    "watching": "What watching any training costs",
    "clipping": "What clipping costs",
    "sweep": "What a sweep saves",
    "logs": "What reading a log costs",
    "pages": "What a page weighs",
    "building": "How long the book takes",
    "check": "How long the check takes",
}
COLUMNS = ("what", "measured", "goal", "met")
MET = {True: "yes", False: "no", None: ""}


class Row(NamedTuple):
    """One measurement, and its goal if there is one."""

    what: str
    measured: float
    """A ratio, unless ``what`` names a unit; NaN where ``what`` says why it lacks."""
    goal: str = ""
    met: bool | None = None
    """None without a goal."""


def at_most(what: str, measured: float, bound: float) -> Row:
    return Row(what, measured, f"at most {bound:g}", measured <= bound)


def at_least(what: str, measured: float, bound: float) -> Row:
    return Row(what, measured, f"at least {bound:g}", measured >= bound)


def number(value: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def texts(rows: Iterable[Row]) -> list[list[str]]:
    return [[row.what, number(row.measured), row.goal, MET[row.met]] for row in rows]


def show(rows: Iterable[Row]) -> None:
    """Print the goals as a table."""
    print(table(COLUMNS, texts(rows)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--record", action="store_true", help="keep the result")
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(TITLES))
    options = parser.parse_args()
    unknown = set(options.names) - set(TITLES)
    if unknown:
        parser.error(f"unknown benchmark {sorted(unknown)}; expected {list(TITLES)}")
    for name in options.names or TITLES:
        try:
            rows = importlib.import_module(name).rows()
        except NotReadyError as error:
            sys.exit(f"{name}: {error}")
        show(rows)
        if options.record:
            path, command = RECORDS / "performance.json", f"make bench NAMES={name}"
            record(path, TITLES[name], command, COLUMNS, texts(rows))


if __name__ == "__main__":
    main()

"""What the library promises about speed, beside what was measured.

    python benchmarks/goals.py

Runs all benchmarks and prints one line a goal. Each benchmark has a function `rows`
that returns its lines.
"""

import importlib
from collections.abc import Iterable
from typing import NamedTuple


class Row(NamedTuple):
    """One goal."""

    what: str
    measured: float
    """A ratio."""
    goal: str
    met: bool


def at_most(what: str, measured: float, bound: float) -> Row:
    return Row(what, measured, f"at most {bound:g}", measured <= bound)


def at_least(what: str, measured: float, bound: float) -> Row:
    return Row(what, measured, f"at least {bound:g}", measured >= bound)


def show(rows: Iterable[Row]) -> None:
    """Print the goals as a table."""
    print("| goal | measured | wanted | met |")
    print("|---|---|---|---|")
    for row in rows:
        met = "yes" if row.met else "no"
        print(f"| {row.what} | {row.measured:.3f} | {row.goal} | {met} |")


def main() -> None:
    names = ("monitor", "clipping", "sweep")
    show(row for name in names for row in importlib.import_module(name).rows())


if __name__ == "__main__":
    main()

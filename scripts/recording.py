"""Keep what a long command measured, for the book's pages of records."""

import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from book import ROOT

RECORDS = ROOT / "recorded"


def read_records(path: Path) -> dict[str, Any]:
    """The tables of a file by name; none if it is not there."""
    return json.loads(path.read_text("utf8")) if path.exists() else {}


def at_hand() -> str:
    """Versions of Python and torch, and the processor's cores."""
    python, torch = platform.python_version(), version("torch")
    return f"Python {python}, torch {torch}, {os.cpu_count()} cores"


def record(
    path: Path,
    name: str,
    command: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    code: str = "",
    using: str | None = None,
) -> None:
    """Put a table into a file of records, in the place of an older one of that name.

    Args:
        path: File of JSON, made if it is not there.
        name: Title of the table, or the name of a chapter.
        command: What repeats the measurement.
        columns: Titles.
        rows: As many texts each.
        code: Hash of the code that was run, if the table belongs to a chapter.
        using: Versions and machine; by default those at hand, empty if the table
            itself names them.

    Raises:
        ValueError: a row is longer or shorter than the titles.
    """
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f"expected {len(columns)} values a row, got {list(row)}")
    known = read_records(path)
    known[name] = {
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        "using": at_hand() if using is None else using,
        "code": code,
        "columns": list(columns),
        "rows": [list(row) for row in rows],
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{json.dumps(known, indent=1, ensure_ascii=False)}\n", "utf8")

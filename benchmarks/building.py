"""How long the book takes: from nothing, unchanged, and with one chapter edited.

    python benchmarks/building.py

A copy of the book is built one chapter at a time, then two at a time, then unchanged,
then with an edited chapter. Each runs once, so whatever else the machine does counts
too. Machines differ by a factor of three: goals are in units of a fixed piece of work
that is timed in the same run.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from goals import Row, at_least, show
from timing import time_rows, unit

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from book import ROOT

CHAPTER = re.compile(r"^(chapters/\w+) +([\d.]+) s  (ran now|from the cache)$", re.M)
EDITED = "chapters/article_review.ipynb"


@dataclass(frozen=True)
class Build:
    """One build: its time, and the seconds of each chapter that ran."""

    seconds: float
    chapters: dict[str, float]


def copy(target: Path) -> None:
    """The files that git knows, as they are now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)


def build(folder: Path, at_once: int = 2) -> Build:
    """Build the book in a folder; raise if it fails."""
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", "."]
    start = time.monotonic()
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"CHAPTERS_AT_ONCE": str(at_once)},
        capture_output=True,
        text=True,
    )
    seconds = time.monotonic() - start
    if done.returncode:
        raise RuntimeError(f"the book does not build:\n{done.stdout}{done.stderr}")
    found = CHAPTER.findall(done.stdout)
    ran = {name: float(text) for name, text, how in found if how == "ran now"}
    return Build(seconds, ran)


def edit(path: Path) -> None:
    """Change the code of a notebook without changing what it does."""
    text = path.read_text("utf8")
    path.write_text(
        text.replace("chapter.begin()", "chapter.begin()  # again", 1), "utf8"
    )


def builds() -> dict[str, Build]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy(folder)
        found = {"one at a time": build(folder, at_once=1)}
        shutil.rmtree(folder / "_build")
        found["two at a time"] = build(folder)
        found["unchanged"] = build(folder)
        edit(folder / EDITED)
        found["one chapter edited"] = build(folder)
    return found


def rows() -> list[Row]:
    second = unit()
    found = builds()
    alone, cold = found["one at a time"], found["two at a time"]
    unchanged, edited = found["unchanged"], found["one chapter edited"]
    found_rows = [
        Row("one unit, s", second),
        *time_rows("book from nothing", cold.seconds, second, 300),
        at_least("one chapter at a time over two", alone.seconds / cold.seconds, 1.6),
        *time_rows("book unchanged", unchanged.seconds, second, 10),
        *time_rows("book with one chapter edited", edited.seconds, second, 30),
    ]
    for name, seconds in alone.chapters.items():
        found_rows += time_rows(f"{name} alone", seconds, second, 60)
    return found_rows


if __name__ == "__main__":
    show(rows())

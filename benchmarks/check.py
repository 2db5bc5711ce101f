"""How long ``make check`` takes, once its environment is there."""

import subprocess
import sys
import time
from pathlib import Path

from goals import Row, show
from timing import time_rows, unit

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from book import ROOT


def rows() -> list[Row]:
    """Run ``make check``; raise if it is red, with the last of what it said."""
    second = unit()
    start = time.monotonic()
    done = subprocess.run(["make", "check"], cwd=ROOT, capture_output=True, text=True)
    seconds = time.monotonic() - start
    if done.returncode:
        raise RuntimeError(f"make check is red:\n{(done.stdout + done.stderr)[-5000:]}")
    return [
        Row("one unit, s", second),
        *time_rows("make check", seconds, second, 1200),
    ]


if __name__ == "__main__":
    show(rows())

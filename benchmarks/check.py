"""How long ``make check`` takes, once its environment is there, and its slow tests."""

import os
import re
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from goals import Row, at_most, show
from timing import time_rows, unit

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from book import ROOT

SLOW = 5
"""Units above which a test needs a reason."""

REASONS = {
    "tests/book/test_results.py": "trains over several seeds",
    "tests/build": "builds a small book, in processes of its own",
    "tests/colab": "makes an environment, and runs a chapter in it",
    "tests/fuzz": "200 examples of each public function",
    "tests/library/diagnosis/test_clinic.py": "a diagnosis",
    "tests/library/diagnosis/test_fixes.py": "a diagnosis, and the cured training",
    "tests/library/diagnosis/test_rules.py": "the trainings that a rule asks for",
    "tests/library/diagnosis/test_unseen.py": "two diagnoses",
    "tests/library/diagnosis/test_verdict.py": "a training to its floor, diagnosed",
    "tests/library/models/test_transformer.py": "trains with and without a warm-up",
    "tests/library/test_guard.py": "starts two processes",
    "tests/library/test_many_processes.py": "starts processes, and waits for lost ones",
    "tests/library/test_monitor.py": "looks through all tensors that are alive",
    "tests/library/test_ranks.py": "starts processes, and waits for lost ones",
    "tests/library/test_watcher.py": "a program of its own, killed or ended",
    "tests/site": "opens pages of the built book in Chromium",
    "tests/tools/test_run_seeds.py": "runs notebooks in kernels of their own",
    "tests/tools/test_watching_benchmark.py": "a benchmark in small",
}
"""Why tests of a file, or of a folder, take long."""

DURATION = re.compile(r"^([\d.]+)s (?:call|setup) +(tests/[\w/]+\.py)::", re.M)


def reason(file: str) -> str:
    """Why the tests of a file are slow; empty if nobody says it."""
    return next((why for place, why in REASONS.items() if file.startswith(place)), "")


def slow_tests(output: str, unit: float) -> list[Row]:
    """The files with tests above `SLOW` units, from what pytest says of durations."""
    found = defaultdict(list)
    for seconds, file in DURATION.findall(output):
        if float(seconds) > SLOW * unit:
            found[file].append(float(seconds))
    rows = [
        Row(
            f"{file}, {len(times)} slow ({reason(file) or 'why?'}), longest, s",
            max(times),
        )
        for file, times in sorted(found.items())
    ]
    unknown = sum(len(times) for file, times in found.items() if not reason(file))
    what = f"tests above {SLOW} units without a reason"
    return [*rows, at_most(what, unknown, 0)]


def rows() -> list[Row]:
    """Run ``make check``; raise if it is red, with the last of what it said."""
    second = unit()
    options = {"PYTEST_ADDOPTS": f"--durations=0 --durations-min={SLOW / 2}"}
    start = time.monotonic()
    done = subprocess.run(
        ["make", "check"],
        cwd=ROOT,
        env=os.environ | options,
        capture_output=True,
        text=True,
    )
    seconds = time.monotonic() - start
    if done.returncode:
        raise RuntimeError(f"make check is red:\n{(done.stdout + done.stderr)[-5000:]}")
    return [
        Row("one unit, s", second),
        *time_rows("make check", seconds, second, 1200),
        *slow_tests(done.stdout, second),
    ]


if __name__ == "__main__":
    show(rows())

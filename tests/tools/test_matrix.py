"""The matrix: which versions it asks for, and how it reads a report."""

import datetime
import sys
import tomllib
from pathlib import Path

import pytest
import run_matrix
from book import ROOT
from run_matrix import (
    COLUMNS,
    Row,
    counts,
    distribution,
    merged,
    merged_rows,
    requirements,
)


@pytest.mark.parametrize(
    "requirement", ["torch>=2.6", "torch==2.6.0 ; sys_platform == 'linux'", "Torch"]
)
def test_distribution(requirement: str) -> None:
    assert distribution(requirement) == "torch"


def test_pins_win_over_constraints() -> None:
    constraints = ["numpy==2.4.6 ; x", "numpy==2.5 ; y", "torch-thing==1", "pytest==9"]
    assert merged(["numpy==1.26.0", "torch==2.6.0"], constraints) == [
        "numpy==1.26.0", "torch==2.6.0", "torch-thing==1", "pytest==9"
    ]  # fmt: skip


def test_requirements_with_and_without_torchvision() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]
    whole, bare = (requirements(project, torchvision) for torchvision in (True, False))
    left_out = {distribution(need) for need in set(whole) - set(bare)}
    assert left_out == {"torchvision", "timm"}
    assert {"torch", "numpy", "pytest", "ipykernel"} <= set(map(distribution, bare))


@pytest.mark.parametrize(
    ("attributes", "told"),
    [
        ('tests="5" failures="0" errors="0" skipped="0"', "5 passed"),
        (
            'tests="9" failures="2" errors="1" skipped="1"',
            "5 passed, 3 failed, 1 skipped",
        ),
    ],
)
def test_counts(attributes: str, told: str) -> None:
    report = f"<testsuites><testsuite {attributes}></testsuite></testsuites>"
    assert counts(report) == told


def row(name: str, seconds: float) -> Row:
    versions = ["3.11.7", "2.6.0", "none", "1.26.0", "3.9.0"]
    told, day = ["5 passed", "2 failed"], datetime.date(2026, 1, 2)
    return Row(name, versions, told, seconds, day, passed=False)


def test_rows_of_other_environments_are_kept() -> None:
    oldest, cpu, newest = row("oldest", 61.4), row("cpu", 1), row("newest", 5)
    before = merged_rows([cpu, oldest], [])
    assert len(before[0]) == len(COLUMNS)
    assert before[0] == [
        "oldest", "3.11.7", "2.6.0", "none", "1.26.0", "3.9.0",
        "5 passed", "2 failed", "61", "2026-01-02",
    ]  # fmt: skip
    assert merged_rows([newest], before) == [before[0], newest.texts(), before[1]]
    assert merged_rows([row("oldest", 99)], before)[0][-2] == "99"


def test_a_failed_step_tells_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"step.log ends with\nwhat was wrong"):
        run_matrix.must(
            tmp_path / "step.log",
            sys.executable,
            "-c",
            "raise SystemExit('what was wrong')",
        )

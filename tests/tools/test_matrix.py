"""The matrix: which versions it asks for, and how it reads a report."""

import datetime
import sys
import tomllib
from pathlib import Path

import pytest
import run_matrix
from book import ROOT
from run_matrix import Row, counts, distribution, merged, requirements, table


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


def test_table_keeps_rows_of_other_environments() -> None:
    page = table([row("oldest", 61.4), row("cpu", 1)], "")
    header, _, oldest, cpu = page.splitlines()[-4:]
    assert header.count("|") == oldest.count("|") == 11
    assert oldest == (
        "| oldest | 3.11.7 | 2.6.0 | none | 1.26.0 | 3.9.0 "
        "| 5 passed | 2 failed | 61 | 2026-01-02 |"
    )
    assert table([row("newest", 5)], page).splitlines()[-3:] == [
        oldest, row("newest", 5).line(), cpu
    ]  # fmt: skip
    assert "| 99 |" in table([row("oldest", 99)], page)
    assert "| 61 |" not in table([row("oldest", 99)], page)


def test_a_failed_step_tells_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"step.log ends with\nwhat was wrong"):
        run_matrix.must(
            tmp_path / "step.log",
            sys.executable,
            "-c",
            "raise SystemExit('what was wrong')",
        )

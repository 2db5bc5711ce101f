"""The matrix: which versions it asks for, and how it reads a report."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from noxfile import counts, distribution, merged, table  # noqa: E402


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


def cells(name: str, seconds: str) -> list[str]:
    versions = ["3.11.7", "2.6.0", "none", "1.26.0", "3.9.0"]
    return [name, *versions, "5 passed", "2 failed", seconds, "2026-01-02"]


def test_table_keeps_rows_of_other_sessions() -> None:
    page = table(cells("oldest", "61"), table(cells("cpu", "1"), ""))
    header, _, oldest, cpu = page.splitlines()[-4:]
    assert header.count("|") == oldest.count("|") == 11
    assert oldest == (
        "| oldest | 3.11.7 | 2.6.0 | none | 1.26.0 | 3.9.0 "
        "| 5 passed | 2 failed | 61 | 2026-01-02 |"
    )
    newest = f"| {' | '.join(cells('newest', '5'))} |"
    assert table(cells("newest", "5"), page).splitlines()[-3:] == [oldest, newest, cpu]
    assert "| 99 |" in table(cells("oldest", "99"), page)
    assert "| 61 |" not in table(cells("oldest", "99"), page)

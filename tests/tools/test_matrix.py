"""The matrix: which versions it asks for, and how it reads a report."""

from pathlib import Path

import pytest
from noxfile import COLUMNS, counts, distribution, merged, merged_rows, outcomes


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


def case(outcome: str, inside: str = "") -> str:
    told = {"tool": "watch", "outcome": outcome}
    lines = (f'<property name="{k}" value="{v}"/>' for k, v in told.items())
    return f"<testcase><properties>{''.join(lines)}</properties>{inside}</testcase>"


def test_an_outcome_holds_only_if_all_of_its_tests_passed(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    assert outcomes(report) == [["all", "did not run", "0"]]
    cases = [case("a"), case("b"), case("b", "<failure/>"), case("c", "<skipped/>")]
    report.write_text(
        f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>"
    )
    assert outcomes(report) == [
        ["watch", "a", "1"],
        ["watch", "failed: b", "2"],
        ["watch", "failed: c", "1"],
    ]
    report.write_text("<testsuites><testsuite><testcase/></testsuite></testsuites>")
    assert outcomes(report) == [["all", "collected", "1"]]


def cells(name: str, seconds: str) -> list[str]:
    versions = ["3.11.7", "2.6.0", "none", "1.26.0", "3.9.0"]
    return [name, *versions, "5 passed", "2 failed", seconds, "2026-01-02"]


def test_rows_of_other_sessions_are_kept() -> None:
    oldest, cpu, newest = cells("oldest", "61"), cells("cpu", "1"), cells("newest", "5")
    before = merged_rows(cpu, [oldest])
    assert before == [oldest, cpu]
    assert len(oldest) == len(COLUMNS)
    assert merged_rows(newest, before) == [oldest, newest, cpu]
    assert merged_rows(cells("oldest", "99"), before)[0][-2] == "99"

"""``make seeds`` counts every claim under every seed, also after one that failed."""

import math
import sys
from pathlib import Path

import nbformat
import pytest
import run_seeds
from recording import read_records
from run_seeds import ASSERTIONS, Outcome, Run, margin, summarize

CLAIMS = """
from gradlib import chapter
chapter.claim("below two", SEED, below=2)
assert SEED < 2
"""
LATER = """
chapter.claim("a band", 3, above=2, below=6, rival={"none": 1, "half": 1.5})
assert SEED != 1
"""


@pytest.fixture
def small_chapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    v4 = nbformat.v4
    claims = {"tags": ["claims"]}
    notebook = v4.new_notebook(
        cells=[
            v4.new_markdown_cell("# Title\n\n## First"),
            v4.new_code_cell("import os; SEED = int(os.environ['GRADLIB_SEED'])"),
            v4.new_code_cell(CLAIMS, metadata=claims),
            v4.new_markdown_cell("## Second"),
            v4.new_code_cell(LATER, metadata=claims),
        ]
    )
    nbformat.write(notebook, tmp_path / "small.ipynb")
    monkeypatch.setattr(run_seeds, "CHAPTERS", tmp_path)
    return "small"


def test_counts_claims_and_goes_on_after_a_failure(small_chapter: str) -> None:
    runs = [run_seeds.run(small_chapter, seed) for seed in (1, 2)]
    assert summarize(runs) == [
        ["First", "below two", "1/2", "0 %", ""],
        ["First", ASSERTIONS, "1/1", "", ""],
        ["Second", "a band", "2/2", "50 %", "none, half"],
        ["Second", ASSERTIONS, "1/2", "", ""],
    ]
    first, second = runs
    assert [error.split(":")[0] for error in first.errors] == ["Second"]
    assert "does not hold: below two" in second.errors[0]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import time; time.sleep(60)", "CellTimeoutError"),
        ("import os; os._exit(1)", "DeadKernelError"),
    ],
)
def test_a_run_that_does_not_come_back_is_a_failure_of_its_own(
    code: str, error: str, small_chapter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = run_seeds.CHAPTERS / "small.ipynb"
    notebook = nbformat.read(path, 4)
    notebook.cells[-1].source = code
    nbformat.write(notebook, path)
    monkeypatch.setattr(run_seeds, "TIMEOUT", 15)
    found = run_seeds.run(small_chapter, 1)
    assert found.errors[0].startswith(error)
    assert [o.claim for o in found.outcomes] == ["below two", ASSERTIONS]


@pytest.mark.parametrize(
    ("value", "above", "below", "expected"),
    [
        (3.0, 2.0, 6.0, 0.5),
        (7.0, 2.0, 6.0, -0.5),
        (20.0, 10.0, math.inf, 1.0),
        (-5.0, -math.inf, -4.0, 0.25),
        (0.5, 0.0, math.inf, 0.5),
        (3.0, -math.inf, 2.0, -0.5),
    ],
)
def test_margin(value: float, above: float, below: float, expected: float) -> None:
    record = {"value": value, "above": above, "below": below}
    assert margin(record) == pytest.approx(expected)


def test_smallest_margin_counts() -> None:
    runs = [
        Run("x", k, 1.0, [Outcome("s", "c", True, m)], [])
        for k, m in enumerate([0.4, 0.1, 20.0])
    ]
    assert summarize(runs) == [["s", "c", "3/3", "10 %", ""]]


def test_more_seeds_join_those_before(
    small_chapter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(name: str, seed: int) -> Run:
        outcome = Outcome("s", "c", holds=seed < 2, margin=1 - 0.5 * seed)
        return Run(name, seed, 1.0, [outcome], [] if outcome.holds else ["s: c"])

    monkeypatch.setattr(run_seeds, "run", run)
    monkeypatch.setattr(run_seeds, "CLAIMS", tmp_path / "claims.json")
    codes = []
    for options in (["--seeds", "2"], ["--first", "2", "--seeds", "1"]):
        command = ["run_seeds.py", *options, "--record", small_chapter]
        monkeypatch.setattr(sys, "argv", command)
        codes.append(run_seeds.main())
    kept = read_records(run_seeds.CLAIMS)[small_chapter]
    assert codes == [0, 1]
    assert kept["command"] == "make seeds CHAPTERS=small SEEDS=3"
    assert kept["rows"] == [["s", "c", "2/3", "0 %", ""]]


def test_more_seeds_need_those_before(
    small_chapter: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(run_seeds, "CLAIMS", tmp_path / "claims.json")
    monkeypatch.setattr(
        sys, "argv", ["run_seeds.py", "--first", "3", "--record", small_chapter]
    )
    with pytest.raises(SystemExit):
        run_seeds.main()
    assert "small: expected a record of 3 base seeds, got 0" in capsys.readouterr().err


def test_unknown_chapter_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["run_seeds.py", "cluases"])
    with pytest.raises(SystemExit):
        run_seeds.main()
    assert "unknown chapter ['cluases']; expected" in capsys.readouterr().err

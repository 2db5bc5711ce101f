"""Small changes are made, run apart from the tree, and noticed or not."""

import subprocess
import sys
from pathlib import Path

import pytest
from book import ROOT
from mutants import SUBJECTS, Mutant, difference, moved_thresholds, small_changes

TABLES = ROOT / "gradlib" / "tables.py"


def test_a_change_is_told_with_its_line() -> None:
    assert difference("a = 1\nb = 2\n", "a = 1\nb = 3\n") == "2: - b = 2; + b = 3"


def test_each_mutant_is_one_change_that_compiles() -> None:
    before = TABLES.read_text("utf8")
    found = list(small_changes(TABLES))
    assert len(found) > 10
    assert len({mutant.source for mutant in found}) == len(found)
    for mutant in found:
        assert mutant.change.count("; + ") == 1
        assert mutant.source != before
        compile(mutant.source, "mutant", "exec")


def test_thresholds_move_both_ways() -> None:
    signal = ROOT / "gradlib" / "diagnosis" / "rules" / "signal.py"
    told = [mutant.change for mutant in moved_thresholds(signal)]
    assert any("DEAD = 0.9; + DEAD = 0.45" in change for change in told)
    assert any("DEAD = 0.9; + DEAD = 1.8" in change for change in told)


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_subject_names_what_is_there(name: str) -> None:
    for place in [place for places in SUBJECTS[name] for place in places]:
        assert (ROOT / place).exists(), place


@pytest.mark.parametrize(
    ("old", "new", "killed"), [("[: most", "[:most", 0), ("//", "*", 1)]
)
def test_only_what_changes_an_example_is_killed(
    old: str, new: str, killed: int, tmp_path: Path
) -> None:
    before = TABLES.read_text("utf8")
    assert old in before
    mutant = Mutant(TABLES, before.replace(old, new), "")
    test = tmp_path / "test_it.py"
    test.write_text(
        "from gradlib.tables import text_table\n"
        "def test_it():\n"
        "    rows = [[str(k)] for k in range(9)]\n"
        "    assert len(text_table(['k'], rows, most=4).splitlines()) == 6\n"
    )
    assert survives(mutant, str(test)) is not bool(killed)


ASK = """
import os, sys
from pathlib import Path

path, changed, test, *places = sys.argv[1:]
sys.path[:0] = places
os.chdir(places[0])
from mutants import Mutant, survivors

mutant = Mutant(Path(path), Path(changed).read_text("utf8"), "a change")
print(len(survivors([mutant], [test], 1)))
"""


def survives(mutant: Mutant, test: str) -> bool:
    """Asked in a process of its own, since it forks."""
    changed = Path(test).with_name("changed.txt")
    changed.write_text(mutant.source, "utf8")
    words = [mutant.path, changed, test, ROOT, ROOT / "scripts"]
    command = [sys.executable, "-c", ASK, *map(str, words)]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    return said.stdout.split()[-1] == "1"

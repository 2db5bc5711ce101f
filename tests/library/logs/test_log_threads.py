"""Logs with the lines and the course of those that people showed in public threads.

`threads/labels.tsv` says what each is: broken since when, healthy, or too little to
say.
Losses and norms are multiplied by one factor; dates, names and paths are left out. The
labels were written before a rule had seen the logs. The second set was scored after the
first had been used to mend reading and rules, the third after the second, and then used
for that too: they show that nothing gets worse, and no more how a new log fares.
"""

import csv
from pathlib import Path

import pytest

from gradlib import diagnose_log, read_log

FOLDER = Path(__file__).parent / "threads"
with (FOLDER / "labels.tsv").open(encoding="utf8", newline="") as file:
    LABELS = {row["log"]: row for row in csv.DictReader(file, delimiter="\t")}
BROKEN = [name for name, row in LABELS.items() if row["verdict"] == "broken"]
UNREAD = {"tpgan_many_short_names"}
"""Lines with a dozen short names, of which none says that it is a loss."""
OTHERS = [name for name in LABELS if name not in {*BROKEN, *UNREAD}]


def path(name: str) -> Path:
    return FOLDER / f"{name}.log"


def test_each_log_has_a_label() -> None:
    assert {file.stem for file in FOLDER.glob("*.log")} == set(LABELS)


@pytest.mark.parametrize("name", [*BROKEN, *OTHERS])
def test_every_line_with_a_number_is_read(name: str) -> None:
    log = read_log(path(name))
    assert len(log.history)
    assert [line for line in log.unread if "step()" not in line] == []


@pytest.mark.parametrize("name", UNREAD)
def test_what_is_not_read_is_said(name: str) -> None:
    with pytest.raises(ValueError, match="no number of a training"):
        read_log(path(name))


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_called_so(name: str) -> None:
    report = diagnose_log(path(name))
    assert report.verdict == "broken"
    assert report.first_bad_step is not None
    assert abs(report.first_bad_step - int(LABELS[name]["first bad"])) <= 1


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_broken_raises_no_alarm(name: str) -> None:
    assert diagnose_log(path(name)).verdict != "broken"

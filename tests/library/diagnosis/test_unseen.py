"""diagnose() on cases that its rules had not seen: how many causes it names.

One seed, on the processor at hand; ``make clinic`` tries several draws and roundings.
"""

from functools import cache
from pathlib import Path

import pytest
from score_clinic import (
    CLINIC,
    UNSEEN,
    Outcome,
    fewest_right,
    most_alarms,
    outcomes,
)

from gradlib.diagnosis import CAUSES

SETS = {name: sorted(CLINIC.glob(f"{name}/*.py")) for name in UNSEEN}
PATHS = [path for paths in SETS.values() for path in paths]


@cache
def outcomes_of(path: Path) -> list[Outcome]:
    return list(outcomes(path, 0, ""))


@pytest.mark.parametrize(
    "path", PATHS, ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_a_case_gets_a_known_answer(path: Path) -> None:
    assert {outcome.cause for outcome in outcomes_of(path)} <= {*CAUSES, "unknown"}


@pytest.mark.parametrize("name", SETS)
def test_the_score_on_cases_that_the_rules_have_not_seen(name: str) -> None:
    found = [outcome for path in SETS[name] for outcome in outcomes_of(path)]
    broken = [outcome for outcome in found if not outcome.cured]
    cured = [outcome for outcome in found if outcome.cured]
    wrong = [outcome.case for outcome in broken if not outcome.right]
    alarms = [outcome.case for outcome in cured if not outcome.right]
    assert len(broken) - len(wrong) >= fewest_right(len(broken)), wrong
    assert len(alarms) <= most_alarms(len(cured)), alarms


@pytest.mark.parametrize("cases", [10, 25, 100])
def test_the_bounds_of_a_score_can_fail(cases: int) -> None:
    assert 0.5 * cases < fewest_right(cases) < 0.85 * cases
    assert 0.05 * cases < most_alarms(cases) < 0.5 * cases

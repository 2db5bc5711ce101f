"""diagnose() on the clinic: the broken are named, the cured and healthy are not.

One seed, on the processor at hand; ``make clinic`` tries several draws and roundings.
"""

from pathlib import Path

import pytest
import torch
from score_clinic import (
    CLINIC,
    UNSEEN,
    examine,
    expected_layers,
    load,
    matches,
    other_draws,
)

from gradlib.diagnosis import CAUSES

PATHS = sorted(p for p in CLINIC.glob("*/*.py") if p.parent.name not in UNSEEN)
BROKEN = [path for path in PATHS if load(path).CAUSE != "healthy"]
LAYERS = expected_layers()


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_the_cause_of_a_broken_training_is_named(path: Path) -> None:
    module = load(path)
    report = examine(module.make())
    assert report.cause in {module.CAUSE, *module.ALSO_OK}, str(report)
    wanted = LAYERS.get(path.stem, ["global"])
    if not {"loop", "global"} & set(wanted):
        assert matches(report.findings[0].layer, wanted), str(report)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_cured_training_is_called_healthy(path: Path) -> None:
    report = examine(load(path).make_fixed())
    assert report.cause == "healthy", str(report)


def test_another_seed_draws_another_case() -> None:
    make = load(BROKEN[0]).make
    with other_draws(0):
        same = make()
    with other_draws(1):
        other = make()
    for case, equal in ((same, True), (other, False)):
        pairs = zip(
            case["model"].parameters(), make()["model"].parameters(), strict=True
        )
        assert all(torch.equal(p, q) for p, q in pairs) is equal


def test_every_cause_has_a_case() -> None:
    only_in_logs = {"hardware_half_precision_bug"}
    causes = {load(path).CAUSE for path in CLINIC.glob("*/*.py")}
    assert causes == set(CAUSES) - only_in_logs

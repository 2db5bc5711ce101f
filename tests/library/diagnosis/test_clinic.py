"""diagnose() on the clinic: the broken are named, the cured and healthy are not."""

import csv
import fnmatch
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from book import ROOT

from gradlib.diagnosis import CAUSES, diagnose

CLINIC = ROOT / "tests" / "clinic"
BLIND = sorted(CLINIC.glob("blind/*.py"))
PATHS = sorted(set(CLINIC.glob("*/*.py")) - set(BLIND))


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def expected_layers() -> dict[str, list[str]]:
    expected = {}
    for table in CLINIC.glob("*/expected_layers.tsv"):
        for row in csv.DictReader(table.read_text().splitlines(), delimiter="\t"):
            expected[row["slug"]] = row["expected_layer"].split("|")
    return expected


def matches(layer: str, wanted: list[str]) -> bool:
    """The layer is one of those wanted, or inside one of them."""
    return any(fnmatch.fnmatch(layer, w) or layer.startswith(f"{w}.") for w in wanted)


BROKEN = [path for path in PATHS if load(path).CAUSE != "healthy"]
LAYERS = expected_layers()


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_the_cause_of_a_broken_training_is_named(path: Path) -> None:
    module = load(path)
    report = diagnose(**module.make())
    assert report.cause in {module.CAUSE, *module.ALSO_OK}, str(report)
    wanted = LAYERS.get(path.stem, ["global"])
    if not {"loop", "global"} & set(wanted):
        assert matches(report.findings[0].layer, wanted), str(report)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_cured_training_is_called_healthy(path: Path) -> None:
    report = diagnose(**load(path).make_fixed())
    assert report.cause == "healthy", str(report)


def test_the_score_on_cases_that_the_rules_have_not_seen() -> None:
    right, alarms, broken = [], [], 0
    for path in BLIND:
        module = load(path)
        if module.CAUSE != "healthy":
            broken += 1
            cause = diagnose(**module.make()).cause
            right += [path.stem] * (cause in {module.CAUSE, *module.ALSO_OK})
        if diagnose(**module.make_fixed()).cause != "healthy":
            alarms.append(path.stem)
    assert len(right) >= 0.85 * broken, right
    assert len(alarms) <= 0.05 * len(BLIND), alarms


def test_every_cause_has_a_case() -> None:
    assert {load(path).CAUSE for path in PATHS} == set(CAUSES)

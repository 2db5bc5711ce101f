"""Causes, findings and reports, as a reader meets them."""

import json

import pytest
from book import BASE, ROOT
from trainings import (
    nan_input,
)

from gradlib.diagnosis import CAUSES, Finding, Report, diagnose


@pytest.mark.parametrize(
    ("confidence", "word"), [(0.95, "certain"), (0.8, "likely"), (0.5, "possible")]
)
def test_a_finding_says_how_sure_it_is(confidence: float, word: str) -> None:
    finding = Finding("lr_too_high", "global", "It jumps.", confidence=confidence)
    assert finding.to_dict()["certainty"] == word
    assert f"{word} ({100 * confidence:.0f} %)" in str(Report((finding,)))


@pytest.mark.parametrize("cause", CAUSES)
def test_a_cause_leads_to_a_chapter(cause: str) -> None:
    chapters = ROOT / "chapters"
    assert (chapters / f"{CAUSES[cause].chapter}.ipynb").is_file()


def test_a_report_reads_as_a_page_and_as_a_log() -> None:
    made = nan_input()
    report = diagnose(
        made.pop("model"), made.pop("optimizer"), made.pop("batches"), **made
    )
    page = str(report)
    address = f"{BASE}chapters/field_guide.html"
    for word in ("Diagnosis: bad_data", "Symptom", "Evidence", "Fix", address):
        assert word in page
    assert address in report._repr_html_()
    assert max(map(len, page.splitlines())) <= 100
    log = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert log["findings"][0]["layer"] == "data"
    assert Report().cause == "healthy"


def test_a_finding_needs_a_known_cause() -> None:
    with pytest.raises(ValueError, match="cause: expected one of lr_too_high"):
        Finding("gremlins", "all", "It squeaks.")

"""Causes, findings and reports, as a reader meets them."""

import json
import re

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
def test_a_cause_leads_to_a_section_of_a_chapter(cause: str) -> None:
    name, _, section = CAUSES[cause].chapter.partition("#")
    assert section in slugs_of(name)


def slugs_of(chapter: str) -> set[str]:
    """The headings of a chapter, as the book's addresses spell them."""
    notebook = json.loads((ROOT / "chapters" / f"{chapter}.ipynb").read_text())
    cells = [c for c in notebook["cells"] if c["cell_type"] == "markdown"]
    lines = "".join("".join([*c["source"], "\n"]) for c in cells).splitlines()
    titles = [re.sub("^#+ ", "", line) for line in lines if re.match("#{2,3} ", line)]
    return {re.sub(r"[^\w -]", "", t).lower().replace(" ", "-") for t in titles}


def test_a_report_reads_as_a_page_and_as_a_log() -> None:
    made = nan_input()
    report = diagnose(
        made.pop("model"), made.pop("optimizer"), made.pop("batches"), **made
    )
    page = str(report)
    address = f"{BASE}chapters/causes.html#data"
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

"""What ``make bench`` says of pages, without a browser."""

import sys
from pathlib import Path

import chromium
import goals
import pages
import pytest
from book import NotReadyError

REPORT = {
    "requestedUrl": "http://a/b.html",
    "categories": {
        "seo": {
            "score": 0.5,
            "auditRefs": [
                {"id": "bad", "weight": 1},
                {"id": "good", "weight": 1},
                {"id": "free", "weight": 0},
                {"id": "absent", "weight": 1},
            ],
        },
        "accessibility": {"score": None, "auditRefs": []},
    },
    "audits": {
        "bad": {"id": "bad", "title": "It is bad", "score": 0},
        "good": {"id": "good", "title": "It is good", "score": 1},
        "free": {"id": "free", "title": "Costs nothing", "score": 0},
        "absent": {"id": "absent", "title": "Does not apply", "score": None},
    },
}


def test_a_score_goes_to_100_and_what_lowers_it_is_named() -> None:
    assert pages.score(REPORT, "seo") == 50
    assert list(pages.shortcomings(REPORT)) == ["http://a/b.html: bad: It is bad"]


def test_thousands_are_written_out() -> None:
    row = goals.at_most("weight, kB", 1012.3, 1200)
    assert goals.texts([row]) == [["weight, kB", "1012", "at most 1200", "yes"]]


def test_a_missing_score_is_no_score() -> None:
    with pytest.raises(RuntimeError, match=r"no score of accessibility for http://a"):
        pages.score(REPORT, "accessibility")


def test_figures_are_weighed_one_by_one() -> None:
    figure = '<figure class="gl-fig" id="a">{}</figure>'
    small, large = pages.figure_sizes(
        f"<p>{figure.format('x')}<figure>no</figure>{figure.format(range(999))}"
    )
    assert small < 60 < large


@pytest.mark.parametrize("missing", ["npm", "node"])
def test_missing_tools_end_the_command_with_a_remedy(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        pages.shutil, "which", lambda name: None if name == missing else name
    )
    monkeypatch.setattr(sys, "argv", ["goals.py", "pages"])
    with pytest.raises(SystemExit, match=f"pages: expected {missing} .* found none"):
        goals.main()


def test_an_install_that_fails_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "INSTALLED", tmp_path)
    for name in ("npm", "node"):
        (tmp_path / name).write_text("#!/bin/sh\necho no such host >&2; exit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(NotReadyError, match=r"(?s)lighthouse@.*no such host"):
        pages.lighthouse_program()


def test_a_missing_browser_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setattr(chromium.shutil, "which", lambda name: None)
    with pytest.raises(NotReadyError, match="expected Chromium on the path"):
        chromium.program()

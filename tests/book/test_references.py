"""The bibliography is complete, without duplicates, and holds what the book cites."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from book import NOTEBOOKS, ROOT, chapter_files
from pybtex.database import Entry, parse_file
from readings import (
    LEVELS,
    REQUIRED,
    SYMPTOMS,
    VENUES,
    canonical,
    read_chapter,
    read_works,
)

BIBLIOGRAPHY = ROOT / "reference/references.bib"
ENTRIES: dict[str, Entry] = dict(parse_file(BIBLIOGRAPHY).entries.items())
WORKS = read_works(BIBLIOGRAPHY)
CHAPTERS = {Path(file).stem for file in chapter_files()}
PAPER_HOSTS = (
    "arxiv.org", "doi.org", "openreview.net", "proceedings.mlr.press", "jmlr.org",
    "papers.nips.cc", "proceedings.neurips.cc", "papers.neurips.cc", "icml.cc",
    "proceedings.mlsys.org", "aclanthology.org", "openaccess.thecvf.com",
    "distill.pub", "dl.acm.org", "ieeexplore.ieee.org", "link.springer.com",
    "nature.com", "sciencedirect.com", "semanticscholar.org",
)  # fmt: skip
FIELDS = {
    *REQUIRED, *VENUES, "note", "volume", "number", "pages", "doi", "eprint", "symptom",
}  # fmt: skip


def repeated(values: Iterable[str]) -> list[str]:
    return [value for value, count in Counter(values).items() if count > 1]


def is_paper(address: str) -> bool:
    host = address.partition("/")[0]
    return any(host == name or host.endswith(f".{name}") for name in PAPER_HOSTS)


def words(title: str) -> str:
    return re.sub(r"\W+", " ", title).strip().lower()


def test_there_are_a_hundred_readings() -> None:
    assert len(WORKS) >= 100


def test_a_failing_run_finds_recent_works_and_logs() -> None:
    found = [work for work in WORKS if work.symptoms]
    assert sum(2019 <= int(work.year) <= 2026 for work in found) >= 100
    assert sum(work.posted for work in found) >= 30


@pytest.mark.parametrize("name", SYMPTOMS)
def test_a_symptom_has_works_but_no_flood(name: str) -> None:
    assert 4 <= sum(name in work.symptoms for work in WORKS) <= 25


def test_no_work_claims_many_symptoms() -> None:
    assert [work.key for work in WORKS if len(work.symptoms) > 3] == []


def test_no_key_comes_twice() -> None:
    keys = re.findall(r"^@\w+\{([^,]+),", BIBLIOGRAPHY.read_text("utf8"), re.MULTILINE)
    assert repeated(key.lower() for key in keys) == []
    assert len(keys) == len(WORKS)


def test_no_work_comes_twice() -> None:
    assert repeated(words(work.title) for work in WORKS) == []
    assert repeated(link for work in WORKS for link in work.links) == []


def test_every_work_has_one_address() -> None:
    assert [
        w.key for w in WORKS if not re.fullmatch(r"https?://[^\s<>{}]+", w.url)
    ] == []


def test_identifiers_are_well_formed() -> None:
    for key, entry in ENTRIES.items():
        eprint, doi = entry.fields.get("eprint"), entry.fields.get("doi")
        assert eprint is None or re.fullmatch(r"\d{4}\.\d{4,5}", eprint), key
        assert doi is None or re.fullmatch(r"10\.\d{4,}/\S+", doi), key


def test_addresses_of_one_work_agree() -> None:
    for work in WORKS:
        on_arxiv = [link for link in work.links if link.startswith("arxiv.org")]
        assert len(on_arxiv) <= 1, f"{work.key}: {on_arxiv}"
        if "arXiv:" in work.venue:
            number = work.venue.removeprefix("arXiv preprint arXiv:")
            assert on_arxiv == [f"arxiv.org/abs/{number}"], work.key


def test_every_work_belongs_to_a_chapter_and_a_level() -> None:
    assert [work.key for work in WORKS if work.chapter not in CHAPTERS] == []
    assert [work.key for work in WORKS if work.level not in LEVELS] == []


def test_annotations_are_one_sentence() -> None:
    for work in WORKS:
        assert re.fullmatch(r"[A-Z].*\.", work.annotation), work.key
        assert not re.search(r"[.!?] [A-Z]", work.annotation), work.key
        assert 8 <= len(work.annotation.split()) <= 40, work.key


def test_fields_are_known_and_years_plausible() -> None:
    for work in WORKS:
        assert set(ENTRIES[work.key].fields) <= FIELDS, work.key
        assert 1950 <= int(work.year) <= 2030, work.key
        year = re.search(r"\d{4}", work.key)
        assert year is None or year.group() == work.year, work.key


@pytest.mark.parametrize("chapter", sorted(CHAPTERS))
def test_every_chapter_has_a_start_and_papers(chapter: str) -> None:
    levels = Counter(work.level for work in WORKS if work.chapter == chapter)
    assert levels["start"] >= 1
    assert levels["paper"] >= 1


def test_every_chapter_of_the_book_is_known() -> None:
    written = {Path(file).stem for file in chapter_files()}
    assert written <= CHAPTERS


@pytest.mark.parametrize("name", [path.name for path in NOTEBOOKS])
def test_cited_papers_are_listed(name: str) -> None:
    known = {link for work in WORKS for link in work.links}
    cited = read_chapter(ROOT, f"chapters/{name}").cites
    missing = sorted(link for link in cited - known if is_paper(link))
    assert missing == [], f"{name} cites works that references.bib does not hold"


def test_papers_in_docstrings_are_listed() -> None:
    known = {link for work in WORKS for link in work.links}
    missing = [
        f"{path.name}: {url}"
        for path in sorted((ROOT / "gradlib").rglob("*.py"))
        for url in re.findall(r"https?://[^\s)>\"'`;,]+", path.read_text("utf8"))
        if is_paper(link := canonical(url.rstrip("."))) and link not in known
    ]
    assert missing == []


@pytest.mark.parametrize(
    ("address", "paper"),
    [
        ("arxiv.org/abs/1211.5063", True),
        ("ai.nature.com/x", True),
        ("notarxiv.org/abs/1211.5063", False),
        ("github.com/arxiv.org", False),
    ],
)
def test_knows_a_paper_by_its_host(address: str, paper: bool) -> None:
    assert is_paper(address) is paper

"""The readings page holds every work, in order, with links back to the chapters."""

import json
import re
import warnings
from pathlib import Path

import pytest
from book import ROOT, chapter_files, prose_of
from readings import (
    LEVELS,
    MARKER,
    SYMPTOMS,
    Chapter,
    canonical,
    read_chapter,
    read_works,
    render,
)
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import docutils_namespace

ENTRY = """@article{KEY,
  author = {First, Anna and van Second, Bo and {The Third Group}},
  title = {{A $title with 100\\% of a\\_name [1]}}, journal = {Journal}, year = {2001},
  url = {https://example.org/KEY}, eprint = {2001.00001}, doi = {10.1/KEY},
  keywords = {growth}, level = {LEVEL}, annote = {It teaches *one* thing.}
}
"""
CONFIG: dict[str, object] = {
    "project": "A small book",
    "extensions": ["myst_nb", "readings"],
    "root_doc": "intro",
    "nitpicky": True,
    "nb_execution_mode": "off",
    "myst_heading_anchors": 3,  # as in _config.yml: the index of symptoms needs it
    "exclude_patterns": ["_*", "jupyter_execute"],
}
TOC = """
format: jb-book
root: intro
parts: [{caption: Book, chapters: [{file: chapters/growth}, {file: chapters/cure}]}]
"""
INTRO = """# Intro

```{toctree}
chapters/growth
chapters/cure
reference/readings
```
"""


def entry(key: str = "first2001", level: str = "paper") -> str:
    return ENTRY.replace("KEY", key).replace("LEVEL", level)


def posted(key: str, year: int, symptom: str) -> str:
    """An entry like a log on the web."""
    text = entry(key).replace("@article", "@misc").replace("2001}", f"{year}}}")
    text = re.sub(r" eprint = .*?, doi = \{[^}]*\},", "", text)
    return text.replace("level =", f"symptom = {{{symptom}}}, level =")


def with_symptom(text: str, symptom: str) -> str:
    return text.replace("level =", f"symptom = {{{symptom}}}, level =")


def write_chapter(path: Path, *markdown: str) -> None:
    cells = [
        {"cell_type": "markdown", "id": f"c{k}", "metadata": {}, "source": [text]}
        for k, text in enumerate(markdown)
    ]
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    )


def book(folder: Path, entries: str) -> None:
    (folder / "_toc.yml").write_text(TOC)
    (folder / "intro.md").write_text(INTRO)
    (folder / "reference").mkdir()
    (folder / "reference/readings.md").write_text(f"# Readings\n\n{MARKER}\n")
    (folder / "reference/references.bib").write_text(entries)
    write_chapter(
        folder / "chapters/growth.ipynb",
        "# Watch growth\n\nAs in [First (2001)](https://www.example.org/first2001/).",
        "## Ends\n\nNothing.",
    )
    write_chapter(folder / "chapters/cure.ipynb", "# Cure growth\n\nNo citation.")


def build(folder: Path) -> str:
    """What the page says after a build without warnings."""
    out = folder / "_html"
    trees = folder / "_doctrees"
    with warnings.catch_warnings(), docutils_namespace():
        warnings.simplefilter("ignore")  # other extensions' deprecations
        app = Sphinx(
            str(folder), None, str(out), str(trees), "html", CONFIG, None, None,
            warningiserror=True,
        )  # fmt: skip
        app.build()
    return (out / "reference/readings.html").read_text("utf8")


def works_of(folder: Path, text: str) -> str:
    path = folder / "works.bib"
    path.write_text(text)
    return render(read_works(path), [])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://arxiv.org/abs/1211.5063", "http://www.arxiv.org/pdf/1211.5063v2.pdf"),
        ("https://arxiv.org/abs/1211.5063", "https://arxiv.org/abs/1211.5063/"),
        ("https://doi.org/10.1/2", "http://dx.doi.org/10.1/2"),
        ("https://d2l.ai", "https://d2l.ai/#top"),
    ],
)
def test_one_address_in_two_forms(one: str, other: str) -> None:
    assert canonical(one) == canonical(other)


def test_other_addresses_stay_apart() -> None:
    forum = "https://openreview.net/forum?id="
    assert canonical(forum + "a") != canonical(forum + "b")
    assert canonical("https://arxiv.org/abs/1211.5063") != canonical(
        "https://arxiv.org/abs/1211.5064"
    )


def test_reads_an_entry_as_plain_text(tmp_path: Path) -> None:
    (tmp_path / "works.bib").write_text(entry())
    (work,) = read_works(tmp_path / "works.bib")
    assert work.title == "A $title with 100% of a_name [1]"
    assert work.authors == "First, van Second and The Third Group"
    assert work.links == {
        "example.org/first2001",
        "arxiv.org/abs/2001.00001",
        "doi.org/10.1/first2001",
    }


def test_many_authors_become_one(tmp_path: Path) -> None:
    four = entry().replace("{The Third Group}", "Third, C. and Fourth, D.")
    more = entry("more").replace("van Second, Bo and {The Third Group}", "others")
    path = tmp_path / "works.bib"
    path.write_text(four + more)
    assert [work.authors for work in read_works(path)] == ["First et al."] * 2


@pytest.mark.parametrize("field", ["url", "keywords", "level", "annote", "journal"])
def test_names_what_an_entry_lacks(field: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"first2001: expected .*{field}"):
        works_of(tmp_path, entry().replace(f"{field} =", "unknown ="))


def test_refuses_an_unknown_level(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"first2001: expected a level .*'easy'"):
        works_of(tmp_path, entry(level="easy"))


@pytest.mark.parametrize("symptom", ["spikes", "spike,", "", "spike, spike"])
def test_refuses_an_unknown_symptom(symptom: str, tmp_path: Path) -> None:
    message = rf"first2001: expected symptoms of nan, .*; got {symptom!r}"
    with pytest.raises(ValueError, match=message):
        works_of(tmp_path, with_symptom(entry(), symptom))


def test_markup_in_a_title_is_text(tmp_path: Path) -> None:
    listed = works_of(tmp_path, entry())
    assert r"[A \$title with 100% of a\_name \[1\]](<https://example.org/" in listed
    assert r"It teaches \*one\* thing." in listed


def test_levels_come_in_order(tmp_path: Path) -> None:
    listed = works_of(tmp_path, entry("c", "deep") + entry("b") + entry("a", "start"))
    places = [listed.index(f"#### {heading}\n") for heading in LEVELS.values()]
    assert places == sorted(places)
    assert listed.index("org/a>") < listed.index("org/b>") < listed.index("org/c>")


def test_the_books_order_is_the_lists_order(tmp_path: Path) -> None:
    path = tmp_path / "works.bib"
    cure = entry("b").replace("{growth}", "{cure}")
    path.write_text(entry("a") + cure + entry("c").replace("{growth}", "{not_there}"))
    chapters = [
        Chapter("chapters/cure.ipynb", "Cure growth", frozenset()),
        Chapter("chapters/growth.ipynb", "Watch growth", frozenset()),
    ]
    headings = [
        line
        for line in render(read_works(path), chapters).splitlines()
        if line.startswith("### ")
    ]
    assert headings == ["### Cure growth", "### Watch growth", "### Not there"]


def test_symptoms_come_first_and_in_their_order(tmp_path: Path) -> None:
    late, early = list(SYMPTOMS)[-1], next(iter(SYMPTOMS))
    listed = works_of(
        tmp_path,
        with_symptom(entry("a"), late) + with_symptom(entry("b"), f"{late}, {early}"),
    )
    symptoms, chapters = listed.split("## By chapter\n")
    assert symptoms.startswith("## By symptom\n")
    first, last = (SYMPTOMS[name].heading for name in (early, late))
    assert re.findall(r"^### (.+)$", symptoms, re.MULTILINE) == [first, last]
    before, after = symptoms.split(f"### {last}\n")
    assert ("org/b>" in before, "org/a>" in before) == (True, False)
    assert ("org/b>" in after, "org/a>" in after) == (True, True)
    assert chapters.count("example.org/a>") == chapters.count("example.org/b>") == 1


def test_logs_and_posts_come_first_then_the_newest(tmp_path: Path) -> None:
    listed = works_of(
        tmp_path,
        with_symptom(entry("paper"), "spike")
        + posted("old", 1999, "spike")
        + posted("new", 2020, "spike"),
    )
    symptoms = listed.split("## By chapter\n")[0]
    assert re.findall(r"org/(\w+)>", symptoms) == ["new", "old", "paper"]


def test_a_preprint_is_no_post(tmp_path: Path) -> None:
    path = tmp_path / "works.bib"
    path.write_text(entry("a").replace("@article", "@misc") + posted("b", 2020, "nan"))
    assert [work.posted for work in read_works(path)] == [False, True]


def test_an_item_by_symptom_is_short(tmp_path: Path) -> None:
    listed = works_of(tmp_path, posted("log", 2020, "nan")).splitlines()
    assert listed[listed.index(f"### {SYMPTOMS['nan'].heading}") + 2] == (
        r"- **[A \$title with 100% of a\_name \[1\]](<https://example.org/log>)** "
        r"(First, van Second and The Third Group, 2020): It teaches \*one\* thing."
    )


def test_without_symptoms_there_is_no_such_part(tmp_path: Path) -> None:
    assert works_of(tmp_path, entry()).startswith("## By chapter\n")


def test_a_symptom_leads_to_its_test(tmp_path: Path) -> None:
    path = tmp_path / "works.bib"
    path.write_text(posted("log", 2020, "nan"))
    guide = Chapter("chapters/field_guide.ipynb", "Find out", frozenset())
    place = "/chapters/field_guide.ipynb#nan-or-inf-at-step-0"
    assert f"]({place})." in render(read_works(path), [guide])
    assert place not in render(read_works(path), [])


@pytest.mark.parametrize("name", SYMPTOMS)
def test_the_section_of_a_symptom_exists(name: str) -> None:
    symptom = SYMPTOMS[name]
    prose = prose_of(ROOT / f"chapters/{symptom.chapter}.ipynb")
    assert re.search(rf"^#+ {re.escape(symptom.section)}$", prose, re.MULTILINE)


def test_no_heading_comes_twice() -> None:
    """So that each has an address of its own."""
    titles = [read_chapter(ROOT, file).title for file in chapter_files()]
    headings = [symptom.heading for symptom in SYMPTOMS.values()]
    assert len({*titles, *headings}) == len(titles) + len(headings)


def test_a_title_and_links_of_a_chapter(tmp_path: Path) -> None:
    write_chapter(
        tmp_path / "chapters/growth.ipynb",
        "# Watch growth\n\n[A](https://a.org/x) and [B](<https://b.org/y>).",
        "[C](../reference/glossary.md#gain), `https://d.org`",
    )
    chapter = read_chapter(tmp_path, "chapters/growth.ipynb")
    assert (chapter.title, chapter.name) == ("Watch growth", "growth")
    assert chapter.cites == {"a.org/x", "b.org/y"}


def test_every_citation_has_a_back_link() -> None:
    works = read_works(ROOT / "reference/references.bib")
    chapters = [read_chapter(ROOT, file) for file in chapter_files()]
    lines = render(works, chapters).split("## By chapter\n")[1].splitlines()
    for work in works:
        (line,) = [line for line in lines if f"](<{work.url}>)" in line]
        citing = [c.file for c in chapters if c.cites & work.links]
        assert all(f"](/{file})" in line for file in citing), line
        assert ("Cited in" in line) == bool(citing)


def test_builds_and_follows_changes(tmp_path: Path) -> None:
    book(tmp_path, entry() + entry("second2002", "start"))
    page = build(tmp_path)
    assert MARKER not in page
    assert "A $title with 100% of a_name [1]</a>" in page
    assert re.search(r'Cited in <a [^>]*href="../chapters/growth.html">', page)
    assert not re.search(r'Cited in <a [^>]*href="../chapters/cure.html">', page)

    cites = "# Cure growth\n\n[Second](https://example.org/second2002)."
    write_chapter(tmp_path / "chapters/cure.ipynb", cites)
    page = build(tmp_path)
    assert re.search(r'Cited in <a [^>]*href="../chapters/cure.html">', page)

    (tmp_path / "reference/references.bib").write_text(entry("third2003"))
    page = build(tmp_path)
    assert "example.org/third2003" in page
    assert "example.org/second2002" not in page
    assert "By symptom" not in page

    text = with_symptom(entry("fourth2004"), "nan")
    (tmp_path / "reference/references.bib").write_text(text)
    page = build(tmp_path)
    assert 'id="nan-or-inf-from-the-first-steps"' in page
    assert 'href="#nan-or-inf-from-the-first-steps"' in page


def test_a_broken_entry_stops_the_build(tmp_path: Path) -> None:
    book(tmp_path, entry(level="easy"))
    with pytest.raises(ExtensionError, match=r"references\.bib: first2001: expected a"):
        build(tmp_path)


def test_a_page_without_marker_stops_the_build(tmp_path: Path) -> None:
    book(tmp_path, entry())
    (tmp_path / "reference/readings.md").write_text("# Readings\n")
    with pytest.raises(ExtensionError, match="expected the marker"):
        build(tmp_path)

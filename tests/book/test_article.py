"""Every section and step of the article has its place, and the place exists."""

import re
from pathlib import Path

import nbformat
import pytest
from book import ROOT
from markdown_text import anchor
from notebooks import headings

ANSWERS = ROOT / "tests" / "book" / "article.md"
PAGE = ANSWERS.read_text("utf8")
LINK = re.compile(r"\[([^\]]+)\]\(([^)#\s]+)(?:#([^)\s]+))?\)")
ROWS = [
    *("1", "1, title", "2.1", "2.2", *(f"2.3 ({k})" for k in range(1, 6))),
    *(
        "3.1",
        *(f"3.2 ({k})" for k in range(1, 4)),
        *(f"3.3 ({k})" for k in range(1, 5)),
    ),
    *("4.1", "4.2", "4.3", *(f"4.2 ({k})" for k in range(1, 11))),
    *map(str, range(1, 9)),
]


def rows() -> list[tuple[str, str, str]]:
    """Article's section, what it says, and the links, of each row of the tables."""
    found = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)
    return [row for row in found if row[0] not in ("section", "step", "error")]


PLACES = sorted({link for _, _, where in rows() for link in LINK.findall(where)})


def test_every_part_of_the_article_has_a_row() -> None:
    assert [section for section, _, _ in rows()] == ROWS


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_every_row_names_a_place(row: tuple[str, str, str]) -> None:
    *_, where = row
    assert LINK.findall(where), "expected a link to a chapter's heading, found none"
    assert re.sub(LINK, "", where).strip(", ") == "", "expected links only"


@pytest.mark.parametrize(
    ("name", "file", "target"), PLACES, ids=lambda part: part.replace(" ", "_")
)
def test_the_place_exists(name: str, file: str, target: str) -> None:
    path = (ANSWERS.parent / file).resolve()
    assert path.exists(), f"{file}: no such page"
    assert name in headings(path), f"{file}: no heading '{name}'"
    if target:
        assert target == anchor(name), f"{file}: the address of '{name}' differs"
    else:
        assert headings(path)[0] == name, f"{file}: the title is not '{name}'"


def test_a_missing_heading_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "chapter.ipynb"
    text = "# Title\n\n## Is it?\n\n```\n# no heading\n```"
    cell = nbformat.v4.new_markdown_cell(text)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    assert headings(path) == ["Title", "Is it?"]

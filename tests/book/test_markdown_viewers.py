"""Chapters read well where nothing runs: a plain viewer of GitHub's Markdown."""

import re
from functools import cache
from html import unescape
from pathlib import Path

import pytest
from book import ROOT, cells_of
from markdown_it import MarkdownIt
from markdown_it.rules_block.table import escapedSplit
from markdown_text import anchor
from notebooks import each_notebook, headings

VIEWER = MarkdownIt("gfm-like")
LEFT_RAW = {
    "a colon fence": r"^:::",
    "a directive": r"\{[a-z:-]+\}<code>|class=\"language-\{",
    "a target": r"\([\w-]+\)=\s*</p>",
    "a table that is none": r"^(<p>)?\|.*\|(</p>)?$",
    "HTML shown as text": r"&lt;/?(a|br|div|figure|img|span|table)\b",
    "bold that is none": r"\*\*\w|\w\*\*",
    "a link that is none": r"\]\((https?:|\.\./|#)",
}


@cache
def prose(path: Path) -> list[str]:
    return [cell.source for cell in cells_of(path, "markdown")]


def without_code_and_maths(html: str) -> str:
    """What a viewer shows as prose; formulas are drawn, code is meant to be raw."""
    html = re.sub(r"(<code[^>]*>).*?</code>", r"\1", html, flags=re.DOTALL)
    return re.sub(r"\$\$.*?\$\$|\$[^$\n]+\$", "", html, flags=re.DOTALL)


def raw_in(markdown: str) -> list[str]:
    html = without_code_and_maths(VIEWER.render(markdown))
    return [
        f"{what}: {found.group()!r}"
        for what, pattern in LEFT_RAW.items()
        if (found := re.search(pattern, html, re.MULTILINE))
    ]


def ragged_rows(markdown: str) -> list[str]:
    """Rows of tables whose number of cells is not that of the header."""
    lines = markdown.splitlines()
    found, width = [], 0
    for token in VIEWER.parse(markdown):
        if token.type == "tr_open" and token.map:
            line = lines[token.map[0]].strip().removeprefix("|").removesuffix("|")
            cells = len(escapedSplit(line))
            width = width or cells
            if cells != width:
                found.append(f"{cells} cells below {width} columns: {line}")
        elif token.type == "table_close":
            width = 0
    return found


def links(markdown: str) -> list[str]:
    """Addresses of the links that a viewer shows."""
    return [unescape(a) for a in re.findall(r'href="([^"]+)"', VIEWER.render(markdown))]


@each_notebook
def test_nothing_is_shown_raw(path: Path) -> None:
    for markdown in prose(path):
        assert not raw_in(markdown), f"{path.name}: {raw_in(markdown)}"


@each_notebook
def test_tables_are_whole(path: Path) -> None:
    for markdown in prose(path):
        assert not ragged_rows(markdown), f"{path.name}: {ragged_rows(markdown)}"


@each_notebook
def test_links_resolve_beside_the_file(path: Path) -> None:
    for link in (link for markdown in prose(path) for link in links(markdown)):
        if re.match(r"https?:|mailto:", link):
            continue
        name, _, heading = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.is_relative_to(ROOT), f"{path.name}: {link} leaves the project"
        assert target.is_file(), f"{path.name}: no file for {link}"
        if heading:
            assert heading in map(anchor, headings(target)), (
                f"{path.name}: no heading for {link}"
            )


@pytest.mark.parametrize(
    "markdown",
    [
        ":::{note}\nText.\n:::",
        "```{note}\nText.\n```",
        "See {ref}`clipping`.",
        "See {cite:p}`pascanu`.",
        "(a-target)=",
        "Text\n| a | b |\nmore | text |",
        "| a | b |\n| 1 | 2 |",
        "**bold,**then text",
        "a [link] (x) and [another](../a file.md)",
    ],
)
def test_what_a_viewer_leaves_raw_is_found(markdown: str) -> None:
    assert raw_in(markdown)


def test_a_bar_inside_a_formula_breaks_a_row() -> None:
    table = "| a | b |\n|---|---|\n| $|x|$ | 2 |\n| 1 | 2 |"
    assert ragged_rows(table) == ["4 cells below 2 columns:  $|x|$ | 2 "]
    assert not ragged_rows(table.replace("$|x|$", r"$\|x\|$"))
    assert not ragged_rows("| a | b |\n|---|---|\n| `|` | 2 |".replace("`|`", r"`\|`"))

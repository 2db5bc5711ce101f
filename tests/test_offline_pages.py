"""Repairs of the theme's HTML do what they say, and only that."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "_ext"))

from docstring_formulas import escape, escape_docstring  # noqa: E402
from offline_pages import mathjax_files, repair  # noqa: E402


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            '<button class="btn search-button-field" aria-label="Search">',
            '<button class="btn search-button-field">',
        ),
        ('<summary aria-label="Toggle hidden content">', "<summary>"),
        ("<tr><th></th><th>loss</th></tr>", "<tr><td></td><th>loss</th></tr>"),
        ('<table class="table">', '<table class="table" tabindex="0">'),
        (
            '<div class="math notranslate nohighlight">',
            '<div class="math notranslate nohighlight" tabindex="0">',
        ),
        ('<table class="plain">', '<table class="plain">'),
    ],
)
def test_repair(before: str, after: str) -> None:
    assert repair(before) == after


def test_repair_is_done_once() -> None:
    page = '<table class="table"><tr><th></th></tr></table><div class="math x">'
    assert repair(repair(page)) == repair(page)


def test_mathjax_comes_with_its_fonts() -> None:
    found = dict(map(reversed, mathjax_files()))
    assert "tex-chtml.js" in found
    assert sum(name.endswith(".woff") for name in found) > 20
    assert all(path.exists() for path in found.values())


def test_formulas_are_escaped_but_not_examples() -> None:
    assert escape("|g| of fit_") == r"\|g\| of fit\_"
    assert escape("``|g|`` and `clip_`") == "``|g|`` and `clip_`"
    lines = ["||g|| grows", "", ">>> a | b", "3 | 4", "", "snake_case stays"]
    escape_docstring(None, "function", "f", None, None, lines)
    assert lines == [
        r"\|\|g\|\| grows",
        "",
        ">>> a | b",
        "3 | 4",
        "",
        "snake_case stays",
    ]

"""Repairs of the theme's HTML do what they say, and only that."""

import re
import sys
from html import escape
from pathlib import Path

import pytest
from book import ROOT
from content_security import protect, sha256
from docstring_formulas import escape_docstring, escape_formulas
from front_page import site_map
from offline_pages import mathjax_files, mended
from sphinx.testing.util import SphinxTestApp


def repaired(html: str) -> str:
    return mended(html, Path("page.html"))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            '<button class="btn search-button-field" aria-label="Search"></button>',
            '<button class="btn search-button-field"></button>',
        ),
        (
            '<summary aria-label="Toggle hidden content">a</summary>',
            "<summary>a</summary>",
        ),
        ("<tr><th></th><th>loss</th></tr>", "<tr><td></td><th>loss</th></tr>"),
        (
            '<table class="colwidths-auto table"></table>',
            '<table class="colwidths-auto table" tabindex="0"></table>',
        ),
        (
            '<div class="math notranslate nohighlight">x</div>',
            '<div class="math notranslate nohighlight" tabindex="0">x</div>',
        ),
        ('<table class="plain"></table>', '<table class="plain"></table>'),
        (
            '<i class="fas fa-file"></i>',
            '<i class="fas fa-file" aria-hidden="true"></i>',
        ),
        (
            '<i class="theme-switch fa-lg" title="Light"></i>',
            '<i class="theme-switch fa-lg" aria-hidden="true"></i>',
        ),
        (
            '<div class="sidebar-primary-item">'
            '<a class="navbar-brand logo">a</a></div>',
            '<nav class="sidebar-primary-item" aria-label="Book title">'
            '<a class="navbar-brand logo">a</a></nav>',
        ),
        ('<html data-theme="auto" lang="en"></html>', '<html lang="en"></html>'),
        (
            '<script defer src="../_static/scripts/fontawesome.js?digest=1"></script>',
            "",
        ),
        ('<script type="text/x-thebe-config">{}</script>', ""),
        ("<script>kernelName = 'python3'</script>", ""),
    ],
)
def test_repair(before: str, after: str) -> None:
    assert repaired(before) == after


def test_the_rest_of_a_page_stays_as_it_is() -> None:
    page = (
        '<meta charset="utf-8" /><a href="?x=1&amp;y=2" class="b  c">1 &lt; 2</a>'
        '<script>a < b && c</script><input onclick="f(\'x\')" hidden="" />'
    )
    assert repaired(page) == page


def test_repair_is_done_once() -> None:
    page = '<table class="table"><tr><th></th></tr></table><div class="math x"></div>'
    assert repaired(repaired(page)) == repaired(page)


def test_only_pages_with_formulas_load_mathjax() -> None:
    scripts = (
        '<script>window.MathJax = {"options": {}}</script>'
        '<script defer="defer" src="../_static/vendor/mathjax/tex-chtml.js"></script>'
    )
    assert repaired(f"{scripts}<p>text</p>") == "<p>text</p>"
    formula = '<span class="math notranslate"></span>'
    assert repaired(scripts + formula) == scripts + formula


def test_pictures_and_formulas_get_their_room(tmp_path: Path) -> None:
    (tmp_path / "_images").mkdir()
    svg = '<svg width="75pt" height="60.2pt" viewBox="0 0 75 60">'
    (tmp_path / "_images" / "a.svg").write_text(svg)
    page = tmp_path / "page.html"
    sized = '<img alt="A" src="_images/a.svg" width="100" height="80" />'
    assert mended('<img alt="A" src="_images/a.svg" />', page) == sized
    assert mended(sized, page) == sized
    span = '<span class="math notranslate nohighlight"'
    wide = f'{span} style="--width: 3ch">\\(x&lt;1\\)</span>'
    assert mended(f"{span}>\\(x&lt;1\\)</span>", page) == wide
    assert mended(wide, page) == wide


def test_policy_names_each_inline_script(tmp_path: Path) -> None:
    head = '<head><meta charset="utf-8" />'
    one, two = tmp_path / "one.html", tmp_path / "two.html"
    pages = {
        one: f"{head}<script>f()</script><script src='f.js'></script>",
        two: f'{head}<input oninput="g(&quot;x&quot;)">',
    }
    protected = protect(pages)
    f, g = escape(sha256("f()")), escape(sha256('g("x")'))
    assert f in protected[one]
    assert f not in protected[two]
    for html in protected.values():
        assert g in html, "previews of a search hold the handlers of other pages"
        assert html.count("Content-Security-Policy") == 1
    assert protect(protected) == protected


def test_only_a_page_that_says_so_may_compile_webassembly(tmp_path: Path) -> None:
    head = '<head><meta charset="utf-8" />'
    one, two = tmp_path / "one.html", tmp_path / "two.html"
    protected = protect({one: f'{head}<div data-needs="wasm">', two: head})
    for told in (escape("'wasm-unsafe-eval'"), escape("worker-src 'self' blob:")):
        assert told in protected[one]
        assert told not in protected[two]
    assert escape("'unsafe-eval'") not in protected[one]


def test_site_map_escapes_addresses() -> None:
    assert "<loc>https://a.b/?x=1&amp;y=2</loc>" in site_map(["https://a.b/?x=1&y=2"])


def test_site_map_names_pages_that_were_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT / "_ext"), *sys.path])
    names = ("first", "one", "two")
    (tmp_path / "conf.py").write_text(
        "extensions = ['front_page']\nroot_doc = 'first'\nhtml_baseurl = 'https://a.b/'\n"
    )
    for name in names:
        (tmp_path / f"{name}.rst").write_text(f":orphan:\n\n{name}\n=====\n")
    for _ in range(2):
        app = SphinxTestApp("html", srcdir=tmp_path)
        try:
            app.build()
        finally:
            app.cleanup()
        site_map = (tmp_path / "_build" / "html" / "sitemap.xml").read_text("utf8")
        assert re.findall("<loc>(.*?)</loc>", site_map) == [
            f"https://a.b/{name}.html" for name in names
        ]
        (tmp_path / "two.rst").write_text(":orphan:\n\ntwo\n===\n\nMore.\n")


def test_mathjax_comes_with_its_fonts() -> None:
    found = dict(map(reversed, mathjax_files()))
    assert "tex-chtml.js" in found
    assert sum(name.endswith(".woff") for name in found) > 20
    assert all(path.exists() for path in found.values())


def test_formulas_are_escaped_but_not_examples() -> None:
    assert escape_formulas("|g| of fit_") == r"\|g\| of fit\_"
    assert escape_formulas("``|g|`` and `clip_`") == "``|g|`` and `clip_`"
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

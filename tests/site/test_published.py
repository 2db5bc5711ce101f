"""How the site is found and shared, and how much of it travels."""

import ast
import re
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import pytest
from book import BASE, CHAPTERS, PAGES, ROOT, SITE, cells_of
from pages import FIGURE, FIRST_VISIT, SECOND_VISIT, SHIFT, figure_sizes, weigh
from playwright.sync_api import Browser
from serve_book import body


def book_pages() -> list[Path]:
    return [path for path in SITE.rglob("*.html") if "_static" not in path.parts]


def read(name: str) -> str:
    return (SITE / f"{name}.html").read_text("utf8")


def imported_from_gradlib(name: str) -> set[str]:
    """What a chapter's code imports from the library, by its own name."""
    cells = cells_of(ROOT / f"{name}.ipynb", "code")
    code = "\n".join(cell.source for cell in cells)
    return {
        alias.name
        for node in ast.walk(ast.parse(re.sub(r"%pip.*", "pass", code)))
        if isinstance(node, ast.ImportFrom) and node.module.startswith("gradlib")
        for alias in node.names
    }


@pytest.mark.parametrize("name", ["index", *PAGES])
def test_page_is_described(name: str) -> None:
    html = read(name)
    first = "intro" if name == "index" else name
    assert f'<link rel="canonical" href="{BASE}{first}.html" />' in html
    assert len(re.findall("<title>", html)) == 1
    for needed in (
        r"<title>[^<]{10,}</title>",
        r'<meta property="og:title" content="[^"]{5,}"',
        r'<meta name="description" content="[^"]{50,}"',
        r'<meta http-equiv="Content-Security-Policy"',
    ):
        assert re.search(needed, html), needed
    card = re.search(rf'property="og:image" content="{BASE}([^"]+)"', html)
    icon = re.search(r'<link rel="icon" href="([^"]+)"', html)
    assert card
    assert icon
    assert (SITE / card[1]).exists()
    assert (SITE / first).parent.joinpath(icon[1]).resolve().exists()


@pytest.mark.parametrize("name", CHAPTERS)
def test_claims_are_marks_and_no_log(name: str) -> None:
    cells = cells_of(ROOT / f"{name}.ipynb", "code")
    claiming = sum("chapter.claim(" in cell.source for cell in cells)
    html = read(name)
    assert html.count('<details class="claims">') >= claiming > 0
    assert ">holds: " not in html


def test_titles_and_descriptions_differ() -> None:
    for pattern in (r"<title>(.*?)</title>", r'name="description" content="(.*?)"'):
        told = [re.search(pattern, read(name))[1] for name in PAGES]
        assert len(set(told)) == len(told)


def test_root_shows_the_first_page() -> None:
    assert read("index") == read("intro")


def test_pages_lead_on_and_back_in_order() -> None:
    def target(name: str, css: str) -> str | None:
        link = re.search(rf'<a class="{css}"\s+href="([^"]+)"', read(name))
        return link and (SITE / name).parent.joinpath(link[1]).resolve().as_posix()

    def file(name: str) -> str:
        return (SITE / f"{name}.html").resolve().as_posix()

    for before, after in pairwise(PAGES):
        assert target(before, "right-next") == file(after)
        assert target(after, "left-prev") == file(before)
    assert target(PAGES[0], "left-prev") is None
    assert target(PAGES[-1], "right-next") is None


def test_site_map_names_every_page() -> None:
    listed = {node.text for node in ET.parse(SITE / "sitemap.xml").iter() if node.text}
    listed = {text.strip() for text in listed if text.strip()}
    assert listed == {f"{BASE}{name}.html" for name in PAGES}


@pytest.mark.parametrize("name", CHAPTERS)
def test_code_links_to_the_library(name: str) -> None:
    html = read(name)
    links = re.findall(r'href="\.\./reference/library\.html#([\w.-]+)"', html)
    documented = set(re.findall(r'id="([\w.-]+)"', read("reference/library")))
    assert set(links) <= documented
    linked = {re.split(r"[.-]", link)[-1] for link in links}
    assert imported_from_gradlib(name) <= linked


def test_policy_names_no_other_host() -> None:
    for page in book_pages():
        html = page.read_text("utf8")
        policies = re.findall(
            r'http-equiv="Content-Security-Policy" content="(.*?)"', html
        )
        assert len(policies) == 1, page
        assert "default-src &#x27;none&#x27;" in policies[0]
        assert "http" not in policies[0]
        script = re.search(r"script-src ([^;]*)", policies[0].replace("&#x27;", "'"))
        assert "'unsafe-inline'" not in script[1]
        assert "'unsafe-eval'" not in script[1]


def test_nothing_on_the_pages_asks_another_host() -> None:
    loads = re.compile(
        r'<(?:script|img|iframe|link rel="(?:stylesheet|preload)")[^>]*?'
        r'(?:src|href)="(https?:)?//'
    )
    for page in book_pages():
        assert not loads.search(page.read_text("utf8")), page


@pytest.mark.parametrize("name", CHAPTERS)
def test_weight_and_steadiness(browser: Browser, address: str, name: str) -> None:
    """On a slow line: the bytes of a first and a second visit, and what jumps."""
    found = weigh(browser, f"{address}{name}.html")
    assert 100_000 < found.first < FIRST_VISIT, f"first: {found.first / 1000:.0f} kB"
    assert found.second < SECOND_VISIT, f"second: {found.second / 1000:.0f} kB"
    assert found.shift < SHIFT, f"the page jumps by {found.shift:.2f}"


def test_pictures_are_light() -> None:
    heavy = {
        path.name: len(body(path))
        for path in (SITE / "_images").glob("*.*")
        if len(body(path)) > FIGURE
    }
    assert heavy == {}


@pytest.mark.parametrize("name", CHAPTERS)
def test_interactive_figures_are_light(name: str) -> None:
    sizes = figure_sizes(read(name))
    assert sizes
    for size in sizes:
        assert size < FIGURE, f"{size / 1000:.0f} kB"

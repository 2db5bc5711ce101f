"""Every page of the built book, in light and dark, wide and on a phone.

Run by ``make site``, after the book is built. A shot of each page in each mode is kept
in ``_build/shots`` for people to look at.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import ROOT, SITE, page_names
from playwright.sync_api import Browser, Page

SHOTS = ROOT / "_build" / "shots"
MODES = {
    "light": (1280, "light"),
    "dark": (1280, "dark"),
    "phone": (390, "light"),
    "phone-dark": (390, "dark"),
}
PAGES = page_names()
CHAPTERS = [name for name in PAGES if name.startswith("chapters/")]


@dataclass
class Visit:
    """A page in a mode, and what went wrong while it loaded."""

    page: Page
    errors: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def visit(browser: Browser, address: str, name: str, width: int, scheme: str) -> Visit:
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
        reduced_motion="reduce",
    )
    page = context.new_page()
    seen = Visit(page)
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((address, "data:", "blob:"))
            else seen.strangers.append(request.url)
        ),
    )
    page.on(
        "response",
        lambda response: (
            seen.missing.append(response.url) if response.status >= 400 else None
        ),
    )
    page.goto(address + name, wait_until="load")
    page.wait_for_function(
        "!window.MathJax?.startup?.promise || "
        "window.MathJax.startup.promise.then(() => true)"
    )
    page.wait_for_load_state("networkidle")
    return seen


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=PAGES)
def seen(
    request: pytest.FixtureRequest, browser: Browser, address: str, mode: str
) -> Iterator[Visit]:
    width, scheme = MODES[mode]
    opened = visit(browser, address, request.param, width, scheme)
    opened.page.evaluate(
        "document.querySelectorAll('details').forEach(d => d.open = 1)"
    )
    yield opened
    SHOTS.mkdir(parents=True, exist_ok=True)
    stem = request.param.removesuffix(".html").replace("/", "-")
    opened.page.screenshot(path=SHOTS / f"{stem}-{mode}.png", full_page=True)
    opened.page.context.close()


def test_page_is_complete_and_accessible(seen: Visit, mode: str) -> None:
    page = seen.page
    assert seen.errors == []
    assert seen.strangers == []
    assert seen.missing == []
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.locator("html").get_attribute("data-theme") == MODES[mode][1]
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0, f"scrolls sideways by {wide} px"
    fading = page.evaluate("document.getAnimations().length")
    assert fading == 0, "axe would measure the contrast of half-transparent text"
    findings = Axe().run(page).response["violations"]
    told = [
        f"{f['id']}: {node['html'][:160]}" for f in findings for node in f["nodes"][:3]
    ]
    assert not told, "\n".join(told)


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [320, 768, 1920])
def test_no_sideways_scroll(
    browser: Browser, address: str, name: str, width: int
) -> None:
    seen = visit(browser, address, name, width, "light")
    wide = seen.page.evaluate("document.documentElement.scrollWidth - innerWidth")
    seen.page.context.close()
    assert wide <= 0, f"scrolls sideways by {wide} px at {width} px"


@pytest.mark.parametrize("name", PAGES)
def test_headings_and_pictures(browser: Browser, address: str, name: str) -> None:
    page = visit(browser, address, name, 1280, "light").page
    levels = page.eval_on_selector_all(
        "article h1, article h2, article h3, article h4",
        "nodes => nodes.map(n => Number(n.tagName[1]))",
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    alts = page.eval_on_selector_all(
        "article img", "nodes => nodes.map(n => n.getAttribute('alt') || '')"
    )
    for alt in alts:
        assert len(alt) > 15, f"alt text: {alt!r}"
        assert not re.search(r"\.(png|svg)$", alt)
    prose = page.eval_on_selector_all(
        "article p, article li, article td",
        """nodes => nodes.filter(n => !n.closest('.highlight')).map(n => {
            const copy = n.cloneNode(true);
            copy.querySelectorAll('code, strong').forEach(c => c.remove());
            return copy.textContent;
        })""",
    )
    for text in prose:
        assert not re.search(r"\$[^$ ]+\$|\[!NOTE\]|\{[a-z]+\}`|\*\*\w", text), text
    page.context.close()


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapter_has_maths_links_and_buttons(
    browser: Browser, address: str, name: str
) -> None:
    page = visit(browser, address, name, 1280, "light").page
    assert page.locator("mjx-container").count() > 0
    assert page.locator("mjx-merror").count() == 0
    assert page.locator(".prev-next-footer a").count() >= 1
    assert page.locator("button.copybtn").count() > 3
    colab = page.locator("a[href*='colab.research.google.com']").first
    href = colab.get_attribute("href") or ""
    assert re.fullmatch(
        r"https://colab\.research\.google\.com/github/[\w.-]+/exploding-gradients"
        rf"/blob/main/{name.removesuffix('.html')}\.ipynb",
        href,
    )
    page.context.close()


@pytest.mark.parametrize("name", CHAPTERS)
def test_sliders_move_by_keyboard(browser: Browser, address: str, name: str) -> None:
    page = visit(browser, address, name, 1280, "light").page
    sliders = page.locator("figure.gl-fig input[type=range]")
    assert sliders.count() >= 1
    for k in range(sliders.count()):
        slider = sliders.nth(k)
        figure = slider.locator("xpath=ancestor::figure")

        def state(figure=figure) -> tuple[str, str]:
            shown = figure.locator("svg:visible").evaluate_all(
                "nodes => nodes.map(n => n.outerHTML.length + n.outerHTML).join()"
            )
            return shown, figure.locator("figcaption").inner_text()

        slider.focus()
        page.keyboard.press("Home")
        first = state()
        page.keyboard.press("End")
        last = state()
        assert first[0]
        assert last[0]
        assert first[0] != last[0], "the picture did not change"
        assert first[1] != last[1], "the caption did not speak"
    page.context.close()


def test_theme_switch_is_remembered(browser: Browser, address: str) -> None:
    page = visit(browser, address, "index.html", 1280, "light").page
    page.goto(address + "intro.html")
    html = page.locator("html")
    for _ in range(3):
        page.locator("button.theme-switch-button:visible").first.click()
        if html.get_attribute("data-theme") == "dark":
            break
    assert html.get_attribute("data-theme") == "dark"
    page.reload()
    assert html.get_attribute("data-theme") == "dark"
    page.context.close()


def test_search_finds_clipping(browser: Browser, address: str) -> None:
    page = visit(browser, address, "search.html?q=clipping", 1280, "light").page
    page.wait_for_selector("#search-results li a")
    assert "lipping" in page.locator("#search-results").inner_text()
    page.context.close()


@pytest.mark.parametrize("name", CHAPTERS[:2])
def test_opens_from_a_folder_without_a_network(browser: Browser, name: str) -> None:
    context = browser.new_context(offline=True)
    page = context.new_page()
    errors: list[str] = []
    asked: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((SITE / name).as_uri())
    page.wait_for_selector("mjx-container")
    assert errors == []
    assert [u for u in asked if not u.startswith(("file:", "data:", "blob:"))] == []
    context.close()


def test_page_for_what_is_not_found() -> None:
    text = (SITE / "404.html").read_text("utf8")
    assert "/exploding-gradients/_static/" in text


def test_found_and_shared() -> None:
    assert (SITE / "sitemap.xml").exists()
    for name in PAGES:
        text = (SITE / name).read_text("utf8")
        if name == "index.html":
            continue
        for needed in (
            r'<link rel="canonical" href="https://',
            r'<meta property="og:title"',
            r'<meta property="og:image"',
            r'<meta name="description"',
            r'<link rel="icon"',
        ):
            assert re.search(needed, text), f"{name}: {needed}"


def test_weight_of_a_chapter(browser: Browser, address: str) -> None:
    """Interactive figures stay light; the page's own HTML too."""
    import gzip

    for name in CHAPTERS:
        size = len(gzip.compress((SITE / name).read_bytes()))
        assert size < 400_000, f"{name}: {size} bytes compressed"

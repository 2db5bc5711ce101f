"""What readers do: move sliders, copy, search, switch the theme, print."""

import re
from urllib.parse import quote

import pytest
from book import CHAPTERS, PREFIX
from conftest import visit
from playwright.sync_api import Browser, Locator, Page

SLIDERS = "figure.gl-fig input[type=range]"
DESK = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}


def state(slider: Locator) -> tuple[str, str, str]:
    """The picture shown, the value in words, and what a screen reader says."""
    figure = slider.locator("xpath=ancestor::figure")
    shown = figure.locator(".gl-frame:visible svg")
    assert shown.count() == 1
    assert figure.locator("figcaption").get_attribute("aria-live") == "polite"
    return (
        shown.evaluate("node => node.getAttribute('aria-label') + node.innerHTML"),
        figure.locator("figcaption").inner_text(),
        slider.get_attribute("aria-valuetext") or "",
    )


def check_moved(before: tuple[str, str, str], after: tuple[str, str, str]) -> None:
    assert before[0] != after[0], "the picture did not change"
    assert before[1] != after[1], "the caption did not change"
    assert before[2] != after[2], "the spoken value did not change"
    assert after[1] == after[2]


def check_sliders(page: Page) -> None:
    sliders = page.locator(SLIDERS)
    assert sliders.count() >= 1
    for slider in sliders.all():
        slider.focus()
        page.keyboard.press("Home")
        first = state(slider)
        page.keyboard.press("ArrowRight")
        check_moved(first, state(slider))
        page.keyboard.press("End")
        check_moved(first, state(slider))


def check_copy(page: Page) -> None:
    """The first button copies the code beside it, in full."""
    block = page.locator("article div.highlight:visible:has(button.copybtn)").first
    code = block.locator("pre").inner_text()
    block.hover()
    block.locator("button.copybtn").click()
    page.locator("button.copybtn.success").first.wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.strip() == code.strip()


def check_colab(page: Page, name: str) -> None:
    link = page.locator("a[href*='colab.research.google.com']").first
    assert re.fullmatch(
        r"https://colab\.research\.google\.com/github/[\w.-]+/exploding-gradients"
        rf"/blob/main/{name}\.ipynb",
        link.get_attribute("href") or "",
    )


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapter_by_keyboard_and_on_paper(
    browser: Browser, address: str, name: str
) -> None:
    allowed = ["clipboard-read", "clipboard-write"]
    url = f"{address}{name}.html"
    with visit(browser, url, viewport=DESK, permissions=allowed) as seen:
        page = seen.page
        assert page.locator("button.copybtn").count() > 3
        check_colab(page, name)
        check_copy(page)
        check_sliders(page)
        check_print(page)
        assert seen.errors == []


def check_print(page: Page) -> None:
    """Paper holds all: hidden cells open, nothing cut off, dark text on white."""
    page.locator("html").evaluate("html => html.dataset.theme = 'dark'")
    page.set_viewport_size({"width": 718, "height": 1000})  # A4 less its margins
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    cut = page.evaluate(
        """() => [...document.querySelectorAll('article *')].filter(e =>
            !e.closest('svg, mjx-assistive-mml, .copybtn') && e.checkVisibility()
            && getComputedStyle(e).overflowX != 'visible'
            && e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 1)
            .map(e => e.outerHTML.slice(0, 120))"""
    )
    assert cut == [], "cut off on paper"
    out = page.evaluate(
        """() => [...document.querySelectorAll("article :is(pre, table, img, figure,"
            + "mjx-container)")].filter(e => e.checkVisibility()
            && e.getBoundingClientRect().right > innerWidth)
            .map(e => e.outerHTML.slice(0, 120))"""
    )
    assert out == [], "runs off the paper"
    for part in (".bd-sidebar-primary", ".bd-header-article", ".prev-next-footer"):
        assert page.locator(f"{part}:visible").count() == 0
    assert page.locator("html").get_attribute("data-theme") == "light"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("html").get_attribute("data-theme") == "dark"


def test_the_browser_prints_what_is_folded(browser: Browser, address: str) -> None:
    with visit(browser, f"{address}{CHAPTERS[0]}.html") as seen:
        page = seen.page
        folded = "document.querySelectorAll('details:not([open])').length"
        before = page.evaluate(folded)
        assert before > 0
        page.evaluate(f"addEventListener('beforeprint', () => window.left = {folded})")
        assert page.pdf().startswith(b"%PDF")
        assert page.evaluate("window.left") == 0
        assert page.evaluate(folded) == before


def test_what_unfolds_on_paper_is_there_at_once(browser: Browser, address: str) -> None:
    with visit(browser, f"{address}{CHAPTERS[0]}.html") as seen:
        seen.page.emulate_media(media="print", reduced_motion="no-preference")
        opacities = seen.page.evaluate(
            """() => [...document.querySelectorAll("details:not([open])")].map(d => {
                d.open = true;
                return getComputedStyle(d.lastElementChild).opacity;
            })"""
        )
        assert set(opacities) == {"1"}


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapter_without_scripts(browser: Browser, address: str, name: str) -> None:
    """Text, first pictures and links are there, and no control that does nothing."""
    context = browser.new_context(java_script_enabled=False, viewport=DESK)
    page = context.new_page()
    page.goto(f"{address}{name}.html")
    for figure in page.locator("figure.gl-fig").all():
        assert figure.locator(".gl-frame:visible svg").count() == 1
        assert figure.locator("figcaption").inner_text()
    dead = page.locator("button:visible, input[type=range]:visible")
    assert dead.evaluate_all("n => n.map(e => e.outerHTML.slice(0, 120))") == []
    assert page.locator("a[href*='colab.research.google.com']:visible").count() == 1
    ink, paper = page.locator("article p").first.evaluate(
        """p => [getComputedStyle(p).color,
                getComputedStyle(document.body).backgroundColor]"""
    )
    assert ink == "rgb(34, 40, 50)"
    assert paper == "rgb(255, 255, 255)"
    context.close()


@pytest.mark.parametrize("name", CHAPTERS)
def test_slider_by_touch(browser: Browser, address: str, name: str) -> None:
    phone = dict(viewport=PHONE, has_touch=True, is_mobile=True)
    with visit(browser, f"{address}{name}.html", **phone) as seen:
        slider = seen.page.locator(SLIDERS).first
        slider.scroll_into_view_if_needed()
        box = slider.bounding_box()
        assert box is not None
        assert box["height"] >= 24, "too small for a finger"
        middle = box["y"] + box["height"] / 2
        seen.page.touchscreen.tap(box["x"] + 3, middle)
        first = state(slider)
        seen.page.touchscreen.tap(box["x"] + box["width"] - 3, middle)
        check_moved(first, state(slider))


def test_theme_switch_is_remembered(browser: Browser, address: str) -> None:
    with visit(browser, f"{address}intro.html", color_scheme="light") as seen:
        page, html = seen.page, seen.page.locator("html")
        for _ in range(3):
            page.locator("button.theme-switch-button:visible").first.click()
            if html.get_attribute("data-theme") == "dark":
                break
        assert html.get_attribute("data-theme") == "dark"
        page.goto(f"{address}{CHAPTERS[0]}.html")
        assert html.get_attribute("data-theme") == "dark"
        assert seen.errors == []


def test_search_finds_clipping(browser: Browser, address: str) -> None:
    with visit(browser, f"{address}search.html?q=clipping") as seen:
        page = seen.page
        page.wait_for_selector("#search-results li a")
        assert "lipping" in page.locator("#search-results").inner_text()
        page.goto(f"{address}intro.html")
        page.keyboard.press("Control+k")
        page.keyboard.type("clipping\n")
        page.wait_for_selector("#search-results li a")
        page.wait_for_selector("#search-results li p.context")
        assert (seen.errors, seen.strangers, seen.missing) == ([], [], [])


@pytest.mark.parametrize(
    "query",
    [
        *("fp16", "autocast", "attention mask", "ignore_index", "DDP", "FSDP"),
        *("KL", "trainer", "GradScaler"),
    ],
)
def test_search_knows_what_people_call_it(
    browser: Browser, address: str, query: str
) -> None:
    with visit(browser, f"{address}search.html?q={quote(query)}") as seen:
        links = seen.page.locator("#search-results li a")
        links.first.wait_for()
        assert seen.errors == []


def test_the_search_page_shows_the_whole_query(browser: Browser, address: str) -> None:
    with visit(browser, f"{address}search.html?q=fp16") as seen:
        field = seen.page.locator("article input[name=q], .bd-search input").first
        icon = field.locator("xpath=preceding-sibling::i").first
        text = field.evaluate(
            """e => e.getBoundingClientRect().left
            + parseFloat(getComputedStyle(e).paddingLeft)"""
        )
        box = icon.bounding_box()
        assert box is None or box["x"] + box["width"] <= text


def test_page_for_what_is_not_found(browser: Browser, address: str) -> None:
    with visit(browser, f"{address}chapters/none.html") as seen:
        page = seen.page
        assert [url for url in seen.missing if "none.html" not in url] == []
        assert "not found" in page.locator("article").inner_text().lower()
        assert page.evaluate("document.styleSheets.length") > 3
        page.locator("a.navbar-brand:visible").first.click()
        page.wait_for_url(f"**{PREFIX}i*.html")
        assert page.locator("article h1").count() == 1

"""Every page of the built book, as readers meet it.

Run by ``make site`` and ``make check``, after the book is built. Each page is opened
twice: served, in light, on a desk; and from a folder without a network, in dark, on a
phone. Each window then takes the other's width. Shots are kept in ``_build/shots`` for
people to look at.
"""

import re
from itertools import pairwise

import pytest
from axe_playwright_python.sync_playwright import Axe
from book import CHAPTERS, PAGES, SITE
from conftest import SHOTS, visit
from playwright.sync_api import Browser, Page

DESK = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}

# What Tab must reach, each with a number to know it again.
REACHABLE = """() => {
    const all = document.querySelectorAll(
        "a[href], button, input, select, textarea, summary, [tabindex]");
    const reached = [...all].filter(e => e.tabIndex >= 0 && !e.disabled
        && !e.closest("dialog:not([open]), [inert]")
        && e.checkVisibility({visibilityProperty: true, contentVisibilityAuto: true})
        && e.getClientRects().length);
    window.awaited = new Set(reached);
    window.unseen = [];
    addEventListener("focusin", ({target}) => {
        awaited.delete(target);
        const style = getComputedStyle(target);
        const outlined = style.outlineStyle != "none" && style.outlineWidth != "0px";
        const clear = Number(style.opacity) == 1;
        if (!(outlined || style.boxShadow != "none") || !clear)
            unseen.push(target.outerHTML.slice(0, 120));
    });
    return awaited.size;
}"""
STRETCHED = """() => [...document.querySelectorAll("article img[width]")]
    .filter(i => i.checkVisibility() && Math.abs(i.clientWidth / i.clientHeight
        * i.getAttribute("height") / i.getAttribute("width") - 1) > 0.05)
    .map(i => [i.alt, i.clientWidth, i.clientHeight])"""
UNREACHED = "() => [...awaited].map(e => e.outerHTML.slice(0, 120))"
IMAGES_WITHOUT_PICTURE = """() => [...document.images]
    .filter(i => i.checkVisibility() && !(i.complete && i.naturalWidth))
    .map(i => i.src)"""
LOOK = """e => {
    const {color, backgroundColor, fontSize, fontWeight, opacity} = getComputedStyle(e);
    const around = e.closest("pre").parentElement.className;
    const cell = e.closest(".cell_input, .cell_output")?.className;
    return [around, cell, color, backgroundColor, fontSize, fontWeight, opacity].join();
}"""
JOIN_ALIKE = f"""() => {{
    const look = {LOOK}, known = new Set(), again = [];
    for (const piece of document.querySelectorAll("article pre span")) {{
        const seen = look(piece);
        known.has(seen) ? again.push(piece) : known.add(seen);
    }}
    again.forEach(piece => piece.replaceWith(...piece.childNodes));
}}"""
PROSE = """nodes => nodes.filter(n => !n.closest('.highlight')).map(n => {
    const copy = n.cloneNode(true);
    copy.querySelectorAll('code, strong').forEach(c => c.remove());
    return copy.textContent;
})"""


def unfold(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")


def keep_shot(page: Page, name: str, mode: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name.replace('/', '-')}-{mode}.png", full_page=True)


def join_alike(page: Page) -> None:
    """Melt pieces of code that look like an earlier one into the text around them.

    axe then measures the contrast of each look once, and not that of some ten thousand
    pieces, for which it takes several times as long.
    """
    page.evaluate(JOIN_ALIKE)


def settle(page: Page) -> None:
    """Wait for the theme, which after a resize lets the keyboard reach what scrolls.

    It looks once, a third of a second later; on a busy machine the page may still move
    then, so it is told once more.
    """
    page.wait_for_timeout(100)
    page.evaluate("dispatchEvent(new Event('resize'))")
    page.wait_for_function(
        """() => [...document.querySelectorAll("pre")].every(
            pre => pre.scrollWidth <= pre.clientWidth || pre.tabIndex >= 0)"""
    )


def check_accessible(page: Page, mode: str, *, frame_only: bool = False) -> None:
    """axe finds nothing; ``frame_only`` looks at all but the text in the middle."""
    fading = page.evaluate("document.getAnimations().length")
    assert fading == 0, "axe would measure the contrast of half-transparent text"
    where = {"exclude": [["article"]]} if frame_only else None
    options = {"resultTypes": ["violations"], "preload": False}
    findings = Axe().run(page, where, options).response["violations"]
    told = [
        f"{mode}: {f['id']}: {node['html'][:160]}"
        for f in findings
        for node in f["nodes"][:3]
    ]
    assert not told, "\n".join(told)


def check_width(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0, f"scrolls sideways by {wide} px at {width} px"


def check_headings_and_pictures(page: Page) -> None:
    assert page.locator("html").get_attribute("lang") == "en"
    levels = page.eval_on_selector_all(
        "article h1, article h2, article h3, article h4",
        "nodes => nodes.map(n => Number(n.tagName[1]))",
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    images = page.eval_on_selector_all(
        "article img",
        "nodes => nodes.map(n => [n.getAttribute('alt') || '', n.height, n.width])",
    )
    for alt, *size in images:
        assert len(alt) > 15, f"alt text: {alt!r}"
        assert not re.search(r"\.(png|svg)$", alt)
        assert min(size) > 0, f"no picture: {alt}"
    for text in page.eval_on_selector_all("article p, article li, article td", PROSE):
        assert not re.search(r"\$[^$ ]+\$|\[!NOTE\]|\{[a-z]+\}`|\*\*\w", text), text


def check_keyboard_path(page: Page) -> None:
    """Tab goes through all that can be used, shows where it is, and comes out."""
    count = page.evaluate(REACHABLE)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('#pst-skip-link') != null")
    for _ in range(2 * count):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement == document.body"):
            break
    assert page.evaluate(UNREACHED) == []
    assert page.evaluate("unseen") == [], "focus cannot be seen"


def check_skip_link(page: Page) -> None:
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    page.locator("#pst-skip-link a").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('#main-content') != null")
    page.evaluate("document.activeElement.blur()")  # its tooltip goes


@pytest.mark.parametrize("name", PAGES)
def test_page_served_in_light(browser: Browser, address: str, name: str) -> None:
    url = f"{address}{name}.html"
    with visit(browser, url, viewport=DESK, color_scheme="light") as seen:
        page = seen.page
        assert page.locator("html").get_attribute("data-theme") == "light"
        check_headings_and_pictures(page)
        unfold(page)
        check_keyboard_path(page)
        check_skip_link(page)
        keep_shot(page, name, "light")
        for width in (1920, 768, 320):
            check_width(page, width)
        page.set_viewport_size(DESK)
        settle(page)
        join_alike(page)
        check_accessible(page, "light")
        page.set_viewport_size(PHONE)
        check_accessible(page, "light on a phone", frame_only=True)
        assert (seen.errors, seen.strangers, seen.missing) == ([], [], [])


@pytest.mark.parametrize("kind", ["k", "mi", "s2"])
def test_a_pale_kind_of_code_is_found_once_alike_pieces_are_joined(
    browser: Browser, address: str, kind: str
) -> None:
    url = f"{address}chapters/concepts.html"
    with visit(browser, url, viewport=DESK, color_scheme="light") as seen:
        pale = f"article pre span.{kind} {{color: #ccc !important}}"
        seen.page.add_style_tag(content=pale)
        unfold(seen.page)
        join_alike(seen.page)
        with pytest.raises(AssertionError, match="color-contrast"):
            check_accessible(seen.page, "light")


@pytest.mark.parametrize("name", PAGES)
def test_page_from_a_folder_in_dark(browser: Browser, name: str) -> None:
    url = (SITE / f"{name}.html").as_uri()
    phone = dict(viewport=PHONE, has_touch=True, is_mobile=True)
    with visit(browser, url, offline=True, color_scheme="dark", **phone) as seen:
        page = seen.page
        assert page.locator("html").get_attribute("data-theme") == "dark"
        assert page.evaluate(IMAGES_WITHOUT_PICTURE) == []
        assert page.locator("mjx-container").count() > 0 or name not in CHAPTERS
        assert page.locator("mjx-merror").count() == 0
        check_width(page, 390)
        unfold(page)
        assert page.evaluate(STRETCHED) == []
        keep_shot(page, name, "phone-dark")
        join_alike(page)
        check_accessible(page, "dark on a phone")
        page.set_viewport_size(DESK)
        check_accessible(page, "dark", frame_only=True)
        assert (seen.errors, seen.strangers) == ([], [])

"""The page that reads a log, as people use it who have nothing else."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from book import CHAPTERS, PAGES, SITE
from conftest import Visit, visit
from log_box import EXAMPLES, FILES
from playwright.sync_api import Browser, Page
from test_pages import DESK, PHONE, check_accessible, keep_shot

from gradlib.diagnosis import diagnose_log

pytestmark = pytest.mark.xdist_group("one start of Python")
NAME = "reference/paste_your_log"
START = 120_000
"""Milliseconds for Python to start; a slow core with other work takes 20 s."""

LOGS = {name: (FILES / "examples" / name).read_text("utf8") for name in EXAMPLES}
CLIMB, ZERO, SCALE = LOGS.values()
IS_REFUSED = """() => document.querySelector(".log-wait").hidden
    && document.querySelector(".log-said").textContent.includes("found no number")"""
IS_ANSWERED = "() => document.querySelector('pre.log-text').textContent"
LOADED = "performance.getEntriesByType('resource').map(entry => entry.name)"
CLEAR = """() => {
    document.querySelector("#log-text").value = "";
    document.querySelector(".log-answer").hidden = true;
    document.querySelector(".log-answer details").open = false;
    document.querySelector(".log-said").textContent = "";
    document.querySelector("pre.log-text").textContent = "";
    document.activeElement.blur();
}"""
TAKE_TEXT = """() => {
    const text = document.querySelector("pre.log-text");
    const told = text.textContent;
    text.textContent = "";
    return told;
}"""
IS_READING = """() => document.querySelector(".log-box progress").value > 0
    && document.querySelector(".log-said").textContent.startsWith("Reading")"""
NOTE_PAUSES = """() => {
    window.longest = 0;
    let last = performance.now();
    setInterval(() => {
        const now = performance.now();
        longest = Math.max(longest, now - last);
        last = now;
    }, 20);
}"""
DROP = """([target, text]) => {
    const data = new DataTransfer();
    data.items.add(new File([text], "train.log"));
    target.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true}));
}"""


@contextmanager
def opened(browser: Browser, address: str, **options: object) -> Iterator[Visit]:
    """The page; at its end nothing failed, and no other host was asked."""
    with visit(browser, f"{address}{NAME}.html", **options) as seen:
        seen.page.set_default_timeout(START)
        yield seen
        assert (seen.errors, seen.strangers, seen.missing) == ([], [], [])


@dataclass
class Started:
    """A page on which Python has read its first log, and what that took.

    Args:
        seen: The page.
        at_once: Addresses that the page asked for before it had a log.
        asked: Addresses since then.
        progress: Whether progress was shown after the click.
    """

    seen: Visit
    at_once: list[str]
    asked: list[str]
    progress: bool


@pytest.fixture(scope="module")
def started(browser: Browser, address: str) -> Iterator[Started]:
    """One page for all tests that do not ask how it starts: a start takes seconds."""
    with opened(browser, address, viewport=DESK, color_scheme="light") as seen:
        page, asked = seen.page, []
        at_once = page.evaluate(LOADED)
        page.on("request", lambda request: asked.append(request.url))
        page.locator("#log-text").fill(CLIMB)
        page.get_by_role("button", name="Read the log").click()
        progress = page.locator(".log-box progress").is_visible()
        page.wait_for_function(IS_ANSWERED)
        yield Started(seen, at_once, list(asked), progress)


@pytest.fixture
def page(started: Started) -> Iterator[Page]:
    """The page with Python running, without a log and without an answer."""
    seen = started.seen
    seen.page.evaluate(CLEAR)
    yield seen.page
    noted = seen.errors, seen.strangers, seen.missing
    assert noted == ([], [], [])


def check_answer(page: Page, log: str) -> None:
    """The page says what the library says here; then the text is taken away."""
    page.wait_for_function(IS_ANSWERED)
    report = diagnose_log(log)
    told = page.evaluate(TAKE_TEXT)
    assert told == f"{report.verdict.upper()}\n{report}"
    assert page.locator(".log-title").is_visible()
    focused = page.evaluate("document.activeElement.className")
    assert focused == "log-title", "a reader of screens does not hear the answer"


def test_python_loads_with_the_first_log(started: Started) -> None:
    assert not any("pyodide" in url for url in started.at_once)
    assert started.progress
    assert any(url.endswith("pyodide.asm.wasm") for url in started.asked)


def test_paste_drop_file_and_example(page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.locator("#log-text").fill(CLIMB)
    page.get_by_role("button", name="Read the log").click()
    check_answer(page, CLIMB)
    check_accessible(page, "the answer in light")
    keep_shot(page, "paste-your-log-answer", "light")

    box = page.locator(".log-box").element_handle()
    page.evaluate(DROP, [box, ZERO])
    check_answer(page, ZERO)
    file = {"name": "a.log", "mimeType": "text/plain", "buffer": SCALE.encode()}
    page.get_by_label("choose its file").set_input_files(file)
    check_answer(page, SCALE)
    assert asked == [], "all logs but the first ask for nothing"

    page.get_by_role("button", name=next(iter(EXAMPLES.values()))).click()
    check_answer(page, CLIMB)
    assert page.locator("#log-text").input_value() == CLIMB
    for link in page.locator(".log-page a").all():
        target = (link.get_attribute("href") or "").removeprefix("../")
        name, _, section = target.partition("#")
        assert name.removesuffix(".html") in CHAPTERS
        assert not section or f'id="{section}"' in (SITE / name).read_text("utf8")


def test_by_keyboard_with_a_mistake_first(page: Page) -> None:
    page.locator("#log-text").focus()
    page.keyboard.press("Control+Enter")
    assert "nothing to read yet" in page.locator(".log-said").inner_text()
    page.keyboard.type("no log at all")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_function(IS_REFUSED)
    page.locator("#log-text").focus()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(ZERO)
    page.keyboard.press("Control+Enter")
    check_answer(page, ZERO)
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.tagName") == "SUMMARY":
            break
    page.keyboard.press("Enter")
    assert page.locator("button.log-copy").is_visible()


def test_on_a_phone_in_the_dark(browser: Browser, address: str) -> None:
    phone = dict(viewport=PHONE, has_touch=True, is_mobile=True, color_scheme="dark")
    with opened(browser, address, **phone) as seen:
        page = seen.page
        page.get_by_role("button", name=list(EXAMPLES.values())[1]).tap()
        check_answer(page, ZERO)
        check_accessible(page, "the answer in the dark")
        keep_shot(page, "paste-your-log-answer", "phone-dark")
        size = page.evaluate(
            """() => {
                const svg = document.querySelector(".log-plot svg");
                return 13 * svg.clientWidth / svg.viewBox.baseVal.width;
            }"""
        )
        assert size > 11, f"letters of the plot are {size:.1f} px high"
        for width in (390, 320):
            page.set_viewport_size({"width": width, "height": 844})
            wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0


def test_a_large_log_leaves_the_page_free(page: Page, tmp_path: Path) -> None:
    """5 MB: the page answers while it is read, says how far it is, and can stop."""
    lines, step, size = [], 0, 0
    while size < 5_000_000:
        step += 1
        row = {"loss": 2.5 - 1e-5 * step, "grad_norm": 1.5, "learning_rate": 1e-4}
        lines.append(json.dumps(row))
        size += len(lines[-1]) + 1
    lines[-9:] = [json.dumps({"loss": float("nan"), "grad_norm": float("nan")})] * 9
    log = "\n".join(lines)
    file = tmp_path / "a.jsonl"
    file.write_text(log)
    page.get_by_label("choose its file").set_input_files(file)
    page.wait_for_function(IS_READING)
    page.evaluate(NOTE_PAUSES)
    check_answer(page, log)
    assert page.evaluate("longest") < 1000, "the page froze"
    page.get_by_label("choose its file").set_input_files(file)
    page.wait_for_function(IS_READING)
    page.get_by_role("button", name="Stop").click()
    assert page.locator(".log-said").inner_text() == "Stopped."
    page.locator("#log-text").fill(CLIMB)
    page.get_by_role("button", name="Read the log").click()
    check_answer(page, CLIMB)


def test_without_webassembly_it_names_the_command(
    browser: Browser, address: str
) -> None:
    context = browser.new_context()
    context.add_init_script("delete globalThis.WebAssembly")
    page = context.new_page()
    page.goto(f"{address}{NAME}.html")
    check_instead(page, "WebAssembly is off")
    context.close()


def test_from_a_folder_it_names_the_command(browser: Browser) -> None:
    with visit(browser, (SITE / f"{NAME}.html").as_uri(), offline=True) as seen:
        check_instead(seen.page, "opened from a folder")
        assert (seen.errors, seen.strangers) == ([], [])


def test_without_scripts_it_names_the_command(browser: Browser, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}{NAME}.html")
    check_instead(page, "JavaScript")
    context.close()


def check_instead(page: Page, reason: str) -> None:
    instead = page.locator(".log-instead")
    assert reason in instead.inner_text()
    assert page.locator(".log-ask").is_hidden()
    instead.get_by_role("link", name="command").click()
    assert page.url.endswith("#on-your-own-machine")
    assert "gradlib log" in page.locator("#on-your-own-machine pre").inner_text()


@pytest.mark.parametrize("name", ["index", *(n for n in PAGES if n != NAME)])
def test_other_pages_load_none_of_it(name: str) -> None:
    html = (SITE / f"{name}.html").read_text("utf8")
    assert "log_box" not in html
    assert "wasm" not in html


def test_it_is_the_first_link_of_the_front_page_and_the_field_guide() -> None:
    for name in ("intro", "chapters/field_guide"):
        html = (SITE / f"{name}.html").read_text("utf8")
        article = html[html.index("<article") :]
        first = article[article.index('<a class="reference internal"') :][:300]
        assert "paste_your_log.html" in first

"""Serve the built book as GitHub Pages does and open it in Debian's Chromium."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import chromium
import pytest
from book import ROOT, NotReadyError
from playwright.sync_api import Browser, Page
from serve_book import served

SHOTS = ROOT / "_build" / "shots"
WAIT_FOR_MATHS = """() => Promise.all([
    window.MathJax?.startup?.promise, document.fonts.ready
]).then(() => true)"""
NOTE_VIOLATIONS = """addEventListener("securitypolicyviolation", event =>
    console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`))"""


@dataclass
class Visit:
    """A page, and what went wrong while it loaded."""

    page: Page
    errors: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


@contextmanager
def visit(browser: Browser, url: str, **options: object) -> Iterator[Visit]:
    """Open a page in a fresh context; wait for its formulas."""
    home = url[: url.index("/", len("file:///") if url.startswith("file") else 8)]
    context = browser.new_context(reduced_motion="reduce", **options)
    context.add_init_script(NOTE_VIOLATIONS)
    page = context.new_page()
    seen = Visit(page)
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.on(
        "console",
        lambda message: (
            seen.errors.append(message.text) if message.type == "error" else None
        ),
    )
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((home, "data:", "blob:"))
            else seen.strangers.append(request.url)
        ),
    )
    page.on(
        "response",
        lambda response: (
            seen.missing.append(response.url) if response.status >= 400 else None
        ),
    )
    page.goto(url, wait_until="load")
    page.wait_for_function(WAIT_FOR_MATHS)
    yield seen
    context.close()


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    try:
        with served() as found:
            yield found
    except NotReadyError as error:
        pytest.fail(str(error))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    try:
        with chromium.opened() as found:
            yield found
    except NotReadyError as error:
        pytest.fail(str(error))

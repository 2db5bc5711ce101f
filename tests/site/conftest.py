"""Serve the built book as GitHub Pages does and open it in Debian's Chromium."""

import gzip
import mimetypes
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "_build" / "html"
SHOTS = ROOT / "_build" / "shots"
PREFIX = "/exploding-gradients/"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
FLAGS = [
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
COMPRESSED = {".css", ".html", ".js", ".json", ".svg", ".xml"}
WAIT_FOR_MATHS = """() => Promise.all([
    window.MathJax?.startup?.promise, document.fonts.ready
]).then(() => true)"""
NOTE_VIOLATIONS = """addEventListener("securitypolicyviolation", event =>
    console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`))"""


def pages_in_order() -> list[str]:
    """Names of the book's pages, in the order of ``_toc.yml``."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf8"))
    entries = [entry for part in toc["parts"] for entry in part["chapters"]]
    return [toc["root"], *(entry["file"] for entry in entries)]


PAGES = pages_in_order()
CHAPTERS = [name for name in PAGES if name.startswith("chapters/")]


@cache
def body(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.compress(data, 6) if path.suffix in COMPRESSED else data


class Pages(BaseHTTPRequestHandler):
    """The book below its name: compressed, to be cached, with its page for errors."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        name = urlsplit(self.path).path.removeprefix(PREFIX) or "index.html"
        path = SITE / name
        found = self.path.startswith(PREFIX) and path.is_file()
        if not found:
            path = SITE / "404.html"
        data = body(path)
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", mimetypes.guess_type(path.name)[0] or "")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "max-age=600")
        if path.suffix in COMPRESSED:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


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
    if not (SITE / "index.html").exists():
        pytest.fail(f"expected a built book at {SITE}, found none: run 'make book'")
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}{PREFIX}"
        server.shutdown()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.fail(
            "expected Chromium on the path or in $CHROMIUM, found none: "
            "install the package chromium"
        )
    flags = [*FLAGS, "--no-sandbox"] if os.geteuid() == 0 else FLAGS
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()

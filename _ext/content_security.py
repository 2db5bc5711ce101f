"""A content security policy on every page: nothing runs but what the book ships.

A static host sends no headers of ours, so each page carries its policy. Scripts come
from the book's own files; inline ones, of the theme and of interactive figures, are
named by their hash. Styles may stand inline, for MathJax writes them. Only a page that
says that it needs WebAssembly may compile it, in a worker that obeys the same policy.
"""

import base64
import hashlib
import re
from html import escape
from html.parser import HTMLParser
from pathlib import Path

from finishing_order import priority
from sphinx.application import Sphinx

CHARSET = '<meta charset="utf-8" />'
NAME = "Content-Security-Policy"
NEEDS_WASM = 'data-needs="wasm"'
PLACE = re.compile(
    rf'{re.escape(CHARSET)}(\s*<meta http-equiv="{NAME}" content="[^"]*" />)?'
)


class InlineScripts(HTMLParser):
    """Collects the hashes of a page's inline scripts and event handlers."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: set[str] = set()
        self.handlers: set[str] = set()
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag == "script" and "src" not in dict(attrs)
        for name, value in attrs:
            if name.startswith("on") and value:
                self.handlers.add(sha256(value))

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts.add(sha256(data))

    def handle_endtag(self, tag: str) -> None:
        self._inside = False


def sha256(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def inline_scripts(html: str) -> InlineScripts:
    found = InlineScripts()
    found.feed(html)
    found.close()
    return found


def policy(scripts: set[str], handlers: set[str], wasm: bool = False) -> str:
    """The strictest policy under which these inline scripts run."""
    allowed = ["'self'", *sorted(scripts)]
    if handlers:
        allowed += ["'unsafe-hashes'", *sorted(handlers)]
    if wasm:
        allowed.append("'wasm-unsafe-eval'")
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {' '.join(allowed)}",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data:",
            "font-src 'self'",
            "connect-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            *(["worker-src 'self' blob:"] if wasm else []),
        ]
    )


def protect(pages: dict[Path, str]) -> dict[Path, str]:
    """The pages with their policies, right after the character set; once.

    The search page reads the others for its previews, so every page allows the event
    handlers of all.
    """
    found = {path: inline_scripts(html) for path, html in pages.items()}
    handlers = {sha for page in found.values() for sha in page.handlers}

    def protected(path: Path, html: str) -> str:
        needed = policy(found[path].scripts, handlers, NEEDS_WASM in html)
        content = escape(needed)
        meta = f'{CHARSET}\n    <meta http-equiv="{NAME}" content="{content}" />'
        return PLACE.sub(lambda _: meta, html, count=1)

    return {path: protected(path, html) for path, html in pages.items()}


def finish(app: Sphinx, exception: Exception | None) -> None:
    if exception or app.builder.name != "html":
        return
    pages = {path: path.read_text("utf8") for path in Path(app.outdir).rglob("*.html")}
    for path, html in protect(pages).items():
        if html != pages[path]:
            path.write_text(html, "utf8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("build-finished", finish, priority=priority(__name__))
    return {"parallel_read_safe": True, "parallel_write_safe": True}

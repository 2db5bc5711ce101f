"""A content security policy on every page: nothing runs but what the book ships.

A static host sends no headers of ours, so each page carries its policy. Scripts come
from the book's own files; inline ones, of the theme and of interactive figures, are
named by their hash. Styles may stand inline, for MathJax writes them.
"""

import base64
import hashlib
from html import escape
from html.parser import HTMLParser
from pathlib import Path

from sphinx.application import Sphinx

CHARSET = '<meta charset="utf-8" />'
NAME = "Content-Security-Policy"


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


def policy(html: str) -> str:
    """The strictest policy under which the page does all that it does."""
    inline = InlineScripts()
    inline.feed(html)
    scripts = ["'self'", *sorted(inline.scripts)]
    if inline.handlers:
        scripts += ["'unsafe-hashes'", *sorted(inline.handlers)]
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {' '.join(scripts)}",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data:",
            "font-src 'self'",
            "connect-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
        ]
    )


def protect(html: str) -> str:
    """The page with its policy, right after the character set; once."""
    if NAME in html:
        return html
    meta = f'<meta http-equiv="{NAME}" content="{escape(policy(html))}" />'
    return html.replace(CHARSET, f"{CHARSET}\n    {meta}", 1)


def finish(app: Sphinx, exception: Exception | None) -> None:
    if exception or app.builder.name != "html":
        return
    for page in Path(app.outdir).rglob("*.html"):
        before = page.read_text("utf8")
        after = protect(before)
        if after != before:
            page.write_text(after, "utf8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("build-finished", finish, priority=910)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

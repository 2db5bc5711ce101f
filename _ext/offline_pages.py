"""Pages that need no other host and that a screen reader can follow.

MathJax comes from an installed wheel instead of a content network; the theme's unused
live-code script goes; and a few places where the theme's HTML breaks accessibility
rules are put right. The patterns belong to sphinx-book-theme 1.3: the tests of the
built pages fail if an upgrade changes them.
"""

import re
import shutil
from collections.abc import Iterator
from importlib.metadata import files
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

MATHJAX_WHEEL = "sphinx-mathjax-offline"
MATHJAX_PARTS = ("tex-chtml.js", "output/chtml/fonts/woff-v2/")

REPAIRS = [
    (re.compile(pattern, re.DOTALL), replacement)
    for pattern, replacement in [
        # the visible text and the label must agree
        (r'(<button class="btn search-button-field[^>]*?) aria-label="Search"', r"\1"),
        (r'<summary aria-label="Toggle hidden content">', "<summary>"),
        # an icon inside a labelled button is decoration
        (r'(<i class="theme-switch[^>]*?) title="[^"]*"', r'\1 aria-hidden="true"'),
        # the sidebar's title belongs to a landmark
        (
            r'<div class="sidebar-primary-item">'
            r'(\s*<a class="navbar-brand logo".*?</a>\s*)</div>',
            r'<nav class="sidebar-primary-item" aria-label="Book title">\1</nav>',
        ),
        # a corner cell without text is no header
        (r"<th></th>", "<td></td>"),
        # what scrolls can be reached by keyboard
        (r'<table class="([^"]*\btable\b[^"]*)">', r'<table class="\1" tabindex="0">'),
        (r'<div class="math ([^"]*)">', r'<div class="math \1" tabindex="0">'),
    ]
]


def drop_live_code_script(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    """Remove the stub of thebe, which asks another host and raises on every page."""

    def is_thebe(asset: object) -> bool:
        name = getattr(asset, "filename", asset)
        attributes = getattr(asset, "attributes", {})
        return "thebe" in f"{name} {attributes}".lower()

    for key in ("script_files", "css_files"):
        context[key] = [a for a in context.get(key, []) if not is_thebe(a)]


def mathjax_files() -> Iterator[tuple[Path, str]]:
    """Pairs of an installed file and its path below the vendored folder."""
    for file in files(MATHJAX_WHEEL) or []:
        _, _, tail = file.as_posix().partition("static/mathjax/")
        if tail.startswith(MATHJAX_PARTS):
            yield Path(str(file.locate())), tail


def repair(html: str) -> str:
    for pattern, replacement in REPAIRS:
        html = pattern.sub(replacement, html)
    return html


def finish(app: Sphinx, exception: Exception | None) -> None:
    """Copy MathJax beside the pages and mend their HTML."""
    if exception or app.builder.name != "html":
        return
    out = Path(app.outdir)
    for source, tail in mathjax_files():
        target = out / "_static" / "vendor" / "mathjax" / tail
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    for page in out.rglob("*.html"):
        before = page.read_text("utf8")
        after = repair(before)
        if after != before:
            page.write_text(after, "utf8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-page-context", drop_live_code_script, priority=900)
    app.connect("build-finished", finish, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

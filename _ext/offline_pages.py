"""Pages that need no other host and that a screen reader can follow.

MathJax comes from an installed wheel instead of a content network, and only to pages
with formulas. The theme's unused live-code script goes, and its script of icons, the
heaviest file of a page: the same icons come from a font. A few places where the theme's
HTML breaks accessibility rules are put right. Formulas and pictures get their size, so
that the text does not jump when they arrive. The patterns belong to sphinx-book-theme
1.3: the tests of the built pages fail if an upgrade changes them.
"""

import hashlib
import re
import shutil
from collections.abc import Iterator
from functools import cache
from html import unescape
from importlib.metadata import files
from pathlib import Path
from typing import Any

from finishing_order import priority
from sphinx.application import Sphinx
from sphinx.config import Config

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
        (r'<i class="(fa[bs]? [^"]*)">', r'<i class="\1" aria-hidden="true">'),
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
        # where scripts are off, nothing replaces "auto": the page stays light
        (r'(<html[^>]*?) data-theme="auto"', r"\1"),
        # scripts of icons and of live code
        (r'\s*<script defer src="[^"]*/fontawesome\.js[^"]*"></script>', ""),
        (r'\s*<script type="text/x-thebe-config">.*?</script>', ""),
        (r"\s*<script>kernelName = '\w+'</script>", ""),
    ]
]

MATHJAX_SCRIPTS = re.compile(
    r"\s*<script>window\.MathJax = .*?</script>"
    r'\s*<script defer="defer" src="[^"]*/mathjax/[^"]*"></script>'
)
UNSIZED = re.compile(
    r'<img (?![^>]*\bheight=)[^>]*?src="(?P<source>(?:\.\./)*_images/[^"]+\.svg)"'
)
INLINE_FORMULA = re.compile(
    r'(?P<tag><span class="math notranslate nohighlight")>\\\((?P<tex>.*?)\\\)',
    re.DOTALL,
)
WITHOUT_WIDTH = re.compile(
    r"\\(?:math\w+|text\w*|operatorname|left|right|[,;:! ])(?![a-z])"
)
MARKS = str.maketrans("", "", "{}^_ \n")
PICTURE_SIZE = re.compile(r'<svg[^>]*?\bwidth="([\d.]+)pt" height="([\d.]+)pt"')


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
    if 'class="math ' not in html:
        html = MATHJAX_SCRIPTS.sub("", html)
    return html


def formula_width(tex: str) -> int:
    """About how many characters wide an inline formula is once it is set.

    Example:
        >>> formula_width(r"\\mathrm{sigmoid}(x_{t-1})"), formula_width(r"\\infty")
        (13, 1)
    """
    tex = WITHOUT_WIDTH.sub("", unescape(tex))
    return len(re.sub(r"\\[a-zA-Z]+|\\.", "x", tex).translate(MARKS))


def reserve_room(html: str, page: Path) -> str:
    """Give inline formulas their width, SVG pictures their size in CSS pixels."""

    def wide(formula: re.Match[str]) -> str:
        width = formula_width(formula["tex"])
        return f'{formula["tag"]} style="--width: {width}ch">\\({formula["tex"]}\\)'

    def sized(image: re.Match[str]) -> str:
        size = picture_size(page.parent / image["source"])
        return f'{image[0]} width="{size[0]}" height="{size[1]}"' if size else image[0]

    return UNSIZED.sub(sized, INLINE_FORMULA.sub(wide, html))


@cache
def picture_size(path: Path) -> tuple[int, int] | None:
    with path.open(encoding="utf8") as file:
        found = PICTURE_SIZE.search(file.read(2000))
    if not found:
        return None
    width, height = (round(float(side) * 4 / 3) for side in found.groups())
    return width, height


def note_sources(app: Sphinx, config: Config) -> None:
    """Have Sphinx write all pages again when styles or extensions change."""
    digest = hashlib.sha256()
    for folder in ("_ext", "_static"):
        for path in sorted(Path(app.srcdir, folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(path.name.encode() + path.read_bytes())
    config.page_sources = digest.hexdigest()


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
        after = reserve_room(repair(before), page)
        if after != before:
            page.write_text(after, "utf8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_config_value("page_sources", "", "html", types=[str])
    app.connect("config-inited", note_sources)
    app.connect("html-page-context", drop_live_code_script, priority=900)
    app.connect("build-finished", finish, priority=priority(__name__))
    return {"parallel_read_safe": True, "parallel_write_safe": True}

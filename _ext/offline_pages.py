"""Pages that need no other host and that a screen reader can follow.

MathJax comes from an installed wheel instead of a content network, and only to pages
with formulas. The theme's unused live-code script goes, and its script of icons, the
heaviest file of a page: the same icons come from a font. A few places where the theme's
HTML breaks accessibility rules are put right. Formulas and pictures get their size, so
that the text does not jump when they arrive. The selectors belong to sphinx-book-theme
1.3: the tests of the built pages fail if an upgrade changes them.
"""

import hashlib
import re
import shutil
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import files
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup, Tag
from bs4.dammit import EntitySubstitution
from bs4.formatter import HTMLFormatter
from finishing_order import priority
from sphinx.application import Sphinx
from sphinx.config import Config

MATHJAX_WHEEL = "sphinx-mathjax-offline"
MATHJAX_PARTS = ("tex-chtml.js", "output/chtml/fonts/woff-v2/")

AS_THE_THEME_WRITES = 'data-theme="auto"'  # of a page that is not mended yet
UNSIZED = 'img[src*="_images/"][src$=".svg"]:not([height])'
FORMULA = re.compile(r"\\\((.*?)\\\)", re.DOTALL)
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


class AsWritten(HTMLFormatter):
    """Attributes in the order in which they came."""

    def attributes(self, tag: Tag) -> Iterable[tuple[str, str]]:
        return tag.attrs.items()


HTML = AsWritten(
    entity_substitution=EntitySubstitution.substitute_xml,
    void_element_close_prefix=" /",
)


def mended(html: str, page: Path) -> str:
    """A page with repairs and with room for what arrives later."""
    soup = BeautifulSoup(html, "html.parser", multi_valued_attributes=None)
    repair(soup)
    reserve_room(soup, page.parent)
    return soup.decode(formatter=HTML)


def repair(soup: BeautifulSoup) -> None:
    """Put right where the theme's HTML breaks accessibility rules; drop its scripts."""
    # the visible text and the label must agree
    for button in soup.select('button.search-button-field[aria-label="Search"]'):
        del button["aria-label"]
    for summary in soup.select('summary[aria-label="Toggle hidden content"]'):
        del summary["aria-label"]
    # an icon inside a labelled button is decoration
    for icon in soup.select("i.theme-switch, i.fa, i.fab, i.fas"):
        del icon["title"]
        icon["aria-hidden"] = "true"
    # the sidebar's title belongs to a landmark
    for title in soup.select("div.sidebar-primary-item > a.navbar-brand.logo"):
        title.parent.name = "nav"
        title.parent["aria-label"] = "Book title"
    # a corner cell without text is no header
    for cell in soup.select("th:empty"):
        cell.name = "td"
    # what scrolls can be reached by keyboard
    for scrolled in soup.select("table.table, div.math"):
        scrolled["tabindex"] = "0"
    # where scripts are off, nothing replaces "auto": the page stays light
    for root in soup.select('html[data-theme="auto"]'):
        del root["data-theme"]
    # scripts of icons and of live code, and of formulas where there are none
    unused = ['script[src*="/fontawesome.js"]', 'script[type="text/x-thebe-config"]']
    starts = ["kernelName = "]
    if soup.select_one(".math") is None:
        unused.append('script[src*="/mathjax/"]')
        starts.append("window.MathJax = ")
    for script in soup.select("script"):
        if script.css.match(", ".join(unused)) or script.text.startswith(tuple(starts)):
            script.decompose()


def formula_width(tex: str) -> int:
    """About how many characters wide an inline formula is once it is set.

    Example:
        >>> formula_width(r"\\mathrm{sigmoid}(x_{t-1})"), formula_width(r"\\infty")
        (13, 1)
    """
    tex = WITHOUT_WIDTH.sub("", tex)
    return len(re.sub(r"\\[a-zA-Z]+|\\.", "x", tex).translate(MARKS))


def reserve_room(soup: BeautifulSoup, folder: Path) -> None:
    """Give inline formulas their width, SVG pictures their size in CSS pixels."""
    for span in soup.select("span.math"):
        if formula := FORMULA.match(span.text):
            span["style"] = f"--width: {formula_width(formula[1])}ch"
    for image in soup.select(UNSIZED):
        if size := picture_size(folder / image["src"]):
            image["width"], image["height"] = map(str, size)


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
        html = page.read_text("utf8")
        if AS_THE_THEME_WRITES in html:
            page.write_text(mended(html, page), "utf8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_config_value("page_sources", "", "html", types=[str])
    app.connect("config-inited", note_sources)
    app.connect("html-page-context", drop_live_code_script, priority=900)
    app.connect("build-finished", finish, priority=priority(__name__))
    return {"parallel_read_safe": True, "parallel_write_safe": True}

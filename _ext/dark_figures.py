"""Figures turn dark with the page.

matplotlib draws a chapter's figures with fixed colors. Here those of the book's style
become variables, as they are in interactive figures, with the same values in the light
and in the dark. A browser tells a picture which of the two the page around it shows.
Other colors, of images and color maps, stay as they are.
"""

import re
from importlib.resources import files
from pathlib import Path

from finishing_order import priority
from sphinx.application import Sphinx

from gradlib.plotting.frames import THEMED

DRAWN = "Matplotlib v"
STYLES = re.compile(r'(?<=style=")[^"]*')
COLOR = re.compile(r"#[0-9a-f]{6}\b")
END_OF_HEAD = "</metadata>"
# matplotlib indents by depth: two spaces for axes, three for what they hold
AXES = re.compile(r'\n  <g id="axes_\d+">.*?\n  </g>', re.DOTALL)
MAP = re.compile('<image |id="QuadMesh')
MARKS = re.compile(
    r'\n   <g id="(?:line2d|PathCollection|LineCollection|legend)_\d+">.*?\n   </g>',
    re.DOTALL,
)


def stylesheet(slider: str) -> str:
    """The variables of interactive figures, for a picture of its own."""
    light, dark = (
        re.search(rf"^{re.escape(of)} \{{(.*?)\}}", slider, re.DOTALL | re.MULTILINE)
        for of in (".gl-fig", 'html[data-theme="dark"] .gl-fig')
    )
    variables = [
        " ".join(re.findall(r"--gl-\w+: [^;]+;", part[1])) for part in (light, dark)
    ]
    return (
        f"<style>svg {{ {variables[0]} color: var(--gl-ink); fill: currentColor; }} "
        f"@media (prefers-color-scheme: dark) {{ svg {{ {variables[1]} }} }}</style>"
    )


STYLESHEET = stylesheet((files("gradlib") / "slider.html").read_text("utf8"))


def turn(svg: str) -> str:
    """A figure of matplotlib with colors that turn; others as they are."""
    if DRAWN not in svg or STYLESHEET in svg:
        return svg

    marks = [
        mark
        for axes in AXES.findall(svg)
        if MAP.search(axes)
        for mark in MARKS.findall(axes)
    ]
    turned = STYLES.sub(_themed, svg)
    for mark in marks:
        kept = mark.replace('">', '" fill="#000000">', 1)  # black goes without saying
        turned = turned.replace(STYLES.sub(_themed, mark), kept, 1)
    return turned.replace(END_OF_HEAD, END_OF_HEAD + STYLESHEET, 1)


def _themed(style: re.Match[str]) -> str:
    return COLOR.sub(lambda color: THEMED.get(color[0], color[0]), style[0])


def finish(app: Sphinx, exception: Exception | None) -> None:
    if exception or app.builder.name != "html":
        return
    for path in (Path(app.outdir) / "_images").glob("*.svg"):
        before = path.read_text("utf8")
        after = turn(before)
        if after != before:
            path.write_text(after, "utf8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("build-finished", finish, priority=priority(__name__))
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""Figures turn dark with the page; what lies on a map keeps its colors."""

import io
import re
from xml.etree import ElementTree

import matplotlib
import matplotlib.pyplot as plt
import pytest
from dark_figures import STYLESHEET, turn

from gradlib.plotting.style import INK, LIGHT_MARK, PALETTE, PAPER, STYLE


@pytest.fixture(scope="module", params=["pcolormesh", "imshow"])
def svg(request: pytest.FixtureRequest) -> str:
    """A curve beside a map with a line and a legend on it."""
    with matplotlib.rc_context(STYLE):
        figure, (left, right) = plt.subplots(ncols=2)
        left.plot([0, 1], [1, 0], "k--", label="theory")
        left.plot([0, 1], [0, 1], gid="curve")
        left.text(0, 0, "mark", color=LIGHT_MARK)
        left.legend()
        getattr(right, request.param)([[0, 1], [1, 0]], cmap="coolwarm")
        right.plot([0, 1], [0, 1], "k:", label="edge")
        right.legend()
        right.set(xlabel="x")
        file = io.StringIO()
        figure.savefig(file, format="svg")
        plt.close(figure)
    return file.getvalue()


def colors(svg: str) -> set[str]:
    return set(re.findall(r"(?:fill|stroke): (?!none)([^;\"]+)", svg))


def part(svg: str, path: str) -> str:
    """A part of a picture, by the ids that lead to it."""
    node = ElementTree.fromstring(svg)
    for name in path.split("/"):
        node = next(n for n in node.iter() if (n.get("id") or "").startswith(name))
    return ElementTree.tostring(node, "unicode")


def test_the_colors_of_the_style_become_variables(svg: str) -> None:
    left = colors(part(turn(svg), "axes_1"))
    assert {"currentColor", "var(--gl-paper)", "var(--gl-0)"} <= left
    assert not {"#000000", INK, PAPER, PALETTE[0]} & left
    assert LIGHT_MARK in left


def test_what_lies_on_a_map_stays(svg: str) -> None:
    turned = turn(svg)
    legend = "axes_2/legend"
    assert colors(part(turned, legend)) == colors(part(svg, legend))
    assert 'fill="#000000"' in part(turned, legend)
    assert colors(part(turned, "axes_2/matplotlib.axis")) >= {"currentColor"}
    assert "stroke: #000000" in part(turned, "axes_2")


def test_it_is_done_once_and_only_for_matplotlib(svg: str) -> None:
    turned = turn(svg)
    ElementTree.fromstring(turned)
    assert turn(turned) == turned
    other = svg.replace("Matplotlib v", "Drawn by hand v")
    assert turn(other) == other


def test_light_and_dark_have_a_value_for_each_variable() -> None:
    light, dark = STYLESHEET.split("@media")
    names = re.findall(r"--gl-\w+(?=:)", light)
    assert names == re.findall(r"--gl-\w+(?=:)", dark)
    assert len(names) == 2 + len(PALETTE)
    assert PAPER in light
    assert INK in light

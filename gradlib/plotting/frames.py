"""The frames of an interactive figure, drawn alike and shared out as compact SVG."""

import io
import re
from collections import Counter
from collections.abc import Callable, Sequence
from html import escape
from typing import Any, NamedTuple
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from gradlib.plotting.style import INK, PALETTE, PAPER, Array

Draw = Callable[[Any, Any], object]

THEMED = {
    INK: "currentColor",
    "#000000": "currentColor",
    PAPER: "var(--gl-paper)",
    **{color: f"var(--gl-{k})" for k, color in enumerate(PALETTE)},
}
SAVING: dict[Any, Any] = {
    "svg.fonttype": "path",
    "svg.hashsalt": "gradlib",
}
# The name in href="#name" and in url(#name).
REFERENCE = re.compile(r"(?<=^#)\S+$|(?<=url\(#)[^)]+")
# A reference to a definition takes less.
SHORT = 80


class Frames(NamedTuple):
    """SVG of each frame, and the definitions that they share."""

    view_box: str
    definitions: str
    pictures: list[str]


def draw_frames(
    draw: Draw,
    values: Sequence[Any],
    prefix: str,
    *,
    subplots: tuple[int, int] = (1, 1),
    size: tuple[float, float] | None = None,
    share_limits: bool = True,
) -> Frames:
    """Call ``draw(value, axes)`` for each value and collect the pictures.

    All frames place their axes alike and, by default, have the same limits, so that
    only the data move. Colors of the style become CSS variables.

    Args:
        draw: Draws into the Axes, or into the array of Axes if there are several.
        values: One for each frame.
        prefix: Begins the name of each definition.
        subplots: Rows and columns of axes.
        size: Width and height in inches.
        share_limits: Whether each axes has the same limits in all frames.
    """
    figures = [_drawn(draw, value, subplots, size) for value in values]
    alike = list(zip(*(figure.axes for figure in figures), strict=False))
    panels, bars = np.split(np.array(alike), [subplots[0] * subplots[1]])
    if share_limits:
        for axes in panels:
            _share_limits(axes)
    for figure in figures:
        _lay_out(figure)
    for axes in panels:
        _share_place(axes)
    for axes in bars:
        _share_place_of_bar(axes)
    roots = [_parsed(figure) for figure in figures]
    return Frames(roots[0].get("viewBox", ""), *_shared(roots, prefix))


def _drawn(
    draw: Draw, value: Any, subplots: tuple[int, int], size: tuple[float, float] | None
) -> Figure:
    figure = Figure(figsize=size, layout="constrained")
    try:
        draw(value, figure.subplots(*subplots))
    except Exception as error:
        error.add_note(f"while drawing the frame of {value!r}")
        raise
    if not any(ax.has_data() or ax.texts for ax in figure.axes):
        raise ValueError(
            f"draw: expected marks on the axes it is given, got none for {value!r}. "
            "Draw with ax.plot(...), not with plt.plot(...)."
        )
    return figure


def _share_limits(axes: Sequence[Axes]) -> None:
    for name in ("x", "y"):
        limits = np.array([getattr(ax, f"get_{name}lim")() for ax in axes])
        low, high = limits.min(), limits.max()
        falling = limits[0, 0] > limits[0, 1]
        for ax in axes:
            getattr(ax, f"set_{name}lim")(*((high, low) if falling else (low, high)))


def _lay_out(figure: Figure) -> None:
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.execute(figure)
    figure.set_layout_engine("none")


def _share_place(axes: Sequence[Axes]) -> None:
    """Put axes where all of them have room."""
    left, bottom, right, top = _extents(axes)
    _put(axes, left.max(), bottom.max(), right.min(), top.min())


def _share_place_of_bar(axes: Sequence[Axes]) -> None:
    """Put color bars at the least distance from their panels."""
    left, bottom, right, top = _extents(axes)
    if axes[0].bbox.height > axes[0].bbox.width:
        k = right.argmin()
        _put(axes, left[k], bottom.max(), right[k], top.min())
    else:
        k = bottom.argmax()
        _put(axes, left.max(), bottom[k], right.min(), top[k])


def _extents(axes: Sequence[Axes]) -> Array:
    return np.array([ax.get_position(original=True).extents for ax in axes]).T


def _put(
    axes: Sequence[Axes], left: float, bottom: float, right: float, top: float
) -> None:
    for ax in axes:
        ax.set_position((left, bottom, right - left, top - bottom))


def _parsed(figure: Figure) -> Element:
    """The figure as a tree without namespaces, names and spare digits."""
    file = io.StringIO()
    # `savefig` would draw twice.
    figure.dpi = 144
    with matplotlib.rc_context(SAVING):
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(file, metadata={"Date": None})
    root = ElementTree.fromstring(file.getvalue())
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.text = element.tail = None
        for name, text in list(element.items()):
            del element.attrib[name]
            name = name.rpartition("}")[2]
            element.set(name, _compact(name, text))
    return root


def _compact(name: str, text: str) -> str:
    if name == "style":
        text = re.sub(r"#[0-9a-f]{6}\b", lambda m: THEMED.get(m[0], m[0]), text)
        text = re.sub(r"([:;]) ", r"\1", text)
    elif name in ("d", "x", "y", "transform"):
        text = re.sub(r"-?\d+\.\d+", _rounded, text)
        text = re.sub(r"\s*([A-Za-z])\s*", r"\1", text) if name == "d" else text
    return text.strip()


def _rounded(match: re.Match[str]) -> str:
    number = float(match[0])
    text = f"{number:.1f}" if abs(number) >= 1 else f"{number:.3g}"
    return text.removesuffix(".0")


def _shared(roots: Sequence[Element], prefix: str) -> tuple[str, list[str]]:
    """Definitions and pictures; what is drawn twice becomes a definition."""
    names: dict[str, str] = {}

    def name_of(text: str) -> str:
        return names.setdefault(text, f"{prefix}-{len(names)}")

    texts: dict[Element, str] = {}
    for root in roots:
        _take_definitions(root, name_of)
        _serialize(root, texts)
    counts = Counter(texts.values())

    def emit(element: Element) -> str:
        text = texts[element]
        if counts[text] > 1 and len(text) > SHORT:
            return f'<use href="#{name_of(text)}"/>'
        inside = "".join(map(emit, element))
        plain = element.tag == "g" and not element.attrib
        return inside if plain else _tag(element, inside)

    pictures = ["".join(map(emit, root)) for root in roots]
    definitions = (
        re.sub(r"(?=[ />])", f' id="{name}"', text, count=1)
        for text, name in names.items()
    )
    return "".join(definitions), pictures


def _take_definitions(root: Element, name_of: Callable[[str], str]) -> None:
    """Move definitions out of the tree, and refer to each by its content's name."""
    found: list[Element] = []
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in ("defs", "metadata"):
                parent.remove(child)
                found += [e for e in child if e.get("id")]
    names: dict[str, str] = {}
    for element in found:
        old = element.get("id", "")
        _refer(element, names)
        names[old] = name_of(_serialize(element, {}))
    _refer(root, names)


def _refer(tree: Element, names: dict[str, str]) -> None:
    for element in tree.iter():
        element.attrib.pop("id", None)
        for name, text in element.items():
            element.set(name, REFERENCE.sub(lambda m: names.get(m[0], m[0]), text))


def _serialize(element: Element, texts: dict[Element, str]) -> str:
    inside = "".join(_serialize(child, texts) for child in element)
    texts[element] = _tag(element, inside)
    return texts[element]


def _tag(element: Element, inside: str) -> str:
    attributes = "".join(f' {k}="{escape(v)}"' for k, v in element.items())
    if not inside:
        return f"<{element.tag}{attributes}/>"
    return f"<{element.tag}{attributes}>{inside}</{element.tag}>"

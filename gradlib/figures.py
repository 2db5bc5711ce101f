"""Figures that a reader can move: matplotlib frames behind a range input."""

import gzip
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from html import escape
from importlib.resources import files
from string import Template
from typing import Any, ClassVar

from gradlib.checks import check_function, check_list
from gradlib.plotting.frames import Draw, Frames, draw_frames

LIMIT = 150_000
LONG = 16
_PAGE = Template((files("gradlib") / "slider.html").read_text("utf8"))
_ID = "gl-id-of-this-figure"


class SliderFigure:
    """A figure with a slider that works without a kernel.

    matplotlib draws one frame for each value, stored as SVG. A native range input
    shows one of them: by mouse, touch and keyboard, in the book, in Jupyter and in
    Colab, without a network. All frames place their axes alike. In the book's dark
    mode, black and white and the colors of the style turn with the page.

    Args:
        draw: Called as ``draw(value, ax)`` for each value. With ``subplots`` it gets
            the array of Axes, as ``plt.subplots`` gives it. Give a legend its place
            (``loc=...``), or it may jump.
        values: Two or more, in the slider's order.
        label: Name of the slider, in plain text.
        alt: What the figure shows, for readers who cannot see it; or a function that
            tells it for a value.
        unit: Follows the value.
        start: The value shown at first, and where scripts are off; by default the
            first one.
        text: What the caption says of a value; by default the number and its unit.
        subplots: Rows and columns of axes.
        size: Width and height in inches; by default the style's.
        share_limits: Whether each axes has the same limits in all frames.

    Attributes:
        compressed_size: Bytes of the HTML after gzip.

    Raises:
        TypeError: ``draw`` is not a function.
        ValueError: fewer than two values, an empty label or alternative text, an
            unknown start, frames without marks, or more than 150 kB after gzip.

    Example:
        >>> def draw(factor, ax):
        ...     ax.semilogy([factor**layer for layer in range(10)])
        >>> SliderFigure(draw, [0.5, 1, 2], "factor", alt="The norm in each layer.")
        SliderFigure of 3 frames, factor 0.5 to 2. First shown: The norm in each layer.
        factor: 0.5.
    """

    _shown: ClassVar[Counter[str]] = Counter()

    def __init__(
        self,
        draw: Draw,
        values: Iterable[Any],
        label: str,
        *,
        alt: str | Callable[[Any], str],
        unit: str = "",
        start: Any = None,
        text: Callable[[Any], str] | None = None,
        subplots: tuple[int, int] = (1, 1),
        size: tuple[float, float] | None = None,
        share_limits: bool = True,
    ) -> None:
        if not callable(draw):
            raise TypeError(
                f"draw: expected a function (value, ax), got {type(draw).__name__}"
            )
        values = check_list(values, "values")
        if len(values) < 2:
            raise ValueError(f"values: expected two or more, got {values}")
        first = _position(values[0] if start is None else start, values)
        label = _words(label, "label")
        if text is None:
            texts = [_written(value, unit) for value in values]
        else:
            check_function(text, "text")
            texts = [_words(text(value), "text") for value in values]
        if callable(alt):
            alts = [_words(alt(value), "alt") for value in values]
        else:
            seen = _words(alt, "alt").rstrip(".")
            alts = [f"{seen}. {label}: {told}." for told in texts]
        frames = draw_frames(
            draw, values, _ID, subplots=subplots, size=size, share_limits=share_limits
        )
        html = _page(frames, label, texts, alts, first)
        self._id = f"gl-{hashlib.sha256(html.encode()).hexdigest()[:8]}"
        self._html = html.replace(_ID, self._id)
        self._told = (
            f"SliderFigure of {len(values)} frames, {label} {texts[0]} to "
            f"{texts[-1]}. First shown: {alts[first]}"
        )
        self.compressed_size = len(gzip.compress(self._html.encode(), mtime=0))
        if self.compressed_size > LIMIT:
            raise ValueError(
                f"SliderFigure: expected at most {LIMIT // 1000} kB after gzip, got "
                f"{self.compressed_size // 1000} kB in {len(values)} frames. Give "
                "fewer values, draw fewer points, or draw with rasterized=True."
            )

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> dict[str, str]:
        """The figure as HTML, with new ids each time, and its description."""
        SliderFigure._shown[self._id] += 1
        times = SliderFigure._shown[self._id]
        name = self._id if times == 1 else f"{self._id}-{times}th"
        html = self._html.replace(self._id, name)
        return {"text/html": html, "text/plain": self._told}

    def __repr__(self) -> str:
        return self._told


def _page(
    frames: Frames, label: str, texts: list[str], alts: list[str], first: int
) -> str:
    shown = [
        f'<div class="gl-frame" data-text="{escape(text)}"{_hidden(k != first)}>'
        f'<svg viewBox="{frames.view_box}" role="img" aria-label="{escape(alt)}">'
        f"{picture}</svg></div>"
        for k, (text, alt, picture) in enumerate(
            zip(texts, alts, frames.pictures, strict=True)
        )
    ]
    longest = max(map(len, texts))
    return _PAGE.substitute(
        id=_ID,
        definitions=frames.definitions,
        frames="\n".join(shown),
        label=escape(label),
        last=len(texts) - 1,
        start=first,
        text=escape(texts[first]),
        form="" if longest <= LONG else " gl-long",
        width=min(longest, LONG),
    )


def _hidden(hidden: bool) -> str:
    return " hidden" if hidden else ""


def _position(start: Any, values: list[Any]) -> int:
    for k, value in enumerate(values):
        if value == start:
            return k
    raise ValueError(f"start: expected one of the values {values}, got {start!r}")


def _words(text: Any, name: str) -> str:
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{name}: expected a few words, got {text!r}")
    return text.strip()


def _written(value: Any, unit: str) -> str:
    if isinstance(value, str | bool) or not hasattr(value, "__float__"):
        return f"{value} {unit}".strip()
    number = f"{float(value):.4g}".replace("-", "\N{MINUS SIGN}")
    return f"{number} {unit}".strip()

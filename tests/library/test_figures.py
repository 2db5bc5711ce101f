"""A slider figure is complete, small, safe beside others, and readable by all."""

import gzip
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from html.parser import HTMLParser
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from gradlib import figures
from gradlib.figures import SliderFigure
from gradlib.plotting.frames import THEMED, draw_frames
from gradlib.plotting.style import PALETTE


@pytest.fixture(autouse=True)
def _no_figure_is_left(book_style: None) -> Iterator[None]:
    yield
    assert plt.get_fignums() == []


def grow(factor: float, ax: Any) -> None:
    ax.plot([1, factor, factor**2], label="norm")
    ax.axhline(1, color="k", linestyle="--")
    ax.set(xlabel="layer", xticks=[0, 1, 2], yticks=[1, 4])
    ax.legend(loc="upper left")


@cache
def plain() -> SliderFigure:
    return SliderFigure(grow, [0.5, 1, 2], "factor", alt="A norm.")


def figure(**options: Any) -> SliderFigure:
    """A plain figure, or one with other options."""
    given = {"draw": grow, "values": [0.5, 1, 2], "label": "factor", "alt": "A norm."}
    return SliderFigure(**{**given, **options}) if options else plain()


def html(shown: SliderFigure) -> str:
    return shown._repr_mimebundle_()["text/html"]


class Page(HTMLParser):
    """Elements with their attributes, and text by element."""

    VOID = ("input", "path", "use", "image", "rect")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts[self.open[-1]] = self.texts.get(self.open[-1], "") + data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def frames(self) -> list[dict[str, str | None]]:
        return [a for a in self.of("div") if a.get("class") == "gl-frame"]


def test_page_is_whole() -> None:
    page = Page(html(figure()))
    assert page.open == []
    assert page.elements[0][0] == "figure"
    assert page.elements[0][1]["class"] == "gl-fig"
    assert page.elements[-1][0] == "figcaption"


def test_slider_is_labeled_and_speaks() -> None:
    page = Page(html(figure(unit="x", start=1)))
    (slider,) = page.of("input")
    (label,) = page.of("label")
    assert slider["type"] == "range"
    assert label["for"] == slider["id"]
    assert page.texts["label"] == "factor"
    assert (slider["min"], slider["max"], slider["value"]) == ("0", "2", "1")
    assert slider["aria-valuetext"] == "1 x"
    assert page.of("figcaption")[0]["aria-live"] == "polite"
    assert page.texts["figcaption"] == "1 x"


def test_one_frame_shows_without_scripts() -> None:
    frames = Page(html(figure(start=2))).frames()
    assert ["hidden" in frame for frame in frames] == [True, True, False]
    assert [frame["data-text"] for frame in frames] == ["0.5", "1", "2"]


def test_every_frame_is_described() -> None:
    pictures = [a for a in Page(html(figure())).of("svg") if "role" in a]
    assert [picture["role"] for picture in pictures] == ["img"] * 3
    assert [picture["aria-label"] for picture in pictures] == [
        "A norm. factor: 0.5.",
        "A norm. factor: 1.",
        "A norm. factor: 2.",
    ]
    told = figure(alt=lambda factor: f"The norm times {factor}.")
    labels = [a["aria-label"] for a in Page(html(told)).of("svg") if "role" in a]
    assert labels[0] == "The norm times 0.5."


def test_caption_can_say_more() -> None:
    page = Page(html(figure(text=lambda factor: f"factor {factor} for each layer")))
    assert page.texts["figcaption"] == "factor 0.5 for each layer"
    assert page.of("figure")[0]["class"] == "gl-fig gl-long"


@pytest.mark.parametrize(
    ("value", "told"),
    [(-0.5, "−0.5 s"), (3, "3 s"), (1 / 3, "0.3333 s"), ("relu", "relu s"),
     (np.float32(2), "2 s"), (torch.tensor(2 / 3), "0.6667 s"), (True, "True s")],
)  # fmt: skip
def test_values_are_written(value: object, told: str) -> None:
    shown = figure(draw=lambda v, ax: ax.plot([1]), values=[value, "other"], unit="s")
    assert Page(html(shown)).texts["figcaption"] == told


def test_text_cannot_break_out() -> None:
    bad = '"><script>alert(1)</script>'
    shown = figure(label=bad, alt=bad, unit=bad)
    page = Page(html(shown))
    assert page.of("script") == []
    assert page.texts["label"] == bad
    assert page.frames()[0]["data-text"] == f"0.5 {bad}"


def test_names_are_unique_and_resolve() -> None:
    shown = figure()
    text = html(shown) + html(figure(alt="Another.")) + html(shown) + html(figure())
    page = Page(text)
    names = [a["id"] for _, a in page.elements if "id" in a]
    assert len(names) == len(set(names))
    assert len(page.of("figure")) == 4
    wanted = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)|for="([^"]+)"', text)
    assert wanted
    for reference in wanted:
        assert "".join(reference) in names


def test_figure_refers_to_itself_only() -> None:
    text = html(figure())
    assert not re.search(r"https?://|@import|<link|src=", text)
    prefix = re.match(r'<figure class="gl-fig" id="(gl-[0-9a-f]{8}[^"]*)"', text)
    assert prefix
    own = [a["id"] or "" for _, a in Page(text).elements if "id" in a]
    assert all(name.startswith(prefix[1]) for name in own)
    (slider,) = Page(text).of("input")
    assert "this.closest('figure')" in (slider["oninput"] or "")
    assert "document" not in (slider["oninput"] or "")


def test_is_the_same_in_every_process() -> None:
    code = (
        "from gradlib.figures import SliderFigure\n"
        "from gradlib.plotting import use_style\n"
        "use_style()\n"
        "draw = lambda v, ax: ax.plot([0, v], 'o-', label='a') and ax.legend(loc=2)\n"
        "f = SliderFigure(draw, [1, 2], 'v', alt='A line.')\n"
        "print(f._repr_mimebundle_()['text/html'])"
    )

    def said(seed: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "MPLBACKEND": "agg"},
        ).stdout

    assert said("1") == said("2")


def test_size_is_that_of_the_page_and_small() -> None:
    shown = figure(alt="Not shown before.")
    assert shown.compressed_size == len(gzip.compress(html(shown).encode(), mtime=0))
    assert shown.compressed_size < 10_000


def test_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "LIMIT", 3000)
    with pytest.raises(ValueError, match=r"at most 3 kB .* got \d kB in 3 frames"):
        figure(start=1)


def test_a_further_frame_costs_little_more_than_its_data() -> None:
    two, three = (draw_frames(grow, values, "id") for values in ([2, 3], [2, 3, 4]))
    for frames in (two, three):
        assert len(frames.definitions) > 5000
        assert max(map(len, frames.pictures)) < 1000
    assert len(three.definitions) - len(two.definitions) < 200


def test_frames_share_limits_and_place() -> None:
    axes: list[Any] = []

    def draw(value: float, ax: Any) -> None:
        ax.plot([0, 1], [0, value])
        axes.append(ax)

    figure(draw=draw, values=[1, 1e6])
    first, second = axes
    assert first.get_ylim() == second.get_ylim()
    assert first.get_ylim()[1] > 1e6
    assert first.get_position().bounds == second.get_position().bounds
    axes.clear()
    figure(draw=draw, values=[1, 1e6], share_limits=False)
    first, second = axes
    assert first.get_ylim()[1] < 2
    assert first.get_position().bounds == second.get_position().bounds


def test_shared_limits_keep_the_direction_and_the_color_bar() -> None:
    drawn: list[Any] = []

    def draw(value: float, axes: Any) -> None:
        image = axes[0].imshow([[0, value], [value, 0]])
        axes[1].plot([value, 1], [value, 2])
        axes[1].invert_xaxis()
        drawn.append((axes, axes[0].figure.colorbar(image, ax=axes[0])))

    figure(draw=draw, values=[1, 9], subplots=(1, 2), size=(8, 3))
    for (left, right), bar in drawn:
        assert left.get_ylim() == (1.5, -0.5)
        assert right.get_xlim()[0] > right.get_xlim()[1]
        assert bar.ax.get_ylim()[1] == bar.vmax
        assert tuple(left.figure.get_size_inches()) == (8, 3)


def test_style_colors_follow_the_page() -> None:
    text = html(figure())
    template = figures._PAGE.template
    body = text[text.index("</style>") :]
    assert "var(--gl-0)" in body
    assert "var(--gl-paper)" in body
    assert "currentColor" in body
    assert not re.search("|".join(THEMED), body)
    for k, color in enumerate(PALETTE):
        light, dark = re.findall(rf"--gl-{k}: (#[0-9a-f]{{6}});", template)
        assert light == color
        assert light != dark


def test_svg_brings_no_global_style_and_no_metadata() -> None:
    text = html(figure())
    assert text.count("<style>") == 1
    assert "*{" not in text
    assert not re.search(r"metadata|rdf|xmlns|xlink|<!--|DOCTYPE", text)


def test_curves_keep_a_tenth_of_a_point() -> None:
    frames = draw_frames(lambda v, ax: ax.plot([0, v]), [1.0, 2.0], "id")
    numbers = re.findall(r'd="([^"]+)"', "".join(frames.pictures))
    assert numbers
    assert not re.search(r"\d\.\d\d", "".join(numbers))
    exact = draw_frames(lambda v, ax: ax.plot([0, 1]), [1, 2], "id").view_box.split()
    assert exact == ["0", "0", "432", "266.4"]


def test_frames_keep_their_size_whatever_the_defaults() -> None:
    with plt.rc_context({"savefig.bbox": "tight", "svg.fonttype": "none"}):
        frames = draw_frames(lambda v, ax: ax.plot([v, 1]), [1, 2], "id")
    assert frames.view_box == "0 0 432 266.4"
    assert "<text" not in frames.definitions + frames.pictures[0]


def test_images_stay_inside_the_page() -> None:
    shown = figure(draw=lambda v, ax: ax.imshow(np.eye(4) * v), values=[1, 2])
    (image,) = Page(html(shown)).of("image")
    assert (image["href"] or "").startswith("data:image/png;base64,")


def test_text_form_describes() -> None:
    bundle = figure()._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"}
    told = (
        "SliderFigure of 3 frames, factor 0.5 to 2. First shown: A norm. factor: 0.5."
    )
    assert bundle["text/plain"] == repr(figure()) == told


def fail(value: float, ax: Any) -> None:
    raise RuntimeError("no data")


REFUSED: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: figure(draw=3), TypeError, r"draw: expected a function .* got int"),
    (
        lambda: figure(values=[1]),
        ValueError,
        r"values: expected two or more, got \[1\]",
    ),
    (lambda: figure(label=" "), ValueError, "label: expected a few words, got ' '"),
    (lambda: figure(alt=""), ValueError, "alt: expected a few words, got ''"),
    (lambda: figure(alt=lambda v: None), ValueError, "alt: expected .* got None"),
    (lambda: figure(text=lambda v: v), ValueError, "text: expected .* got 0.5"),
    (lambda: figure(start=7), ValueError, r"one of the values \[0.5, 1, 2\], got 7"),
    (
        lambda: figure(draw=lambda v, ax: None),
        ValueError,
        r"expected marks on the axes .* none for 0.5\. Draw with ax\.plot",
    ),
    (lambda: figure(draw=fail), RuntimeError, "no data"),
]


@pytest.mark.parametrize(("call", "kind", "told"), REFUSED)
def test_refuses_with_a_reason(
    call: Callable[[], object], kind: type[Exception], told: str
) -> None:
    with pytest.raises(kind, match=told):
        call()


def test_error_of_a_frame_names_its_value() -> None:
    with pytest.raises(RuntimeError) as caught:
        figure(draw=fail)
    assert caught.value.__notes__ == ["while drawing the frame of 0.5"]

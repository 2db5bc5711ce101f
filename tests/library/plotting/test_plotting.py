"""What is drawn is what was given; nothing is drawn from what cannot be right."""

import io
import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb

from gradlib import plotting
from gradlib.history import History
from gradlib.plotting.style import INK, PALETTE, PAPER

SVG = {"format": "svg", "metadata": {"Date": None}}


pytestmark = pytest.mark.usefixtures("book_style")


def run(steps: int = 6, layers: int = 3, **extra: float) -> History:
    history = History()
    for step in range(steps):
        row = {"loss": 2.0 / (step + 1), **extra}
        for k in range(layers):
            row[f"gradient_norm/{k}.weight"] = 10.0 ** (k - step)
            row[f"gradient_norm/{k}.bias"] = 7.0
            row[f"activation_std/{k}"] = 1.0 + k
            if step % 2 == 0:
                row[f"parameter_norm/{k}.weight"] = 5.0
                row[f"update_ratio/{k}.weight"] = 10.0 ** (-3 - k)
        history.append(step, **row)
    return history


class Watched:
    """Stands for a monitor: it has a history."""

    history = run()


NORMS = {"0.weight": 1e-3, "0.bias": 5.0, "2.weight": 0.5}
CALLS: dict[str, Callable[..., Any]] = {
    "loss_curves": lambda ax: plotting.loss_curves([2.0, 1.0], ax=ax),
    "gradient_norm_by_layer": lambda ax: plotting.gradient_norm_by_layer(NORMS, ax=ax),
    "norm_heatmap": lambda ax: plotting.norm_heatmap(run(), ax=ax),
    "seed_band": lambda ax: plotting.seed_band([1, 2], [[1, 2], [3, 4]], ax=ax),
    "theory_over_measurement": lambda ax: plotting.theory_over_measurement(
        [1, 2], [1, 2], [1, 2], ax=ax
    ),
    "phase_diagram": lambda ax: plotting.phase_diagram(
        [0, 1], [0, 1], [[-1, 1], [-1, 1]], ax=ax
    ),
    "update_ratio_strip": lambda ax: plotting.update_ratio_strip(run(), ax=ax),
    "float16_histogram": lambda ax: plotting.float16_histogram([1.0, 2.0], ax=ax),
    "confusion_matrix": lambda ax: plotting.confusion_matrix([[1]], ax=ax),
    "waterfall": lambda ax: plotting.waterfall({"a": 1.0, "b": 2.0}, ax=ax),
}
each_function = pytest.mark.parametrize("name", CALLS)


def test_table_of_calls_is_complete() -> None:
    others = {"PALETTE", "use_style", "health_strip"}
    assert set(CALLS) == set(plotting.__all__) - others


@each_function
def test_draws_into_the_given_axes(name: str) -> None:
    _, (left, right) = plt.subplots(1, 2)
    assert CALLS[name](right) is right
    assert right.has_data()
    assert not left.has_data()


@each_function
def test_makes_a_figure_without_axes(name: str) -> None:
    before = plt.get_fignums()
    ax = CALLS[name](None)
    assert isinstance(ax, Axes)
    assert len(plt.get_fignums()) == len(before) + 1
    assert ax.get_figure() is plt.gcf()


@each_function
def test_refuses_what_is_no_axes(name: str) -> None:
    with pytest.raises(TypeError, match="ax: expected matplotlib Axes or None, got nd"):
        CALLS[name](plt.subplots(1, 2)[1])


@pytest.mark.parametrize("name", ["loss_curves", "phase_diagram", "waterfall"])
def test_is_the_same_at_every_run(name: str) -> None:
    def picture() -> bytes:
        file = io.BytesIO()
        CALLS[name](None).get_figure().savefig(file, **SVG)
        return file.getvalue()

    assert picture() == picture()


def luminance(color: str) -> float:
    parts = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
             for c in to_rgb(color))  # fmt: skip
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), parts, strict=True))


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_style_is_readable() -> None:
    assert contrast(INK, PAPER) > 7
    assert all(contrast(color, PAPER) > 3 for color in PALETTE[:4])
    assert len(set(PALETTE)) == 6
    width = plt.rcParams["figure.figsize"][0] * 72
    smallest = min(plt.rcParams[f"{axis}tick.labelsize"] for axis in "xy")
    assert smallest * 350 / width > 8.5, "unreadable on a phone of 390 pixels"
    assert to_hex(plt.rcParams["figure.facecolor"]) == PAPER


def test_style_asks_a_notebook_for_svg(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    class Shell:
        kernel = object()

        def run_line_magic(self, *words: str) -> None:
            asked.append(words)

    class IPython:
        get_ipython = staticmethod(Shell)

    class Inline:
        @staticmethod
        def set_matplotlib_formats(*formats: str, **options: object) -> None:
            asked.append((*formats, options))

    monkeypatch.setitem(sys.modules, "IPython", IPython)
    monkeypatch.setitem(sys.modules, "matplotlib_inline.backend_inline", Inline)
    plotting.use_style()
    assert asked == [
        ("matplotlib", "inline"),
        ("svg", {"metadata": {"Date": None}}),
    ]
    monkeypatch.delattr(Shell, "kernel")
    plotting.use_style()
    assert len(asked) == 2


def test_library_without_drawing_imports_no_matplotlib() -> None:
    code = "import sys, gradlib.history; print('matplotlib' in sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "False"


def test_loss_curves_of_seeds_share_a_color() -> None:
    ax = plotting.loss_curves({"a": [run(), run(4)], "b": [[3.0, 2.0], [2.0, 1.0]]})
    assert [len(line.get_xdata()) for line in ax.lines] == [6, 4, 2, 2]
    assert [to_hex(line.get_color()) for line in ax.lines] == [
        PALETTE[0], PALETTE[0], PALETTE[1], PALETTE[1],
    ]  # fmt: skip
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["a (2 seeds)", "b (2 seeds)"]
    assert ax.get_yscale() == "log"


def test_loss_curves_mark_divergence_at_the_last_finite_loss() -> None:
    diverged = run(3)
    diverged.diverged_at = 2
    ax = plotting.loss_curves({"stopped": diverged, "inf": [1.0, 9.0, math.inf]})
    crosses = [line for line in ax.lines if line.get_marker() == "X"]
    assert [tuple(np.ravel(line.get_data())) for line in crosses] == [
        (2.0, 2.0 / 3), (1.0, 9.0),
    ]  # fmt: skip


def test_loss_curves_take_tensors_and_other_columns() -> None:
    ax = plotting.loss_curves(torch.ones(3, requires_grad=True), log=False)
    assert ax.lines[0].get_ydata().tolist() == [1.0, 1.0, 1.0]
    assert ax.get_legend() is None
    history = run(accuracy=0.5)
    ax = plotting.loss_curves(history, column="accuracy", ylabel="accuracy")
    assert set(ax.lines[0].get_ydata()) == {0.5}


def test_gradient_norms_leave_biases_out() -> None:
    ax = plotting.gradient_norm_by_layer(NORMS)
    assert ax.lines[0].get_ydata().tolist() == [1e-3, 0.5]
    ax = plotting.gradient_norm_by_layer({"m": NORMS, "n": NORMS}, biases=True)
    assert ax.lines[0].get_ydata().tolist() == [1e-3, 5.0, 0.5]
    assert len(ax.get_legend().get_texts()) == 2


@pytest.mark.parametrize(
    ("bad", "marker"), [(0.0, "v"), (math.inf, "X"), (math.nan, "X")]
)
def test_gradient_norms_mark_what_has_no_logarithm(bad: float, marker: str) -> None:
    ax = plotting.gradient_norm_by_layer({"a": 1.0, "b": bad})
    marks = {line.get_marker(): line.get_xdata().tolist() for line in ax.lines[1:]}
    assert marks.pop(marker) == [2]
    assert list(marks.values()) == [[]]


def test_norms_that_all_vanish_can_be_drawn() -> None:
    plotting.gradient_norm_by_layer({"a": 0.0}).get_figure().canvas.draw()
    history = History()
    for step in range(2):
        history.append(step, **{"gradient_norm/a": 0.0, "update_ratio/a": math.nan})
    plotting.norm_heatmap(history).get_figure().canvas.draw()
    plotting.health_strip(history)[0].get_figure().canvas.draw()


def test_heatmap_holds_logarithms_layer_by_step() -> None:
    for source in (run(), Watched()):
        ax = plotting.norm_heatmap(source)
        grid = ax.collections[0].get_array()
        assert grid.shape == (3, 6)
        expected = np.arange(3)[:, None] - np.arange(6)[None]
        np.testing.assert_allclose(grid, expected)
    assert plotting.norm_heatmap(run(), biases=True).collections[
        0
    ].get_array().shape == (
        6,
        6,
    )


def test_heatmap_keeps_given_colors() -> None:
    ax = plotting.norm_heatmap(run(), limits=(-9, 3), label="norm")
    assert ax.collections[0].get_clim() == (-9, 3)
    assert ax.figure.axes[1].get_ylabel() == "norm"


def test_heatmap_skips_steps_without_the_quantity() -> None:
    ax = plotting.norm_heatmap(run(), "parameter_norm")
    assert ax.collections[0].get_array().shape == (3, 3)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(*3 * [st.floats(-9, 9)]), min_size=2, max_size=5))
def test_seed_band_holds_every_seed(ys: list[tuple[float, ...]]) -> None:
    ax = plotting.seed_band([0, 1, 2], ys)
    corners = ax.collections[0].get_paths()[0].vertices
    for k, column in enumerate(np.array(ys).T):
        heights = corners[corners[:, 0] == k, 1]
        assert heights.min() == column.min()
        assert heights.max() == column.max()
        assert ax.lines[0].get_ydata()[k] == np.median(column)
    plt.close("all")


def test_seed_band_of_standard_deviations() -> None:
    ax = plotting.seed_band([0, 1], [[1, 1], [3, 5]], band="std")
    assert ax.lines[0].get_ydata().tolist() == [2, 3]
    heights = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert heights.max() == pytest.approx(3 + math.sqrt(8))


def test_theory_is_a_smooth_line_over_points() -> None:
    ax = plotting.theory_over_measurement(
        [1, 3], [[1, 8], [2, 10], [3, 9]], lambda x: x**2
    )
    assert ax.lines[0].get_ydata().tolist() == [2, 9]
    line = ax.lines[-1]
    assert len(line.get_xdata()) > 50
    np.testing.assert_allclose(line.get_ydata(), line.get_xdata() ** 2)
    (bars,) = ax.containers[0].lines[2]
    tops = [segment[1, 1] for segment in bars.get_segments()]
    assert tops == [3, 10]
    given = plotting.theory_over_measurement([1, 3], [1, 8], [1, 9], log=True)
    assert given.lines[-1].get_ydata().tolist() == [1, 9]
    assert given.get_yscale() == "log"


def test_phase_diagram_draws_the_critical_line() -> None:
    x, y = np.linspace(1, 4, 13), np.linspace(0, 1, 5)
    growth = np.log(x / 2) * np.ones((5, 1))
    ax = plotting.phase_diagram(x, y, growth)
    mesh, line = ax.collections
    assert mesh.get_clim() == (-math.log(2), math.log(2))
    wide = plotting.phase_diagram(x, y, growth, boundary=1, reach=4).collections[0]
    assert wide.get_clim() == (-3, 5)
    critical = line.get_paths()[0].vertices
    np.testing.assert_allclose(critical[:, 0], 2.0)
    places = {text.get_text(): text.get_position()[0] for text in ax.texts}
    assert places["vanishes"] < 2 < places["explodes"]


def test_phase_diagram_of_one_side_has_no_line() -> None:
    ax = plotting.phase_diagram([1, 2], [1, 2], [[1, 2], [3, math.nan]])
    assert len(ax.collections) == 1
    assert [text.get_text() for text in ax.texts] == ["explodes"]
    assert ax.collections[0].get_array().mask.sum() == 1
    silent = plotting.phase_diagram([1, 2], [1, 2], [[-1, 1], [-1, 1]], sides=None)
    assert len(silent.texts) == 0
    flat = plotting.phase_diagram([1, 2], [1, 2], [[0, 0], [0, 0]])
    assert flat.collections[0].get_clim() == (-1, 1)


def test_health_strip_has_four_panels() -> None:
    axes = plotting.health_strip(Watched())
    assert axes.shape == (4,)
    assert [len(ax.lines) for ax in axes] == [3, 3, 3, 4]
    assert axes[3].lines[-1].get_ydata()[0] == -3.0
    assert axes[3].lines[1].get_ydata().tolist() == [-4.0, -4.0, -4.0]
    assert axes[2].get_ylim() == (1.0, 10.0)
    again = plotting.health_strip(run(), axes=plt.subplots(1, 4)[1])
    assert again[3].get_xlabel() == "step"


def test_health_strip_says_what_was_not_recorded() -> None:
    history = History()
    history.append(0, **{"gradient_norm/a": 1.0})
    axes = plotting.health_strip(history)
    told = [[text.get_text() for text in ax.texts] for ax in axes]
    assert told == [["not recorded"], [], ["not recorded"], ["not recorded"]]


def test_float16_histogram_agrees_with_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.exp(14 * torch.randn(2000, generator=generator, dtype=torch.float64))
    half = values.half()
    tiny = torch.finfo(torch.float16).tiny
    expected = [
        half == 0,
        (half > 0) & (values < tiny),
        (values >= tiny) & half.isfinite(),
        half.isinf(),
    ]
    ax = plotting.float16_histogram(values)
    told = [t.get_text().split(": ")[1] for t in ax.get_legend().get_texts()]
    assert told == [f"{share.double().mean():.1%}" for share in expected]
    heights = sum(bar.get_height() for bars in ax.containers for bar in bars)
    assert heights == pytest.approx(1.0)


def test_float16_histogram_edges_and_scale() -> None:
    for value in (2.0**-25, 2.0**-25 * (1 + 2.0**-20), 2.0**-14, 65519.0, 65520.0):
        half = torch.tensor(value, dtype=torch.float64).half()
        ax = plotting.float16_histogram([value / 8, 0.0], scale=8)
        texts = [text.get_text() for text in ax.get_legend().get_texts()]
        assert ("becomes 0: 100.0%" in texts) == (half == 0)
        assert ("becomes inf: 100.0%" in texts) == bool(half.isinf())


def test_confusion_matrix_writes_counts() -> None:
    counts = torch.tensor([[8, 0], [1, 3]])
    ax = plotting.confusion_matrix(counts, names=["no", "yes"])
    written = {text.get_position(): text.get_text() for text in ax.texts}
    assert written == {(0, 0): "8", (0, 1): "1", (1, 1): "3"}
    np.testing.assert_allclose(ax.images[0].get_array(), [[1, 0], [0.25, 0.75]])
    colors = [to_hex(text.get_color()) for text in ax.texts]
    assert contrast(colors[0], colors[1]) > 10
    assert len(plotting.confusion_matrix([[0, 0], [0, 0]]).texts) == 0


def test_waterfall_goes_from_level_to_level() -> None:
    ax = plotting.waterfall({"start": 2.0, "up": 5.0, "down": 1.0})
    spans = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in ax.patches]
    assert spans == [(0, 2), (2, 5), (5, 1), (0, 1)]
    assert [text.get_text() for text in ax.texts] == ["2", "+3", "−4", "1"]
    assert ax.yaxis_inverted()


def test_waterfall_is_green_where_it_rose_and_orange_where_it_fell() -> None:
    ax = plotting.waterfall({"start": 2.0, "up": 5.0, "down": 1.0})
    green, orange = "#009e73", "#d55e00"
    colors = [to_hex(bar.get_facecolor()) for bar in ax.patches]
    assert colors[1:3] == [green, orange]
    assert not {colors[0], colors[3]} & {green, orange}


def test_waterfall_of_seeds_shows_their_range() -> None:
    ax = plotting.waterfall({"start": [1.0, 3.0], "down": torch.tensor([0.0, 2.0])})
    assert [text.get_text() for text in ax.texts] == ["2", "−1", "1"]
    ranges = [segment[:, 0].tolist() for segment in ax.collections[0].get_segments()]
    assert ranges == [[1, 3], [0, 2]]
    assert [text.xy[0] for text in ax.texts] == [3, 2, 1]


HALF = np.ones((2, 2))
REFUSED: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: plotting.loss_curves([]), ValueError, "runs: expected 1 or 2 dimensions"),
    (lambda: plotting.loss_curves({}), ValueError, "runs: expected a finite number"),
    (lambda: plotting.loss_curves([math.nan]), ValueError, "expected a finite number"),
    (lambda: plotting.loss_curves(["a"]), TypeError, "runs: expected numbers"),
    (lambda: plotting.loss_curves(run(), column="los"), KeyError, "no column 'los'"),
    (
        lambda: plotting.gradient_norm_by_layer([1.0]),
        TypeError,
        "norms: expected a dict by name, got list",
    ),
    (
        lambda: plotting.gradient_norm_by_layer({}),
        ValueError,
        "norms: expected a parameter that is no bias, got none",
    ),
    (
        lambda: plotting.gradient_norm_by_layer({"a.bias": 1.0}),
        ValueError,
        r"got a\.bias\. Give biases=True",
    ),
    (lambda: plotting.norm_heatmap(run(1)), ValueError, "at two steps or more, got 1"),
    (
        lambda: plotting.norm_heatmap(run(), "gradnorm"),
        ValueError,
        "expected columns gradnorm/<layer>, got step, loss",
    ),
    (lambda: plotting.norm_heatmap([1]), TypeError, "expected a History .* got list"),
    (
        lambda: plotting.update_ratio_strip(3),
        TypeError,
        "expected a History .* got int",
    ),
    (
        lambda: plotting.update_ratio_strip(run(layers=0)),
        ValueError,
        "expected columns update_ratio/<layer>",
    ),
    (
        lambda: plotting.health_strip(run(layers=0)),
        ValueError,
        "expected columns of activation_std, .* Record them with a GradientMonitor",
    ),
    (
        lambda: plotting.health_strip(run(), axes=[plt.gca()]),
        ValueError,
        "axes: expected four, got 1",
    ),
    (lambda: plotting.seed_band([1, 2], [[1, 2]]), ValueError, "two seeds or more"),
    (lambda: plotting.seed_band([1], HALF), ValueError, "ys: expected 1 points"),
    (
        lambda: plotting.seed_band([1, 2], HALF, band="sem"),
        ValueError,
        "band: expected one of range, std; got 'sem'",
    ),
    (
        lambda: plotting.theory_over_measurement([1, 2], [1], [1, 2]),
        ValueError,
        r"measured: expected 2 points, one for each x, got shape \(1, 1\)",
    ),
    (
        lambda: plotting.theory_over_measurement([1, 2], [1, 2], [1]),
        ValueError,
        "theory: expected 2 points",
    ),
    (
        lambda: plotting.phase_diagram([1, 2], [1, 2], np.ones((2, 3))),
        ValueError,
        r"growth: expected shape .* = \(2, 2\), got \(2, 3\)",
    ),
    (
        lambda: plotting.phase_diagram([2, 1], [1, 2], HALF),
        ValueError,
        "x: expected two or more rising numbers",
    ),
    (
        lambda: plotting.phase_diagram([1, 2], [1], HALF),
        ValueError,
        "y: expected two or more rising numbers",
    ),
    (
        lambda: plotting.phase_diagram([1, 2], [1, 2], HALF * math.nan),
        ValueError,
        "growth: expected a finite number, got none",
    ),
    (
        lambda: plotting.phase_diagram([1, 2], [1, 2], HALF, reach=0),
        ValueError,
        "reach: expected a finite number > 0",
    ),
    (
        lambda: plotting.float16_histogram([0.0]),
        ValueError,
        "values: expected finite numbers that are not all 0",
    ),
    (lambda: plotting.float16_histogram([math.inf]), ValueError, "1 not finite"),
    (lambda: plotting.float16_histogram([1.0], scale=0), ValueError, "scale: expected"),
    (
        lambda: plotting.confusion_matrix(np.ones((2, 3))),
        ValueError,
        r"counts: expected a square matrix .* got shape \(2, 3\)",
    ),
    (lambda: plotting.confusion_matrix([[-1]]), ValueError, "least -1"),
    (
        lambda: plotting.confusion_matrix(HALF, names="a"),
        ValueError,
        "names: expected 2",
    ),
    (lambda: plotting.waterfall([1.0]), TypeError, "levels: expected a dict by name"),
    (lambda: plotting.waterfall({"a": 1.0}), ValueError, "two or more finite numbers"),
    (lambda: plotting.waterfall({}), ValueError, "two or more finite numbers"),
    (
        lambda: plotting.waterfall({"a": 1.0, "b": math.nan}),
        ValueError,
        "two or more finite numbers",
    ),
]


@pytest.mark.parametrize(("call", "kind", "told"), REFUSED)
def test_refuses_with_a_reason(
    call: Callable[[], object], kind: type[Exception], told: str
) -> None:
    with pytest.raises(kind, match=told):
        call()

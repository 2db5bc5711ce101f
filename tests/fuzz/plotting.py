"""Figures."""

import torch
from hypothesis import strategies as st
from kinds import FLAG, INF, NAN, TEXT, Entry, Kind, choice, entry, positive, refused
from training_and_diagnosis import RUN, recorded

from gradlib import plotting
from gradlib.figures import SliderFigure
from gradlib.history import History

AX = Kind(st.none(), (7, "ax"))
NUMBERS = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=5)
ANY_NUMBERS = st.lists(st.floats(), min_size=1, max_size=5)
NO_NUMBERS = ([], ["a"], None, "ab", {}, [[1.0], [1.0, 2.0]])
LAYERS = st.dictionaries(
    st.sampled_from(["0.weight", "2.weight", "0.bias"]), st.floats(), min_size=1
).map(lambda norms: {"1.weight": 1.0, **norms})
NO_SOURCE = (7, None, [], History())


def shaped(columns: int, rows: int, values: list[float]) -> dict[str, object]:
    cells = [values[k % len(values)] for k in range(rows * columns)]
    grid = [cells[k * columns : (k + 1) * columns] for k in range(rows)]
    return {"x": list(range(columns)), "grid": grid, "rows": rows}


GRID = st.builds(shaped, st.integers(2, 4), st.integers(2, 3), NUMBERS)


def watched_run(steps: int, sizes: list[float]) -> History:
    names = ("gradient_norm/0.weight", "update_ratio/0.weight", "gradient_norm/0.bias")
    rows = [{name: sizes[k % len(sizes)] for name in names} for k in range(steps)]
    return recorded(rows)


WATCHED = st.builds(watched_run, st.integers(2, 4), ANY_NUMBERS)


def band(
    x: list[float], grid: list[list[float]], rows: int, **settings: object
) -> None:
    plotting.seed_band(x, grid, **settings)


def phase(
    x: list[float], grid: list[list[float]], rows: int, **settings: object
) -> None:
    plotting.phase_diagram(x, list(range(rows)), grid, **settings)


def points(
    x: list[float], grid: list[list[float]], rows: int, **settings: object
) -> None:
    plotting.theory_over_measurement(x, grid, **settings)


def curve(value: float, ax: object) -> None:
    ax.plot([value * k for k in range(3)])


TABLE: dict[str, Entry] = {
    "plotting.float16_histogram": entry(
        plotting.float16_histogram,
        values=Kind(
            st.lists(st.floats(1e-30, 1e30), min_size=1, max_size=5),
            (*NO_NUMBERS, [0.0], [NAN], [INF]),
        ),
        scale=positive(),
        xlabel=TEXT,
        ax=AX,
        slow=20,
    ),
    "plotting.waterfall": entry(
        plotting.waterfall,
        levels=Kind(
            NUMBERS.map(lambda values: {f"step {k}": v for k, v in enumerate(values)}),
            ([], 7, None, {}, {"a": 1.0}, {"a": 1.0, "b": NAN}, {"a": "b", "c": "d"}),
        ),
        ax=AX,
    ),
    "plotting.loss_curves": entry(
        plotting.loss_curves,
        runs=Kind(
            NUMBERS | RUN.filter(lambda run: any(x * 0 == 0 for x in run["loss"])),
            (*NO_NUMBERS, [NAN], {"a": []}, 7),
        ),
        log=FLAG,
        ax=AX,
    ),
    "plotting.seed_band": entry(
        band,
        joint=GRID,
        band=choice("range", "std"),
        label=Kind(st.sampled_from(["", "He"])),
        ax=AX,
        x=refused(*NO_NUMBERS[:5], [1.0] * 9),
        grid=refused(*NO_NUMBERS, [[1.0, 2.0]]),
        named={"grid": "ys", "x": "x|ys"},
    ),
    "plotting.theory_over_measurement": entry(
        points,
        joint=GRID,
        theory=Kind(
            st.sampled_from([lambda x: x**2, abs]), ([1.0] * 9, "ab", lambda x: "a", 7)
        ),
        log=FLAG,
        ax=AX,
        x=refused(*NO_NUMBERS[:5], [1.0] * 9),
        grid=refused(*NO_NUMBERS),
        named={"grid": "measured", "x": "x|measured"},
    ),
    "plotting.health_strip": entry(
        plotting.health_strip,
        source=Kind(WATCHED, NO_SOURCE),
        biases=FLAG,
        axes=Kind(st.none(), (7, "axes", [], [7] * 4)),
        named={"axes": "ax(es)?"},
    ),
    "plotting.update_ratio_strip": entry(
        plotting.update_ratio_strip, source=Kind(WATCHED, NO_SOURCE), biases=FLAG, ax=AX
    ),
    "plotting.gradient_norm_by_layer": entry(
        plotting.gradient_norm_by_layer,
        norms=Kind(
            LAYERS | LAYERS.map(lambda norms: {"a run": norms}),
            ([], 7, None, {}, {"0.weight": "a"}, {"a": {}}, {"a": {"b": 1.0}, "c": 1}),
        ),
        biases=FLAG,
        ax=AX,
    ),
    "plotting.norm_heatmap": entry(
        plotting.norm_heatmap,
        source=Kind(WATCHED, NO_SOURCE),
        quantity=Kind(st.just("gradient_norm"), ("no such quantity",)),
        biases=FLAG,
        limits=Kind(st.sampled_from([None, (-3.0, 3.0)]), (7, (1.0,), ("a", "b"))),
        ax=AX,
        named={"quantity": "no such quantity"},
    ),
    "plotting.confusion_matrix": entry(
        plotting.confusion_matrix,
        counts=Kind(
            st.builds(
                lambda n, count: torch.full((n, n), count).tolist(),
                st.integers(1, 4),
                st.integers(0, 99),
            ),
            (*NO_NUMBERS, [[1.0, 2.0]], [[-1.0]], [[NAN]]),
        ),
        names=Kind(st.none(), (["a"] * 9, 7)),
        ax=AX,
    ),
    "plotting.phase_diagram": entry(
        phase,
        joint=GRID,
        boundary=Kind(st.floats(-10, 10)),
        reach=positive().or_none(),
        ax=AX,
        x=refused(*NO_NUMBERS[:5], [1.0] * 9, [2.0, 1.0], [1.0, NAN]),
        grid=refused(*NO_NUMBERS, [[NAN] * 2] * 2, [[1.0] * 9] * 2),
        named={"grid": "growth|y", "x": "x|growth"},
    ),
    "plotting.use_style": entry(plotting.use_style, changes=("style",)),
    "figures.SliderFigure": entry(
        SliderFigure,
        draw=Kind(st.just(curve), (7, None, "draw")),
        values=Kind(
            st.lists(st.floats(0.5, 9), min_size=2, max_size=3, unique=True),
            ([], [1.0], 7, None),
        ),
        label=Kind(st.just("factor"), ("", " ", 7, None)),
        alt=Kind(st.just("A line."), ("", " ", 7, None)),
        unit=Kind(st.sampled_from(["", "dB"])),
        start=Kind(st.none(), (77, "x")),
        text=Kind(st.none(), (7, lambda value: "")),
        slow=40,
    ),
}

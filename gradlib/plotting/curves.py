"""Curves over steps, settings and seeds."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from gradlib.checks import check_choice
from gradlib.history import History
from gradlib.plotting.style import INK, PALETTE, Array, as_array, axes_or_new

Run = History | Sequence[float] | Array
Runs = Run | Sequence[History]


def loss_curves(
    runs: Runs | Mapping[str, Runs],
    *,
    column: str = "loss",
    ylabel: str = "loss (nats)",
    log: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw the loss of runs against the step, one color a setting.

    Seeds of one setting are thin lines of its color. A cross marks the last finite
    loss of a run that diverged.

    Args:
        runs: A run, or several seeds of it; or these by label. A run is a History or
            losses, shape (steps,); seeds are a list of histories or losses, shape
            (seeds, steps).
        column: Column of the histories.
        ylabel: What the numbers are, with their unit.
        log: Whether the vertical axis is logarithmic.
        ax: Where to draw; by default a new figure.

    Returns:
        The Axes.

    Raises:
        TypeError: a run holds no numbers.
        ValueError: there is no run, or no finite number in any.

    Example:
        >>> ax = loss_curves({"lr 0.1": [2.3, 1.1, 0.6], "lr 9": [2.3, 80.0, 1e9]})
        >>> [text.get_text() for text in ax.get_legend().get_texts()]
        ['lr 0.1', 'lr 9']
    """
    named = runs if isinstance(runs, Mapping) else {"": runs}
    curves = {label: _curves(run, column) for label, run in named.items()}
    if not any(np.isfinite(y).any() for group in curves.values() for _, y, _ in group):
        raise ValueError(
            f"runs: expected a finite number in {column!r}, got none in "
            f"{len(curves)} settings"
        )
    ax = axes_or_new(ax)
    for k, (label, group) in enumerate(curves.items()):
        color = PALETTE[k % len(PALETTE)]
        width = 2.0 if len(group) == 1 else 1.0
        name = _seeds(label, len(group))
        for seed, (x, y, diverged) in enumerate(group):
            shown = np.isfinite(y)
            told = name if seed == 0 else ""
            ax.plot(x[shown], y[shown], color=color, linewidth=width, label=told)
            if diverged and shown.any():
                last = np.flatnonzero(shown)[-1]
                ax.plot(x[last], y[last], "X", color=color, markersize=9)
    if log:
        ax.set_yscale("log")
    ax.set(xlabel="step", ylabel=ylabel)
    if any(curves):
        ax.legend()
    return ax


def seed_band(
    x: Any,
    ys: Any,
    *,
    band: str = "range",
    label: str = "",
    color: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a line through seeds with a band around it.

    Args:
        x: Settings or steps, shape (points,).
        ys: Measurements, shape (seeds, points).
        band: ``"range"`` for the median between the least and the largest seed,
            ``"std"`` for the mean plus and minus one standard deviation.
        label: Name in the legend; "(n seeds)" is added.
        color: By default the next one of the style.
        ax: Where to draw; by default a new figure.

    Returns:
        The Axes.

    Raises:
        TypeError: ``x`` or ``ys`` holds no numbers.
        ValueError: the shapes do not fit, there is one seed only, or the band is
            unknown.

    Example:
        >>> ax = seed_band([1, 2], [[1, 2], [3, 5], [2, 4]], label="He")
        >>> ax.lines[0].get_ydata().tolist()
        [2.0, 4.0]
        >>> ax.get_legend().get_texts()[0].get_text()
        'He (3 seeds)'
    """
    check_choice(band, "band", ["range", "std"])
    x, ys = as_array(x, "x"), as_array(ys, "ys", [2])
    _check_width(x, ys, "ys")
    if len(ys) < 2:
        raise ValueError("ys: expected two seeds or more, got shape (1, points)")
    if band == "range":
        middle, low, high = np.median(ys, axis=0), ys.min(axis=0), ys.max(axis=0)
    else:
        middle, spread = ys.mean(axis=0), ys.std(axis=0, ddof=1)
        low, high = middle - spread, middle + spread
    ax = axes_or_new(ax)
    (line,) = ax.plot(x, middle, color=color, label=_seeds(label, len(ys)))
    ax.fill_between(x, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    if label:
        ax.legend()
    return ax


def theory_over_measurement(
    x: Any,
    measured: Any,
    theory: Callable[[float], float] | Any,
    *,
    label: str = "measured",
    theory_label: str = "theory",
    xlabel: str = "",
    ylabel: str = "",
    log: bool = False,
    color: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a formula as a dashed line over measured points.

    Seeds give the median, with a bar from the least to the largest.

    Args:
        x: Settings, shape (points,).
        measured: Shape (points,) or (seeds, points).
        theory: Numbers at ``x``; or a function of one setting, drawn as a smooth
            curve.
        label: Name of the points.
        theory_label: Name of the line.
        xlabel: What ``x`` is, with its unit.
        ylabel: What was measured, with its unit.
        log: Whether the vertical axis is logarithmic.
        color: Of the points; by default the next one of the style.
        ax: Where to draw; by default a new figure.

    Returns:
        The Axes.

    Raises:
        TypeError: an argument holds no numbers.
        ValueError: the shapes do not fit.

    Example:
        >>> ax = theory_over_measurement([1, 2, 3], [1.1, 3.9, 9.0], lambda x: x**2)
        >>> round(float(ax.lines[-1].get_ydata()[-1]), 6)
        9.0
    """
    x, points = as_array(x, "x"), np.atleast_2d(as_array(measured, "measured", [1, 2]))
    _check_width(x, points, "measured")
    at = np.linspace(x.min(), x.max(), 101) if callable(theory) else x
    curve = as_array([theory(v) for v in at] if callable(theory) else theory, "theory")
    _check_width(at, curve, "theory")
    ax = axes_or_new(ax)
    middle = np.median(points, axis=0)
    errors = np.stack([middle - points.min(axis=0), points.max(axis=0) - middle])
    ax.errorbar(
        x,
        middle,
        yerr=errors if len(points) > 1 else None,
        fmt="o",
        color=color,
        capsize=3,
        label=_seeds(label, len(points)),
    )
    ax.plot(at, curve, "--", color=INK, label=theory_label, zorder=3)
    if log:
        ax.set_yscale("log")
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend()
    return ax


def _curves(runs: Runs, column: str) -> list[tuple[Array, Array, bool]]:
    """Steps, values and whether it diverged, for each seed."""
    if isinstance(runs, History):
        steps, values = runs.recorded(column)
        y = np.asarray(values, dtype=np.float64)
        diverged = runs.diverged_at is not None or not np.isfinite(y[-1])
        return [(np.asarray(steps, dtype=np.float64), y, bool(diverged))]
    if isinstance(runs, list | tuple) and any(isinstance(r, History) for r in runs):
        return [curve for run in runs for curve in _curves(run, column)]
    rows = np.atleast_2d(as_array(runs, "runs", [1, 2]))
    steps_of_all = np.arange(rows.shape[1], dtype=np.float64)
    return [(steps_of_all, y, not np.isfinite(y[-1])) for y in rows]


def _seeds(label: str, number: int) -> str:
    return f"{label} ({number} seeds)" if label and number > 1 else label


def _check_width(x: Array, ys: Array, name: str) -> None:
    if ys.shape[-1] != len(x):
        raise ValueError(
            f"{name}: expected {len(x)} points, one for each x, got shape {ys.shape}"
        )

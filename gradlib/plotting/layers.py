"""Norms of every layer of a model, at one step or over a run."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from gradlib.history import History
from gradlib.plotting.style import MUTED, PALETTE, as_array, axes_or_new

Norms = Mapping[str, float]


def gradient_norm_by_layer(
    norms: Norms | Mapping[str, Norms],
    *,
    biases: bool = False,
    ylabel: str = "gradient norm",
    ax: Axes | None = None,
) -> Axes:
    """Draw a norm for each layer, from the input to the output.

    A triangle at the lower edge marks an exact zero, a cross at the upper edge a
    number that is not finite.

    Args:
        norms: Norm by parameter, as `gradlib.gradient_norms` gives them; or several
            such by label.
        biases: Whether to draw parameters whose name ends in "bias".
        ylabel: What the numbers are, with their unit.
        ax: Where to draw; by default a new figure.

    Returns:
        The Axes.

    Raises:
        TypeError: the norms are no numbers by name.
        ValueError: nothing is left to draw.

    Example:
        >>> ax = gradient_norm_by_layer({"0.weight": 1e-3, "2.weight": 0.1})
        >>> ax.lines[0].get_xdata().tolist()
        [1, 2]
    """
    if not isinstance(norms, Mapping):
        raise TypeError(f"norms: expected a dict by name, got {type(norms).__name__}")
    several = any(isinstance(value, Mapping) for value in norms.values())
    groups: Mapping[str, Any] = norms if several else {"": norms}
    if not all(isinstance(group, Mapping) for group in groups.values()):
        raise TypeError("norms: expected a dict by name for each label, got a number")
    ax = axes_or_new(ax)
    ax.set_yscale("log")
    for k, (label, group) in enumerate(groups.items()):
        kept = [group[name] for name in _without_biases(group, biases, "norms")]
        y = as_array(kept, "norms")
        x = np.arange(1, len(y) + 1)
        color = PALETTE[k % len(PALETTE)]
        shown = np.where(np.isfinite(y) & (y > 0), y, np.nan)
        ax.plot(x, shown, "o-", color=color, markersize=4, label=label)
        edge: dict[str, Any] = {"color": color, "linestyle": "none", "clip_on": False}
        across = ax.get_xaxis_transform()
        ax.plot(x[y == 0], y[y == 0], "v", transform=across, **edge)
        bad = x[~np.isfinite(y)]
        ax.plot(bad, np.ones_like(bad), "X", transform=across, **edge)
    ax.set(xlabel="layer, from input to output", ylabel=ylabel)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if several:
        ax.legend()
    return ax


def norm_heatmap(
    source: Any,
    quantity: str = "gradient_norm",
    *,
    biases: bool = False,
    limits: tuple[float, float] | None = None,
    label: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a quantity of every layer at every step as color.

    Zeros and numbers that are not finite are gray.

    Args:
        source: History or monitor that recorded the quantity for two steps or more.
        quantity: Columns ``quantity/<layer>`` are drawn.
        biases: Whether to draw parameters whose name ends in "bias".
        limits: Exponents of ten where colors end, to compare runs; by default those
            of the data.
        label: Of the color bar; by default log10 of the quantity.
        ax: Where to draw; by default a new figure.

    Returns:
        The Axes.

    Raises:
        TypeError: ``source`` has no history.
        ValueError: the quantity was not recorded, or at one step only.

    Example:
        >>> history = History()
        >>> for step in range(3):
        ...     history.append(step, **{"gradient_norm/0.weight": 10.0**step})
        >>> norm_heatmap(history).get_xlabel()
        'step'
    """
    history = history_of(source)
    names = layers_of(history, quantity, biases)
    steps = history.recorded(f"{quantity}/{names[0]}")[0]
    if len(steps) < 2:
        raise ValueError(
            f"source: expected {quantity} at two steps or more, got {len(steps)}"
        )
    at = [history["step"].index(step) for step in steps]
    rows = np.array([history[f"{quantity}/{name}"] for name in names])[:, at]
    good = np.isfinite(rows) & (rows > 0)
    colors = np.full(rows.shape, np.nan)
    colors[good] = np.log10(rows[good])
    ax = axes_or_new(ax)
    ax.grid(False)
    ax.set_facecolor(MUTED)
    mesh = ax.pcolormesh(
        steps,
        np.arange(1, len(names) + 1),
        np.ma.masked_invalid(colors),
        shading="nearest",
        rasterized=True,
    )
    if limits is not None:
        if len(as_array(limits, "limits")) != 2:
            raise ValueError(f"limits: expected two exponents of ten, got {limits}")
        mesh.set_clim(*limits)
    told = quantity.replace("_", " ")
    ax.figure.colorbar(mesh, ax=ax, label=label or rf"$\log_{{10}}$ {told}")
    ax.set(xlabel="step", ylabel="layer, from the input")
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    return ax


def history_of(source: Any) -> History:
    """The history itself, or that of a monitor."""
    history = getattr(source, "history", source)
    if not isinstance(history, History):
        raise TypeError(
            "source: expected a History or something with a history, such as a "
            f"GradientMonitor, got {type(source).__name__}"
        )
    return history


def layers_of(history: History, quantity: str, biases: bool) -> list[str]:
    """Names of the layers for which a quantity was recorded, in their order."""
    layers = history.layers(quantity)
    if not layers:
        raise ValueError(
            f"source: expected columns {quantity}/<layer>, got "
            f"{', '.join(history.columns)}. Record them with a GradientMonitor."
        )
    return _without_biases(layers, biases, quantity)


def _without_biases(names: Mapping[str, Any], biases: bool, what: str) -> list[str]:
    kept = [name for name in names if biases or not name.endswith("bias")]
    if not kept:
        raise ValueError(
            f"{what}: expected a parameter that is no bias, got "
            f"{', '.join(names) or 'none'}. Give biases=True to draw biases."
        )
    return kept

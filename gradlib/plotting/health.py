"""The health of a run: a fixed strip of panels, the same after each cure."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from gradlib.checks import check_list
from gradlib.history import History
from gradlib.plotting.layers import history_of, layers_of
from gradlib.plotting.style import DEPTH, INK, Array, axes_or_new

PANELS = {
    "activation_std": "activations: std",
    "gradient_norm": "gradients: norm",
    "parameter_norm": "weights: norm",
    "update_ratio": r"$\log_{10}$ update / weight",
}
HEALTHY_RATIO = -3.0


def update_ratio_strip(
    source: Any, *, biases: bool = False, ax: Axes | None = None
) -> Axes:
    """Draw log10 of update to weight for each layer, with a line at -3.

    Far above the line a layer changes too much in a step, far below it hardly
    learns.

    Args:
        source: History or monitor with ``update_ratio/<parameter>``.
        biases: Whether to draw parameters whose name ends in "bias".
        ax: Where to draw; by default a new figure.

    Returns:
        The Axes.

    Raises:
        TypeError: ``source`` has no history.
        ValueError: no update ratio was recorded.

    Example:
        >>> history = History()
        >>> history.append(0, **{"update_ratio/0.weight": 1e-2})
        >>> history.append(1, **{"update_ratio/0.weight": 1e-4})
        >>> update_ratio_strip(history).lines[0].get_ydata().tolist()
        [-2.0, -4.0]

    References:
        Karpathy 2022, https://github.com/karpathy/nn-zero-to-hero
    """
    history = history_of(source)
    names = layers_of(history, "update_ratio", biases)
    ax = axes_or_new(ax)
    _lines(ax, history, "update_ratio", names)
    ax.set(xlabel="step", ylabel=r"$\log_{10}$ of update / weight")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return ax


def health_strip(
    source: Any, *, biases: bool = False, axes: Sequence[Axes] | None = None
) -> NDArray[np.object_]:
    """Draw the same four panels for every run: its state of health.

    Activations, gradients, weights and log10 of update to weight, each layer a line
    against the step, from blue (first layer) to orange (last layer). A panel says so
    if the run did not record it.

    Args:
        source: History or `gradlib.GradientMonitor` of the run.
        biases: Whether to draw parameters whose name ends in "bias".
        axes: Four Axes; by default those of a new figure.

    Returns:
        Array of the four Axes.

    Raises:
        TypeError: ``source`` has no history.
        ValueError: none of the four was recorded, or ``axes`` are not four.

    Example:
        >>> history = History()
        >>> for step in range(3):
        ...     history.append(step, **{"gradient_norm/0.weight": 0.1 * (step + 1)})
        >>> [ax.get_title(loc="left") for ax in health_strip(history)][:2]
        ['activations: std', 'gradients: norm']

    References:
        Karpathy 2022, https://github.com/karpathy/nn-zero-to-hero
    """
    history = history_of(source)
    if not any(history.layers(quantity) for quantity in PANELS):
        raise ValueError(
            f"source: expected columns of {', '.join(PANELS)}, got "
            f"{', '.join(history.columns)}. Record them with a GradientMonitor."
        )
    if axes is None:
        axes = plt.subplots(2, 2, figsize=(6.0, 5.2), sharex=True)[1].flat
    listed = [axes_or_new(ax) for ax in check_list(axes, "axes")]
    panels = np.array(listed, dtype=object)
    if len(panels) != len(PANELS):
        raise ValueError(f"axes: expected four, got {len(panels)}")
    for ax, (quantity, title) in zip(panels, PANELS.items(), strict=True):
        ax.set_title(title, loc="left")
        if history.layers(quantity):
            _lines(ax, history, quantity, layers_of(history, quantity, biases))
        else:
            ax.text(0.5, 0.5, "not recorded", ha="center", transform=ax.transAxes)
    for ax in panels[2:]:
        ax.set_xlabel("step")
    named = next(ax for ax in reversed(panels) if ax.lines)
    panels[0].figure.legend(
        *named.get_legend_handles_labels(), loc="outside upper left", ncols=3
    )
    return panels


def _lines(ax: Axes, history: History, quantity: str, names: list[str]) -> None:
    """A line for each layer; the update ratio as log10, with the healthy line."""
    ratio = quantity == "update_ratio"
    colors = DEPTH(np.linspace(0, 1, len(names)))
    drawn = []
    for k, (name, color) in enumerate(zip(names, colors, strict=True)):
        steps, values = history.recorded(f"{quantity}/{name}")
        y = np.array(values)
        y[~(np.isfinite(y) & (y > 0))] = np.nan
        drawn.append(y)
        label = {0: "first layer", len(names) - 1: "last layer"}.get(k, "")
        ax.plot(steps, np.log10(y) if ratio else y, color=color, lw=1.5, label=label)
    if ratio:
        ax.axhline(HEALTHY_RATIO, color=INK, ls="--", lw=1.5, label=r"$-3$: healthy")
    else:
        ax.set_yscale("log")
        ax.yaxis.set_minor_formatter(NullFormatter())
        _whole_decades(ax, np.concatenate(drawn))


def _whole_decades(ax: Axes, values: Array) -> None:
    """Limits at powers of ten, so that a label stands at each end."""
    exponents = np.log10(values[np.isfinite(values)]).clip(-300, 300)
    if exponents.size:
        low, high = np.floor(exponents.min()), np.ceil(exponents.max())
        ax.set_ylim(10.0**low, 10.0 ** max(high, low + 1))

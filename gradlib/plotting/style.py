"""Colors, sizes and fonts of every figure in the book."""

import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.scale import register_scale
from numpy.typing import NDArray

from gradlib.plotting.log_scale import PlainLogScale

Array = NDArray[np.float64]

INK = "#1b1f24"
PAPER = "#ffffff"
MUTED = "#7d8590"
# Okabe and Ito: blue, vermillion, green, purple, sky blue, orange.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
# Marks on colored cells: a figure that turns dark keeps these as they are.
DARK_MARK, LIGHT_MARK = "#111111", "#fdfdfd"
# From the first layer to the last; readable on white and on black.
DEPTH = LinearSegmentedColormap.from_list("depth", [PALETTE[0], "#a05fa8", PALETTE[1]])

STYLE: dict[Any, Any] = {
    "figure.figsize": (6.0, 3.7),
    "figure.dpi": 100,
    "figure.facecolor": PAPER,
    "figure.constrained_layout.use": True,
    "savefig.facecolor": PAPER,
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.labelsize": 12,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "legend.fontsize": 11,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.facecolor": PAPER,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.which": "major",
    "grid.color": MUTED,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.8,
    "axes.prop_cycle": cycler(color=PALETTE),
    "lines.linewidth": 2.0,
    "lines.markersize": 6.0,
    "legend.frameon": True,
    "legend.framealpha": 0.8,
    "legend.edgecolor": "none",
    "image.cmap": "viridis",
    "image.interpolation": "nearest",
    "svg.fonttype": "path",
    "svg.hashsalt": "gradlib",
}


def use_style() -> None:
    """Give all later figures the book's look.

    Sets matplotlib's defaults: six colors that color-blind readers can tell apart,
    a white card that stays readable on a dark page, text that stays readable on a
    phone. Log axes are labelled in plain text. In a notebook, figures stand below
    their cell, as SVG with the same bytes at every run.

    Example:
        >>> use_style()
        >>> plt.rcParams["font.size"]
        12.0

    References:
        Okabe and Ito 2008, https://jfly.uni-koeln.de/color/
    """
    matplotlib.rcParams.update(STYLE)
    register_scale(PlainLogScale)
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is not None and hasattr(shell, "kernel"):
        shell.run_line_magic("matplotlib", "inline")
        inline = import_module("matplotlib_inline.backend_inline")
        inline.set_matplotlib_formats("svg", metadata={"Date": None})


def axes_or_new(ax: Axes | None) -> Axes:
    """``ax`` itself, or the axes of a new figure.

    Raises:
        TypeError: ``ax`` is neither None nor Axes.
    """
    if ax is None:
        return plt.subplots()[1]
    if not isinstance(ax, Axes):
        raise TypeError(
            f"ax: expected matplotlib Axes or None, got {type(ax).__name__}. "
            "Take one of an array of axes by its index."
        )
    return ax


def as_array(values: Any, name: str, dimensions: Iterable[int] = (1,)) -> Array:
    """Numbers, nested lists or tensors as a float array.

    Raises:
        TypeError: the values are no numbers.
        ValueError: there are none, or their shape is not one of ``dimensions``.
    """
    try:
        array = np.asarray(_plain(values), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name}: expected numbers in rows of equal length, "
            f"got {type(values).__name__} ({error})"
        ) from error
    allowed = list(dimensions)
    if array.ndim not in allowed or array.size == 0:
        raise ValueError(
            f"{name}: expected {' or '.join(map(str, allowed))} dimensions "
            f"and at least one number, got shape {array.shape}"
        )
    return array


def _plain(values: Any) -> Any:
    if isinstance(values, list | tuple):
        return [_plain(value) for value in values]
    return values.detach().cpu().double() if hasattr(values, "detach") else values

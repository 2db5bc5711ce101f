"""Grids of numbers shown as color."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from gradlib.checks import check_list, check_positive
from gradlib.plotting.style import DARK_MARK, LIGHT_MARK, MUTED, as_array, axes_or_new

# From vanishing (blue) over stable (white) to exploding (red).
GROWTH = LinearSegmentedColormap.from_list("growth", ["#3b76b0", "#f7f7f7", "#c8553d"])


def phase_diagram(
    x: Any,
    y: Any,
    growth: Any,
    *,
    boundary: float = 0.0,
    xlabel: str = "",
    ylabel: str = "",
    label: str = "log growth per layer",
    sides: tuple[str, str] | None = ("vanishes", "explodes"),
    reach: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a growth rate over two settings, and the line where it is critical.

    Blue cells are below the boundary, red ones above. Cells without a finite number
    are gray.

    Args:
        x: Settings along the horizontal axis, rising, shape (columns,).
        y: Settings along the vertical axis, rising, shape (rows,).
        growth: Shape (rows, columns), such as log chi.
        boundary: Where growth is critical.
        xlabel: What ``x`` is, with its unit.
        ylabel: What ``y`` is, with its unit.
        label: Of the color bar.
        sides: Written below and above the boundary; None for no text.
        reach: Distance from the boundary where colors end, to compare diagrams; by
            default the largest in the data.
        ax: Where to draw; by default a new figure.

    Returns:
        The Axes.

    Raises:
        TypeError: an argument holds no numbers.
        ValueError: the shapes do not fit, an axis is shorter than two or does not
            rise, or no growth is finite.

    Example:
        >>> ax = phase_diagram([0, 1, 2], [0, 1], [[-1, 0, 1], [-2, 0, 2]])
        >>> sorted(text.get_text() for text in ax.texts)
        ['explodes', 'vanishes']
    """
    x, y = as_array(x, "x"), as_array(y, "y")
    grid = as_array(growth, "growth", [2])
    for name, side in (("x", x), ("y", y)):
        if len(side) < 2 or not (np.diff(side) > 0).all():
            raise ValueError(f"{name}: expected two or more rising numbers, got {side}")
    if grid.shape != (len(y), len(x)):
        raise ValueError(
            f"growth: expected shape (len(y), len(x)) = {(len(y), len(x))}, "
            f"got {grid.shape}"
        )
    finite = np.isfinite(grid)
    if not finite.any():
        raise ValueError("growth: expected a finite number, got none")
    grid = np.ma.masked_where(~finite, grid)
    if reach is None:
        reach = float(np.abs(grid - boundary).max()) or 1.0
    check_positive(reach, "reach")
    ax = axes_or_new(ax)
    ax.grid(False)
    ax.set_facecolor(MUTED)
    mesh = ax.pcolormesh(
        x,
        y,
        grid,
        cmap=GROWTH,
        vmin=boundary - reach,
        vmax=boundary + reach,
        shading="nearest",
        rasterized=True,
    )
    ax.figure.colorbar(mesh, ax=ax, label=label)
    below, above = (grid < boundary).filled(False), (grid > boundary).filled(False)
    if below.any() and above.any():
        ax.contour(x, y, grid, levels=[boundary], colors=DARK_MARK, linewidths=2)
    for text, cells in zip(sides or (), (below, above), strict=False):
        if cells.any():
            _write_inside(ax, text, x, y, cells)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    return ax


def confusion_matrix(
    counts: Any, *, names: Sequence[object] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw how often each class was taken for each other.

    The color is the share of the true class, the text is the count.

    Args:
        counts: Shape (classes, classes); rows are true, columns are predicted.
        names: Of the classes; by default 0, 1, ...
        ax: Where to draw; by default a new figure.

    Returns:
        The Axes.

    Raises:
        TypeError: ``counts`` holds no numbers.
        ValueError: the matrix is not square, a count is negative or not finite, or
            the names are not one for each class.

    Example:
        >>> ax = confusion_matrix([[9, 1], [0, 10]], names=["cat", "dog"])
        >>> [text.get_text() for text in ax.texts]
        ['9', '1', '10']
    """
    counts = as_array(counts, "counts", [2])
    size = len(counts)
    allowed = (counts >= 0) & np.isfinite(counts)
    if counts.shape != (size, size) or not allowed.all():
        raise ValueError(
            "counts: expected a square matrix of numbers >= 0, "
            f"got shape {counts.shape}, least {counts.min()}, largest {counts.max()}"
        )
    names = check_list(range(size) if names is None else names, "names")
    if len(names) != size:
        raise ValueError(f"names: expected {size}, one a class, got {len(names)}")
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ax = axes_or_new(ax)
    ax.grid(False)
    ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(counts), strict=True):
        color = LIGHT_MARK if share[row, column] > 0.5 else DARK_MARK
        told = f"{counts[row, column]:g}"
        ax.text(column, row, told, ha="center", va="center", color=color)
    ax.set_xticks(range(size), labels=[str(name) for name in names])
    ax.set_yticks(range(size), labels=[str(name) for name in names])
    ax.set(xlabel="predicted class", ylabel="true class")
    return ax


def _write_inside(ax: Axes, text: str, x: Any, y: Any, cells: Any) -> None:
    """Write at the cell that is nearest to the middle of the given cells."""
    places = np.argwhere(cells)
    middle = places.mean(axis=0)
    row, column = places[np.square(places - middle).sum(axis=1).argmin()]
    ax.text(
        x[column],
        y[row],
        text,
        ha="center",
        va="center",
        color=DARK_MARK,
        bbox={"facecolor": LIGHT_MARK, "alpha": 0.7, "linewidth": 0},
    )

"""Bars: a histogram against the range of float16, and a chain of changes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from gradlib.checks import check_positive
from gradlib.plotting.style import INK, MUTED, PALETTE, as_array, axes_or_new

# Smallest subnormal, smallest normal and largest number of float16, as exponents.
SUBNORMAL, NORMAL, LARGEST = -24, -14, 16
OVERFLOW = 65520.0


def float16_histogram(
    values: Any, *, scale: float = 1.0, xlabel: str = "", ax: Axes | None = None
) -> Axes:
    """Draw magnitudes against what float16 can hold.

    Rounded to float16, magnitudes up to 2^-25 become 0 and those from 65520 on
    become infinite; below 2^-14 numbers lose digits. The legend has the shares.

    Args:
        values: Numbers of any shape, such as all gradients; zeros are left out.
        scale: Factor on the values, as in loss scaling; > 0.
        xlabel: What the values are, with their unit.
        ax: Where to draw; by default a new figure.

    Returns:
        The Axes.

    Raises:
        TypeError: there are no numbers.
        ValueError: all values are zero, some are not finite, or the scale is not
            positive.

    Example:
        >>> ax = float16_histogram([1e-9, 1e-3, 1.0, 1e9])
        >>> [text.get_text() for text in ax.get_legend().get_texts()]
        ['becomes 0: 25.0%', 'loses digits: 0.0%', 'fits: 50.0%', 'becomes inf: 25.0%']

    References:
        Micikevicius et al. 2018, https://arxiv.org/abs/1710.03740
    """
    check_positive(scale, "scale")
    sizes = np.abs(as_array(values, "values", range(9))).ravel() * scale
    sizes = sizes[sizes != 0]
    if sizes.size == 0 or not np.isfinite(sizes).all():
        raise ValueError(
            f"values: expected finite numbers that are not all 0, got {sizes.size} "
            f"other than 0, of which {(~np.isfinite(sizes)).sum()} not finite"
        )
    zero = sizes <= 2.0 ** (SUBNORMAL - 1)
    infinite = sizes >= OVERFLOW
    coarse = ~zero & (sizes < 2.0**NORMAL)
    groups = {
        "becomes 0": (zero, PALETTE[1]),
        "loses digits": (coarse, PALETTE[5]),
        "fits": (~zero & ~coarse & ~infinite, PALETTE[0]),
        "becomes inf": (infinite, PALETTE[3]),
    }
    exponents = np.log2(sizes)
    low = min(np.floor(exponents.min()), SUBNORMAL - 2)
    high = max(np.ceil(exponents.max()), LARGEST + 2)
    parts = [inside for inside, _ in groups.values()]
    ax = axes_or_new(ax)
    ax.hist(
        [exponents[inside] for inside in parts],
        bins=np.arange(low, high + 1).tolist(),
        stacked=True,
        weights=[np.full(inside.sum(), 1 / sizes.size) for inside in parts],
        color=[color for _, color in groups.values()],
        label=[f"{told}: {inside.mean():.1%}" for told, (inside, _) in groups.items()],
    )
    for edge in (SUBNORMAL, NORMAL, LARGEST):
        ax.axvline(edge, color=INK, linestyle=":", linewidth=1.5)
    ax.set(xlabel=xlabel or r"$\log_2$ of magnitude", ylabel="share of values")
    ax.legend()
    return ax


def waterfall(
    levels: Mapping[str, Any], *, xlabel: str = "", ax: Axes | None = None
) -> Axes:
    """Draw how each change in a chain moved a number.

    The first and the last level are whole bars; each change between is a bar from
    the level before to its own, green if it rose and orange if it fell. Of several
    numbers a level, such as one for each seed, the mean is drawn, with a line from
    the least to the largest.

    Args:
        levels: The number after each change, or equally many numbers each, in
            order, by name; the first is the start.
        xlabel: What the number is, with its unit.
        ax: Where to draw; by default a new figure.

    Returns:
        The Axes.

    Raises:
        TypeError: the levels are no numbers by name.
        ValueError: there are fewer than two, or one is not finite.

    Example:
        >>> ax = waterfall({"broken": 0.1, "He init": 0.6, "lower rate": 0.9})
        >>> [text.get_text() for text in ax.texts]
        ['0.1', '+0.5', '+0.3', '0.9']
    """
    if not isinstance(levels, Mapping):
        raise TypeError(f"levels: expected a dict by name, got {type(levels).__name__}")
    runs = as_array(list(levels.values()) or [np.nan], "levels", (1, 2))
    if len(runs) < 2 or not np.isfinite(runs).all():
        raise ValueError(f"levels: expected two or more finite numbers, got {levels}")
    runs = runs.reshape(len(runs), -1)
    numbers, low, high = runs.mean(1), runs.min(1), runs.max(1)
    changes = np.diff(numbers)
    names = [*levels, "result"]
    starts = [0.0, *numbers[:-1], 0.0]
    widths = [numbers[0], *changes, numbers[-1]]
    rises = [PALETTE[2] if change >= 0 else PALETTE[1] for change in changes]
    told = [f"{numbers[0]:.3g}", *(f"{c:+.3g}" for c in changes), f"{numbers[-1]:.3g}"]
    told = [text.replace("-", "\N{MINUS SIGN}") for text in told]
    ax = axes_or_new(ax)
    rows = np.arange(len(names))
    ax.barh(rows, widths, left=starts, color=[MUTED, *rises, MUTED])
    ax.hlines(rows[:-1], low, high, color=INK, linewidth=1.5)
    ends = np.maximum([*high, 0.0], np.add(starts, np.maximum(widths, 0.0)))
    for row, end, text in zip(rows, ends, told, strict=True):
        ax.annotate(text, (end, row), (4, 0), textcoords="offset points", va="center")
    ax.set_yticks(rows, labels=names)
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    ax.margins(x=0.12)
    ax.set_xlabel(xlabel)
    return ax

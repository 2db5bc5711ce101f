"""Logarithmic axes with labels in plain text: 10⁻³ instead of a formula."""

import re
from typing import Any

from matplotlib.scale import LogScale
from matplotlib.ticker import LogFormatterSciNotation

FORMULA = re.compile(r"\$\\mathdefault\{([^{}^]*?)(?:\^\{(-?\d+)\})?\}\$")
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def plain(label: str) -> str:
    """A power of matplotlib's as plain text; anything else as it is.

    Example:
        >>> plain("$\\\\mathdefault{10^{-3}}$")
        '10⁻³'
    """
    found = FORMULA.fullmatch(label)
    if found is None:
        return label
    base, power = found.groups(default="")
    base = base.replace(r"\times", "×").replace("-", "\N{MINUS SIGN}")
    return base + power.translate(RAISED)


class PlainPowers(LogFormatterSciNotation):
    """Matplotlib's formatter of a log axis, without its formulas.

    To parse them takes half the time of a figure.
    """

    def __call__(self, x: float, pos: int | None = None) -> str:
        return plain(super().__call__(x, pos))


class PlainLogScale(LogScale):
    """The scale ``"log"`` with plain labels."""

    # Before 3.11 matplotlib hands in an axis, after it none.
    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)

    def set_default_locators_and_formatters(self, axis: Any) -> None:
        super().set_default_locators_and_formatters(axis)
        only_base = self.subs is not None
        axis.set_major_formatter(PlainPowers(self.base))
        axis.set_minor_formatter(PlainPowers(self.base, labelOnlyBase=only_base))

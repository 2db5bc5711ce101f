"""A log axis has the labels that matplotlib gives it, as plain text."""

import matplotlib.pyplot as plt
import pytest
from matplotlib.ticker import LogFormatterSciNotation

from gradlib.plotting.log_scale import PlainPowers, plain

pytestmark = pytest.mark.usefixtures("book_style")

LOWERED = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")


def value(label: str) -> float:
    """The number that a label such as 2×10⁻³ stands for."""
    factor, mark, power = label.replace("\N{MINUS SIGN}", "-").rpartition("×")
    base = power.rstrip("⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    exponent = power.removeprefix(base).translate(LOWERED) or "1"
    return float(factor if mark else "1") * float(base) ** int(exponent)


@pytest.mark.parametrize(
    ("low", "high", "base"),
    [(1e-40, 1.0, 10.0), (1e-7, 1e3, 10.0), (0.9, 14.0, 10.0), (1.0, 64.0, 2.0)],
)
def test_labels_are_plain_and_say_where_they_stand(
    low: float, high: float, base: float
) -> None:
    figure, ax = plt.subplots()
    ax.set_yscale("log", base=base)
    ax.set_ylim(low, high)
    figure.canvas.draw()
    ticks = [*ax.yaxis.get_major_ticks(), *ax.yaxis.get_minor_ticks()]
    shown = {t.get_loc(): t.label1.get_text() for t in ticks if t.label1.get_text()}
    assert len(shown) >= 2
    for place, label in shown.items():
        assert "$" not in label
        assert value(label) == pytest.approx(place)


@pytest.mark.parametrize("place", [1e-3, 1.0, 1e5, 3e-4, 20.0, -100.0])
def test_a_label_stands_where_matplotlib_has_one(place: float) -> None:
    usual, ours = LogFormatterSciNotation(10.0), PlainPowers(10.0)
    assert bool(ours(place)) == bool(usual(place))


def test_other_text_stays_as_it_is() -> None:
    for text in ("", "0.5", r"$\sigma_w$", r"$\mathdefault{\frac{1}{2}}$"):
        assert plain(text) == text
    assert plain(r"$\mathdefault{-10^{-3}}$") == "−10⁻³"
    assert plain(r"$\mathdefault{2\times10^{4}}$") == "2×10⁴"
    assert plain(r"$\mathdefault{0.5}$") == "0.5"

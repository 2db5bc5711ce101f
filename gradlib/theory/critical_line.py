"""The critical line between vanishing and exploding gradients.

The pairs of weight variance sigma_w2 and bias variance sigma_b2 for which chi = 1
at the variance where the signal settles. See `gradlib.theory` for the notation.

References:
    Schoenholz et al. 2017, https://openreview.net/forum?id=H1W1UN9gg
"""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

from gradlib.activations import (
    ActivationLike,
    as_activation,
    second_moment,
    slope_second_moment,
)
from gradlib.checks import check_list, check_positive

ZERO, INFINITY = 1e-8, 1e12  # a variance beyond them counts as 0 or infinite
SAME = 1e-11  # relative change of a variance that counts as none


class CriticalPoint(NamedTuple):
    """Weight and bias variance for which q stays and chi is 1."""

    q: float
    sigma_w2: float
    sigma_b2: float


def critical_sigma_w2(activation: ActivationLike, sigma_b2: float = 0.0) -> float:
    """Weight variance on the edge between vanishing and exploding: chi = 1.

    Where no finite variance is critical (ReLU with biases, softplus) the signal
    grows without bound, and the value makes chi tend to 1 as it does.

    Args:
        activation: A name, function or module.
        sigma_b2: Variance of a bias; >= 0.

    Returns:
        Variance of a weight times fan_in.

    Raises:
        ValueError: ``sigma_b2`` is negative, the name is unknown, or the slope of
            the activation is zero everywhere.

    Example:
        >>> round(critical_sigma_w2("tanh"), 6), round(critical_sigma_w2("relu"), 6)
        (1.0, 2.0)

    References:
        Hayou et al. 2019, https://proceedings.mlr.press/v97/hayou19a.html
    """
    f = as_activation(activation)
    sigma_b2 = check_positive(sigma_b2, "sigma_b2", zero_ok=True)

    def lacking(q: float) -> float:
        return sigma_b2 - _critical(f, q).sigma_b2

    if lacking(ZERO) <= 0:
        return _critical(f, 0.0).sigma_w2
    q = ZERO
    while q < INFINITY:
        if lacking(2 * q) <= 0:
            return _critical(f, root(lacking, q, 2 * q)).sigma_w2
        q *= 2
    return _critical(f, math.inf).sigma_w2


def critical_line(
    activation: ActivationLike, variances: Iterable[float]
) -> list[CriticalPoint]:
    """Points of the critical line, one for each variance that lies on it.

    sigma_w2 = 1 / E f'(sqrt(q) z)^2,  sigma_b2 = q - sigma_w2 E f(sqrt(q) z)^2

    Variances that would need a negative sigma_b2 are left out.

    Args:
        activation: A name, function or module.
        variances: Values of q along the line; > 0.

    Raises:
        ValueError: a variance is not positive, or the name is unknown.

    Example:
        >>> for point in critical_line("tanh", [0.1, 1.0]):
        ...     print(f"{point.sigma_w2:.3f} {point.sigma_b2:.4f}")
        1.178 0.0008
        2.153 0.1510
    """
    f = as_activation(activation)
    settings = check_list(variances, "variances")
    points = [_critical(f, check_positive(q, "variances")) for q in settings]
    return [
        point._replace(sigma_b2=max(0.0, point.sigma_b2))
        for point in points
        if point.sigma_b2 >= -SAME * point.q
    ]


def _critical(activation: ActivationLike, q: float) -> CriticalPoint:
    """The weight and bias variance that make q a fixed point with chi = 1."""
    near = inside_limits(q)
    moment = slope_second_moment(activation, near)
    if moment == 0:
        raise ValueError(
            "activation: expected a slope that is not zero everywhere, got "
            f"{as_activation(activation).name}. No weights carry a gradient through it."
        )
    bias = near - second_moment(activation, near) / moment
    return CriticalPoint(q, 1 / moment, bias)


def inside_limits(q: float) -> float:
    """``q``, with 0 and infinity replaced by numbers that stand for the limits."""
    return min(max(q, ZERO**2), INFINITY**2)


def root(f: Callable[[float], float], low: float, high: float) -> float:
    """Where ``f`` changes sign, by the Illinois method on the logarithm.

    A secant between two ends of unlike sign; an end that stays twice in a row counts
    half, so that it comes nearer, too.
    """
    below, above = f(low), f(high)
    stayed = 0
    while high / low - 1 > 1e-13:
        middle = low * (high / low) ** (below / (below - above))
        if not low < middle < high:
            break
        value = f(middle)
        if (value < 0) == (below < 0):
            low, below = middle, value
            above /= 2 if stayed > 0 else 1
            stayed = 1
        else:
            high, above = middle, value
            below /= 2 if stayed < 0 else 1
            stayed = -1
    return low if abs(below) < abs(above) else high

"""Mean-field theory of deep networks at initialization.

In a wide network the inputs of a layer are Gaussian with some variance q, and
each layer maps q to the next one. Weights have variance sigma_w2 / fan_in and
biases sigma_b2; both are variances, not standard deviations. Going backward, a
squared gradient grows by chi per layer: it explodes if chi > 1, vanishes if < 1.

References:
    Poole et al. 2016, https://arxiv.org/abs/1606.05340
    Schoenholz et al. 2017, https://openreview.net/forum?id=H1W1UN9gg
"""

import math
from typing import NamedTuple

from gradlib.activations import (
    ActivationLike,
    as_activation,
    second_moment,
    slope,
    slope_second_moment,
)
from gradlib.checks import check_positive
from gradlib.quadrature import gaussian_expectation
from gradlib.theory.critical_line import INFINITY, SAME, ZERO, inside_limits, root


class FixedPoint(NamedTuple):
    """Where the variance settles.

    Args:
        q: The variance; 0 if signals die out (below 1e-10), infinite if they grow
            for ever (above 1e12).
        slope: Derivative of the variance map there (its limit, at 0 and infinity).
        stable: Whether q is finite and errors shrink by a factor |slope| < 1 a layer.
    """

    q: float
    slope: float
    stable: bool


def variance_map(
    activation: ActivationLike, q: float, sigma_w2: float, sigma_b2: float = 0.0
) -> float:
    """Variance of the next layer's inputs.

    q' = sigma_w2 E f(sqrt(q) z)^2 + sigma_b2

    Args:
        activation: A name, function or module.
        q: Variance of this layer's inputs; >= 0.
        sigma_w2: Variance of a weight times fan_in; > 0.
        sigma_b2: Variance of a bias; >= 0.

    Raises:
        ValueError: an argument is out of range or the name is unknown.

    Example:
        >>> round(variance_map("relu", q=3.0, sigma_w2=2.0), 10)
        3.0
    """
    sigma_w2, sigma_b2 = _variances(sigma_w2, sigma_b2)
    q = check_positive(q, "q", zero_ok=True)
    return sigma_w2 * second_moment(activation, q) + sigma_b2


def fixed_point(
    activation: ActivationLike,
    sigma_w2: float,
    sigma_b2: float = 0.0,
    *,
    start: float = 1.0,
) -> FixedPoint:
    """The first fixed point of the variance map that ``start`` moves towards.

    q* = sigma_w2 E f(sqrt(q*) z)^2 + sigma_b2,  slope = sigma_w2 E[x f f'] / q*

    If ``start`` is a fixed point it is returned, stable or not: with the gain that
    keeps a GELU's variance at 1, q = 1 is fixed but not stable.

    Args:
        activation: A name, function or module.
        sigma_w2: Variance of a weight times fan_in; > 0.
        sigma_b2: Variance of a bias; >= 0.
        start: Variance of the first layer's inputs; > 0.

    Raises:
        ValueError: an argument is out of range or the name is unknown.

    Example:
        >>> point = fixed_point("tanh", sigma_w2=3.0)
        >>> round(point.q, 3), round(point.slope, 3), point.stable
        (1.345, 0.407, True)
    """
    f = as_activation(activation)
    sigma_w2, sigma_b2 = _variances(sigma_w2, sigma_b2)
    q = check_positive(start, "start")

    def change(q: float) -> float:
        return variance_map(f, q, sigma_w2, sigma_b2) / q - 1

    first = change(q)
    if first > SAME:
        while q < INFINITY and change(2 * q) > 0:
            q *= 2
        q = root(change, q, 2 * q) if q < INFINITY else math.inf
    elif first < -SAME:
        while q > ZERO and change(q / 2) < 0:
            q /= 2
        q = root(change, q / 2, q) if q > ZERO else 0.0
    near = inside_limits(q)
    moment = gaussian_expectation(lambda x: x * f.function(x) * slope(f, x), near)
    steepness = sigma_w2 * moment / near
    return FixedPoint(q, steepness, q < math.inf and abs(steepness) < 1 - SAME)


def chi(
    activation: ActivationLike,
    sigma_w2: float,
    sigma_b2: float = 0.0,
    *,
    q: float | None = None,
) -> float:
    """Growth of the squared gradient norm per layer, going backward.

    chi = sigma_w2 E f'(sqrt(q) z)^2

    Args:
        activation: A name, function or module.
        sigma_w2: Variance of a weight times fan_in; > 0.
        sigma_b2: Variance of a bias; >= 0.
        q: Variance of the layer's inputs; by default that of `fixed_point`.

    Raises:
        ValueError: an argument is out of range or the name is unknown.

    Example:
        >>> round(chi("tanh", sigma_w2=(5 / 3) ** 2), 3)  # torch's gain: it explodes
        1.21
    """
    sigma_w2, sigma_b2 = _variances(sigma_w2, sigma_b2)
    if q is None:
        q = fixed_point(activation, sigma_w2, sigma_b2).q
    elif q != math.inf:
        q = check_positive(q, "q", zero_ok=True)
    return sigma_w2 * slope_second_moment(activation, inside_limits(q))


def depth_scale(
    activation: ActivationLike,
    sigma_w2: float,
    sigma_b2: float = 0.0,
    *,
    q: float | None = None,
) -> float:
    """Layers over which a squared gradient changes by a factor e.

    xi = 1 / |log chi|: infinite on the critical line, 0 if chi is 0. Takes the
    arguments of `chi`.

    Example:
        >>> round(depth_scale("relu", sigma_w2=1.0), 3)  # 1 / log 2
        1.443
    """
    growth = chi(activation, sigma_w2, sigma_b2, q=q)
    if growth == 0:
        return 0.0
    exponent = abs(math.log(growth))
    return math.inf if exponent < SAME else 1 / exponent


def _variances(sigma_w2: float, sigma_b2: float) -> tuple[float, float]:
    return (
        check_positive(sigma_w2, "sigma_w2"),
        check_positive(sigma_b2, "sigma_b2", zero_ok=True),
    )

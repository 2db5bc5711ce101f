"""How much gradients grow through architectures: closed forms.

Normalization, residual branches, finite width. Growth is that of the *squared*
gradient norm, going backward; the norm grows by the square root.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

from gradlib.activations import (
    ActivationLike,
    as_activation,
    second_moment,
    slope_second_moment,
)
from gradlib.checks import check_count, check_list, check_positive
from gradlib.quadrature import gaussian_expectation

_ROUNDING = 1e-24  # a variance this far below the squared mean is no variance


class LogNormMoments(NamedTuple):
    """Mean and variance of the logarithm of a squared norm."""

    mean: float
    variance: float


def batch_norm_growth(activation: ActivationLike = "relu") -> float:
    """Growth per layer of a plain net with batch norm before each activation.

    E f'(z)^2 / Var f(z), whatever the scale of the weights: pi / (pi - 1) for ReLU

    Args:
        activation: A name, function or module.

    Raises:
        ValueError: the activation is constant or its name unknown.

    Example:
        >>> round(batch_norm_growth("relu"), 4)
        1.4669

    References:
        Yang et al. 2019, https://arxiv.org/abs/1902.08129
    """
    spread = _spread(activation)
    return slope_second_moment(activation) / spread


def residual_growth(depth: int, scale: float = 1.0) -> float:
    """Growth over residual blocks h + scale F(h), where F keeps the variance.

    (1 + scale^2)^depth: 2^depth for plain branches, about e for 1 / sqrt(depth),
    1 for ReZero, which starts with scale 0. The variance of h grows alike.

    Args:
        depth: Number of blocks.
        scale: Factor on every branch; >= 0.

    Raises:
        ValueError: ``depth`` < 1 or ``scale`` < 0.

    Example:
        >>> round(residual_growth(depth=100, scale=0.1), 3)
        2.705

    References:
        Hanin and Rolnick 2018, https://arxiv.org/abs/1803.01719
    """
    depth = check_count(depth, "depth")
    scale = check_positive(scale, "scale", zero_ok=True)
    try:
        return (1 + scale**2) ** depth
    except OverflowError:
        return math.inf


def batch_norm_residual_growth(
    depth: int, activation: ActivationLike = "relu"
) -> float:
    """Growth over blocks h + W f(batch_norm(h)) with variance-preserving W.

    prod_l (1 + a / (1 + b l)),  a = E f'^2 / E f^2,  b = Var f / E f^2,
    l = 0 ... depth - 1: a power of the depth instead of an exponential.

    Args:
        depth: Number of blocks.
        activation: A name, function or module.

    Raises:
        ValueError: ``depth`` < 1, the activation is constant or its name unknown.

    Example:
        >>> round(batch_norm_residual_growth(depth=32), 1)
        81.9

    References:
        De and Smith 2020, https://arxiv.org/abs/2002.10444
    """
    depth = check_count(depth, "depth")
    spread, moment = _spread(activation), second_moment(activation)
    a, b = slope_second_moment(activation) / moment, spread / moment
    return math.prod(1 + a / (1 + b * block) for block in range(depth))


def finite_width_moments(widths: Iterable[int]) -> LogNormMoments:
    """Mean and variance of log ||J u||^2 over ReLU nets with He weights.

    (-beta / 2, beta),  beta = 5 sum 1 / width: infinitely wide nets keep the norm,
    finite ones scatter it, and the typical gradient shrinks. Good for widths of 64
    and more.

    Args:
        widths: Width of each hidden layer.

    Returns:
        The mean and the variance, for a unit vector u that does not depend on the
        net.

    Raises:
        ValueError: there is no width, or one is smaller than 1.

    Example:
        >>> finite_width_moments([100] * 20)
        LogNormMoments(mean=-0.5, variance=1.0)

    References:
        Hanin and Nica 2020, https://arxiv.org/abs/1812.05994
    """
    counts = [check_count(n, "widths") for n in check_list(widths, "widths")]
    if not counts:
        raise ValueError("widths: expected the width of each hidden layer, got none")
    beta = 5 * math.fsum(1 / n for n in counts)
    return LogNormMoments(-beta / 2, beta)


def _spread(activation: ActivationLike) -> float:
    """Var f(z) for a standard Gaussian z."""
    f = as_activation(activation)
    mean = gaussian_expectation(f.function)
    spread = gaussian_expectation(lambda x: (f.function(x) - mean) ** 2)
    if spread <= _ROUNDING * mean**2:
        raise ValueError(
            f"activation: expected a function that varies, got {f.name}, which is "
            "constant"
        )
    return spread

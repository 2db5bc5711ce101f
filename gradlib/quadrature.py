"""Expectations under a Gaussian, by quadrature.

Mean-field theory asks for numbers such as E relu(z)^2 or E tanh'(z)^2 with z
normal. Gauss-Hermite rules are exact for polynomials but lose most digits at a
kink or a jump, and activations have both. So the line is cut into panels, each
gets a Gauss-Lobatto rule, and panels whose value is unsure are halved. That rule
has nodes at the ends of a panel, so that no jump hides between two panels.
"""

import math
from collections.abc import Callable
from numbers import Real

import torch
from numpy.polynomial import Legendre
from torch import Tensor

from gradlib.checks import check_count, check_function, check_positive

_REACH = 20.0  # standard deviations; the density there is below 1e-87
_TOLERANCE = 1e-12  # a panel's error, relative to the whole integral
_MOST_PANELS = 30_000


def _lobatto(order: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights on [-1, 1], the end nodes a hair inside.

    On an end node itself a slope that jumps there would have the wrong side's value.
    """
    polynomial = Legendre.basis(order - 1)
    inner = polynomial.deriv().roots().real
    nodes = torch.tensor([-1.0, *inner, 1.0], dtype=torch.float64, device="cpu")
    heights = torch.from_numpy(polynomial(nodes.numpy()))
    return nodes * (1 - 1e-13), 2 / (order * (order - 1) * heights**2)


_NODES, _WEIGHTS = _lobatto(16)


def gaussian_expectation(
    f: Callable[[Tensor], Tensor],
    variance: float = 1.0,
    mean: float = 0.0,
    points: int = 201,
) -> float:
    """Expectation of a function of a Gaussian number.

    E f(mean + sqrt(variance) z),  z ~ N(0, 1)

    Smooth functions, kinks (ReLU) and jumps (its derivative) come out to about
    nine digits, wherever the kinks lie and however large the variance is.

    Args:
        f: Acts on each element of a float64 tensor of any shape.
        variance: Variance of the Gaussian; >= 0.
        mean: Mean of the Gaussian.
        points: Nodes of the first pass, before panels are halved; >= 16.

    Returns:
        The expectation.

    Raises:
        TypeError: ``f`` does not return a tensor, or an argument is no number.
        ValueError: ``f`` changes the shape or returns NaN or infinity, the halving
            does not settle (as when ``f`` is random), or an argument is out of range.

    Example:
        >>> round(gaussian_expectation(torch.relu), 10)  # 1 / sqrt(2 pi)
        0.3989422804
        >>> round(gaussian_expectation(lambda x: x**2, variance=3.0, mean=2.0), 10)
        7.0
    """
    variance = check_positive(variance, "variance", zero_ok=True)
    if not isinstance(mean, Real):
        raise TypeError(f"mean: expected a finite number, got {type(mean).__name__}")
    if not math.isfinite(mean):
        raise ValueError(f"mean: expected a finite number, got {mean!r}")
    mean = float(mean)
    points = check_count(points, "points", least=16)
    check_function(f, "f")
    deviation = math.sqrt(variance)
    if deviation == 0:
        return float(
            _values(f, torch.full((1,), mean, dtype=torch.float64, device="cpu"))
        )

    def integrals(low: Tensor, high: Tensor) -> Tensor:
        half = (high - low)[:, None] / 2
        z = (low + high)[:, None] / 2 + half * _NODES
        density = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
        return (_values(f, mean + deviation * z) * density * half) @ _WEIGHTS

    edges = _edges(mean, deviation, points)
    low, high = edges[:-1], edges[1:]
    coarse = integrals(low, high)
    total = magnitude = 0.0
    used = len(coarse)
    while len(coarse):
        used += 2 * len(coarse)
        if used > _MOST_PANELS:
            raise ValueError(
                f"f: expected a function whose Gaussian integral settles, got "
                f"{_name(f)}, still unsure after {used} panels. It must be "
                "deterministic and its expectation finite."
            )
        middle = (low + high) / 2
        left, right = integrals(low, middle), integrals(middle, high)
        error = (left + right - coarse).abs()
        scale = magnitude + float((left.abs() + right.abs()).sum())
        unsure = error > _TOLERANCE * scale
        total += float((left + right)[~unsure].sum())
        magnitude += float((left + right)[~unsure].abs().sum())
        coarse = torch.cat([left[unsure], right[unsure]])
        low, high = (
            torch.cat([low[unsure], middle[unsure]]),
            torch.cat([middle[unsure], high[unsure]]),
        )
    return total


def _edges(mean: float, deviation: float, points: int) -> Tensor:
    """Panel edges in z: evenly spaced, and where x is 0 or +-2^k.

    What activations do, they do near x = 0 at scale 1; without edges there a
    large variance would step over it.
    """
    even = torch.linspace(
        -_REACH, _REACH, max(2, points // 16 + 1), dtype=torch.float64, device="cpu"
    )
    largest = abs(mean) + _REACH * deviation
    powers = torch.arange(-2, max(-1, math.ceil(math.log2(largest))), device="cpu")
    doubling = torch.exp2(powers.double())
    x = torch.cat([-doubling, torch.zeros_like(doubling[:1]), doubling])
    z = (x - mean) / deviation
    return torch.cat([even, z[z.abs() < _REACH]]).sort().values


def _values(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``f(x)``, checked."""
    y = f(x)
    if not isinstance(y, Tensor):
        raise TypeError(f"f: expected a tensor from {_name(f)}, got {type(y).__name__}")
    if y.shape != x.shape:
        raise ValueError(
            f"f: expected {_name(f)} to keep the shape {tuple(x.shape)}, "
            f"got {tuple(y.shape)}. Give a function that acts on each element."
        )
    y = y.detach().double()
    if not bool(y.isfinite().all()):
        first = float(x[~y.isfinite()][0])
        raise ValueError(
            f"f: expected finite values, got one not finite at x = {first:.4g}"
        )
    return y


def _name(f: Callable[[Tensor], Tensor]) -> str:
    return getattr(f, "__name__", type(f).__name__)

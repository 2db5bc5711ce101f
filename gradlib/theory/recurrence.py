"""Gradients through time: gates, truncation, memory, Lyapunov exponents.

Growth is that of the norm, not squared.
"""

import math
from numbers import Real

import torch
from torch import Tensor

from gradlib.checks import check_count, check_generator, check_positive


def cell_growth(forget_bias: float, steps: int) -> float:
    """Factor on the gradient of an LSTM's cell through time, not squared.

    sigmoid(forget_bias)^steps, with the gates held at their biases

    Args:
        forget_bias: Bias of the forget gate (torch adds two, bias_ih and bias_hh).
        steps: Steps through time; >= 0.

    Raises:
        TypeError: ``forget_bias`` is not a number.
        ValueError: ``forget_bias`` is NaN or ``steps`` < 0.

    Example:
        >>> round(cell_growth(forget_bias=1.0, steps=10), 4)
        0.0436

    References:
        Gers et al. 2000, https://doi.org/10.1162/089976600300015015
    """
    steps = check_count(steps, "steps", least=0)
    bias = torch.tensor(_bias(forget_bias), dtype=torch.float64)
    return float(bias.sigmoid()) ** steps


def gate_half_life(forget_bias: float) -> float:
    """Steps after which a gate at its bias has halved the gradient.

    log 2 / -log sigmoid(forget_bias), about log(2) exp(forget_bias) for a large bias.
    The forget gate of an LSTM; the update gate of a GRU, which in torch keeps the
    state.

    Args:
        forget_bias: Bias of the gate (torch adds two, bias_ih and bias_hh).

    Returns:
        Steps, not rounded.

    Raises:
        TypeError: ``forget_bias`` is not a number.
        ValueError: ``forget_bias`` is NaN.

    Example:
        >>> gate_half_life(0.0), round(gate_half_life(4.0), 1)
        (1.0, 38.2)

    References:
        Gers et al. 2000, https://doi.org/10.1162/089976600300015015
    """
    bias = torch.tensor(_bias(forget_bias), dtype=torch.float64)
    decay = -float(torch.nn.functional.logsigmoid(bias))
    return math.log(2) / decay if decay > 0 else math.inf


def truncation_share(decay: float, steps: int) -> float:
    """Share of the gradient that truncated back-propagation keeps.

    1 - decay^steps, for the weight of h <- decay h + x with a steady x

    Args:
        decay: Factor of the state in one step; in [0, 1).
        steps: Steps that the gradient goes back; >= 0.

    Raises:
        TypeError: an argument is not a number.
        ValueError: ``decay`` is not in [0, 1), or ``steps`` < 0.

    Example:
        >>> truncation_share(decay=0.5, steps=3)
        0.875

    References:
        Williams and Peng 1990 (truncation), https://doi.org/10.1162/neco.1990.2.4.490
    """
    decay = check_positive(decay, "decay", zero_ok=True, below=1.0)
    return 1 - decay ** check_count(steps, "steps", least=0)


def memory_sensitivity(decay: float) -> float:
    """Mean square of dh/d(decay) in h <- decay h + x with white x of variance 1.

    (1 + decay^2) / (1 - decay^2)^3, in the steady state; the variance of h itself is
    only 1 / (1 - decay^2).

    Args:
        decay: Factor of the state in one step; in [0, 1).

    Raises:
        TypeError: ``decay`` is not a number.
        ValueError: it is not in [0, 1).

    Example:
        >>> round(memory_sensitivity(0.99))
        251263

    References:
        Zucchet and Orvieto 2024, https://arxiv.org/abs/2405.21064
    """
    decay = check_positive(decay, "decay", zero_ok=True, below=1.0)
    left = (1 - decay) * (1 + decay)
    return (1 + decay**2) / left**3


def lyapunov_exponents(
    jacobians: Tensor,
    k: int = 1,
    *,
    skip: int = 0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Mean log growth per step of k directions under a product of Jacobians.

    Q_t R_t = J_t Q_{t-1},  exponent_i = mean_t log |(R_t)_ii|, by QR at each step, so
    that nothing overflows and the directions stay apart. The first one is the slope of
    the log norm of a gradient against the lag.

    Args:
        jacobians: Derivatives of each state by the one before, shape (steps, n, n).
        k: Directions to follow; at most n.
        skip: First steps that only turn the directions; less than ``steps``.
        generator: Draws the first directions; by default torch's global one.

    Returns:
        Shape (k,), float64, in nats a step, from the largest on (for long products).
        -inf where a direction is lost.

    Raises:
        TypeError: ``jacobians`` is not a tensor.
        ValueError: its shape is not (steps, n, n), it is not finite, or a count does
            not fit.

    Example:
        >>> turn = torch.tensor([[0.0, -2.0], [2.0, 0.0]])
        >>> lyapunov_exponents(turn.expand(5, 2, 2), k=2).exp().round(decimals=6)
        tensor([2., 2.], dtype=torch.float64)

    References:
        Engelken 2023, https://arxiv.org/abs/2312.17306
    """
    if not isinstance(jacobians, Tensor):
        raise TypeError(f"jacobians: expected a tensor, got {type(jacobians).__name__}")
    shape = tuple(jacobians.shape)
    if len(shape) != 3 or shape[1] != shape[2] or 0 in shape:
        raise ValueError(f"jacobians: expected shape (steps, n, n), got {shape}")
    if not bool(jacobians.isfinite().all()):
        raise ValueError("jacobians: expected finite values, got NaN or infinity")
    if check_count(k, "k") > shape[1]:
        raise ValueError(f"k: expected at most {shape[1]} directions, got {k}")
    if check_count(skip, "skip", least=0) >= shape[0]:
        raise ValueError(f"skip: expected less than {shape[0]} steps, got {skip}")
    check_generator(generator)
    factors = jacobians.detach().double()
    start = torch.randn(shape[1], k, generator=generator, dtype=torch.float64)
    directions = torch.linalg.qr(start.to(factors.device)).Q
    logs = []
    for factor in factors:
        directions, triangle = torch.linalg.qr(factor @ directions)
        logs.append(triangle.diagonal().abs().log())
    return torch.stack(logs[skip:]).mean(0)


def _bias(forget_bias: float) -> float:
    if not isinstance(forget_bias, Real):
        raise TypeError(
            f"forget_bias: expected a number, got {type(forget_bias).__name__}"
        )
    if math.isnan(forget_bias):
        raise ValueError("forget_bias: expected a number, got nan")
    return float(forget_bias)

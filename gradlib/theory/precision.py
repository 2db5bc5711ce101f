"""What number formats do to gradients: where they flush to zero and overflow.

float16 rounds magnitudes of at most 2^-25 to 0 and those of at least 65,520 to
infinity. A loss scale moves gradients between the two.

References:
    Micikevicius et al. 2018, https://arxiv.org/abs/1710.03740
"""

import math
from numbers import Real

import torch

from gradlib.checks import check_count, check_positive

_FORMATS = (torch.float16, torch.bfloat16, torch.float32)


def flush_threshold(dtype: torch.dtype = torch.float16) -> float:
    """Largest magnitude that rounds to zero: half the smallest subnormal number.

    Args:
        dtype: ``torch.float16``, ``torch.bfloat16`` or ``torch.float32``.

    Raises:
        ValueError: another dtype.

    Example:
        >>> flush_threshold() == 2.0**-25
        True
    """
    info = _format(dtype)
    return info.smallest_normal * info.eps / 2


def overflow_threshold(dtype: torch.dtype = torch.float16) -> float:
    """Smallest magnitude that rounds to infinity: half a step above the maximum.

    Args:
        dtype: ``torch.float16``, ``torch.bfloat16`` or ``torch.float32``.

    Raises:
        ValueError: another dtype.

    Example:
        >>> overflow_threshold()
        65520.0
    """
    info = _format(dtype)
    _, exponent = math.frexp(info.max)
    return info.max + info.eps * math.ldexp(0.5, exponent) / 2


def flushed_fraction(
    log_mean: float,
    log_std: float,
    scale: float = 1.0,
    dtype: torch.dtype = torch.float16,
) -> float:
    """Share of lognormal gradients that become zero after loss scaling.

    P(scale |g| <= threshold) = Phi((log(threshold / scale) - log_mean) / log_std)

    Args:
        log_mean: Mean of log |g|, natural logarithm.
        log_std: Standard deviation of log |g|; > 0.
        scale: Loss scale; > 0.
        dtype: ``torch.float16``, ``torch.bfloat16`` or ``torch.float32``.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> flushed_fraction(log_mean=-25 * math.log(2), log_std=4.0)
        0.5
    """
    return _below(flush_threshold(dtype), log_mean, log_std, scale)


def overflow_fraction(
    log_mean: float,
    log_std: float,
    scale: float = 1.0,
    dtype: torch.dtype = torch.float16,
) -> float:
    """Share of lognormal gradients that become infinite after loss scaling.

    Takes the arguments of `flushed_fraction`.

    Example:
        >>> overflow_fraction(log_mean=math.log(65520 / 1024), log_std=1.0, scale=1024)
        0.5
    """
    return 1 - _below(overflow_threshold(dtype), log_mean, log_std, scale)


def skip_rate(growth_interval: int = 2000) -> float:
    """Share of steps that ``torch.amp.GradScaler`` skips in the long run.

    1 / (growth_interval + 1): it doubles the scale after so many good steps,
    overflows once, halves it again. Holds for steady gradients.

    Args:
        growth_interval: As in ``GradScaler``, good steps before the scale doubles.

    Raises:
        ValueError: ``growth_interval`` < 1.

    Example:
        >>> skip_rate(growth_interval=19)
        0.05
    """
    return 1 / (check_count(growth_interval, "growth_interval") + 1)


def _below(threshold: float, log_mean: float, log_std: float, scale: float) -> float:
    """P(scale |g| <= threshold) for lognormal |g|."""
    log_std = check_positive(log_std, "log_std")
    scale = check_positive(scale, "scale")
    if not isinstance(log_mean, Real) or not math.isfinite(log_mean):
        raise ValueError(f"log_mean: expected a finite number, got {log_mean!r}")
    distance = (math.log(threshold) - math.log(scale) - log_mean) / log_std
    return 0.5 * math.erfc(-distance / math.sqrt(2))


def _format(dtype: torch.dtype) -> torch.finfo:
    if dtype not in _FORMATS:
        names = ", ".join(str(d) for d in _FORMATS)
        raise ValueError(f"dtype: expected one of {names}; got {dtype!r}")
    return torch.finfo(dtype)

"""What number formats do to gradients, updates, moments and log-probabilities.

A format has a largest number, a smallest one, and steps between them that grow with
the numbers. float16 rounds magnitudes of at most 2^-25 to 0 and those of at least
65,520 to infinity; a loss scale moves gradients between the two. The steps decide
which updates are lost, whether Adam forgets, and how far two engines part.

References:
    Micikevicius et al. 2018, https://arxiv.org/abs/1710.03740
    Micikevicius et al. 2022 (fp8), https://arxiv.org/abs/2209.05433
"""

import math
from numbers import Real
from typing import NamedTuple

import torch
from torch import Tensor

from gradlib.checks import (
    check_count,
    check_generator,
    check_positive,
    check_type,
)

_FORMATS = (
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.float16,
    torch.bfloat16,
    torch.float32,
)


def flush_threshold(dtype: torch.dtype = torch.float16) -> float:
    """Largest magnitude that rounds to zero: half the smallest subnormal number.

    Args:
        dtype: ``torch.float16``, ``bfloat16``, ``float32``, ``float8_e4m3fn`` or
            ``float8_e5m2``.

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

    float8_e4m3fn has no infinity. It still holds 464, which rounds to 448; what a cast
    makes of more, NaN or 448, depends on torch's version.

    Args:
        dtype: ``torch.float16``, ``bfloat16``, ``float32``, ``float8_e4m3fn`` or
            ``float8_e5m2``.

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
        dtype: ``torch.float16``, ``bfloat16``, ``float32``, ``float8_e4m3fn`` or
            ``float8_e5m2``.

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
    overflows once, halves it again. Holds for steady gradients. Other gradients can
    only skip fewer, as long as the scale keeps its level: then each halving is made up
    for by a doubling, which takes so many good steps in a row. Over n steps in which
    the scale falls by 2^d in all, at most (n + d growth_interval) /
    (growth_interval + 1) are skipped.

    Args:
        growth_interval: As in ``GradScaler``, good steps before the scale doubles.

    Raises:
        ValueError: ``growth_interval`` < 1.

    Example:
        >>> skip_rate(growth_interval=19)
        0.05
    """
    return 1 / (check_count(growth_interval, "growth_interval") + 1)


def rounding_step(value: float, dtype: torch.dtype = torch.bfloat16) -> float:
    """Distance from a number to the next larger magnitude of a format.

    eps 2^floor(log2 |value|), at least the smallest subnormal number. Rounding moves a
    number by at most half of it.

    Args:
        value: A magnitude up to the format's largest number.
        dtype: One of those that `flush_threshold` takes.

    Raises:
        TypeError: ``value`` is not a number.
        ValueError: another dtype, or ``value`` is beyond its largest number.

    Example:
        >>> rounding_step(1.0), rounding_step(300.0), rounding_step(1.0, torch.float16)
        (0.0078125, 2.0, 0.0009765625)
    """
    return _step(value, "value", _format(dtype))


def stall_gradient(
    weight: float, lr: float, dtype: torch.dtype = torch.bfloat16
) -> float:
    """Largest gradient with which plain descent leaves a stored weight as it is.

    lr |g| <= step / 2, with the step of the format at the weight. So weights from 1 to
    2 in bfloat16 stop at 2^-8 / lr. (From a power of two towards zero, steps are half
    as large, and so is this.)

    Args:
        weight: The stored number.
        lr: Learning rate; > 0.
        dtype: Format of the weight, one of those that `flush_threshold` takes.

    Raises:
        TypeError: an argument is not a number.
        ValueError: an argument is out of range.

    Example:
        >>> stall_gradient(1.5, lr=0.01)
        0.390625
    """
    step = _step(weight, "weight", _format(dtype))
    return step / (2 * check_positive(lr, "lr"))


def swallowed_share(
    weights: Tensor, updates: Tensor, dtype: torch.dtype = torch.bfloat16
) -> float:
    """Share of an update that a format rounds away.

    Counts the entries whose update is not 0 and where weight + update, rounded to the
    format, is the weight again. The sum is taken in float32, as torch does.

    Args:
        weights: Weights before the step; rounded to the format first.
        updates: What the optimizer adds to them, of the same shape.
        dtype: Format in which the weights are kept.

    Returns:
        0 to 1.

    Raises:
        TypeError: an argument is no tensor.
        ValueError: shapes differ, numbers are not finite, or all updates are 0.

    Example:
        >>> weights = torch.tensor([1.0, 1.0, 0.1])
        >>> round(swallowed_share(weights, torch.tensor([0.003, 0.005, 0.003])), 3)
        0.333
    """
    info = _format(dtype)
    check_type(Tensor, weights=weights, updates=updates)
    if weights.shape != updates.shape:
        raise ValueError(
            f"updates: expected the shape of weights, {tuple(weights.shape)}, got "
            f"{tuple(updates.shape)}"
        )
    w, u = _finite(weights, "weights").float(), _finite(updates, "updates").float()
    stored = w.clamp(info.min, info.max).to(dtype).float()
    moved = (stored + u).clamp(info.min, info.max).to(dtype).float() != stored
    given = u != 0
    if not given.any():
        raise ValueError(
            "updates: expected some that are not 0, got none. Take the difference of "
            "the weights after and before a step in float32."
        )
    return 1 - float(moved[given].double().mean())


def frozen_share(beta2: float, dtype: torch.dtype = torch.bfloat16) -> float:
    """Share of Adam's second moments that a decay step leaves as they are.

    v beta2 rounds to v again if (1 - beta2) v <= step / 2. For v with mantissa m, from
    1 to 2, that is (1 - beta2) m <= eps / 2. If log v is spread evenly, the share is
    log2(eps / (2 (1 - beta2))), at least 0 and at most 1. So bfloat16 freezes all of v
    for 1 - beta2 <= 2^-9, and none for 1 - beta2 > 2^-8.

    Args:
        beta2: Decay of the second moment; between 0 and 1.
        dtype: Format of v, one of those that `flush_threshold` takes.

    Raises:
        TypeError: ``beta2`` is not a number.
        ValueError: ``beta2`` is out of range, or another dtype.

    Example:
        >>> frozen_share(0.999), round(frozen_share(0.997), 3), frozen_share(0.99)
        (1.0, 0.381, 0.0)
        >>> frozen_share(0.999, torch.float32)
        0.0
    """
    eps = _format(dtype).eps
    kept = check_positive(beta2, "beta2", below=1.0)
    return min(1.0, max(0.0, math.log2(eps / 2 / (1 - kept))))


def stochastic_round(
    values: Tensor,
    dtype: torch.dtype = torch.bfloat16,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Round to a neighbor in a format by chance, so that the mean stays.

    A number between two neighbors goes up with probability (x - lower) / step. An
    update far below the step is then lost most of the time, and made whole by the rest.

    Args:
        values: Finite numbers; those beyond the format's largest number become it.
        dtype: One of those that `flush_threshold` takes.
        generator: Source of the random numbers; by default torch's own.

    Returns:
        A new tensor of the format.

    Raises:
        TypeError: ``values`` is no tensor, or ``generator`` no generator.
        ValueError: another dtype, or numbers that are not finite.

    Example:
        >>> x = torch.full((10_000,), 1.001)
        >>> draws = stochastic_round(x, generator=torch.Generator().manual_seed(0))
        >>> sorted(set(draws.tolist())), x.bfloat16().unique().item()
        ([1.0, 1.0078125], 1.0)
        >>> round(draws.double().mean().item(), 3)
        1.001

    References:
        Wang et al. 2018, https://arxiv.org/abs/1812.08011
    """
    info = _format(dtype)
    check_generator(generator)
    x = _finite(values, "values")
    x = x.detach() if x.dtype == torch.float64 else x.detach().float()
    _, exponents = torch.frexp(x)
    eps = torch.full_like(x, info.eps)
    steps = torch.ldexp(eps, exponents - 1).clamp(min=info.smallest_normal * info.eps)
    lower = (x / steps).floor()
    draws = torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    rounded = (lower + (draws < x / steps - lower)) * steps
    return rounded.clamp(info.min, info.max).to(dtype)


def block_round(
    values: Tensor,
    dtype: torch.dtype = torch.float8_e4m3fn,
    *,
    block: int | None = None,
) -> Tensor:
    """Round to a format with a scale for each block, or one for the whole tensor.

    A block is multiplied by (largest number of the format) / (its largest magnitude),
    rounded, and divided again. What then lies below `flush_threshold` is lost.

    Args:
        values: Finite numbers.
        dtype: One of those that `flush_threshold` takes.
        block: Entries of the last axis that share a scale; divides its length. By
            default all entries of the tensor share one.

    Returns:
        A new tensor, rounded, of the dtype of ``values``.

    Raises:
        TypeError: ``values`` is no tensor.
        ValueError: another dtype, numbers that are not finite, or a block that does
            not divide the last axis.

    Example:
        >>> x = torch.tensor([0.00025, 0.0005, 1.0, 448.0])
        >>> block_round(x).tolist()
        [0.0, 0.0, 1.0, 448.0]
        >>> block_round(x, block=2)[:2]
        tensor([0.0003, 0.0005])

    References:
        DeepSeek-AI 2024, https://arxiv.org/abs/2412.19437
    """
    info = _format(dtype)
    x = _finite(values, "values").detach()
    length = x.shape[-1] if x.ndim else 1
    if block is not None and length % check_count(block, "block"):
        raise ValueError(
            f"block: expected a divisor of the last axis, {length}, got {block}"
        )
    if not x.numel():
        return x.clone()
    parts = x.double().reshape(1 if block is None else -1, block or x.numel())
    largest = parts.abs().amax(1, keepdim=True)
    scale = info.max / torch.where(largest > 0, largest, 1.0)
    rounded = (parts * scale).clamp(info.min, info.max).float().to(dtype).double()
    return (rounded / scale).reshape(x.shape).to(x.dtype)


class EngineGap(NamedTuple):
    """How far the log-probabilities of two engines lie apart.

    Args:
        mean: Mean of the gaps of tokens, trainer minus sampler, in nats.
        std: Their standard deviation, in nats.
        sequence_std: Standard deviation of the gaps of whole sequences, in nats;
            sqrt(tokens) times ``std`` if the gaps of tokens are independent.
        sample_share: Effective share of the samples, (sum r)^2 / (n sum r^2), with r
            the ratio of the probabilities of a sequence; 1 for equal engines.
    """

    mean: float
    std: float
    sequence_std: float
    sample_share: float


def engine_gap(trainer: Tensor, sampler: Tensor) -> EngineGap:
    """Compare the log-probabilities that two engines give to the same tokens.

    In reinforcement learning one engine samples, another computes gradients. In
    different formats, the same weights give different probabilities.

    Args:
        trainer: Log-probabilities of sampled tokens, shape (sequences, tokens), two
            sequences or more.
        sampler: Those of the engine that sampled them, of the same shape.

    Raises:
        TypeError: an argument is no tensor.
        ValueError: shapes do not fit, or numbers are not finite.

    Example:
        >>> sampler = torch.full((2, 4), -1.0)
        >>> trainer = sampler + torch.tensor([[0.25], [-0.25]])
        >>> gap = engine_gap(trainer, sampler)
        >>> gap.mean, round(gap.sample_share, 3)
        (0.0, 0.633)

    References:
        Qi et al. 2025, https://arxiv.org/abs/2510.26788
    """
    check_type(Tensor, trainer=trainer, sampler=sampler)
    if trainer.shape != sampler.shape or trainer.ndim != 2 or len(trainer) < 2:
        raise ValueError(
            "trainer, sampler: expected one shape (sequences, tokens) with two "
            f"sequences or more, got {tuple(trainer.shape)} and {tuple(sampler.shape)}"
        )
    if not trainer.shape[1]:
        raise ValueError("trainer, sampler: expected one token or more, got none")
    a, b = _finite(trainer, "trainer").detach(), _finite(sampler, "sampler").detach()
    gaps = a.double() - b.double()
    sums = gaps.sum(1)
    share = (2 * sums.logsumexp(0) - (2 * sums).logsumexp(0)).exp() / len(sums)
    return EngineGap(
        gaps.mean().item(), gaps.std().item(), sums.std().item(), share.item()
    )


def effective_share(std: float, tokens: int) -> float:
    """Effective share of samples when each token's log-probability is off by chance.

    exp(-tokens std^2): gaps of tokens that are independent and Gaussian make the ratio
    of a sequence lognormal, and E[r]^2 / E[r^2] = exp(-Var log r).

    Args:
        std: Standard deviation of the gap of a token, in nats; >= 0.
        tokens: Tokens of a sequence.

    Raises:
        TypeError: an argument is not a number.
        ValueError: an argument is out of range.

    Example:
        >>> round(effective_share(0.01, 1000), 3), round(effective_share(0.08, 1000), 3)
        (0.905, 0.002)
    """
    std = check_positive(std, "std", zero_ok=True)
    return math.exp(-check_count(tokens, "tokens") * std * std)


def _step(value: float, name: str, info: torch.finfo) -> float:
    size = abs(value) if isinstance(value, Real) else value
    size = check_positive(size, name, zero_ok=True)
    if size > info.max:
        raise ValueError(
            f"{name}: expected a magnitude of at most {info.max:g}, the largest of "
            f"{info.dtype}, got {value!r}"
        )
    _, exponent = math.frexp(size)
    smallest: float = info.smallest_normal * info.eps
    return max(math.ldexp(info.eps, exponent - 1), smallest) if size else smallest


def _finite(values: Tensor, name: str) -> Tensor:
    check_type(Tensor, **{name: values})
    if not values.is_floating_point() or not values.isfinite().all():
        raise ValueError(
            f"{name}: expected finite floating-point numbers, got {values.dtype} with "
            f"{int((~values.isfinite()).sum())} that are not"
        )
    return values


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

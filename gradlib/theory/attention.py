"""What bounds attention: its entropy, its logits, and how much they feel a step."""

import math

from gradlib.checks import check_count, check_positive


def attention_entropy_floor(keys: int, spread: float) -> float:
    """The least entropy of a softmax over logits that differ by at most ``spread``.

    The weights are each at least exp(-r) times the largest one, so the largest is at
    most p = 1 / (1 + (n - 1) exp(-r)). The entropy is at least the min-entropy:
    H >= -log p = log(1 + (n - 1) exp(-r))

    Args:
        keys: n, the keys that a query sees.
        spread: r, largest minus smallest logit of the row; >= 0.

    Returns:
        Nats: log n for equal logits, falling to 0 as the spread grows.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> round(attention_entropy_floor(16, 0.0), 4), round(math.log(16), 4)
        (2.7726, 2.7726)
        >>> round(attention_entropy_floor(16, 10.0), 4)
        0.0007

    References:
        Zhai et al. 2023 (a bound by the norms of weights and inputs),
        https://arxiv.org/abs/2303.06296
    """
    keys = check_count(keys, "keys")
    spread = check_positive(spread, "spread", zero_ok=True)
    return math.log1p((keys - 1) * math.exp(-spread))


def qk_norm_bound(
    head_size: int, query_gain: float = 1.0, key_gain: float = 1.0
) -> float:
    """Largest absolute attention logit that QK-norm without a shift allows.

    Normalized queries and keys have norm sqrt(d) at most, times the largest gain, so
    |q k| / sqrt(d) <= gain_q gain_k sqrt(d)

    Args:
        head_size: d, numbers in a query of one head.
        query_gain: Largest absolute gain of the queries' norm; >= 0.
        key_gain: That of the keys' norm; >= 0.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> round(qk_norm_bound(8), 4), round(qk_norm_bound(8, 3.0, 2.0), 4)
        (2.8284, 16.9706)

    References:
        Henry et al. 2020, https://arxiv.org/abs/2010.04245
        Dehghani et al. 2023, https://arxiv.org/abs/2302.05442
    """
    head_size = check_count(head_size, "head_size")
    query_gain = check_positive(query_gain, "query_gain", zero_ok=True)
    key_gain = check_positive(key_gain, "key_gain", zero_ok=True)
    return query_gain * key_gain * math.sqrt(head_size)


def soft_cap_slope(logit: float, cap: float) -> float:
    """Slope of the soft cap c tanh(a / c): what a change of the raw logit a still does.

    1 - tanh^2(a / c)

    Args:
        logit: a, the logit before the cap.
        cap: c, the bound; > 0.

    Raises:
        TypeError: an argument is not a number.
        ValueError: an argument is out of range.

    Example:
        >>> round(soft_cap_slope(1.0, cap=15.0), 3), soft_cap_slope(500.0, cap=15.0)
        (0.996, 0.0)

    References:
        Gemma Team 2024, https://arxiv.org/abs/2408.00118
    """
    cap = check_positive(cap, "cap")
    if isinstance(logit, bool) or not hasattr(logit, "__float__"):
        raise TypeError(f"logit: expected a finite number, got {type(logit).__name__}")
    if not math.isfinite(logit):
        raise ValueError(f"logit: expected a finite number, got {logit!r}")
    return 1.0 - math.tanh(logit / cap) ** 2

"""Bounds of attention against softmaxes and heads that could break them."""

import math
from collections.abc import Callable

import pytest
import torch
from draws import generator
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gradlib.theory import attention_entropy_floor, qk_norm_bound, soft_cap_slope


def entropy(logits: torch.Tensor) -> float:
    return torch.distributions.Categorical(logits=logits.double()).entropy().item()


@given(st.integers(1, 64), st.floats(0, 60), st.integers(0, 10**6))
def test_no_row_falls_below_the_floor(keys: int, spread: float, seed: int) -> None:
    logits = torch.rand(keys, generator=generator(seed), dtype=torch.float64)
    logits = spread * logits.pow(1 + seed % 40)
    found = (logits.max() - logits.min()).item()
    assert entropy(logits) >= attention_entropy_floor(keys, found) - 1e-12


# The row that puts all but one key at the bottom comes nearest: its entropy is
# log Z - E, above the floor by no more than the mean logit below the largest.
@pytest.mark.parametrize("spread", [0.0, 1.0, 4.0, 12.0])
def test_the_floor_is_near_the_extreme_row(spread: float) -> None:
    logits = torch.full((16,), -spread, dtype=torch.float64)
    logits[3] = 0.0
    floor = attention_entropy_floor(16, spread)
    share = 15 * math.exp(-spread) / (1 + 15 * math.exp(-spread))
    assert entropy(logits) == pytest.approx(floor + spread * share)


@pytest.mark.parametrize("size", [2, 8, 64])
def test_qk_norm_bound_is_reached_and_never_crossed(size: int) -> None:
    query, key = nn.RMSNorm(size), nn.RMSNorm(size)
    with torch.no_grad():
        query.weight.fill_(3.0)
        key.weight.fill_(0.5)
        x = 100 * torch.randn(500, size, generator=generator(size))
        logits = query(x) @ key(x).T / math.sqrt(size)
    bound = qk_norm_bound(size, 3.0, 0.5)
    assert logits.abs().max().item() == pytest.approx(bound, rel=1e-5)


def test_soft_cap_slope_is_that_of_autograd() -> None:
    logits = torch.linspace(-80, 80, 41, dtype=torch.float64, requires_grad=True)
    (15 * torch.tanh(logits / 15)).sum().backward()
    for logit, slope in zip(logits.tolist(), logits.grad.tolist(), strict=True):
        assert soft_cap_slope(logit, 15.0) == pytest.approx(slope, abs=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: attention_entropy_floor(0, 1.0), "keys: .* >= 1, got 0"),
        (lambda: attention_entropy_floor(4, -1.0), "spread: .* >= 0, got -1.0"),
        (lambda: qk_norm_bound(0), "head_size: .* >= 1"),
        (lambda: qk_norm_bound(8, -1.0), "query_gain: .* >= 0"),
        (lambda: qk_norm_bound(8, 1.0, math.nan), "key_gain: .* got nan"),
        (lambda: soft_cap_slope(1.0, 0.0), "cap: .* > 0, got 0.0"),
        (lambda: soft_cap_slope(math.inf, 1.0), "logit: .* got inf"),
    ],
)
def test_messages(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()

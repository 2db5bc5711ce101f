"""Thresholds against torch's own rounding, shares against samples."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gradlib.theory import (
    flush_threshold,
    flushed_fraction,
    overflow_fraction,
    overflow_threshold,
    skip_rate,
)

FORMATS = [torch.float16, torch.bfloat16, torch.float32]


def rounded(value: float, dtype: torch.dtype) -> float:
    return float(torch.tensor(value, dtype=torch.float64).to(dtype))


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
def test_thresholds_are_where_torch_rounds(dtype: torch.dtype) -> None:
    low, high = flush_threshold(dtype), overflow_threshold(dtype)
    assert rounded(low, dtype) == 0
    assert rounded(1.01 * low, dtype) > 0
    assert rounded(high, dtype) == math.inf
    info = torch.finfo(dtype)
    assert rounded((1 - info.eps / 100) * high, dtype) == info.max


def test_thresholds_of_float16() -> None:
    assert flush_threshold() == 2.0**-25
    assert overflow_threshold() == 65_520


# Six seeds of 200,000: within 0.0015.
@pytest.mark.parametrize("exponent", [0, 12, 30])
def test_shares_agree_with_a_sample(exponent: int) -> None:
    log_mean, log_std, scale = -26 * math.log(2), 4.0, 2.0**exponent
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(100_000, generator=generator, dtype=torch.float64)
    scaled = (scale * (log_mean + log_std * normal).exp()).half()
    flushed = float((scaled == 0).double().mean())
    overflowed = float(scaled.isinf().double().mean())
    assert abs(flushed - flushed_fraction(log_mean, log_std, scale)) < 0.005
    assert abs(overflowed - overflow_fraction(log_mean, log_std, scale)) < 0.005


def test_bfloat16_flushes_nothing_of_it() -> None:
    assert flushed_fraction(-26 * math.log(2), 4.0, dtype=torch.bfloat16) < 1e-20


@given(mean=st.floats(-50, 50), std=st.floats(0.1, 10), exponent=st.integers(0, 40))
def test_a_larger_scale_flushes_less_and_overflows_more(
    mean: float, std: float, exponent: int
) -> None:
    small, large = 2.0**exponent, 2.0 ** (exponent + 1)
    assert flushed_fraction(mean, std, large) <= flushed_fraction(mean, std, small)
    assert overflow_fraction(mean, std, large) >= overflow_fraction(mean, std, small)
    assert flushed_fraction(mean + math.log(2), std, small) == pytest.approx(
        flushed_fraction(mean, std, large), abs=1e-12
    )


@pytest.mark.parametrize("interval", [20, 50])
def test_skip_rate_is_that_of_grad_scaler(interval: int) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**14, growth_interval=interval)
    x = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([x], lr=0.0)
    steps, skipped = 20 * (interval + 1), 0
    for _ in range(steps):
        scale = scaler.get_scale()
        scaler.scale(torch.ones(1))
        x.grad = torch.full((1,), 3.0 * scale).half().float()
        scaler.step(optimizer)
        scaler.update()
        skipped += scaler.get_scale() < scale
    assert skipped / steps == pytest.approx(skip_rate(interval))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: flush_threshold(torch.int8), ValueError, "dtype: .*got torch.int8"),
        (lambda: overflow_threshold("half"), ValueError, "dtype: .*got 'half'"),
        (lambda: flushed_fraction(0.0, 0.0), ValueError, "log_std: .* > 0"),
        (lambda: flushed_fraction(math.inf, 1.0), ValueError, "log_mean: .*got inf"),
        (lambda: flushed_fraction("0", 1.0), ValueError, "log_mean: .*got '0'"),
        (lambda: overflow_fraction(0.0, 1.0, scale=0.0), ValueError, "scale: .* > 0"),
        (lambda: skip_rate(0), ValueError, "growth_interval: .* >= 1, got 0"),
    ],
)
def test_messages(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()

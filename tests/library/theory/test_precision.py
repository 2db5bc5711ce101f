"""Thresholds against torch's own rounding, shares against samples."""

import math
from collections.abc import Callable

import pytest
import torch
from draws import generator
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gradlib.theory import (
    block_round,
    effective_share,
    engine_gap,
    flush_threshold,
    flushed_fraction,
    frozen_share,
    overflow_fraction,
    overflow_threshold,
    rounding_step,
    skip_rate,
    stall_gradient,
    stochastic_round,
    swallowed_share,
)

BYTES = [torch.float8_e4m3fn, torch.float8_e5m2]
FORMATS = [torch.float16, torch.bfloat16, torch.float32]
ALL = [*BYTES, *FORMATS]
each_format = pytest.mark.parametrize("dtype", ALL, ids=str)


def rounded(value: float, dtype: torch.dtype) -> float:
    return float(torch.tensor(value, dtype=torch.float64).to(dtype))


@each_format
def test_thresholds_are_where_torch_rounds(dtype: torch.dtype) -> None:
    low, high = flush_threshold(dtype), overflow_threshold(dtype)
    assert rounded(low, dtype) == 0
    assert rounded(1.01 * low, dtype) > 0
    info = torch.finfo(dtype)
    assert rounded((1 - info.eps / 100) * high, dtype) == info.max
    if dtype != torch.float8_e4m3fn:  # it has no infinity, and its versions differ
        assert rounded(high, dtype) == math.inf


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


# 20 seeds: 0.74 to 0.82 of the share of steady gradients.
@pytest.mark.parametrize("seed", range(3))
def test_varying_gradients_skip_fewer_than_steady_ones(seed: int) -> None:
    interval, steps = 10, 1000
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**14, growth_interval=interval)
    x = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([x], lr=0.0)
    sizes = (2.0 * torch.randn(steps, generator=generator(seed))).exp()
    start, skipped = scaler.get_scale(), 0
    for size in sizes:
        scale = scaler.get_scale()
        scaler.scale(torch.ones(1))
        x.grad = (3.0 * scale * size).reshape(1).half().float()
        scaler.step(optimizer)
        scaler.update()
        skipped += scaler.get_scale() < scale
    fallen = math.log2(start / scaler.get_scale())
    assert skipped <= (steps + fallen * interval) / (interval + 1)
    assert skipped / steps < 0.9 * skip_rate(interval)


@each_format
def test_step_is_the_gap_to_the_next_number(dtype: torch.dtype) -> None:
    if dtype.itemsize == 4:
        bits = torch.randint(2**30, (256,), generator=generator(0)).int()
        numbers, following = bits.view(dtype), (bits + 1).view(dtype)
    else:
        whole = {1: torch.uint8, 2: torch.int16}[dtype.itemsize]
        codes = torch.arange(2 ** (8 * dtype.itemsize - 1) - 1)
        numbers, following = (c.to(whole).view(dtype) for c in (codes, codes + 1))
    pairs = torch.stack([numbers.double(), following.double()])
    for value, after in pairs[:, pairs.isfinite().all(0)].T[::7].tolist():
        assert rounding_step(value, dtype) == after - value
        assert rounding_step(-value, dtype) == after - value


@pytest.mark.parametrize("lr", [0.1, 0.01, 1e-4])
@each_format
def test_descent_stalls_at_its_gradient(dtype: torch.dtype, lr: float) -> None:
    for weight in (1.25, 1.5, 40.0):
        stall = stall_gradient(weight, lr, dtype)
        assert rounded(weight - 0.99 * lr * stall, dtype) == weight
        assert rounded(weight - 1.01 * lr * stall, dtype) < weight


@each_format
def test_swallowed_share_is_what_half_steps_say(dtype: torch.dtype) -> None:
    weights = torch.randn(4000, generator=generator(0))
    updates = 0.01 * torch.randn(4000, generator=generator(1))
    updates[::5] = 0
    stored = weights.to(dtype).double().tolist()
    lost = [
        abs(u) < rounding_step(w, dtype) / 2
        for w, u in zip(stored, updates.tolist(), strict=True)
        if u
    ]
    share = swallowed_share(weights, updates, dtype)
    # Towards zero from a power of two the step is half as large.
    assert share == pytest.approx(sum(lost) / len(lost), abs=0.02)


def test_torch_loses_what_swallowed_share_counts() -> None:
    weights = torch.randn(4000, generator=generator(2)).bfloat16()
    updates = (0.003 * torch.randn(4000, generator=generator(3))).bfloat16()
    kept = (weights + updates == weights)[updates != 0]
    found = swallowed_share(weights.float(), updates.float())
    assert 0.2 < found < 0.9
    assert found == pytest.approx(kept.double().mean().item())


@pytest.mark.parametrize(
    ("beta2", "dtype"),
    [
        *((b, torch.bfloat16) for b in (0.9, 0.995, 0.997, 0.998, 0.999)),
        *((b, torch.float16) for b in (0.999, 0.9996, 0.9998)),
        *((b, torch.float8_e4m3fn) for b in (0.9, 0.95, 0.96, 0.98)),
    ],
)
def test_decay_freezes_the_share(beta2: float, dtype: torch.dtype) -> None:
    v = torch.logspace(-3, 2, 40_001, base=2).to(dtype).float()[:-1]
    frozen = ((v * beta2).to(dtype).float() == v).double().mean().item()
    grain = torch.finfo(dtype).eps if dtype.itemsize == 1 else 0.01
    assert frozen == pytest.approx(frozen_share(beta2, dtype), abs=grain)


def test_torch_adam_in_bfloat16_never_forgets_at_0999() -> None:
    left = {}
    for dtype in (torch.bfloat16, torch.float32):
        for beta2 in (0.95, 0.999):
            p = nn.Parameter(torch.ones(8, dtype=dtype))
            optimizer = torch.optim.Adam([p], lr=1e-3, betas=(0.9, beta2))
            for step in range(1000):
                p.grad = torch.full_like(p, 1000.0 if step == 0 else 1.0)
                optimizer.step()
            v = optimizer.state[p]["exp_avg_sq"][0].item()
            left[dtype, beta2] = v / (1e6 * (1 - beta2))
    assert left[torch.bfloat16, 0.999] > 0.98
    assert left[torch.float32, 0.999] == pytest.approx(0.999**999, rel=0.01)
    assert left[torch.bfloat16, 0.95] < 1e-3


@each_format
def test_stochastic_rounding_takes_neighbors_and_keeps_the_mean(
    dtype: torch.dtype,
) -> None:
    x = torch.randn(50, generator=generator(0)).double() * 3
    x = torch.cat([x, torch.tensor([0.0, 1e-9, 0.3 * flush_threshold(dtype)]).double()])
    draws = stochastic_round(x.repeat(4000, 1), dtype, generator=generator(1)).double()
    steps = torch.tensor([rounding_step(v, dtype) for v in x.tolist()]).double()
    assert (draws - x).abs().max(0).values.lt(steps).all()
    assert draws.to(dtype).double().equal(draws)
    error = (draws.mean(0) - x).abs() / steps
    assert error.max() < 5 * 0.5 / math.sqrt(4000)


@each_format
def test_stochastic_rounding_leaves_what_fits_and_stays_finite(
    dtype: torch.dtype,
) -> None:
    info = torch.finfo(dtype)
    x = torch.randn(200, generator=generator(0)).to(dtype)
    assert stochastic_round(x.float(), dtype).float().equal(x.float())
    top = torch.tensor([info.max, -info.max], dtype=torch.float64)
    assert stochastic_round(1.01 * top, dtype).double().equal(top)


@pytest.mark.parametrize("dtype", BYTES, ids=str)
def test_block_round_is_a_cast_of_scaled_blocks(dtype: torch.dtype) -> None:
    x = torch.randn(6, 256, generator=generator(0)) * torch.logspace(-4, 4, 6)[:, None]
    x[0, :64] = 0
    info = torch.finfo(dtype)
    for block in (64, 128, None):
        parts = [x] if block is None else x.reshape(-1, block).unbind()
        wanted = []
        for part in parts:
            s = info.max / part.abs().max().item() if part.any() else 1.0
            cast = (part.double() * s).clamp(-info.max, info.max).float().to(dtype)
            wanted.append((cast.double() / s).float().flatten())
        torch.testing.assert_close(
            block_round(x, dtype, block=block).flatten(), torch.cat(wanted)
        )


def test_one_outlier_flushes_what_the_lognormal_law_says() -> None:
    x = (-9 + 2 * torch.randn(256, 512, generator=generator(0))).exp()
    x[7, 11] = 100.0
    lost = (block_round(x) == 0).double().mean().item()
    theory = flushed_fraction(-9, 2, 448 / 100, torch.float8_e4m3fn)
    assert lost == pytest.approx(theory, abs=0.01)
    assert (block_round(x, block=128) == 0).double().mean() < 0.005


def test_engine_gap_of_known_gaps() -> None:
    sampler = torch.randn(3000, 40, generator=generator(0)).double()
    gaps = 0.1 * torch.randn(3000, 40, generator=generator(1)).double() + 0.02
    found = engine_gap(sampler + gaps, sampler)
    assert found.mean == pytest.approx(gaps.mean().item())
    assert found.std == pytest.approx(gaps.std().item())
    assert found.sequence_std == pytest.approx(0.1 * math.sqrt(40), rel=0.04)
    r = gaps.sum(1).exp()
    assert found.sample_share == pytest.approx(
        (r.sum() ** 2 / (3000 * (r * r).sum())).item()
    )
    assert found.sample_share == pytest.approx(effective_share(0.1, 40), abs=0.05)
    assert engine_gap(sampler, sampler) == (0, 0, 0, pytest.approx(1))


def test_engine_gap_bears_ratios_beyond_every_number() -> None:
    sampler = torch.zeros(4, 1)
    trainer = torch.tensor([[2000.0], [0.0], [0.0], [0.0]])
    assert engine_gap(trainer, sampler).sample_share == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: rounding_step(500.0, torch.float8_e4m3fn),
            "value: .* most 448, .*float8_e4m3fn",
        ),
        (lambda: stall_gradient(1.0, 0.0), "lr: .* > 0"),
        (
            lambda: swallowed_share(torch.ones(2), torch.zeros(2)),
            "updates: .*not 0.*float32",
        ),
        (
            lambda: swallowed_share(torch.ones(2), torch.ones(3)),
            r"updates: .*\(2,\), got \(3,\)",
        ),
        (lambda: frozen_share(1.0), "beta2: .* < 1"),
        (
            lambda: stochastic_round(torch.tensor([1.0, math.inf])),
            "values: .*float32 with 1 that are not",
        ),
        (lambda: block_round(torch.ones(2, 5), block=2), "block: .*axis, 5, got 2"),
        (
            lambda: engine_gap(torch.ones(1, 5), torch.ones(1, 5)),
            r"two sequences.*\(1, 5\)",
        ),
        (lambda: effective_share(0.1, 0), "tokens: .* >= 1"),
    ],
)
def test_messages_of_shares(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


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

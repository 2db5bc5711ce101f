"""Gates, truncation, memory and Lyapunov exponents against recurrences that run."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from draws import generator
from hypothesis import given, settings
from hypothesis import strategies as st

from gradlib.theory import (
    cell_growth,
    gate_half_life,
    lyapunov_exponents,
    memory_sensitivity,
    truncation_share,
)


@pytest.mark.parametrize("bias", [-1.0, 0.0, 1.0, 5.0])
def test_cell_growth_is_that_of_an_lstm(bias: float) -> None:
    cell = torch.nn.LSTMCell(3, 4).double()
    for parameter in cell.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        cell.bias_hh[4:8] = bias
    start = torch.ones(1, 4, dtype=torch.float64, requires_grad=True)
    inputs = torch.zeros(1, 3, dtype=torch.float64)
    h, c = torch.zeros_like(start), start
    for _ in range(20):
        h, c = cell(inputs, (h, c))
    (gradient,) = torch.autograd.grad(c.sum(), start)
    expected = torch.full_like(gradient, cell_growth(bias, 20))
    torch.testing.assert_close(gradient, expected)


def test_cell_growth_at_the_limits() -> None:
    assert cell_growth(0.0, 3) == 0.125
    assert cell_growth(2, 0) == 1.0
    assert cell_growth(-1e4, 2) == 0.0
    assert cell_growth(math.inf, 100) == 1.0


@given(bias=st.floats(-30, 30), steps=st.integers(0, 50))
def test_a_half_life_halves(bias: float, steps: int) -> None:
    half_life = gate_half_life(bias)
    decayed = 0.5 ** (steps / half_life)
    assert decayed == pytest.approx(cell_growth(bias, steps), rel=1e-6, abs=1e-300)


def test_half_life_at_the_limits() -> None:
    assert gate_half_life(0) == pytest.approx(1)
    assert gate_half_life(math.inf) == math.inf
    assert gate_half_life(-math.inf) == 0
    assert gate_half_life(20.0) == pytest.approx(math.log(2) * math.exp(20), rel=1e-6)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("kept", [0, 1, 5, 20])
def test_truncation_share_is_that_of_autograd(decay: float, kept: int) -> None:
    def gradient(kept: int) -> float:
        weight = torch.tensor(decay, dtype=torch.float64, requires_grad=True)
        h = torch.zeros((), dtype=torch.float64)
        for step in range(600):
            h = weight * (h.detach() if step == 600 - kept else h) + 1
        return float(torch.autograd.grad(h, weight)[0]) if kept else 0.0

    share = gradient(kept) / gradient(600)
    assert share == pytest.approx(truncation_share(decay, kept), abs=1e-9)


# 20 seeds: one errs by up to 6 per cent at 0.9, the mean of five by 2.
@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9])
def test_memory_sensitivity_is_measured(decay: float) -> None:
    squares = []
    for seed in range(5):
        draw = generator(seed)
        h, slope = torch.zeros(2, 4000, dtype=torch.float64)
        for _ in range(200):
            noise = torch.randn(4000, generator=draw, dtype=torch.float64)
            h, slope = decay * h + noise, h + decay * slope
        squares.append(float(slope.square().mean()))
    assert float(np.mean(squares)) == pytest.approx(memory_sensitivity(decay), rel=0.06)


def test_exponents_of_a_triangular_matrix_are_the_logs_of_its_diagonal() -> None:
    matrix = torch.tensor([[3.0, 5.0, -2.0], [0.0, 1.0, 7.0], [0.0, 0.0, 0.2]])
    found = lyapunov_exponents(
        matrix.expand(200, 3, 3), k=3, skip=100, generator=generator(0)
    )
    expected = torch.tensor([3.0, 1.0, 0.2], dtype=torch.float64).log()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@given(seed=st.integers(0, 99), n=st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_all_exponents_add_up_to_the_mean_log_determinant(seed: int, n: int) -> None:
    jacobians = torch.randn(30, n, n, generator=generator(seed), dtype=torch.float64)
    total = lyapunov_exponents(jacobians, k=n, generator=generator(seed)).sum()
    logs = torch.linalg.det(jacobians).abs().log()
    torch.testing.assert_close(total, logs.mean(), rtol=1e-9, atol=1e-9)


def test_a_large_product_does_not_overflow() -> None:
    found = lyapunov_exponents(1e3 * torch.eye(2).expand(500, 2, 2))
    assert found.item() == pytest.approx(math.log(1e3), rel=1e-6)
    assert lyapunov_exponents(torch.zeros(3, 2, 2)).item() == -math.inf


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: cell_growth("1", 3), TypeError, "forget_bias: .*got str"),
        (lambda: cell_growth(math.nan, 3), ValueError, "forget_bias: .*got nan"),
        (lambda: cell_growth(1.0, -1), ValueError, "steps: .* >= 0, got -1"),
        (lambda: gate_half_life(math.nan), ValueError, "forget_bias: .*got nan"),
        (lambda: truncation_share(1.0, 3), ValueError, "decay: .* < 1, got 1.0"),
        (lambda: truncation_share(0.5, -1), ValueError, "steps: .* >= 0, got -1"),
        (lambda: memory_sensitivity(-0.1), ValueError, "decay: .* < 1, got -0.1"),
        (lambda: lyapunov_exponents([1.0]), TypeError, "jacobians: .*got list"),
        (
            lambda: lyapunov_exponents(torch.ones(2, 2)),
            ValueError,
            r"jacobians: .*\(steps, n, n\), got \(2, 2\)",
        ),
        (
            lambda: lyapunov_exponents(torch.full((1, 1, 1), math.nan)),
            ValueError,
            "jacobians: .*finite",
        ),
        (
            lambda: lyapunov_exponents(torch.ones(1, 1, 1), k=2),
            ValueError,
            "k: expected at most 1 directions, got 2",
        ),
        (
            lambda: lyapunov_exponents(torch.ones(2, 1, 1), skip=2),
            ValueError,
            "skip: expected less than 2 steps, got 2",
        ),
    ],
)
def test_messages(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()

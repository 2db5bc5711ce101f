"""Expectations under a Gaussian against closed forms and NumPy's rules."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gradlib.quadrature import gaussian_expectation

CLOSED_FORMS = {
    "relu": (torch.relu, 4.0, 0.0, 2 / math.sqrt(2 * math.pi)),
    "relu squared": (lambda x: x.relu() ** 2, 3.0, 0.0, 1.5),
    "step at 0": (lambda x: (x > 0).double(), 1.0, 0.0, 0.5),
    "step elsewhere": (
        lambda x: (x > 1.2345).double(),
        4.0,
        0.3,
        0.5 * math.erfc((1.2345 - 0.3) / 2 / math.sqrt(2)),
    ),
    "narrow box": (
        lambda x: (x.abs() < 1e-3).double(),
        1.0,
        0.0,
        math.erf(1e-3 / math.sqrt(2)),
    ),
    "narrow peak": (
        lambda x: 1 - x.tanh() ** 2,
        1e12,
        0.0,
        2e-6 / math.sqrt(2 * math.pi),
    ),
    "narrow peak off center": (
        lambda x: 1 - x.tanh() ** 2,
        1e12,
        1e6,
        2e-6 * math.exp(-0.5) / math.sqrt(2 * math.pi),
    ),
    "absolute root": (
        lambda x: x.abs().sqrt(),
        1.0,
        0.0,
        2**0.25 * math.gamma(0.75) / math.sqrt(math.pi),
    ),
    "polynomial": (lambda x: x**8, 1.0, 0.0, 105.0),
    "exponential": (lambda x: (5 * x).exp(), 1.0, 0.0, math.exp(12.5)),
    "sine": (torch.sin, 1.0, 2.0, math.sin(2) * math.exp(-0.5)),
    "tiny variance": (lambda x: x**2, 1e-300, 0.0, 1e-300),
    "no variance": (torch.exp, 0.0, 1.0, math.e),
    "neither variance nor mean": (torch.cos, 0.0, 0.0, 1.0),
}


@pytest.mark.parametrize("case", CLOSED_FORMS.values(), ids=CLOSED_FORMS.keys())
def test_closed_forms(
    case: tuple[Callable[[Tensor], Tensor], float, float, float],
) -> None:
    f, variance, mean, expected = case
    value = gaussian_expectation(f, variance, mean)
    assert value == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "sin", "erf"])
def test_smooth_functions_agree_with_gauss_hermite(name: str) -> None:
    f = getattr(torch, name)
    x, weights = np.polynomial.hermite_e.hermegauss(100)
    nodes = torch.from_numpy(0.3 + 0.5 * x)
    expected = float(f(nodes).square().numpy() @ weights) / math.sqrt(2 * math.pi)
    value = gaussian_expectation(lambda x: f(x) ** 2, variance=0.25, mean=0.3)
    assert value == pytest.approx(expected, rel=1e-10)


def test_odd_functions_vanish() -> None:
    assert abs(gaussian_expectation(torch.tanh)) < 1e-14


@pytest.mark.parametrize("points", [16, 201, 1000])
def test_points_change_nothing_but_the_work(points: int) -> None:
    value = gaussian_expectation(torch.relu, points=points)
    assert value == pytest.approx(1 / math.sqrt(2 * math.pi), rel=1e-12)


@given(
    slope=st.floats(-10, 10),
    offset=st.floats(-10, 10),
    variance=st.floats(1e-6, 1e6),
    mean=st.floats(-1e3, 1e3),
)
@settings(max_examples=40, deadline=None)
def test_expectation_is_linear(
    slope: float, offset: float, variance: float, mean: float
) -> None:
    value = gaussian_expectation(lambda x: slope * x + offset, variance, mean)
    size = abs(slope) * (abs(mean) + math.sqrt(variance)) + abs(offset)
    assert abs(value - slope * mean - offset) <= 1e-11 * size


@given(kink=st.floats(-5, 5), variance=st.floats(0.01, 100))
@settings(max_examples=40, deadline=None)
def test_a_kink_may_lie_anywhere(kink: float, variance: float) -> None:
    deviation = math.sqrt(variance)
    u = kink / deviation
    density = math.exp(-u * u / 2) / math.sqrt(2 * math.pi)
    expected = deviation * density - kink * 0.5 * math.erfc(u / math.sqrt(2))
    value = gaussian_expectation(lambda x: (x - kink).relu(), variance)
    assert abs(value - expected) <= 1e-9 * deviation


@given(jump=st.floats(-5, 5), variance=st.floats(0.01, 100))
@settings(max_examples=40, deadline=None)
def test_a_jump_may_lie_anywhere(jump: float, variance: float) -> None:
    expected = 0.5 * math.erfc(jump / math.sqrt(2 * variance))
    value = gaussian_expectation(lambda x: (x > jump).double(), variance)
    assert abs(value - expected) <= 1e-9


@pytest.mark.parametrize("gap", [1e-3, 1e-5, 1e-8])
def test_a_jump_next_to_a_panel_edge_is_seen(gap: float) -> None:
    value = gaussian_expectation(lambda x: (x > 1 - gap).double())
    assert value == pytest.approx(0.5 * math.erfc((1 - gap) / math.sqrt(2)), abs=1e-11)


@pytest.mark.parametrize("jump", [0.0, 1.0, -4.0])
def test_a_jump_where_activations_have_theirs_needs_no_halving(jump: float) -> None:
    calls = []

    def step(x: Tensor) -> Tensor:
        calls.append(x)
        return (x > jump).double()

    gaussian_expectation(step)
    assert len(calls) == 3  # the panels, and both their halves


def test_inference_mode_does_not_matter() -> None:
    with torch.inference_mode():
        assert gaussian_expectation(lambda x: x**2) == pytest.approx(1, rel=1e-12)


def test_accepts_a_function_with_gradients() -> None:
    scale = torch.tensor(2.0, requires_grad=True)
    value = gaussian_expectation(lambda x: scale * x**2)
    assert value == pytest.approx(2, rel=1e-12)


@pytest.mark.parametrize(
    ("f", "error", "message"),
    [
        (lambda x: 3.0, TypeError, "f: expected a tensor from <lambda>, got float"),
        (lambda x: x.sum(), ValueError, "keep the shape"),
        (lambda x: x.exp().exp(), ValueError, "expected finite values.*at x ="),
        (lambda x: x * math.nan, ValueError, "expected finite values"),
        (lambda x: torch.rand_like(x), ValueError, "deterministic"),
    ],
)
def test_functions_that_cannot_be_integrated(
    f: Callable[[Tensor], Tensor], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        gaussian_expectation(f)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"variance": -1.0}, ValueError, r"variance: expected .* >= 0, got -1.0"),
        ({"variance": math.inf}, ValueError, "variance"),
        ({"variance": "1"}, TypeError, "variance"),
        ({"mean": math.nan}, ValueError, "mean: expected a finite number, got nan"),
        ({"mean": "0"}, TypeError, "mean: expected a finite number, got str"),
        ({"points": 15}, ValueError, "points: expected a whole number >= 16"),
        ({"points": 20.5}, TypeError, "points"),
    ],
)
def test_arguments_out_of_range(
    arguments: dict[str, float], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        gaussian_expectation(torch.tanh, **arguments)

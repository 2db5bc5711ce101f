"""Mean-field theory against closed forms and against networks."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradlib import theory
from gradlib.activations import ACTIVATIONS, as_activation, quadrature_gain
from gradlib.theory import chi, depth_scale, fixed_point, variance_map


def tanh_map(q: float, sigma_w2: float, sigma_b2: float) -> float:
    """The variance map of tanh by NumPy's Gauss-Hermite rule."""
    x, weights = np.polynomial.hermite_e.hermegauss(201)
    moment = weights @ np.tanh(math.sqrt(q) * x) ** 2 / math.sqrt(2 * math.pi)
    return float(sigma_w2 * moment + sigma_b2)


def deep_net(
    name: str,
    sigma_w2: float,
    sigma_b2: float,
    q: float,
    seed: int,
    *,
    depth: int = 40,
    width: int = 512,
    rows: int = 8,
) -> tuple[float, float]:
    """Growth of the log squared gradient a layer, and the last layer's variance."""
    generator = torch.Generator().manual_seed(seed)
    f = as_activation(name).function
    z = math.sqrt(q) * torch.randn(rows, width, generator=generator)
    inputs = [z.requires_grad_()]
    for _ in range(depth):
        weight = torch.randn(width, width, generator=generator)
        bias = torch.randn(width, generator=generator) * math.sqrt(sigma_b2)
        z = f(z) @ weight.T * math.sqrt(sigma_w2 / width) + bias
        inputs.append(z)
    direction = torch.randn(rows, width, generator=generator)
    gradients = torch.autograd.grad(z, inputs, direction)
    logs = [float(g.square().sum().log()) for g in gradients]
    growth = -np.polyfit(range(depth + 1), logs, 1)[0]
    return float(growth), float(z.detach().square().mean())


# 24 seeds: one errs by up to 0.020, the mean of three by 0.012.
@pytest.mark.parametrize(
    ("name", "sigma_w2", "sigma_b2"),
    [
        ("relu", 1.0, 0.0),
        ("relu", 2.0, 0.0),
        ("relu", 4.0, 0.0),
        ("relu", 1 / 3, 0.0),  # torch's default for nn.Linear
        ("identity", 1 / 3, 0.0),
        ("tanh", 0.8, 0.05),
        ("tanh", 1.5, 0.05),
        ("tanh", 4.0, 0.05),
        ("selu", 1.0, 0.0),
        ("hardtanh", 1.5, 0.1),
    ],
)
def test_gradients_grow_by_chi(name: str, sigma_w2: float, sigma_b2: float) -> None:
    q = fixed_point(name, sigma_w2, sigma_b2).q or 1.0
    q = 1.0 if q == math.inf else q
    measured = [deep_net(name, sigma_w2, sigma_b2, q, seed)[0] for seed in range(3)]
    expected = math.log(chi(name, sigma_w2, sigma_b2, q=q))
    assert abs(float(np.mean(measured)) - expected) < 0.02


# 24 seeds: one errs by up to 18 per cent, the mean of three by 13.
@pytest.mark.parametrize(
    ("name", "sigma_w2", "sigma_b2", "start"),
    [
        ("tanh", 3.0, 0.05, 1.0),
        ("relu", 1.0, 0.5, 3.0),
        ("selu", 1.0, 0.0, 2.0),
        ("sigmoid", 1.0, 0.0, 1.0),
        ("gelu", 1.5, 0.2, 1.0),
    ],
)
def test_variance_settles_at_the_fixed_point(
    name: str, sigma_w2: float, sigma_b2: float, start: float
) -> None:
    runs = [deep_net(name, sigma_w2, sigma_b2, start, seed)[1] for seed in range(3)]
    point = fixed_point(name, sigma_w2, sigma_b2, start=start)
    assert point.stable
    assert float(np.mean(runs)) == pytest.approx(point.q, rel=0.15)


# 24 seeds: |log variance| > 2.2 for GELU and SiLU, < 0.1 for SELU.
@pytest.mark.parametrize(
    ("name", "slope", "stable"),
    [("selu", 0.78265, True), ("gelu", 1.14406, False), ("silu", 1.17259, False)],
)
def test_a_kept_variance_need_not_be_stable(
    name: str, slope: float, stable: bool
) -> None:
    sigma_w2 = quadrature_gain(name) ** 2
    point = fixed_point(name, sigma_w2)
    assert point.q == pytest.approx(1.0, rel=1e-6)
    assert point.slope == pytest.approx(slope, abs=1e-4)
    assert point.stable is stable
    runs = [deep_net(name, sigma_w2, 0, 1.0, seed, depth=50)[1] for seed in range(4)]
    moved = [abs(math.log(variance)) > 0.5 for variance in runs]
    assert sum(moved) == (0 if stable else 4)


@pytest.mark.parametrize(
    ("q", "sigma_w2", "sigma_b2"), [(0.3, 1.0, 0.0), (2.0, 3.0, 0.5)]
)
def test_variance_map_agrees_with_numpy(
    q: float, sigma_w2: float, sigma_b2: float
) -> None:
    expected = tanh_map(q, sigma_w2, sigma_b2)
    assert variance_map("tanh", q, sigma_w2, sigma_b2) == pytest.approx(expected)


def test_fixed_point_agrees_with_plain_iteration() -> None:
    q = 1.0
    for _ in range(200):
        q = tanh_map(q, 3.0, 0.05)
    point = fixed_point("tanh", 3.0, 0.05)
    assert point.q == pytest.approx(q, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "sigma_w2", "sigma_b2", "start", "q", "slope", "stable"),
    [
        ("relu", 1.0, 0.5, 1.0, 1.0, 0.5, True),
        ("relu", 1.0, 0.0, 1.0, 0.0, 0.5, True),
        ("relu", 2.0, 0.0, 7.0, 7.0, 1.0, False),  # every variance is fixed
        ("relu", 2.0, 0.1, 1.0, math.inf, 1.0, False),
        ("relu", 3.0, 0.0, 1.0, math.inf, 1.5, False),
        ("relu", 2 - 2e-7, 1e6, 1.0, math.inf, 1.0, False),  # 1e13 counts as infinite
        ("relu", 1.0, 0.5, 1e14, 1.0, 0.5, True),
        ("identity", 0.5, 1.0, 1e-14, 2.0, 0.5, True),
        ("tanh", 0.9, 0.0, 1.0, 0.0, 0.9, True),
        ("tanh", 1.0, 0.0, 1.0, 0.0, 1.0, False),
        ("gelu", 1.0, 0.0, 1.0, 0.0, 0.25, True),
        ("gelu", 2.5, 0.0, 1.0, math.inf, 1.25, False),
        ("gelu", 2.3, 0.0, 1.0, 0.0, 0.575, True),  # below its unstable point
    ],
)
def test_fixed_points_with_closed_forms(
    name: str,
    sigma_w2: float,
    sigma_b2: float,
    start: float,
    q: float,
    slope: float,
    stable: bool,
) -> None:
    point = fixed_point(name, sigma_w2, sigma_b2, start=start)
    assert point.q == pytest.approx(q, rel=1e-9)
    assert point.slope == pytest.approx(slope, rel=1e-6)
    assert point.stable is stable


@given(
    name=st.sampled_from(sorted(ACTIVATIONS)),
    sigma_w2=st.floats(0.05, 10),
    sigma_b2=st.floats(0.001, 2),
    start=st.floats(0.01, 100),
)
@settings(max_examples=25, deadline=None)
def test_a_fixed_point_is_fixed_and_its_slope_is_the_derivative(
    name: str, sigma_w2: float, sigma_b2: float, start: float
) -> None:
    point = fixed_point(name, sigma_w2, sigma_b2, start=start)
    if point.q == math.inf:
        assert variance_map(name, 1e12, sigma_w2, sigma_b2) > 1e12
        return
    following = variance_map(name, point.q, sigma_w2, sigma_b2)
    assert following == pytest.approx(point.q, rel=1e-9)
    below, above = (
        variance_map(name, point.q * factor, sigma_w2, sigma_b2)
        for factor in (0.999, 1.001)
    )
    assert point.slope == pytest.approx((above - below) / (0.002 * point.q), rel=1e-4)


@given(sigma_w2=st.floats(0.01, 100), sigma_b2=st.floats(0, 10), q=st.floats(0, 1e6))
@settings(max_examples=30, deadline=None)
def test_relu_has_closed_forms(sigma_w2: float, sigma_b2: float, q: float) -> None:
    expected = sigma_w2 * q / 2 + sigma_b2
    assert variance_map("relu", q, sigma_w2, sigma_b2) == pytest.approx(expected)
    assert chi("relu", sigma_w2, sigma_b2) == pytest.approx(sigma_w2 / 2)


def test_torch_gain_of_tanh_explodes() -> None:
    assert chi("tanh", (5 / 3) ** 2) == pytest.approx(1.210, abs=5e-4)


@pytest.mark.parametrize(
    ("q", "expected"), [(0.0, 1 / 4), (math.inf, 1 / 2), (None, 1 / 4)]
)
def test_chi_of_gelu_at_the_limits(q: float | None, expected: float) -> None:
    assert chi("gelu", 1.0, q=q) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("sigma_w2", "expected"),
    [(1.0, 1 / math.log(2)), (4.0, 1 / math.log(2)), (2.0, math.inf)],
)
def test_depth_scale(sigma_w2: float, expected: float) -> None:
    assert depth_scale("relu", sigma_w2) == pytest.approx(expected)


def test_depth_scale_is_zero_without_slope() -> None:
    assert depth_scale(torch.sign, 1.0) == 0.0


def test_the_best_known_formulas_can_be_imported_from_here() -> None:
    for name in (
        "batch_norm_growth",
        "critical_line",
        "critical_sigma_w2",
        "finite_width_moments",
        "max_sharpness",
        "residual_growth",
    ):
        assert callable(getattr(theory, name))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: variance_map("relu", -1.0, 1.0), ValueError, "q: .* >= 0, got -1.0"),
        (lambda: variance_map("relu", 1.0, 0.0), ValueError, "sigma_w2: .* > 0"),
        (lambda: variance_map("relu", 1.0, 1.0, -1.0), ValueError, "sigma_b2"),
        (lambda: variance_map("rellu", 1.0, 1.0), ValueError, "got 'rellu'"),
        (lambda: fixed_point("relu", 1.0, start=0.0), ValueError, "start: .* > 0"),
        (lambda: fixed_point("relu", math.nan), ValueError, "sigma_w2"),
        (lambda: chi("relu", 1.0, q=-1.0), ValueError, "q: "),
        (lambda: chi("relu", 1.0, q=math.nan), ValueError, "q: "),
        (lambda: chi("relu", "1"), TypeError, "sigma_w2: .*got str"),
        (lambda: depth_scale("relu", -1.0), ValueError, "sigma_w2"),
    ],
)
def test_messages(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()

"""Spectral radius, bounds and isometry against NumPy and products of matrices."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gradlib.activations import as_activation, slope
from gradlib.theory import (
    critical_line,
    jacobian_bound,
    singular_value_variance,
    spectral_radius,
)


def gaussian(n: int, generator: torch.Generator) -> Tensor:
    weight = torch.randn(n, n, generator=generator, dtype=torch.float64)
    return weight / math.sqrt(n)


def decay_of_gradients(matrix: Tensor, generator: torch.Generator) -> float:
    """Slope of log ||g|| when g goes back through a linear recurrence."""
    g = torch.randn(len(matrix), generator=generator, dtype=torch.float64)
    logs = []
    for _ in range(100):
        g = matrix.T @ g
        logs.append(float(g.norm().log()))
    return float(np.polyfit(range(80), logs[20:], 1)[0])


def spread(name: str, kind: str, q: float, seed: int, n: int, depth: int) -> float:
    """Variance of a critical net's squared singular values, their mean being 1."""
    generator = torch.Generator().manual_seed(seed)
    _, sigma_w2, sigma_b2 = critical_line(name, [q])[0]
    h = math.sqrt(q) * torch.randn(n, generator=generator, dtype=torch.float64)
    jacobian = torch.eye(n, dtype=torch.float64)
    for _ in range(depth):
        weight = gaussian(n, generator)
        if kind == "orthogonal":
            weight = torch.linalg.qr(weight)[0]
        weight = math.sqrt(sigma_w2) * weight
        jacobian = weight @ (slope(name, h)[:, None] * jacobian)
        bias = torch.randn(n, generator=generator, dtype=torch.float64)
        h = weight @ as_activation(name).function(h) + math.sqrt(sigma_b2) * bias
    values = torch.linalg.svdvals(jacobian) ** 2
    return float((values / values.mean()).var(correction=0))


@given(n=st.integers(1, 6), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_spectral_radius_agrees_with_numpy(n: int, seed: int) -> None:
    matrix = gaussian(n, torch.Generator().manual_seed(seed))
    expected = np.abs(np.linalg.eigvals(matrix.numpy())).max()
    assert spectral_radius(matrix) == pytest.approx(expected, rel=1e-9)
    assert spectral_radius(-3 * matrix) == pytest.approx(3 * expected, rel=1e-9)


# 20 seeds: one errs by up to 0.028, the mean of five by 0.011.
def test_gaussian_recurrence_grows_by_its_spectral_radius() -> None:
    errors = []
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        matrix = gaussian(128, generator)
        matrix *= 1.1 / spectral_radius(matrix)
        errors.append(decay_of_gradients(matrix, generator) - math.log(1.1))
    assert abs(float(np.mean(errors))) < 0.015


@pytest.mark.parametrize("radius", [0.9, 1.0, 1.25])
def test_orthogonal_recurrence_grows_by_its_spectral_radius(radius: float) -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = radius * torch.linalg.qr(gaussian(64, generator))[0]
    assert spectral_radius(matrix) == pytest.approx(radius, rel=1e-9)
    growth = decay_of_gradients(matrix, generator)
    assert growth == pytest.approx(math.log(radius), abs=1e-9)


def test_a_product_may_grow_though_every_radius_is_zero() -> None:
    up = torch.tensor([[0.0, 2.0], [0.0, 0.0]])
    assert spectral_radius(up) == spectral_radius(up.T) == 0.0
    product = torch.linalg.matrix_power(up @ up.T, 10)
    assert float(product.norm()) > 1e6
    assert jacobian_bound([up, up.T] * 10, "identity") == pytest.approx(2.0**20)


@given(seed=st.integers(0, 1000), gain=st.floats(0.1, 3))
@settings(max_examples=20, deadline=None)
def test_jacobians_obey_the_bound(seed: int, gain: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    weights = [gain * gaussian(8, generator) for _ in range(5)]
    for name in ("tanh", "sigmoid", "relu", "gelu"):
        f = as_activation(name).function

        def net(x: Tensor, f: Callable[[Tensor], Tensor] = f) -> Tensor:
            for weight in weights:
                x = f(weight @ x)
            return x

        x = torch.randn(8, generator=generator, dtype=torch.float64)
        jacobian = torch.autograd.functional.jacobian(net, x)
        norm = float(torch.linalg.matrix_norm(jacobian, 2))
        assert norm <= jacobian_bound(weights, name) * (1 + 1e-9)


def test_bound_takes_one_matrix_parameters_and_generators() -> None:
    matrix = nn.Parameter(2 * torch.eye(3))
    assert jacobian_bound(matrix, "identity") == pytest.approx(2)
    repeated = jacobian_bound((matrix for _ in range(3)), "sigmoid")
    assert repeated == pytest.approx(0.125)
    assert jacobian_bound([torch.ones(2, 5)], "relu") == pytest.approx(math.sqrt(10))


@pytest.mark.parametrize(
    ("name", "weights", "expected"),
    [
        ("identity", "gaussian", 16.0),
        ("identity", "orthogonal", 0.0),
        ("relu", "gaussian", 32.0),
        ("relu", "orthogonal", 16.0),
    ],
)
def test_singular_value_variance_has_closed_forms(
    name: str, weights: str, expected: float
) -> None:
    value = singular_value_variance(16, name, weights)
    assert value == pytest.approx(expected, abs=1e-10)


# 24 seeds: one errs by up to 20 per cent, the mean of four by 8.
@pytest.mark.parametrize(
    ("name", "weights", "q"),
    [
        ("identity", "gaussian", 1.0),
        ("relu", "gaussian", 1.0),
        ("relu", "orthogonal", 1.0),
        ("tanh", "orthogonal", 0.5),
    ],
)
def test_singular_value_variance_is_measured(name: str, weights: str, q: float) -> None:
    measured = [spread(name, weights, q, seed, n=200, depth=4) for seed in range(4)]
    expected = singular_value_variance(4, name, weights, q=q)
    assert float(np.mean(measured)) == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: spectral_radius(torch.ones(2, 3)), ValueError, r"square.*\(2, 3\)"),
        (lambda: spectral_radius(torch.ones(3)), ValueError, r"matrix, got.*\(3,\)"),
        (lambda: spectral_radius(torch.ones(0, 0)), ValueError, r"matrix, got.*\(0, 0"),
        (lambda: spectral_radius(torch.eye(2) * math.nan), ValueError, "NaN"),
        (lambda: spectral_radius([[1.0]]), TypeError, "a tensor, got list"),
        (lambda: jacobian_bound([]), ValueError, "weights: .*got none"),
        (lambda: jacobian_bound([torch.ones(2, 2, 3, 3)]), ValueError, "a matrix, got"),
        (lambda: jacobian_bound([torch.eye(2)], "rellu"), ValueError, "got 'rellu'"),
        (lambda: singular_value_variance(0), ValueError, "depth: .* >= 1, got 0"),
        (
            lambda: singular_value_variance(2, weights="normal"),
            ValueError,
            "weights: expected one of gaussian, orthogonal; got 'normal'",
        ),
        (lambda: singular_value_variance(2, q=0.0), ValueError, "q: .* > 0"),
        (lambda: singular_value_variance(2, torch.sign), ValueError, "slope.*sign"),
    ],
)
def test_messages(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()

"""The registry against torch, gains and moments against closed forms."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gradlib.activations import (
    ACTIVATIONS,
    Activation,
    as_activation,
    gain,
    max_slope,
    quadrature_gain,
    second_moment,
    slope,
    slope_second_moment,
)

# Torch's name for each activation that it has a gain for.
TORCH_NAMES = {
    "identity": "linear",
    "relu": "relu",
    "leaky_relu": "leaky_relu",
    "selu": "selu",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
}


def normal_sample(size: int) -> Tensor:
    return torch.randn(size, dtype=torch.float64, generator=torch.Generator())


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_module_and_function_agree(name: str) -> None:
    x = torch.linspace(-4, 4, 101)
    f = as_activation(name)
    torch.testing.assert_close(f.module()(x), f.function(x), rtol=0, atol=0)
    assert f.name == name
    assert f.module() is not f.module()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_gain_is_that_of_torch_where_torch_has_one(name: str) -> None:
    if name in TORCH_NAMES:
        assert gain(name) == nn.init.calculate_gain(TORCH_NAMES[name])
    else:
        assert as_activation(name).torch_gain is None
        assert gain(name) == quadrature_gain(name)


def test_torch_has_no_gain_for_the_others() -> None:
    for name in set(ACTIVATIONS) - set(TORCH_NAMES):
        with pytest.raises(ValueError, match="Unsupported nonlinearity"):
            nn.init.calculate_gain(name)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_moments_agree_with_a_sample(name: str) -> None:
    x = math.sqrt(2) * normal_sample(200_000)
    signal = as_activation(name).function(x) ** 2
    gradient = slope(name, x) ** 2
    for values, expected in (
        (signal, second_moment(name, 2.0)),
        (gradient, slope_second_moment(name, 2.0)),
    ):
        error = float(values.std()) / math.sqrt(len(x))
        assert abs(float(values.mean()) - expected) <= 5 * error + 1e-12


@pytest.mark.parametrize(
    ("name", "signal", "gradient"),
    [
        ("identity", 1.0, 1.0),
        ("relu", 0.5, 0.5),
        ("leaky_relu", (1 + 1e-4) / 2, (1 + 1e-4) / 2),
        ("selu", 1.0, 1.07157),
        ("tanh", 0.39429, 0.46441),
    ],
)
def test_moments_at_variance_one(name: str, signal: float, gradient: float) -> None:
    assert second_moment(name) == pytest.approx(signal, abs=1e-5)
    assert slope_second_moment(name) == pytest.approx(gradient, abs=1e-5)


def test_hardtanh_has_closed_forms() -> None:
    inside = math.erf(1 / math.sqrt(2))
    density = math.exp(-0.5) / math.sqrt(2 * math.pi)
    assert slope_second_moment("hardtanh") == pytest.approx(inside, rel=1e-10)
    assert second_moment("hardtanh") == pytest.approx(1 - 2 * density, rel=1e-10)


@given(variance=st.floats(1e-6, 1e6))
@settings(max_examples=25, deadline=None)
def test_relu_moments_scale(variance: float) -> None:
    assert second_moment("relu", variance) == pytest.approx(variance / 2, rel=1e-12)
    assert slope_second_moment("relu", variance) == pytest.approx(0.5, rel=1e-12)
    assert quadrature_gain("relu", variance) == pytest.approx(math.sqrt(2), rel=1e-12)


@given(name=st.sampled_from(sorted(ACTIVATIONS)), variance=st.floats(0.01, 100))
@settings(max_examples=40, deadline=None)
def test_quadrature_gain_keeps_the_variance(name: str, variance: float) -> None:
    kept = quadrature_gain(name, variance) ** 2 * second_moment(name, variance)
    assert kept == pytest.approx(variance, rel=1e-12)


@given(name=st.sampled_from(sorted(ACTIVATIONS)), x=st.floats(-8, 8))
@settings(max_examples=100, deadline=None)
def test_slope_is_the_difference_quotient(name: str, x: float) -> None:
    step = 1e-6
    if min(abs(x - kink) for kink in (-1.0, 0.0, 1.0)) < 2 * step:
        return
    f = as_activation(name).function
    ends = f(torch.tensor([x - step, x + step], dtype=torch.float64))
    quotient = float(ends[1] - ends[0]) / (2 * step)
    at_x = slope(name, torch.tensor([x], dtype=torch.float64))
    assert float(at_x) == pytest.approx(quotient, abs=1e-7)


def test_slope_leaves_no_trace() -> None:
    x = torch.tensor([-1.0, 3.0], requires_grad=True)
    with torch.no_grad():
        y = slope("relu", x)
    torch.testing.assert_close(y, torch.tensor([0.0, 1.0]))
    assert x.grad is None
    assert not y.requires_grad
    with torch.inference_mode():
        torch.testing.assert_close(slope("relu", torch.ones(2)), torch.ones(2))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("relu", 1.0),
        ("tanh", 1.0),
        ("sigmoid", 0.25),
        ("softplus", 1.0),
        ("selu", 1.0507009873554805 * 1.6732632423543772),
        ("gelu", 1.1289),
        ("silu", 1.0998),
    ],
)
def test_max_slope(name: str, expected: float) -> None:
    assert max_slope(name) == pytest.approx(expected, abs=1e-4)


def test_max_slope_looks_at_both_sides_and_far_out() -> None:
    assert max_slope(lambda x: torch.relu(-3 * x) - torch.relu(x)) == 3
    assert max_slope(lambda x: 2 * torch.relu(x - 50)) == 2


def test_get_takes_functions_and_modules() -> None:
    x = torch.linspace(-2, 2, 5)
    sine = as_activation(torch.sin)
    torch.testing.assert_close(sine.module()(x), torch.sin(x))
    assert (sine.name, sine.torch_gain) == ("sin", None)
    assert as_activation(sine) is sine
    assert as_activation("tanh") is ACTIVATIONS["tanh"]
    leaky = nn.LeakyReLU(0.2)
    assert second_moment(leaky) == pytest.approx((1 + 0.04) / 2, rel=1e-12)
    assert as_activation(leaky).module() is not leaky
    assert gain(leaky) == pytest.approx(
        nn.init.calculate_gain("leaky_relu", 0.2), rel=1e-12
    )


def test_get_takes_modules_with_float32_parameters() -> None:
    module = nn.PReLU(init=0.5)
    assert slope_second_moment(module) == pytest.approx(0.625, rel=1e-12)
    assert module.weight.dtype == torch.float32
    assert module.weight.grad is None


def test_activation_is_immutable() -> None:
    with pytest.raises(AttributeError):
        as_activation("relu").name = "other"


def constant(x: Tensor) -> Tensor:
    return torch.zeros_like(x)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: as_activation("rellu"),
            ValueError,
            "expected one of identity, .*; got 'rellu'",
        ),
        (
            lambda: as_activation(3),
            TypeError,
            "a name, a function of a tensor or a module",
        ),
        (lambda: as_activation(nn.ReLU), TypeError, "got <class 'torch.nn.*ReLU'>"),
        (lambda: gain(constant), ValueError, "expected E f.x.*for constant"),
        (lambda: quadrature_gain("relu", 0.0), ValueError, "variance: .* > 0"),
        (lambda: second_moment("relu", -1.0), ValueError, "variance"),
        (lambda: max_slope(constant), ValueError, "autograd can differentiate"),
    ],
)
def test_messages(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()


def test_activation_without_gain_has_none() -> None:
    assert Activation("sin", nn.Identity, torch.sin).torch_gain is None

"""The critical line against closed forms and the theory that it belongs to."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradlib.theory import chi, critical_line, critical_sigma_w2, fixed_point
from gradlib.theory.critical_line import root


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("identity", 1.0),
        ("relu", 2.0),
        ("leaky_relu", 2 / (1 + 0.01**2)),
        ("tanh", 1.0),
        ("hardtanh", 1.0),
        ("elu", 1.0),
        ("gelu", 4.0),
        ("silu", 4.0),
        ("softplus", 2.0),  # only in the limit of a growing signal
    ],
)
def test_without_biases(name: str, expected: float) -> None:
    assert critical_sigma_w2(name) == pytest.approx(expected, rel=1e-6)


@given(name=st.sampled_from(["tanh", "hardtanh", "sigmoid"]), bias=st.floats(0.01, 5))
@settings(max_examples=6, deadline=None)
def test_chi_is_one_on_the_line(name: str, bias: float) -> None:
    sigma_w2 = critical_sigma_w2(name, bias)
    assert chi(name, sigma_w2, bias) == pytest.approx(1, abs=1e-6)
    assert chi(name, 0.9 * sigma_w2, bias) < 1 < chi(name, 1.1 * sigma_w2, bias)


def test_relu_with_biases_is_critical_where_the_signal_grows() -> None:
    assert critical_sigma_w2("relu", 0.5) == pytest.approx(2, rel=1e-12)
    assert fixed_point("relu", 2.0, 0.5).q == math.inf


@pytest.mark.parametrize("name", ["tanh", "elu", "silu"])
def test_points_are_fixed_and_critical(name: str) -> None:
    points = critical_line(name, [0.5, 1.0, 2.0])
    assert [point.q for point in points] == [0.5, 1.0, 2.0]
    for q, sigma_w2, sigma_b2 in points:
        assert fixed_point(name, sigma_w2, sigma_b2, start=q).q == pytest.approx(q)
        assert chi(name, sigma_w2, sigma_b2, q=q) == pytest.approx(1, rel=1e-12)
        assert critical_sigma_w2(name, sigma_b2) == pytest.approx(sigma_w2, rel=1e-6)


def test_points_that_need_a_negative_bias_variance_are_left_out() -> None:
    assert critical_line("softplus", [0.1, 1.0, 10.0]) == []
    assert [point.q for point in critical_line("sigmoid", [1.0, 1e3])] == [1e3]


def test_the_line_of_relu_is_one_point() -> None:
    for point in critical_line("relu", [0.1, 10.0]):
        assert point.sigma_w2 == pytest.approx(2, rel=1e-12)
        assert 0 <= point.sigma_b2 < 1e-10


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: critical_sigma_w2("tanh", -0.1), "sigma_b2: .* >= 0, got -0.1"),
        (lambda: critical_sigma_w2("rellu"), "got 'rellu'"),
        (lambda: critical_sigma_w2(torch.sign), "slope that is not zero.*sign"),
        (lambda: critical_line("tanh", [1.0, 0.0]), "variances: .* > 0, got 0.0"),
    ],
)
def test_messages(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_root_takes_few_evaluations() -> None:
    """Bisection to the same width takes 43 of an octave."""
    tried = []

    def f(x: float) -> float:
        tried.append(x)
        return math.tanh(x) - 0.9

    found = root(f, 1.0, 2.0)
    assert found == pytest.approx(math.atanh(0.9), rel=1e-12)
    assert len(tried) < 15


@pytest.mark.parametrize("jump", [1.2, 1.9])
def test_a_root_may_be_a_jump(jump: float) -> None:
    found = root(lambda x: -1.0 if x < jump else 5.0, 1.0, 2.0)
    assert found == pytest.approx(jump, rel=1e-12)

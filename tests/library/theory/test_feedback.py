"""Policies, bootstrapped values and two players against loops that run."""

import math
from collections.abc import Callable

import pytest
import torch
from draws import generator
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import softplus

from gradlib.theory import (
    bootstrap_growth,
    critical_spread,
    policy_bounce,
    two_player_growth,
)

RATES = st.floats(1e-6, 10)
# Quantiles of a Gaussian at equal distances: a batch without the noise of a draw.
LEVELS = (torch.arange(20_000).double() + 0.5) / 20_000
QUANTILES = math.sqrt(2) * torch.erfinv(2 * LEVELS - 1)


def next_error(error: float, lr: float, spread: float) -> float:
    """The mean's error after one step of REINFORCE, by autograd."""
    mean = torch.tensor(3.0 + error, dtype=torch.float64, requires_grad=True)
    action = (mean + spread * QUANTILES).detach()
    reward = -((action - 3.0) ** 2)
    advantage = (reward - reward.mean()) / reward.std()
    log_prob = -((action - mean) ** 2) / (2 * spread**2)
    loss = -(advantage * log_prob).mean()
    return error - lr * float(torch.autograd.grad(loss, mean)[0])


@pytest.mark.parametrize("lr", [1e-4, 0.03, 2.0])
def test_at_the_critical_spread_a_small_error_only_changes_its_sign(lr: float) -> None:
    spread = critical_spread(lr)
    small = 1e-4 * spread
    for factor in (0.9, 1.0, 1.1):
        found = next_error(small, lr, factor * spread) / small
        assert found == pytest.approx(1 - 2 / factor**2, rel=2e-3)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_the_bounce_repeats_with_the_other_sign(share: float) -> None:
    spread = share * critical_spread(0.05)
    bounce = policy_bounce(0.05, spread)
    assert next_error(bounce, 0.05, spread) == pytest.approx(-bounce, rel=2e-3)


@given(lr=RATES, share=st.floats(1.0, 50))
def test_a_wide_policy_does_not_bounce(lr: float, share: float) -> None:
    assert policy_bounce(lr, share * critical_spread(lr) * (1 + 1e-12)) == 0


@given(lr=RATES, share=st.floats(1e-3, 0.1))
def test_a_narrow_policy_bounces_by_the_rate_over_twice_its_spread(
    lr: float, share: float
) -> None:
    spread = share * critical_spread(lr)
    assert policy_bounce(lr, spread) == pytest.approx(lr / (2 * spread), rel=1e-4)


@given(lr=RATES, scale=st.floats(0.01, 100))
def test_the_critical_spread_grows_as_the_root_of_the_rate(
    lr: float, scale: float
) -> None:
    expected = scale * critical_spread(lr)
    assert critical_spread(scale**2 * lr) == pytest.approx(expected)


@pytest.mark.parametrize("discount", [0.0, 0.4, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("ratio", [0.5, 2.0, 3.0])
def test_bootstrap_growth_is_that_of_descent(discount: float, ratio: float) -> None:
    weight = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    loss = (weight - discount * ratio * weight.detach()) ** 2 / 2
    moved = 0.7 - 0.1 * float(torch.autograd.grad(loss, weight)[0])
    assert moved / 0.7 == pytest.approx(bootstrap_growth(0.1, discount, ratio))


@pytest.mark.parametrize("penalty", [0.0, 0.1, 1.0, 4.0])
@pytest.mark.parametrize("lr", [0.01, 0.2, 1.0])
def test_two_players_grow_as_the_largest_eigenvalue(lr: float, penalty: float) -> None:
    """The Jacobian of one simultaneous step of the Dirac-GAN, by autograd."""

    def step(both: Tensor) -> Tensor:
        x, w = both
        fools, tells = softplus(-w * x), softplus(w * x) + penalty / 2 * w**2
        (dx,) = torch.autograd.grad(fools, x, create_graph=True)
        (dw,) = torch.autograd.grad(tells, w, create_graph=True)
        return torch.stack([x - lr * dx, w - lr * dw])

    at = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    rows = [torch.autograd.grad(step(at)[k], at)[0] for k in range(2)]
    jacobian = torch.stack(rows)
    largest = float(torch.linalg.eigvals(jacobian).abs().max())
    found = two_player_growth(lr, penalty=penalty)
    assert found == pytest.approx(largest, abs=1e-7)


@settings(max_examples=50)
@given(lr=RATES, coupling=st.floats(0.01, 10))
def test_without_a_penalty_two_players_always_spiral_out(
    lr: float, coupling: float
) -> None:
    growth = two_player_growth(lr, coupling)
    assert growth == pytest.approx(math.hypot(1, lr * coupling))


def test_a_random_game_grows_as_predicted() -> None:
    move = 0.1 * torch.tensor([[0.0, -0.7], [0.7, -0.3]], dtype=torch.float64)
    state = torch.randn(2, generator=generator(0), dtype=torch.float64)
    powers = torch.linalg.matrix_power(torch.eye(2).double() + move, 4000)
    growth = float((powers @ state).norm() / state.norm()) ** (1 / 4000)
    assert growth == pytest.approx(two_player_growth(0.1, 0.7, 0.3), rel=1e-3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: critical_spread(0.0), ValueError, "lr: .*> 0, got 0"),
        (lambda: critical_spread("1"), TypeError, "lr: .*got str"),  # type: ignore[arg-type]
        (lambda: policy_bounce(0.1, -1.0), ValueError, "spread: .*got -1"),
        (lambda: bootstrap_growth(0.1, 1.5), ValueError, r"discount: .*\[0, 1\]"),
        (lambda: bootstrap_growth(0.1, 0.5, math.inf), ValueError, "ratio: .*inf"),
        (lambda: two_player_growth(0.1, 0.0), ValueError, "coupling: .*> 0"),
        (lambda: two_player_growth(0.1, penalty=-1), ValueError, "penalty: .*>= 0"),
    ],
)
def test_messages(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()

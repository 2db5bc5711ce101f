"""Limits of training against torch's optimizers."""

import math
from collections.abc import Callable, Iterable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gradlib.theory.stability import (
    OPTIMIZERS,
    GradientNoise,
    adam_spike,
    adam_spike_peak,
    gradient_noise,
    max_learning_rate,
    max_sharpness,
    noise_floor,
    settled_gradient_ratio,
    squared_gradient_norm,
    weight_decay_equilibrium,
)

Optimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]

LR = 0.1
TORCH: dict[str, Optimizer] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=LR),
    "momentum": lambda p: torch.optim.SGD(p, lr=LR, momentum=0.9),
    "nesterov": lambda p: torch.optim.SGD(p, lr=LR, momentum=0.9, nesterov=True),
    # With so large an eps the second moment plays no part: eps is the root.
    "adam": lambda p: torch.optim.Adam(p, lr=LR * 1e100, eps=1e100),
}


def distance(optimizer: Optimizer, sharpness: float) -> float:
    """|x| after steps on sharpness x^2 / 2 from x = 1, at most about 1e30."""
    x = nn.Parameter(torch.ones((), dtype=torch.float64))
    stepper = optimizer([x])
    for _ in range(2000):
        x.grad = sharpness * x.detach()
        stepper.step()
        if abs(x.item()) > 1e30:
            break
    return abs(x.item())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_of_torch_diverge_beyond_the_limit(name: str) -> None:
    limit = max_sharpness(LR, name)
    assert distance(TORCH[name], 0.995 * limit) < 1e-6
    assert distance(TORCH[name], 1.005 * limit) > 1e6


@pytest.mark.parametrize(
    ("name", "expected"),
    [("sgd", 20.0), ("momentum", 38.0), ("nesterov", 38 / 2.8), ("adam", 380.0)],
)
def test_limits_have_closed_forms(name: str, expected: float) -> None:
    assert max_sharpness(0.1, name) == pytest.approx(expected)


@given(
    name=st.sampled_from(OPTIMIZERS),
    lr=st.floats(1e-6, 1e3),
    momentum=st.floats(0, 0.999),
)
def test_the_root_of_the_recursion_has_size_one_at_the_limit(
    name: str, lr: float, momentum: float
) -> None:
    step = lr * max_sharpness(lr, name, momentum=momentum)
    b = momentum
    recursion = {  # of x over two steps, from each optimizer's definition
        "sgd": [1, step - 1],
        "momentum": [1, step - 1 - b, b],
        "nesterov": [1, (1 + b) * (step - 1), b * (1 - step)],
        "adam": [1, (1 - b) * step - 1 - b, b],
    }[name]
    assert np.polyval(recursion, -1) == pytest.approx(0, abs=1e-9)
    back = max_learning_rate(step / lr, name, momentum=momentum)
    assert back == pytest.approx(lr)


def test_growth_beyond_the_limit() -> None:
    x = torch.ones((), dtype=torch.float64)
    for _ in range(10):
        x -= LR * 1.25 * max_sharpness(LR) * x
    assert abs(float(x)) == pytest.approx(1.5**10)


@pytest.mark.parametrize("beta2", [0.99, 0.95])
def test_adam_of_torch_spikes(beta2: float) -> None:
    x = nn.Parameter(torch.zeros((), dtype=torch.float64))
    adam = torch.optim.Adam([x], lr=1.0, betas=(0.9, beta2), eps=1e-30)
    updates = []
    for step in range(1540):
        x.grad = torch.full_like(x, 1e-6 if step < 1500 else 1.0)
        before = x.item()
        adam.step()
        updates.append(abs(x.item() - before))
    expected = [adam_spike(t, 0.9, beta2) for t in range(1, 41)]
    np.testing.assert_allclose(updates[1500:], expected, rtol=1e-4)
    peak = adam_spike_peak(0.9, beta2)
    assert peak.step == int(np.argmax(expected)) + 1
    assert peak.factor == pytest.approx(max(expected))


def test_adam_spike_peaks() -> None:
    step, factor = adam_spike_peak()
    assert (step, round(factor, 3)) == (12, 6.569)
    assert adam_spike_peak(0.0, 0.99).step == 1
    assert adam_spike_peak(0.0, 0.99).factor == pytest.approx(10)
    assert adam_spike_peak(0.9, 0.9).factor == pytest.approx(1)
    assert adam_spike_peak(0.9, 0.0).factor == pytest.approx(1)


# Six seeds: within 0.4 per cent.
@pytest.mark.parametrize(("lr", "weight_decay"), [(0.1, 0.1), (0.5, 0.02)])
def test_weight_decay_equilibrium_is_measured(lr: float, weight_decay: float) -> None:
    generator = torch.Generator().manual_seed(0)
    size, steps = 64, 2500
    w = nn.Parameter(torch.randn(size, generator=generator, dtype=torch.float64))
    optimizer = torch.optim.SGD([w], lr=lr, weight_decay=weight_decay)
    fourth = []
    for _ in range(steps):
        noise = torch.randn(size, generator=generator, dtype=torch.float64)
        unit = w.detach() / w.detach().norm()
        w.grad = (noise - unit * (unit @ noise)) / w.detach().norm()
        optimizer.step()
        fourth.append(float(w.detach().norm()) ** 4)
    measured = float(np.mean(fourth[steps // 2 :])) ** 0.25
    expected = weight_decay_equilibrium(lr, weight_decay, size - 1)
    assert measured == pytest.approx(expected, rel=0.01)


# Six seeds: within 0.6 per cent.
@pytest.mark.parametrize(("lr", "weight_decay"), [(0.1, 0.1), (0.5, 0.02)])
def test_settled_gradient_ratio_is_measured(lr: float, weight_decay: float) -> None:
    generator = torch.Generator().manual_seed(1)
    w = torch.randn(64, generator=generator, dtype=torch.float64)
    ratios = []
    for _ in range(2500):
        noise = torch.randn(64, generator=generator, dtype=torch.float64)
        g = (noise - w * (w @ noise) / (w @ w)) / w.norm()
        ratios.append((g.square().sum() / w.square().sum()).item())
        w = w - lr * (g + weight_decay * w)
    measured = math.sqrt(np.mean(ratios[1250:]))
    expected = settled_gradient_ratio(lr, weight_decay)
    assert measured == pytest.approx(expected, rel=0.015)


def test_weight_decay_equilibrium_without_gradient() -> None:
    assert weight_decay_equilibrium(0.1, 0.1, 0.0) == 0.0


# Six seeds: within 1 per cent.
@pytest.mark.parametrize("lr", [0.1, 0.5, 1.5])
def test_noise_floor_is_measured(lr: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(4000, dtype=torch.float64)
    squares = []
    for step in range(200):
        noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        x = x - lr * (0.8 * x + 2.0 * noise)
        if step >= 100:
            squares.append(float(x.square().mean()))
    expected = noise_floor(lr, curvature=0.8, noise=2.0)
    assert float(np.mean(squares)) == pytest.approx(expected, rel=0.03)


def test_noise_floor_at_the_limits() -> None:
    assert noise_floor(2.0, 1.0) == noise_floor(3.0, 1.0) == math.inf
    assert noise_floor(0.1, 1.0, noise=0.0) == 0.0


# Eight seeds: within 1 per cent, signal and noise from two batches within 2.
def test_gradient_noise_is_measured() -> None:
    generator = torch.Generator().manual_seed(0)
    examples = 2 * torch.randn(2000, 30, generator=generator) + 0.3
    mean = examples.mean(0)
    signal = float(mean.square().sum())
    noise = float((examples - mean).square().sum(1).mean())
    norms = {}
    for size in (4, 64):
        rows = torch.randint(0, 2000, (4000, size), generator=generator)
        norms[size] = float(examples[rows].mean(1).square().sum(1).mean())
        expected = squared_gradient_norm(signal, noise, size)
        assert norms[size] == pytest.approx(expected, rel=0.04)
    estimate = gradient_noise(norms[4], norms[64], 4, 64)
    assert estimate.signal == pytest.approx(signal, rel=0.08)
    assert estimate.noise == pytest.approx(noise, rel=0.04)


@given(
    signal=st.floats(0.1, 10),
    noise=st.floats(0.1, 1000),
    small=st.integers(1, 50),
    more=st.integers(1, 500),
)
def test_gradient_noise_inverts_squared_gradient_norm(
    signal: float, noise: float, small: int, more: int
) -> None:
    large = small + more
    estimate = gradient_noise(
        squared_gradient_norm(signal, noise, small),
        squared_gradient_norm(signal, noise, large),
        small,
        large,
    )
    assert estimate.signal == pytest.approx(signal, rel=1e-6, abs=1e-8 * noise)
    assert estimate.noise == pytest.approx(noise, rel=1e-6, abs=1e-8 * large * large)


def test_noise_scale() -> None:
    assert GradientNoise(signal=2.0, noise=8.0).scale == 4.0
    assert GradientNoise(signal=0.0, noise=8.0).scale == math.inf


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: max_sharpness(0.0), ValueError, "lr: .* > 0, got 0.0"),
        (lambda: max_sharpness(0.1, "lion"), ValueError, "optimizer: .*got 'lion'"),
        (
            lambda: max_sharpness(0.1, "adam", momentum=1.0),
            ValueError,
            "momentum: expected a finite number >= 0 and < 1, got 1.0",
        ),
        (lambda: max_sharpness("0.1"), TypeError, "lr: .*got str"),
        (lambda: max_learning_rate(-1.0), ValueError, "sharpness: .* > 0"),
        (lambda: adam_spike(0), ValueError, "step: .* >= 1, got 0"),
        (lambda: adam_spike(1, beta2=1.5), ValueError, "beta2: .* < 1, got 1.5"),
        (lambda: adam_spike_peak(beta1=-0.1), ValueError, "beta1: .* >= 0"),
        (lambda: weight_decay_equilibrium(0.1, 0.0, 1.0), ValueError, "weight_decay"),
        (lambda: settled_gradient_ratio(0.0, 0.1), ValueError, "lr: .* > 0"),
        (lambda: settled_gradient_ratio(0.1, 0.0), ValueError, "weight_decay: .* > 0"),
        (lambda: noise_floor(0.1, 0.0), ValueError, "curvature: .* > 0"),
        (lambda: noise_floor(0.1, 1.0, -1.0), ValueError, "noise: .* >= 0"),
        (lambda: squared_gradient_norm(1.0, 1.0, 0), ValueError, "batch_size: .* >= 1"),
        (
            lambda: gradient_noise(1.0, 1.0, 8, 8),
            ValueError,
            "large_batch: expected a whole number >= 9, got 8",
        ),
    ],
)
def test_messages(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()

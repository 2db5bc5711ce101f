"""Curvature against full Jacobians, full Hessians, and known spectra."""

import copy
import math
from collections.abc import Callable

import naive_forms
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from gradlib.measure import jacobian_singular_values, sharpness


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_matrix(rows: int, columns: int, seed: int = 0) -> Tensor:
    generator = seeded(seed)
    matrix = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    return matrix / math.sqrt(columns)


def small_network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double()


# Jacobians


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_of_a_linear_map_they_are_those_of_the_matrix(
    rows: int, columns: int, seed: int
) -> None:
    matrix = random_matrix(rows, columns, seed)
    x = torch.ones(columns, dtype=torch.float64)
    expected = np.linalg.svd(matrix.numpy(), compute_uv=False)
    assert_close(jacobian_singular_values(lambda v: matrix @ v, x).numpy(), expected)


def test_of_a_network_they_are_those_of_finite_differences() -> None:
    net = small_network()
    x = torch.randn(5, generator=seeded(), dtype=torch.float64)

    def function(v: np.ndarray) -> np.ndarray:
        return net(torch.tensor(v)).detach().numpy()

    expected = np.linalg.svd(
        naive_forms.jacobian(function, x.numpy()), compute_uv=False
    )
    found = jacobian_singular_values(net, x).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-7)


@pytest.mark.parametrize(
    ("rows", "columns", "k"), [(300, 500, 1), (500, 300, 5), (400, 400, 20)]
)
def test_the_largest_of_a_large_matrix(
    rows: int, columns: int, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = random_matrix(rows, columns)
    x = torch.zeros(columns, dtype=torch.float64)
    monkeypatch.delattr(torch, "eye")  # which forms the whole Jacobian
    found = jacobian_singular_values(lambda v: matrix @ v, x, k, generator=seeded())
    assert_close(found, torch.linalg.svdvals(matrix)[:k], rtol=1e-3, atol=0)


def test_the_largest_of_a_matrix_of_low_rank_and_of_zero() -> None:
    x = torch.zeros(300, dtype=torch.float64)
    u, v = random_matrix(300, 1, 1)[:, 0], random_matrix(300, 1, 2)[:, 0]
    found = jacobian_singular_values(lambda h: u * (v @ h), x, 2)
    assert_close(found[0], u.norm() * v.norm())
    assert found[1] < 1e-9 * found[0]
    assert_close(jacobian_singular_values(lambda h: 0 * h, x, 2), x[:2])


def test_functions_that_do_not_depend_on_their_input() -> None:
    weight = nn.Parameter(torch.ones(2))
    for constant in (lambda x: weight, lambda x: torch.ones(2)):
        found = jacobian_singular_values(constant, torch.ones(3))
        assert_close(found, torch.zeros(2))
    assert_close(
        jacobian_singular_values(lambda x: weight, torch.ones(3), 1), weight[:1] * 0
    )


def test_modules_may_hold_state() -> None:
    """Batch norm in training mode writes its buffers, once."""
    norm = nn.BatchNorm1d(2, affine=False)
    jacobian_singular_values(norm, torch.tensor([[1.0, 2.0], [3.0, 5.0]]))
    assert norm.num_batches_tracked == 1


def test_shapes_types_and_gradients_are_free() -> None:
    conv = nn.Conv2d(2, 3, 3)
    x = torch.ones(2, 5, 5, requires_grad=True)
    values = jacobian_singular_values(conv, x)
    assert values.shape == (27,)
    assert values.dtype is torch.float32
    assert not values.requires_grad
    assert x.grad is None
    assert conv.weight.grad is None
    assert_close(jacobian_singular_values(conv, x, 4), values[:4])


def test_the_same_generator_gives_the_same_values() -> None:
    matrix = random_matrix(300, 300).float()
    x = torch.zeros(300)
    state = torch.get_rng_state()
    a, b = (
        jacobian_singular_values(lambda v: matrix @ v, x, 3, generator=seeded())
        for _ in range(2)
    )
    assert torch.equal(a, b)
    assert torch.equal(torch.get_rng_state(), state)


# Sharpness


def quadratic(matrix: Tensor) -> tuple[Callable[[], Tensor], list[nn.Parameter]]:
    """Half w^T A w, with w in two parts."""
    size = len(matrix)
    a = nn.Parameter(torch.ones(1, dtype=torch.float64))
    b = nn.Parameter(torch.ones(size - 1, dtype=torch.float64))

    def loss() -> Tensor:
        w = torch.cat([a, b])
        return w @ matrix @ w / 2

    return loss, [a, b]


@given(st.integers(2, 8), st.integers(0, 20), st.floats(-3, 3))
@settings(max_examples=50, deadline=None)
def test_of_a_quadratic_it_is_the_largest_eigenvalue(
    size: int, seed: int, shift: float
) -> None:
    root = random_matrix(size, size, seed)
    matrix = root + root.T + shift * torch.eye(size, dtype=torch.float64)
    expected = np.linalg.eigvalsh(matrix.numpy())[-1]
    found = sharpness(*quadratic(matrix), tolerance=1e-9)
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_of_a_network_it_is_that_of_the_full_hessian() -> None:
    net = small_network()
    x = torch.randn(20, 5, generator=seeded(), dtype=torch.float64)
    y = torch.randn(20, 3, generator=seeded(1), dtype=torch.float64)
    named = dict(net.named_parameters())
    sizes = [p.numel() for p in named.values()]

    def loss_at(vector: Tensor) -> Tensor:
        parts = zip(named.items(), vector.split(sizes), strict=True)
        values = {n: v.view_as(p) for (n, p), v in parts}
        return (torch.func.functional_call(net, values, x) - y).square().mean()

    weights = torch.cat([p.detach().flatten() for p in named.values()])
    hessian = torch.autograd.functional.hessian(loss_at, weights)
    expected = torch.linalg.eigvalsh(hessian)[-1].item()
    loss = lambda: (net(x) - y).square().mean()  # noqa: E731
    assert sharpness(loss, net.parameters()) == pytest.approx(expected, rel=1e-4)
    exact = sharpness(loss, net.parameters(), tolerance=1e-10)
    assert exact == pytest.approx(expected, rel=1e-8)
    few = sharpness(loss, net.parameters(), iterations=3)
    assert few < expected * (1 - 1e-4)


def test_gradient_descent_is_stable_below_two_over_sharpness() -> None:
    matrix = torch.diag(torch.tensor([1.0, 4.0], dtype=torch.float64))
    loss, (a, b) = quadratic(matrix)
    limit = 2 / sharpness(loss, [a, b])
    assert limit == pytest.approx(0.5)
    for factor, grows in ((0.98, False), (1.02, True)):
        nn.init.ones_(b)
        for _ in range(100):
            (slope,) = torch.autograd.grad(loss(), b)
            with torch.no_grad():
                b -= factor * limit * slope
        assert (b.abs().item() > 1) is grows


def test_sums_over_weights_of_half_precision_are_taken_in_float32() -> None:
    w = nn.Parameter(torch.full((40_000,), 0.01, dtype=torch.float16))
    curvature = 1e6
    loss = lambda: curvature / 2 * w.float().square().sum()  # noqa: E731
    found = sharpness(loss, [w], tolerance=1e-2)
    assert found == pytest.approx(curvature, rel=1e-2)


def test_flat_losses_and_negative_curvature() -> None:
    w = nn.Parameter(torch.ones(3))
    assert sharpness(lambda: w.sum(), w) == 0.0
    assert sharpness(lambda: -2 * w.square().sum(), w) == pytest.approx(-4.0)
    unused = nn.Parameter(torch.ones(2))
    loss = lambda: -2 * w.square().sum() + unused.sum()  # noqa: E731
    assert sharpness(loss, [w, unused]) == pytest.approx(0.0, abs=1e-6)
    absent = nn.Parameter(torch.ones(2))
    loss = lambda: 2 * w.square().sum()  # noqa: E731
    assert sharpness(loss, [absent, w]) == pytest.approx(4.0)


def test_it_stops_when_exact_enough() -> None:
    values = torch.linspace(0, 1, 60, dtype=torch.float64)
    values[7] = 10.0
    w = nn.Parameter(torch.ones(60, dtype=torch.float64))
    products: list[Tensor] = []
    w.register_hook(products.append)
    loss = lambda: (values * w**2).sum() / 2  # noqa: E731
    assert sharpness(loss, [w], tolerance=1e-4) == pytest.approx(10.0, rel=1e-4)
    assert len(products) < 15


def test_no_trace_is_left() -> None:
    net = small_network()
    net[0].bias.requires_grad_(False)
    x = torch.ones(4, 5, dtype=torch.float64)
    net(x).sum().backward()
    before = copy.deepcopy([p.grad for p in net.parameters()])
    random = torch.get_rng_state()
    first = sharpness(lambda: net(x).square().mean(), net.parameters())
    second = sharpness(lambda: net(x).square().mean(), net.parameters())
    assert first == second
    assert torch.equal(torch.get_rng_state(), random)
    for p, grad in zip(net.parameters(), before, strict=True):
        assert_close(p.grad, grad)


# Messages


W = nn.Parameter(torch.ones(2))
HALF = nn.Parameter(torch.full((2,), 0.01, dtype=torch.float16))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: jacobian_singular_values(torch.sin, torch.ones(2, dtype=torch.int)),
            TypeError,
            "x: expected a floating point tensor, got torch.int32",
        ),
        (lambda: jacobian_singular_values(torch.sin, 3.0), TypeError, "got float"),
        (
            lambda: jacobian_singular_values(torch.relu, torch.tensor([1, math.nan])),
            ValueError,
            "x: expected finite numbers, got NaN or infinity",
        ),
        (
            lambda: jacobian_singular_values(lambda x: (x, x), torch.ones(2)),
            TypeError,
            "function: expected it to return a tensor, got tuple",
        ),
        (
            lambda: jacobian_singular_values(torch.sin, torch.ones(2), 3),
            ValueError,
            "k: expected at most 2 singular values, got 3",
        ),
        (
            lambda: jacobian_singular_values(torch.sin, torch.ones(2), 0),
            ValueError,
            "k: expected a whole number >= 1",
        ),
        (
            lambda: jacobian_singular_values(torch.sqrt, torch.zeros(2)),
            ValueError,
            "function: expected finite derivatives, got NaN or infinity",
        ),
        (
            lambda: sharpness(lambda: (W - 1).pow(1.5).sum(), [W]),
            ValueError,
            "loss_fn: expected finite derivatives, got NaN or infinity in torch.float",
        ),
        (
            lambda: sharpness(lambda: 1e5 * HALF.square().sum(), [HALF]),
            ValueError,
            "in torch.float16. Take them in a wider type",
        ),
        (lambda: sharpness(lambda: W, [W]), TypeError, "expected a scalar loss, got"),
        (lambda: sharpness(lambda: 1.0, [W]), TypeError, "expected a scalar loss, got"),
        (
            lambda: sharpness(lambda: W.sum() * math.nan, [W]),
            ValueError,
            "expected a finite loss, got nan",
        ),
        (
            lambda: sharpness(lambda: W.detach().sum(), [W]),
            ValueError,
            "got a loss without gradient",
        ),
        (lambda: sharpness(lambda: W.sum(), []), ValueError, "loss to depend on them"),
        (
            lambda: sharpness(lambda: W.sum(), [W], iterations=0),
            ValueError,
            "iterations: expected",
        ),
        (
            lambda: sharpness(lambda: W.sum(), [W], tolerance=0),
            ValueError,
            "tolerance: expected",
        ),
    ],
)
def test_messages(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()


def test_as_many_singular_values_as_there_are():
    x = torch.tensor([1.0, 2.0, 3.0])
    found = jacobian_singular_values(lambda x: x**2, x, k=3)
    torch.testing.assert_close(found, torch.tensor([6.0, 4.0, 2.0]))
    with pytest.raises(ValueError, match="k: expected at most 3 singular values"):
        jacobian_singular_values(lambda x: x**2, x, k=4)

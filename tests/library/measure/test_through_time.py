"""Gradients by lag and Jacobians of steps, against autograd and finite products."""

import math
from collections.abc import Callable

import pytest
import torch
from draws import generator
from torch import Tensor, nn

from gradlib.measure import gradient_by_lag, step_jacobians
from gradlib.models import recurrent_classifier


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


CELLS = [nn.RNN, nn.LSTM, nn.GRU]


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_by_lag_is_the_input_gradient_from_the_end(kind: str) -> None:
    model = recurrent_classifier(kind, 6, in_features=3, seed=0).double()
    x = normal(1, 4, 9, 3)
    found = gradient_by_lag(lambda x: model(x).sum(), x)
    for lag in range(9):
        squares = []
        for example in x:
            given = example[None].requires_grad_()
            (gradient,) = torch.autograd.grad(model(given).sum(), given)
            squares.append(gradient[0, 8 - lag].square().sum())
        expected = torch.stack(squares).mean().sqrt()
        torch.testing.assert_close(found[lag], expected)


def test_by_lag_keeps_leading_dimensions_and_leaves_no_gradient() -> None:
    model = recurrent_classifier("gru", 4, in_features=2, seed=0)
    x = torch.ones(3, 5, 7, 2)
    found = gradient_by_lag(lambda x: model(x.flatten(0, 1)).sum(), x)
    assert found.shape == (3, 7)
    assert all(p.grad is None for p in model.parameters())
    assert not x.requires_grad
    with torch.no_grad():
        again = gradient_by_lag(lambda x: model(x.flatten(0, 1)).sum(), x)
    torch.testing.assert_close(again, found)


def test_by_lag_sees_gradients_whose_squares_underflow() -> None:
    found = gradient_by_lag(lambda x: (1e-30 * x).sum(), torch.ones(1, 2, 1))
    torch.testing.assert_close(found, torch.full((2,), 1e-30))


@pytest.mark.parametrize("cell", CELLS)
def test_product_of_jacobians_is_the_gradient_of_the_last_state(
    cell: type[nn.RNNBase],
) -> None:
    torch.manual_seed(0)
    rnn = cell(3, 5, batch_first=True).double()
    x = normal(1, 8, 3)
    is_lstm = isinstance(rnn, nn.LSTM)
    first = normal(2, 10 if is_lstm else 5)

    def last(state: Tensor) -> Tensor:
        parts = tuple(s[None, None] for s in state.split(5))
        given = parts if is_lstm else parts[0]
        out = rnn(x[None], given)[1]
        return torch.cat([s.flatten() for s in (out if is_lstm else [out])])

    expected = torch.autograd.functional.jacobian(last, first)
    jacobians = step_jacobians(rnn, x, first)
    product = torch.linalg.multi_dot(list(jacobians.flip(0)))
    torch.testing.assert_close(product, expected)


def test_relu_cells_are_known() -> None:
    rnn = nn.RNN(2, 3, nonlinearity="relu")
    nn.init.constant_(rnn.bias_ih_l0, 10.0)
    (jacobian,) = step_jacobians(rnn, torch.zeros(1, 2))
    torch.testing.assert_close(jacobian, rnn.weight_hh_l0.detach())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: gradient_by_lag(torch.sum, torch.ones(2, 3)),
            ValueError,
            r"x: .*got \(2, 3\)",
        ),
        (
            lambda: gradient_by_lag(torch.sum, torch.ones(1, 2, 3).long()),
            TypeError,
            "x: .*floating point",
        ),
        (
            lambda: gradient_by_lag(torch.exp, torch.ones(1, 2, 3)),
            ValueError,
            r"function: .*scalar.*got shape \(1, 2, 3\)",
        ),
        (
            lambda: gradient_by_lag(lambda x: torch.ones(()), torch.ones(1, 2, 3)),
            ValueError,
            "function: .*depends on x",
        ),
        (
            lambda: step_jacobians(nn.Linear(2, 2), torch.ones(3, 2)),
            TypeError,
            "rnn: .*got Linear",
        ),
        (
            lambda: step_jacobians(nn.GRU(2, 3, 2), torch.ones(3, 2)),
            ValueError,
            "rnn: .*num_layers=2",
        ),
        (
            lambda: step_jacobians(nn.GRU(2, 3), torch.ones(3, 1)),
            ValueError,
            r"x: expected shape \(steps, 2\), got \(3, 1\)",
        ),
        (
            lambda: step_jacobians(nn.LSTM(2, 3), torch.ones(3, 2), torch.ones(3)),
            ValueError,
            r"state: expected shape \(6,\)",
        ),
    ],
)
def test_messages(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()


def test_the_slope_is_that_of_a_linear_decay() -> None:
    rnn = recurrent_classifier(
        "rnn", 6, nonlinearity="relu", spectral_radius=0.9, hidden_scheme="identity"
    ).double()
    nn.init.constant_(rnn.rnn.bias_ih_l0, 10.0)
    norms = gradient_by_lag(lambda x: rnn(x).sum(), torch.zeros(1, 30, 2).double())
    steps = norms.log().diff()
    torch.testing.assert_close(steps, torch.full_like(steps, math.log(0.9)))

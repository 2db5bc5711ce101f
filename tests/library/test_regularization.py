"""gradlib.regularization against torch, NumPy and exact cases."""

from collections.abc import Callable

import naive_forms
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from gradlib.regularization import (
    l1_penalty,
    l2_penalty,
    orthogonality_penalty,
    recurrent_penalty,
    spectral_penalty,
)

SEEDS = st.integers(0, 100)


def draw(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def parameter(seed: int, *shape: int) -> nn.Parameter:
    return nn.Parameter(draw(seed, *shape))


def flat(w: Tensor) -> np.ndarray:
    return w.detach().flatten(1).numpy()


# Penalties on size


def test_l2_is_the_weight_decay_of_sgd() -> None:
    ours, theirs = nn.Linear(3, 2), nn.Linear(3, 2)
    theirs.load_state_dict(ours.state_dict())
    plain = torch.optim.SGD(ours.parameters(), lr=0.1)
    decayed = torch.optim.SGD(theirs.parameters(), lr=0.1, weight_decay=0.3)
    x = torch.ones(1, 3)
    for _ in range(3):
        for net, optimizer in ((ours, plain), (theirs, decayed)):
            loss = net(x).square().sum()
            if net is ours:
                loss = loss + 0.3 * l2_penalty(net.parameters())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert_close(ours.state_dict(), theirs.state_dict())


def test_l1_is_the_sum_of_sizes_and_its_gradient_the_sign() -> None:
    a, b = parameter(0, 4, 3), parameter(1, 5)
    penalty = l1_penalty([a, b])
    assert penalty.item() == pytest.approx(
        np.abs(a.detach().numpy()).sum() + np.abs(b.detach().numpy()).sum()
    )
    penalty.backward()
    assert_close(a.grad, a.detach().sign())


@given(SEEDS, st.floats(-10, 10))
@settings(max_examples=20, deadline=None)
def test_penalties_are_homogeneous(seed: int, factor: float) -> None:
    w = draw(seed, 3, 4)
    for penalty, degree in ((l1_penalty, 1), (l2_penalty, 2), (spectral_penalty, 2)):
        expected = abs(factor) ** degree * penalty([w])
        assert_close(penalty([factor * w]), expected)


# Penalties on matrices


@given(SEEDS, st.integers(1, 5), st.integers(1, 5), st.floats(0.1, 3))
@settings(max_examples=30, deadline=None)
def test_matrix_penalties_are_those_of_singular_values(
    seed: int, rows: int, columns: int, gain: float
) -> None:
    weights = [draw(seed, rows, columns), draw(seed + 1, columns, rows, 2, 2)]
    matrices = [flat(w) for w in weights]
    assert spectral_penalty(weights).item() == pytest.approx(
        naive_forms.spectral_penalty(matrices)
    )
    assert orthogonality_penalty(weights, gain).item() == pytest.approx(
        naive_forms.orthogonality_penalty(matrices, gain), rel=1e-9, abs=1e-9
    )


def test_gradient_of_the_spectral_penalty_is_its_largest_part() -> None:
    w = parameter(0, 4, 3)
    spectral_penalty(w).backward()
    u, s, v = np.linalg.svd(flat(w), full_matrices=False)
    np.testing.assert_allclose(w.grad.numpy(), s[0] * np.outer(u[:, 0], v[0]))


@pytest.mark.parametrize("shape", [(4, 4), (2, 5), (5, 2), (3, 2, 2, 2)])
@pytest.mark.parametrize("gain", [1.0, 2**0.5])
def test_orthogonal_weights_cost_nothing(shape: tuple[int, ...], gain: float) -> None:
    w = nn.Parameter(torch.empty(shape, dtype=torch.float64))
    nn.init.orthogonal_(w, gain, generator=torch.Generator().manual_seed(0))
    assert orthogonality_penalty([w], gain).item() == pytest.approx(0, abs=1e-20)
    assert orthogonality_penalty([w], 3.0).item() > 0.1


def test_descent_on_the_penalty_makes_weights_orthogonal() -> None:
    w = parameter(0, 6, 4)
    optimizer = torch.optim.SGD([w], lr=0.02)
    for _ in range(500):
        optimizer.zero_grad()
        orthogonality_penalty([w]).backward()
        optimizer.step()
    assert_close(torch.linalg.svdvals(w.detach()), torch.ones(4, dtype=torch.float64))


def test_biases_are_skipped() -> None:
    layer = nn.Linear(3, 2)
    for penalty in (spectral_penalty, orthogonality_penalty):
        penalty(layer.parameters()).backward()
        assert layer.bias.grad is None
        assert layer.weight.grad is not None


# Pascanu's penalty


def recurrent(nonlinearity: str, **options: bool) -> nn.RNN:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.RNN(2, 4, nonlinearity=nonlinearity, **options).double()


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@pytest.mark.parametrize("every_step", [False, True])
def test_recurrent_penalty_is_that_of_full_jacobians(
    nonlinearity: str, every_step: bool
) -> None:
    rnn = recurrent(nonlinearity)
    hidden, _ = rnn(draw(0, 6, 3, 2))
    goal = draw(1, 6, 3, 4) if every_step else draw(1, 3, 4)
    loss = ((hidden if every_step else hidden[-1]) - goal).square().sum()
    (direct,) = torch.autograd.grad(loss, hidden, retain_graph=True)
    slopes = {"tanh": lambda h: 1 - h**2, "relu": lambda h: (h > 0).astype(float)}
    expected = naive_forms.recurrent_penalty(
        hidden.detach().numpy(),
        direct.numpy(),
        rnn.weight_hh_l0.detach().numpy(),
        slopes[nonlinearity],
    )
    found = recurrent_penalty(loss, hidden, rnn)
    assert found.item() == pytest.approx(expected)
    loss.backward()  # the graph is still there


def test_its_gradient_is_that_with_states_held_fixed() -> None:
    rnn = recurrent("tanh")
    hidden, _ = rnn(draw(0, 6, 3, 2))
    loss = (hidden[-1] - 1).square().sum()
    recurrent_penalty(loss, hidden, rnn).backward()
    assert all(p.grad is None for n, p in rnn.named_parameters() if n != "weight_hh_l0")
    (direct,) = torch.autograd.grad(loss, hidden)
    weight, states = rnn.weight_hh_l0.detach(), hidden.detach()
    arriving, sizes, sent, step = direct[-1], [], [], 1e-6
    for h in reversed(states):
        sizes.append(arriving.norm(dim=-1))
        sent.append(arriving * (1 - h**2))
        arriving = sent[-1] @ weight

    def penalty(w: Tensor) -> Tensor:
        ratios = [(d @ w).norm(dim=-1) / n for d, n in zip(sent, sizes, strict=True)]
        return (torch.stack(ratios) - 1).square().mean()

    shift = torch.zeros_like(weight)
    shift[1, 2] = step
    slope = (penalty(weight + shift) - penalty(weight - shift)) / (2 * step)
    assert rnn.weight_hh_l0.grad[1, 2].item() == pytest.approx(slope.item(), rel=1e-5)


@given(st.floats(1e-3, 1e3))
@settings(max_examples=20, deadline=None)
def test_the_size_of_the_loss_does_not_matter(factor: float) -> None:
    rnn = recurrent("tanh")
    hidden, _ = rnn(draw(0, 6, 3, 2))
    loss = hidden[-1].sum()
    assert_close(
        recurrent_penalty(factor * loss, hidden, rnn),
        recurrent_penalty(loss, hidden, rnn),
    )


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_linear_orthogonal_nets_cost_what_they_stretch(scale: float) -> None:
    """Where relu is linear, each step stretches by the scale of an orthogonal W."""
    rnn = recurrent("relu")
    rotation = torch.eye(4, dtype=torch.float64)[[1, 2, 3, 0]]
    with torch.no_grad():
        rnn.weight_hh_l0.copy_(scale * rotation)
        rnn.bias_ih_l0.fill_(10.0)
    hidden, _ = rnn(draw(0, 8, 3, 2))
    found = recurrent_penalty(hidden[-1].sum(), hidden, rnn).item()
    assert found == pytest.approx((scale - 1) ** 2, rel=1e-9, abs=1e-20)


def test_layouts_give_the_same() -> None:
    x = draw(0, 6, 1, 2)
    plain, first = recurrent("tanh"), recurrent("tanh", batch_first=True)
    states = [plain(x)[0], first(x.transpose(0, 1))[0], plain(x[:, 0])[0]]
    losses = [states[0][-1].sum(), states[1][:, -1].sum(), states[2][-1].sum()]
    nets = [plain, first, plain]
    found = [
        recurrent_penalty(*case) for case in zip(losses, states, nets, strict=True)
    ]
    assert_close(found[1], found[0])
    assert_close(found[2], found[0])


def test_gradients_beyond_float32_and_none_at_all() -> None:
    rnn = recurrent("relu").float()
    with torch.no_grad():
        rnn.weight_hh_l0.copy_(1e6 * torch.eye(4))
        rnn.weight_ih_l0.zero_()
        rnn.bias_ih_l0.fill_(1e-30)
        rnn.bias_hh_l0.zero_()
    hidden, _ = rnn(torch.zeros(8, 1, 2))
    found = recurrent_penalty(hidden[:, 0, 0].sum(), hidden, rnn)
    assert found.item() == pytest.approx((1e6 - 1) ** 2, rel=1e-5)
    dead = recurrent_penalty(0 * hidden.sum(), hidden, rnn)
    assert dead == 0
    dead.backward()
    assert not rnn.weight_hh_l0.grad.any()


# Messages


def states(rnn: nn.RNNBase) -> Tensor:
    hidden: Tensor = rnn(torch.ones(3, 1, 2))[0]
    return hidden


LSTM, DEEP = nn.LSTM(2, 4), nn.RNN(2, 4, num_layers=2)
BOTH, RNN = nn.RNN(2, 4, bidirectional=True), nn.RNN(2, 4)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: l1_penalty([]), ValueError, "at least one, got none"),
        (lambda: l2_penalty(nn.Linear(1, 1)), TypeError, "got Linear"),
        (
            lambda: l2_penalty(nn.Linear(1, 1).named_parameters()),
            TypeError,
            "got tuple",
        ),
        (lambda: l2_penalty(None), TypeError, "got NoneType"),
        (
            lambda: spectral_penalty([torch.ones(3)]),
            ValueError,
            "with two or more axes, got none",
        ),
        (
            lambda: orthogonality_penalty([torch.eye(2)], 0),
            ValueError,
            "gain: expected a finite number > 0",
        ),
        (
            lambda: recurrent_penalty(states(LSTM).sum(), states(LSTM), LSTM),
            TypeError,
            "rnn: expected a torch.nn.RNN, got LSTM",
        ),
        (
            lambda: recurrent_penalty(states(DEEP).sum(), states(DEEP), DEEP),
            ValueError,
            "one layer and one direction, got 2 and 1",
        ),
        (
            lambda: recurrent_penalty(states(BOTH).sum(), states(BOTH), BOTH),
            ValueError,
            "one layer and one direction, got 1 and 2",
        ),
        (
            lambda: recurrent_penalty(torch.ones(()), states(RNN), RNN),
            ValueError,
            "loss: expected a loss computed from hidden",
        ),
        (
            lambda: recurrent_penalty(states(RNN).sum(), states(RNN), RNN),
            ValueError,
            "loss: expected a loss computed from hidden",
        ),
        (
            lambda: recurrent_penalty(states(RNN).sum(), torch.ones(3, 1, 2), RNN),
            ValueError,
            "hidden: expected all hidden states, of 4 numbers each",
        ),
    ],
)
def test_messages(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()

"""Recurrent nets: parity with torch, spectral radius, forget bias."""

import pytest
import torch
from draws import generator
from torch import nn

from gradlib.models import initialize_hidden_, recurrent_classifier, recurrent_lm
from gradlib.theory import cell_growth, spectral_radius


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_classifier_reads_the_last_state(kind: str) -> None:
    model = recurrent_classifier(kind, 8, out_features=3, layers=2, seed=0)
    x = torch.randn(5, 7, 2, generator=generator(1))
    _, state = model.rnn(x)
    last = (state[0] if kind == "lstm" else state)[-1]
    torch.testing.assert_close(model(x), model.head(last))


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_lm_answers_each_step_without_looking_ahead(kind: str) -> None:
    model = recurrent_lm(kind, 8, vocab=5, seed=0)
    tokens = torch.randint(5, (3, 6), generator=generator(1))
    logits = model(tokens)
    assert logits.shape == (3, 6, 5)
    tokens[:, 4] = (tokens[:, 4] + 1) % 5
    changed = (model(tokens) - logits).abs().amax((0, 2)) > 0
    assert changed.tolist() == [False] * 4 + [True] * 2


def test_names_read_well() -> None:
    found = [name for name, _ in recurrent_lm("rnn").named_parameters()]
    assert found[:3] == ["embedding.weight", "rnn.weight_ih_l0", "rnn.weight_hh_l0"]
    assert found[-2:] == ["head.weight", "head.bias"]


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("scheme", ["orthogonal", "gaussian", "identity"])
@pytest.mark.parametrize("radius", [0.0, 0.9, 1.5])
def test_spectral_radius_is_exact(kind: str, scheme: str, radius: float) -> None:
    model = recurrent_classifier(
        kind, 16, layers=2, spectral_radius=radius, hidden_scheme=scheme, seed=0
    )
    for name in ("weight_hh_l0", "weight_hh_l1"):
        for gate in getattr(model.rnn, name).detach().split(16):
            assert spectral_radius(gate) == pytest.approx(radius, abs=1e-5)
            largest = torch.linalg.matrix_norm(gate, 2).item()
            if scheme == "gaussian":
                assert largest >= 1.1 * radius
            else:
                assert largest == pytest.approx(radius, abs=1e-5)


def test_gates_differ() -> None:
    gru = initialize_hidden_(nn.GRU(2, 8), generator=generator(0))
    a, b, _ = gru.weight_hh_l0.split(8)
    assert not torch.allclose(a, b)


@pytest.mark.parametrize(
    ("nonlinearity", "scheme", "bias"),
    [("tanh", "orthogonal", 0.0), ("relu", "identity", 1.0)],
)
@pytest.mark.parametrize("radius", [0.7, 1.0, 1.2])
def test_gradient_through_time_is_a_power_of_the_radius(
    nonlinearity: str, scheme: str, bias: float, radius: float
) -> None:
    model = recurrent_classifier("rnn", 16, nonlinearity=nonlinearity).double()
    initialize_hidden_(model.rnn, radius, scheme=scheme, generator=generator(0))
    nn.init.constant_(model.rnn.bias_ih_l0, bias)
    nn.init.zeros_(model.rnn.bias_hh_l0)
    start = torch.zeros(1, 1, 16, dtype=torch.float64, requires_grad=True)
    _, last = model.rnn(torch.zeros(1, 20, 2, dtype=torch.float64), start)
    v = torch.randn(1, 1, 16, generator=generator(1), dtype=torch.float64)
    (last * v).sum().backward()
    growth = (start.grad.norm() / v.norm()).item()
    assert growth == pytest.approx(radius**20, rel=1e-5)


@pytest.mark.parametrize("bias", [0.0, 1.0, 3.0])
def test_forget_bias_sets_the_growth_of_the_cell(bias: float) -> None:
    model = recurrent_classifier(
        "lstm", 4, spectral_radius=0.0, forget_bias=bias, seed=0
    )
    rnn = model.rnn
    nn.init.zeros_(rnn.weight_ih_l0)
    cell = torch.zeros(1, 1, 4, requires_grad=True)
    _, (_, last) = rnn(torch.zeros(1, 20, 2), (torch.zeros(1, 1, 4), cell))
    last.sum().backward()
    expected = cell_growth(bias, 20)
    torch.testing.assert_close(cell.grad, torch.full_like(cell, expected))


def test_seed_leaves_torch_alone() -> None:
    state = torch.get_rng_state()
    a, b = (recurrent_lm("gru", spectral_radius=1.0, seed=4) for _ in range(2))
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.equal(p, q)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "mamba"}, "kind: expected one of rnn, lstm, gru; got 'mamba'"),
        ({"width": 0}, "width: expected"),
        ({"layers": 0}, "layers: expected"),
        ({"in_features": 0}, "in_features: expected"),
        ({"out_features": 0}, "out_features: expected"),
        (
            {"kind": "gru", "nonlinearity": "relu"},
            "nonlinearity: expected one of tanh; got 'relu'",
        ),
        ({"nonlinearity": "gelu"}, "nonlinearity: expected one of tanh, relu"),
        ({"spectral_radius": -1.0}, "spectral_radius: expected a finite number >= 0"),
        ({"hidden_scheme": "he"}, "hidden_scheme: expected one of orthogonal"),
        ({"forget_bias": 1.0}, "forget_bias: expected only with .*'lstm' or 'gru'"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recurrent_classifier(**options)


def test_initialize_hidden_refuses_other_modules() -> None:
    with pytest.raises(TypeError, match=r"rnn: expected .* got Recurrent"):
        initialize_hidden_(recurrent_classifier())
    with pytest.raises(ValueError, match="Leave proj_size at 0"):
        initialize_hidden_(nn.LSTM(2, 8, proj_size=4))
    with pytest.raises(ValueError, match="scheme: expected one of orthogonal"):
        initialize_hidden_(nn.RNN(2, 8), scheme="he")
    with pytest.raises(ValueError, match="vocab: expected"):
        recurrent_lm(vocab=0)

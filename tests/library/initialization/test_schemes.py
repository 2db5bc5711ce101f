"""Schemes: parity with torch.nn.init, what is drawn and what is left alone."""

import math
from collections.abc import Callable

import pytest
import torch
from draws import generator
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import init

from gradlib.activations import gain
from gradlib.initialization import SCHEMES, initialize_
from gradlib.initialization.weight_layers import weight_layers
from gradlib.models import deep_mlp, small_cnn

TORCHS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "lecun": lambda w, g: init.kaiming_normal_(w, nonlinearity="linear", generator=g),
    "xavier": lambda w, g: init.xavier_normal_(w, generator=g),
    "he": lambda w, g: init.kaiming_normal_(w, nonlinearity="relu", generator=g),
    "orthogonal": lambda w, g: init.orthogonal_(w, math.sqrt(2), generator=g),
    "normal": lambda w, g: init.normal_(
        w, std=1 / math.sqrt(w[0].numel()), generator=g
    ),
    "torch": lambda w, g: init.kaiming_uniform_(w, a=math.sqrt(5), generator=g),
}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(20, 30),
        nn.Conv1d(4, 6, 3),
        nn.Conv2d(4, 6, (3, 5), groups=2),
        nn.Conv3d(2, 3, 3),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_each_scheme_is_torchs(scheme: str, layer: nn.Module) -> None:
    initialize_(layer, scheme, generator=generator(0))
    expected = TORCHS[scheme](torch.empty_like(layer.weight), generator(0))
    torch.testing.assert_close(layer.weight.detach(), expected)
    assert bool(layer.bias.any()) is (scheme == "torch")


def test_torch_is_what_layers_have_after_construction() -> None:
    for build in (lambda: nn.Linear(7, 5), lambda: nn.Conv2d(3, 4, 3, groups=1)):
        torch.manual_seed(3)
        fresh = build()
        torch.manual_seed(3)
        drawn = build()
        torch.manual_seed(3)
        initialize_(drawn, "torch")
        torch.testing.assert_close(drawn.weight, fresh.weight)
        torch.testing.assert_close(drawn.bias, fresh.bias)


@given(
    scheme=st.sampled_from(["lecun", "he", "normal", "torch"]),
    n=st.integers(1, 600),
    factor=st.floats(0.01, 100.0),
)
@settings(max_examples=40, deadline=None)
def test_gain_over_root_fan_in_is_the_deviation(
    scheme: str, n: int, factor: float
) -> None:
    layer = nn.Linear(n, 20_000 // n + 1)
    initialize_(layer, scheme, gain=factor, generator=generator(n))
    scale = layer.weight.detach().square().mean().sqrt() * math.sqrt(n)
    assert scale.item() == pytest.approx(factor, rel=0.05)


@given(rows=st.integers(1, 30), columns=st.integers(1, 30), g=st.floats(0.1, 10))
@settings(max_examples=30, deadline=None)
def test_orthogonal_matrices_are(rows: int, columns: int, g: float) -> None:
    layer = initialize_(nn.Linear(columns, rows), "orthogonal", gain=g)
    w = layer.weight.detach() / g
    product = w @ w.T if rows <= columns else w.T @ w
    torch.testing.assert_close(product, torch.eye(min(rows, columns)))


@pytest.mark.parametrize("scheme", ["he", "orthogonal"])
@pytest.mark.parametrize("activation", ["tanh", "gelu", "silu", torch.sin])
def test_the_activation_sets_the_gain(scheme: str, activation: str) -> None:
    a, b = nn.Linear(9, 9), nn.Linear(9, 9)
    initialize_(a, scheme, activation=activation, generator=generator(0))
    initialize_(b, scheme, gain=gain(activation), generator=generator(0))
    torch.testing.assert_close(a.weight, b.weight)


def test_std_is_taken_as_it_is() -> None:
    model = deep_mlp(3, 300, in_features=50)
    initialize_(model, "normal", std=0.3, generator=generator(0))
    for layer in list(model.layers)[:2]:
        assert layer.weight.std().item() == pytest.approx(0.3, rel=0.03)


@pytest.mark.parametrize("scheme", ["he", "torch"])
def test_bias_std(scheme: str) -> None:
    layer = nn.Linear(3, 5000)
    initialize_(layer, scheme, bias_std=0.5, generator=generator(0))
    assert layer.bias.std().item() == pytest.approx(0.5, rel=0.05)
    assert not initialize_(layer, scheme, bias_std=0.0).bias.any()


def test_only_linear_and_convolutional_layers_change() -> None:
    model = nn.ModuleDict(
        {
            "linear": nn.Linear(3, 3),
            "norm": nn.BatchNorm1d(3),
            "words": nn.Embedding(3, 3),
            "rnn": nn.LSTM(3, 3),
            "up": nn.ConvTranspose2d(3, 3, 3),
        }
    )
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    assert initialize_(model, "he") is model
    changed = [n for n, p in model.named_parameters() if not torch.equal(p, before[n])]
    assert changed == ["linear.weight", "linear.bias"]


def test_the_same_generator_draws_the_same() -> None:
    state = torch.get_rng_state()
    a, b = (small_cnn(4, 3, seed=s) for s in (0, 1))
    for model in (a, b):
        initialize_(model, "orthogonal", generator=generator(5))
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.equal(p, q)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_precision(scheme: str, dtype: torch.dtype) -> None:
    layer = initialize_(nn.Linear(8, 8, dtype=dtype), scheme, generator=generator(0))
    assert layer.weight.dtype == dtype
    twin = initialize_(nn.Linear(8, 8), scheme, generator=generator(0))
    if dtype != torch.float64:
        torch.testing.assert_close(layer.weight, twin.weight.to(dtype))


def test_frozen_and_meta_weights() -> None:
    layer = nn.Linear(4, 4).requires_grad_(False)
    before = layer.weight.clone()
    initialize_(layer, "he")
    assert not torch.equal(layer.weight, before)
    assert not layer.weight.requires_grad
    meta = nn.Linear(4, 4, device="meta")
    assert initialize_(meta, "he", generator=generator(0)).weight.is_meta


def test_layers_without_numbers_are_left_out() -> None:
    with pytest.warns(UserWarning, match="zero-element"):
        model = nn.Sequential(nn.Linear(4, 3), nn.Linear(0, 3))
    assert list(weight_layers(model)) == ["0"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheme": "kaiming"}, "scheme: expected one of lecun, xavier, he"),
        ({"gain": 0.0}, "gain: expected a finite number > 0, got 0"),
        ({"gain": math.nan}, "gain: expected a finite number > 0, got nan"),
        ({"std": 0.1}, "std: expected only with the scheme 'normal'"),
        ({"scheme": "normal", "std": 0.1, "gain": 1.0}, "without gain"),
        ({"scheme": "normal", "std": -0.1}, "std: expected a finite number > 0"),
        ({"bias_std": -1.0}, "bias_std: expected a finite number >= 0"),
        ({"activation": "rellu"}, "activation: expected one of"),
        ({"model": nn.ReLU()}, "at least one linear or convolutional .* got none in"),
        ({"model": nn.LazyLinear(3)}, "is lazy. Run one batch"),
        (
            {"model": nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))},
            r"computes its own \(spectral norm",
        ),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        initialize_(**({"model": nn.Linear(2, 2), "scheme": "he"} | options))


def test_other_things_than_modules_are_refused() -> None:
    with pytest.raises(TypeError, match=r"model: expected a torch.nn.Module, got list"):
        initialize_([nn.Linear(2, 2)], "he")

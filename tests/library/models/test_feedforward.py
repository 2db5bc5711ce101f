"""Feedforward nets: shapes, names, parity with torch, growth as theory says."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from draws import generator
from torch import Tensor, nn

from gradlib.initialization import initialize_
from gradlib.models import Feedforward, deep_mlp, small_cnn
from gradlib.theory import batch_norm_residual_growth, residual_growth

SEEDS = range(3)


def names(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_parameters()]


@pytest.mark.parametrize("residual", [None, "plain"])
def test_deep_mlp_has_plain_names(residual: str | None) -> None:
    model = deep_mlp(4, 8, norm="layer", residual=residual)
    layers = [f"layers.{k}.{what}" for k in range(4) for what in ("weight", "bias")]
    norms = [f"norms.{k}.{what}" for k in range(3) for what in ("weight", "bias")]
    assert names(model) == layers + norms
    assert names(deep_mlp(1, 8, bias=False)) == ["layers.0.weight"]


def test_depth_one_is_linear() -> None:
    model = deep_mlp(1, 8, in_features=6, out_features=3)
    x = torch.randn(5, 2, 3)
    torch.testing.assert_close(model(x), model.layers[0](x.flatten(1)))


@pytest.mark.parametrize("norm", [None, "batch", "layer", "rms"])
def test_deep_mlp_is_torchs_sequence(norm: str | None) -> None:
    model = deep_mlp(3, 8, in_features=6, activation="tanh", norm=norm, seed=0)
    n0, n1 = model.norms if norm else (nn.Identity(), nn.Identity())
    a, b, c = model.layers
    sequence = nn.Sequential(nn.Flatten(), a, n0, nn.Tanh(), b, n1, nn.Tanh(), c)
    x = torch.randn(5, 6, generator=generator(1))
    torch.testing.assert_close(model(x), sequence(x))


def reference(model: Feedforward, x: Tensor, scale: Callable[[int], Tensor]) -> Tensor:
    """A residual net with branches of two layers, written out."""
    w = [(layer.weight, layer.bias) for layer in model.layers]
    h = x @ w[0][0].T + w[0][1]
    for block in range((len(w) - 2) // 2):
        (v1, b1), (v2, b2) = w[1 + 2 * block], w[2 + 2 * block]
        h = h + scale(block) * (((h.relu() @ v1.T + b1).relu()) @ v2.T + b2)
    return h.relu() @ w[-1][0].T + w[-1][1]


@pytest.mark.parametrize("residual", ["plain", "scaled", "rezero"])
def test_residual_nets_are_what_they_say(residual: str) -> None:
    model = deep_mlp(8, 5, in_features=6, residual=residual, branch_layers=2, seed=0)
    if model.scales is not None:
        nn.init.normal_(model.scales, generator=generator(2))
    scales = {
        "plain": lambda block: torch.tensor(1.0),
        "scaled": lambda block: torch.tensor(1 / math.sqrt(3)),
        "rezero": lambda block: model.scales[block],
    }
    x = torch.randn(7, 6, generator=generator(1))
    expected = reference(model, x, scales[residual])
    torch.testing.assert_close(model(x), expected)


def test_branches_are_the_inner_layers() -> None:
    model = deep_mlp(8, 5, residual="plain", branch_layers=3)
    layers = list(model.layers)
    assert model.branches == [layers[1:4], layers[4:7]]
    assert deep_mlp(8, 5).branches == []


def test_rezero_starts_as_the_identity() -> None:
    deep = deep_mlp(20, 8, in_features=6, residual="rezero", seed=0)
    x = torch.randn(4, 6)
    expected = deep.layers[-1](deep.layers[0](x).relu())
    torch.testing.assert_close(deep(x), expected)
    deep(x).sum().backward()
    assert deep.scales.grad.abs().min() > 0
    assert deep.layers[5].weight.grad.abs().max() == 0


@pytest.mark.parametrize("norm", [None, "batch", "layer"])
@pytest.mark.parametrize("residual", [None, "plain", "scaled", "rezero"])
def test_small_cnn_answers_and_learns(norm: str | None, residual: str | None) -> None:
    model = small_cnn(4, 8, in_channels=3, norm=norm, residual=residual, seed=0)
    x = torch.randn(6, 3, 12, 12, generator=generator(0))
    assert model(x).shape == (6, 10)
    model(x).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_small_cnn_is_torchs_sequence() -> None:
    model = small_cnn(3, 4, norm="batch", activation="gelu", seed=0)
    (a, b, c), (n0, n1) = model.layers, model.norms
    pool = [nn.AvgPool2d(4), nn.Flatten()]
    sequence = nn.Sequential(a, n0, nn.GELU(), b, n1, nn.GELU(), *pool, c)
    x = torch.randn(5, 1, 8, 8, generator=generator(1))
    torch.testing.assert_close(model(x), sequence(x))


def stream_growth(model: Feedforward, seed: int) -> tuple[float, float]:
    """Growth of mean square and squared gradient over all residual blocks."""
    stream: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor]) -> None:
        inputs[0].retain_grad()
        stream.append(inputs[0])

    for module in model.norms if model.norms else model.activations:
        module.register_forward_pre_hook(keep)
    model(torch.randn(64, 256, generator=generator(seed)))
    first, last = stream[0], stream[-1]
    v = torch.randn(last.shape, generator=generator(seed + 50))
    (last * v).sum().backward()
    forward = last.square().mean() / first.square().mean()
    backward = first.grad.square().sum() / last.grad.square().sum()
    return forward.item(), backward.item()


@pytest.mark.parametrize(("residual", "scale"), [("plain", 1.0), ("scaled", 0.25)])
def test_residual_growth_matches_theory(residual: str, scale: float) -> None:
    logs = []
    for seed in SEEDS:
        model = deep_mlp(18, 256, in_features=256, residual=residual, bias=False)
        initialize_(model, "he", generator=generator(seed))
        logs.append([math.log(growth) for growth in stream_growth(model, seed + 9)])
    forward, backward = torch.tensor(logs).mean(0) / math.log(
        residual_growth(16, scale)
    )
    assert forward == pytest.approx(1, abs=0.12)
    assert backward == pytest.approx(1, abs=0.12)


def test_batch_norm_tames_residual_growth() -> None:
    measured = []
    for seed in SEEDS:
        model = deep_mlp(
            18, 256, in_features=256, norm="batch", residual="plain", bias=False
        )
        initialize_(model, "he", generator=generator(seed))
        with torch.no_grad():
            model.layers[0].weight /= math.sqrt(2.0)
        measured.append(stream_growth(model, seed + 9))
    forward, backward = torch.tensor(measured).mean(0)
    assert forward == pytest.approx(17, rel=0.1)
    assert backward == pytest.approx(batch_norm_residual_growth(16), rel=0.1)


def test_seed_draws_the_same_and_leaves_torch_alone() -> None:
    state = torch.get_rng_state()
    for build in (lambda s: deep_mlp(3, 8, seed=s), lambda s: small_cnn(3, 8, seed=s)):
        a, b, c = (build(seed).layers[0].weight for seed in (0, 0, 1))
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(deep_mlp(2, 8).layers[0].weight, a)
    assert not torch.equal(torch.get_rng_state(), state)


def test_custom_activations_get_a_module_each() -> None:
    model = deep_mlp(4, 8, in_features=4, activation=nn.PReLU())
    model(torch.ones(2, 4)).sum().backward()
    slopes = [act.weight.grad for act in model.activations]
    assert len(slopes) == 3
    assert all(slope is not None for slope in slopes)
    assert deep_mlp(3, 8, in_features=4, activation=torch.sin)(torch.ones(2, 4)).shape


def test_copies_and_stacks_behave() -> None:
    models = [deep_mlp(4, 8, in_features=4, residual="rezero", seed=s) for s in (0, 1)]
    twin = copy.deepcopy(models[0])
    twin.load_state_dict(models[1].state_dict())
    x = torch.randn(3, 4)
    torch.testing.assert_close(twin(x), models[1](x))
    parameters, buffers = torch.func.stack_module_state(models)
    outputs = torch.vmap(lambda p, b: torch.func.functional_call(twin, (p, b), (x,)))(
        parameters, buffers
    )
    torch.testing.assert_close(outputs, torch.stack([m(x) for m in models]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 0}, "depth: expected a whole number >= 1, got 0"),
        ({"width": 0}, "width: expected a whole number >= 1"),
        ({"in_features": 0}, "in_features: expected"),
        ({"out_features": -1}, "out_features: expected"),
        ({"norm": "group"}, "norm: expected one of batch, layer, rms; got 'group'"),
        ({"residual": "resnet"}, "residual: expected one of plain, scaled, rezero"),
        ({"activation": "rellu"}, "activation: expected one of"),
        ({"residual": "plain", "depth": 2}, "depth: expected 2 .* got 2"),
        ({"residual": "plain", "branch_layers": 2}, "branch_layers = 2.*got 5"),
        ({"seed": -1}, "seed: expected a whole number >= 0"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        deep_mlp(**({"depth": 5, "width": 8} | options))


def test_small_cnn_refuses_bad_arguments() -> None:
    with pytest.raises(ValueError, match="depth: expected a whole number >= 2"):
        small_cnn(1)
    with pytest.raises(ValueError, match="norm: expected one of batch, layer; got"):
        small_cnn(norm="rms")
    with pytest.raises(TypeError, match="channels: expected a whole number"):
        small_cnn(channels=1.5)

"""LSUV and Fixup, and what the schemes do to deep nets."""

import math

import pytest
import torch
from draws import generator, normal
from torch import Tensor, nn
from torch.nn import functional as F

from gradlib import initialization
from gradlib.initialization import fixup_, initialize_, lsuv_, measured_growth
from gradlib.measure import gradient_norms
from gradlib.models import Feedforward, deep_mlp, small_cnn


def test_initialization_has_all_names() -> None:
    for name in ("SCHEMES", "initialize_", "lsuv_", "fixup_", "audit", "Audit"):
        assert hasattr(initialization, name)


def output_variances(model: nn.Module, batch: Tensor) -> list[float]:
    found: list[float] = []
    handles = [
        layer.register_forward_hook(lambda m, i, o: found.append(o.var().item()))
        for layer in model.modules()
        if isinstance(layer, (nn.Linear, nn.Conv2d))
    ]
    model(batch)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("activation", ["gelu", "silu", "sigmoid", "relu"])
def test_lsuv_gives_unit_variance_at_any_depth(activation: str) -> None:
    model = deep_mlp(40, 32, in_features=20, activation=activation)
    batch = 7 * normal(256, 20)
    assert lsuv_(model, batch, generator=generator(0)) is model
    variances = output_variances(model, batch)
    assert len(variances) == 40
    assert all(abs(variance - 1) <= 0.11 for variance in variances)


def test_lsuv_only_scales_orthogonal_weights() -> None:
    model = lsuv_(deep_mlp(4, 16, in_features=16), normal(64, 16), tolerance=0.01)
    for layer in list(model.layers)[:-1]:
        product = layer.weight.detach() @ layer.weight.detach().T
        torch.testing.assert_close(product, product[0, 0] * torch.eye(16))
        assert not layer.bias.any()


@pytest.mark.parametrize("norm", [None, "batch"])
def test_lsuv_on_a_cnn_leaves_no_trace(norm: str | None) -> None:
    model = small_cnn(4, 8, norm=norm, residual="plain").train()
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    batch, state = normal(16, 1, 12, 12), torch.get_rng_state()
    lsuv_(model, batch, generator=generator(0))
    torch.testing.assert_close(dict(model.named_buffers()), buffers)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert not any(m._forward_hooks for m in model.modules())
    assert all(p.grad is None for p in model.parameters())
    assert all(abs(v - 1) <= 0.11 for v in output_variances(model, batch))


def test_lsuv_goes_by_execution_not_by_name() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.second, self.first = nn.Linear(30, 30), nn.Linear(5, 30)
            self.unused = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x).exp())

    model, batch = Backwards(), normal(200, 5)
    lsuv_(model, batch, tolerance=1e-3, generator=generator(0))
    assert output_variances(model, batch) == pytest.approx([1, 1], abs=2e-3)
    w = model.unused.weight.detach()
    torch.testing.assert_close(w @ w.T, torch.eye(2))


def test_lsuv_refuses_batches_that_say_nothing() -> None:
    model = deep_mlp(3, 8, in_features=4)
    with pytest.raises(ValueError, match=r"outputs of layers.0 that vary, got .* 0\.0"):
        lsuv_(model, torch.zeros(5, 4))
    with pytest.raises(ValueError, match=r"got variance nan\. Give more examples"):
        lsuv_(model, torch.full((5, 4), math.inf))
    with pytest.raises(TypeError, match=r"batch: expected a tensor .* got tuple"):
        lsuv_(model, (torch.ones(5, 4), torch.ones(5)))
    with pytest.raises(ValueError, match="max_steps: expected a whole number >= 1"):
        lsuv_(model, torch.ones(5, 4), max_steps=0)
    with pytest.raises(ValueError, match="tolerance: expected"):
        lsuv_(model, torch.ones(5, 4), tolerance=0.0)


@pytest.mark.parametrize(("m", "blocks"), [(1, 4), (2, 9), (3, 4)])
def test_fixup_scales_as_the_paper_says(m: int, blocks: int) -> None:
    model = deep_mlp(2 + m * blocks, 128, residual="plain", branch_layers=m)
    fixup_(model, generator=generator(0))
    twin = initialize_(deep_mlp(2 + m * blocks, 128), "he", generator=generator(0))
    factor = blocks ** (-1 / (2 * m - 2)) if m > 1 else math.nan
    for k, (layer, he) in enumerate(zip(model.layers, twin.layers, strict=True)):
        last_of_branch = k and k % m == 0
        expected = factor if k else 1.0
        if last_of_branch or k == len(model.layers) - 1:
            expected = 0.0
        torch.testing.assert_close(layer.weight, expected * he.weight)


@pytest.mark.parametrize("build", [deep_mlp, small_cnn])
def test_fixup_starts_flat_at_any_depth(build: type[Feedforward]) -> None:
    model = build(42, 8, residual="plain", branch_layers=2)
    fixup_(model, generator=generator(0))
    images, labels = normal(32, 1, 28, 28), torch.arange(32) % 10
    loss = F.cross_entropy(model(images), labels)
    assert loss.item() == pytest.approx(math.log(10))
    loss.backward()
    moved = [n for n, norm in gradient_norms(model).items() if norm > 0]
    assert moved == ["layers.41.weight", "layers.41.bias"]


def test_fixup_trains_where_he_diverges() -> None:
    x, y = normal(64, 20), torch.arange(64) % 4

    def final_loss(scheme: str) -> float:
        model = deep_mlp(
            34, 32, in_features=20, out_features=4, residual="plain", branch_layers=2
        )
        if scheme == "fixup":
            fixup_(model, generator=generator(0))
        else:
            initialize_(model, scheme, generator=generator(0))
        parameters = list(model.parameters())
        for _ in range(10):
            loss = F.cross_entropy(model(x), y)
            gradients = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                torch._foreach_sub_(parameters, gradients, alpha=0.1)
        return loss.item()

    assert final_loss("fixup") < 1.3
    assert math.isnan(final_loss("he"))


def test_fixup_takes_branches_of_other_models() -> None:
    inner, last, head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
    model = nn.Sequential(inner, last, head)
    fixup_(model, branches=[[inner, last]], generator=generator(0))
    assert inner.weight.any()
    assert not last.weight.any()
    assert not head.weight.any()


def test_fixup_refuses_what_it_cannot_do() -> None:
    for residual in ("scaled", "rezero"):
        with pytest.raises(ValueError, match=f"residual='plain', got '{residual}'"):
            fixup_(deep_mlp(6, 8, residual=residual))
    with pytest.raises(ValueError, match=r"branches: expected .* got \[\]"):
        fixup_(deep_mlp(6, 8))
    with pytest.raises(ValueError, match="branches: expected"):
        fixup_(nn.Sequential(nn.Linear(2, 2)), branches=[[nn.Linear(2, 2)]])
    with pytest.raises(ValueError, match="branches: expected"):
        fixup_(nn.Sequential(nn.Linear(2, 2)), branches=[[]])
    with pytest.raises(TypeError, match=r"model: expected a torch.nn.Module"):
        fixup_(None)


@pytest.mark.parametrize(
    ("scheme", "activation", "factor"),
    [
        ("torch", "relu", 1 / 6),
        ("torch", "identity", 1 / 3),
        ("lecun", "relu", 1 / 2),
        ("xavier", "relu", 1 / 2),
        ("he", "relu", 1.0),
        ("orthogonal", "relu", 1.0),
        ("lecun", "selu", 1.0716),
    ],
)
def test_growth_under_each_scheme_matches_theory(
    scheme: str, activation: str, factor: float
) -> None:
    logs = []
    for seed in range(4):
        model = deep_mlp(22, 256, in_features=256, activation=activation, bias=False)
        gain = 2**0.5 if scheme == "orthogonal" else None
        initialize_(model, scheme, gain=gain, generator=generator(seed))
        steps, _ = measured_growth(
            model, normal(16, 256, seed=seed + 50), generator(seed + 100)
        )
        hidden = list(steps.values())[1:-1]
        logs.append(sum(math.log(growth.backward) for growth in hidden) / len(hidden))
    assert sum(logs) / 4 == pytest.approx(math.log(factor), abs=0.06)


@pytest.mark.parametrize(
    ("scheme", "activation", "spread"),
    [
        ("normal", "identity", 8.0),
        ("orthogonal", "identity", 0.0),
        ("normal", "relu", 15.0),
        ("orthogonal", "relu", 7.0),
    ],
)
def test_singular_values_spread_as_theory_says(
    scheme: str, activation: str, spread: float
) -> None:
    """Eight matrices with seven activations between them."""
    measured = []
    for seed in range(3):
        model = deep_mlp(
            8, 128, in_features=128, out_features=128, activation=activation, bias=False
        ).double()
        initialize_(model, scheme, gain=1.0, generator=generator(seed))
        x = normal(128, seed=seed).double()
        jacobian = torch.func.jacrev(lambda x, f=model: f(x[None])[0])(x)
        squares = torch.linalg.svdvals(jacobian) ** 2
        measured.append((squares / squares.mean()).var(correction=0).item())
    assert sum(measured) / 3 == pytest.approx(spread, rel=0.2, abs=1e-9)


# 20 seeds: 0.7 to 0.8 of what a linear net would lose, and 7 to 9 times less.
def test_xavier_keeps_tanh_gradients_that_torchs_default_loses() -> None:
    kept = {}
    for scheme in ("torch", "xavier"):
        model = deep_mlp(7, 256, in_features=256, activation="tanh", bias=False)
        initialize_(model, scheme, generator=generator(0))
        steps, _ = measured_growth(model, normal(64, 256), generator(1))
        factors = [growth.backward for growth in list(steps.values())[1:-1]]
        kept[scheme] = math.sqrt(math.prod(factors))
    assert kept["torch"] == pytest.approx(3**-2.5, rel=0.4)
    assert kept["xavier"] > 5 * kept["torch"]


def test_he_against_xavier_over_thirty_layers() -> None:
    """The first layer's gradient differs by sqrt(2) for each layer above it."""
    x, y = normal(64, 100), torch.arange(64) % 10
    ratios = []
    for seed in range(5):
        norms = []
        for scheme in ("he", "lecun"):
            model = deep_mlp(30, 100, in_features=100)
            initialize_(model, scheme, generator=generator(seed))
            F.cross_entropy(model(x), y).backward()
            norms.append(gradient_norms(model)["layers.0.weight"])
        ratios.append(math.log(norms[0] / norms[1]))
    assert sum(ratios) / 5 == pytest.approx(29 * math.log(2) / 2, rel=0.07)

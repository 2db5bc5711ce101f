"""Where the first NaN or inf of a model comes from."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from networks import network_with_gradients as network
from torch import Tensor, nn
from torch.testing import assert_close

from gradlib.measure import (
    NonFinite,
    first_nonfinite,
)


class Root(nn.Module):
    """An operation between two layers that is not a module of its own."""

    def __init__(self, operation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.operation = operation
        self.first, self.last = nn.Linear(3, 3), nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.operation(self.first(x)))
        return out


class Act(Root):
    """The same operation as a module, between layers of a Sequential."""

    def forward(self, x: Tensor) -> Tensor:
        return self.operation(x)


def stack(operation: Callable[[Tensor], Tensor]) -> nn.Module:
    layer = Act(operation)
    del layer.first, layer.last
    return nn.Sequential(nn.Linear(3, 3), nn.Sequential(layer), nn.Linear(3, 1))


def broken(value: float, at: str = "2.weight") -> nn.Module:
    net = stack(torch.tanh)
    with torch.no_grad():
        net.get_parameter(at).view(-1)[0] = value
    return net


def flat_root(x: Tensor) -> Tensor:
    """Its value is 0 and its slope infinite."""
    return (0 * x).sqrt()


def tiny_weight() -> nn.Module:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 1e-20)
    return layer


ONES = torch.ones(4, 3)
NANS = torch.full((4, 3), math.nan)
CASES: dict[str, tuple[nn.Module, Callable[[Any], Any], NonFinite | None]] = {
    "all finite": (stack(torch.tanh), lambda m: m(ONES).sum(), None),
    "parameter nan": (
        broken(math.nan),
        lambda m: m(ONES).sum(),
        NonFinite("2.weight", "parameter", "nan"),
    ),
    "parameter inf": (
        broken(-math.inf, "0.bias"),
        lambda m: m(ONES).sum(),
        NonFinite("0.bias", "parameter", "inf"),
    ),
    "data": (
        stack(torch.tanh),
        lambda m: m(NANS).sum(),
        NonFinite("Sequential", "input", "nan"),
    ),
    "a module": (
        stack(lambda x: x / 0),
        lambda m: m(ONES).sum(),
        NonFinite("1.0", "forward", "inf"),
    ),
    "log of zero": (
        stack(lambda x: (0 * x).log()),
        lambda m: m(ONES).sum(),
        NonFinite("1.0", "forward", "inf"),
    ),
    "between modules": (
        Root(lambda x: x * math.nan),
        lambda m: m(ONES).sum(),
        NonFinite("last", "input", "nan"),
    ),
    "loss": (
        stack(torch.tanh),
        lambda m: m(ONES).sum() * math.inf,
        NonFinite("loss", "loss", "inf"),
    ),
    "backward of a module": (
        stack(flat_root),
        lambda m: m(ONES).sum(),
        NonFinite("1.0", "backward", "nan"),
    ),
    "backward of a module that works in place": (
        stack(lambda x: x.mul(0).sqrt_()),
        lambda m: m(ONES).sum(),
        NonFinite("1.0", "backward", "nan"),
    ),
    "backward of a module that overwrites its input": (
        nn.Sequential(stack(lambda x: 0 * x)[1], stack(lambda x: x.sqrt_())),
        lambda m: m[1][1](m[0](m[1][0](ONES))).sum(),
        NonFinite("1.1.0", "backward", "inf"),
    ),
    "backward between modules": (
        Root(flat_root),
        lambda m: m(ONES).sum(),
        NonFinite("Root", "backward", "nan"),
    ),
    "backward of the loss": (
        stack(torch.tanh),
        lambda m: flat_root(m(ONES)).sum(),
        NonFinite("loss", "backward", "nan"),
    ),
    "gradient of a parameter": (
        tiny_weight(),
        lambda m: 1e20 * m(torch.tensor([1e30])).sum(),
        NonFinite("weight", "backward", "inf"),
    ),
    "run makes both passes": (
        stack(flat_root),
        lambda m: m(ONES).sum().backward(),
        NonFinite("1.0", "backward", "nan"),
    ),
    "run makes both passes and returns the loss": (
        stack(flat_root),
        lambda m: (loss := m(ONES).sum(), loss.backward())[0],
        NonFinite("1.0", "backward", "nan"),
    ),
    "no graph": (
        stack(flat_root),
        lambda m: m(ONES).sum().detach(),
        None,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_first_nonfinite(case: str) -> None:
    net, run, expected = CASES[case]
    assert first_nonfinite(net, lambda: run(net)) == expected


def test_masks_and_integers_pass() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    mask = nn.Transformer.generate_square_subsequent_mask(4)
    assert mask.isinf().any()
    x = torch.ones(2, 4, 8)
    assert first_nonfinite(layer, lambda: layer(x, src_mask=mask).sum()) is None
    table = nn.Embedding(4, 2, sparse=True)
    index = torch.tensor([1, 1])
    assert first_nonfinite(table, lambda: table(index).sum()) is None


def test_outputs_of_any_nesting() -> None:
    class Nested(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Any]:
            return {"a": [x, (x, {"b": x / 0})], "c": None, "d": 3}

    net = nn.Sequential(Nested())
    run = lambda: net(torch.ones(1))["a"][0].sum()  # noqa: E731
    assert first_nonfinite(net, run) == NonFinite("0", "forward", "inf")


def hooks_and_modes(net: nn.Module) -> list[Any]:
    hooks = [
        len(hooks)
        for m in net.modules()
        for hooks in (m._forward_hooks, m._forward_pre_hooks, m._backward_hooks)
    ]
    hooks += [len(p._backward_hooks or {}) for p in net.parameters()]
    modes = [m.training for m in net.modules()]
    return [hooks, modes]


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("earlier", [False, True])
def test_no_trace_is_left(fails: bool, earlier: bool) -> None:
    net = network()
    if not earlier:
        net.zero_grad()
    gradients = [p.grad for p in net.parameters()]
    values = copy.deepcopy(gradients)
    state, kept = hooks_and_modes(net), copy.deepcopy(net.state_dict())
    buffers = [id(b) for b in net.buffers()]
    x = torch.randn(8, 3, requires_grad=True)
    random = torch.get_rng_state()

    def run() -> Tensor:
        net.eval()
        net.train()
        net[3].eval()
        loss = net(x + torch.randn(8, 3)).sum()
        net[1].running_var = torch.zeros(4)
        loss.backward()
        if fails:
            raise KeyError("stop")
        return loss

    if fails:
        with pytest.raises(KeyError, match="stop"):
            first_nonfinite(net, run)
    else:
        assert first_nonfinite(net, run) is None
    assert hooks_and_modes(net) == state
    assert not x._backward_hooks
    assert [id(p.grad) for p in net.parameters()] == [id(g) for g in gradients]
    assert [id(b) for b in net.buffers()] == buffers
    assert_close([p.grad for p in net.parameters()], values)
    assert_close(net.state_dict(), kept, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize(
    ("model", "run", "message"),
    [
        (3, network, "torch.nn.Module, got int"),
        (network(), lambda: 3.0, "scalar loss .* got 3.0"),
        (
            network(),
            lambda: network()(ONES),
            "run: expected it to return a scalar loss or None, got tensor",
        ),
    ],
)
def test_messages(model: object, run: Callable[[], object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        first_nonfinite(model, run)


@pytest.mark.parametrize(
    "of", [lambda loss: {"loss": loss, "logits": ONES}, lambda loss: (loss, ONES)]
)
def test_a_loss_may_come_with_other_outputs(of: Callable[[Tensor], Any]) -> None:
    net = broken(math.nan)
    found = first_nonfinite(net, lambda: of(net(ONES).sum()))
    assert found == NonFinite("2.weight", "parameter", "nan")
    net = stack(flat_root)
    found = first_nonfinite(net, lambda: of(net(ONES).sum()))
    assert found == NonFinite("1.0", "backward", "nan")


def test_an_optimizer_inside_the_backward_pass_does_not_step() -> None:
    net = nn.Linear(3, 1)
    optimizers = {p: torch.optim.SGD([p], lr=0.1) for p in net.parameters()}
    for p in net.parameters():
        p.register_post_accumulate_grad_hook(lambda p: optimizers[p].step())
    before = copy.deepcopy(net.state_dict())
    assert first_nonfinite(net, lambda: net(ONES).sum()) is None
    assert_close(net.state_dict(), before, rtol=0, atol=0)
    net(ONES).sum().backward()
    assert not torch.equal(net.weight, before["weight"]), "its hooks are gone"


def test_a_step_that_changes_parameters_is_refused() -> None:
    net = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    def run() -> Tensor:
        loss = net(ONES).sum()
        loss.backward()
        optimizer.step()
        return loss

    with pytest.raises(RuntimeError, match=r"weight changed. Leave out optimizer.step"):
        first_nonfinite(net, run)


def test_a_compiled_model_that_has_run_names_its_layer():
    torch._dynamo.reset()
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    nn.init.constant_(model[0].weight, 1e38)
    compiled = torch.compile(model, backend="aot_eager")
    x = torch.ones(2, 8)
    compiled(x)
    found = first_nonfinite(compiled, lambda: compiled(10 * x).sum())
    assert found == NonFinite("_orig_mod.0", "forward", "inf")

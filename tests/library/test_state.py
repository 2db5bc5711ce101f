"""What is put back: modes, buffers, gradients, parameters, random numbers, hooks."""

import pytest
import torch
from torch import nn

from gradlib.hooks import Hooks
from gradlib.state import kept_modes, parameters_of, seeded, unchanged


class Trained(nn.Module):
    """A layer with parameters, buffers, modes and a source of random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1)
        )

    def forward(self, x):
        return self.layers(x)


def everything(model, optimizer):
    return [
        *(p.detach().clone() for p in model.parameters()),
        *(b.clone() for b in model.buffers()),
        *(s for state in optimizer.state.values() for s in map(copied, state.values())),
        torch.get_rng_state(),
    ]


def copied(value):
    return value.clone() if isinstance(value, torch.Tensor) else torch.tensor(value)


def trained():
    model = Trained()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    step(model, optimizer)
    model(torch.randn(8, 3)).sum().backward()
    return model, optimizer


def step(model, optimizer):
    optimizer.zero_grad()
    model(torch.randn(8, 3)).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("raises", [False, True])
def test_all_is_put_back(raises):
    model, optimizer = trained()
    model.layers[1].eval()
    gradients = [p.grad for p in model.parameters()]
    before = everything(model, optimizer)
    modes = [m.training for m in model.modules()]
    try:
        with unchanged(model, optimizer):
            assert all(p.grad is None for p in model.parameters())
            model.train()
            for _ in range(3):
                step(model, optimizer)
            optimizer.param_groups[0]["lr"] = 7.0
            model.layers[1].running_mean = torch.full((4,), 9.0)
            if raises:
                raise RuntimeError("in the middle")
    except RuntimeError:
        assert raises
    torch.testing.assert_close(everything(model, optimizer), before, rtol=0, atol=0)
    assert [m.training for m in model.modules()] == modes
    assert all(p.grad is g for p, g in zip(model.parameters(), gradients, strict=True))
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_without_an_optimizer_weights_may_be_drawn_anew():
    model, optimizer = trained()
    before = everything(model, optimizer)
    with unchanged(model):
        model(torch.randn(8, 3)).sum().backward()
        nn.init.ones_(model.layers[0].weight)
    assert bool((model.layers[0].weight == 1).all())
    after = everything(model, optimizer)
    torch.testing.assert_close(after[1:], before[1:], rtol=0, atol=0)


def test_modes_are_kept():
    model = Trained()
    model.layers[2].eval()
    before = [m.training for m in model.modules()]
    with kept_modes(model):
        model.eval()
    assert [m.training for m in model.modules()] == before


def test_seeded_leaves_the_global_numbers_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with seeded(5):
        first = torch.rand(2)
    with seeded(None):
        assert torch.equal(torch.rand(2), expected)
    with seeded(5):
        assert torch.equal(torch.rand(2), first)


def test_parameters_come_group_after_group():
    model = Trained()
    first, last = model.layers[0], model.layers[3]
    groups = [{"params": last.parameters()}, {"params": first.parameters()}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    expected = [last.weight, last.bias, first.weight, first.bias]
    found = parameters_of(optimizer)
    assert all(a is b for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("raises", [False, True])
def test_hooks_go_together(raises):
    model, ran = Trained(), []
    handles = [
        layer.register_forward_hook(lambda *_: ran.append("layer"))
        for layer in model.layers
    ]
    try:
        with Hooks() as hooks:
            hooks.keep(*handles)
            model(torch.randn(8, 3))
            if raises:
                raise RuntimeError("in the middle")
    except RuntimeError:
        assert raises
    assert len(ran) == 4
    model(torch.randn(8, 3))
    assert len(ran) == 4
    assert not any(layer._forward_hooks for layer in model.layers)

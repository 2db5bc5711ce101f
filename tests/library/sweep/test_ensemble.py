"""Models side by side: each gets what it would get alone."""

from functools import partial

import pytest
import torch
from draws import generator
from torch import nn
from torch.nn.functional import mse_loss

from gradlib.clip import clip_norm_
from gradlib.models import deep_mlp
from gradlib.sweep import Ensemble

BUILD = partial(deep_mlp, 3, 8, in_features=4, out_features=2)


def batches(models: int) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (models, 16)
    return tuple(torch.randn(*shape, n, generator=generator(n)) for n in (4, 2))


@pytest.mark.parametrize("fused", [False, True])
def test_each_model_trains_as_if_alone(fused: bool) -> None:
    together, alone = ([BUILD(seed=s) for s in range(3)] for _ in range(2))
    ensemble = Ensemble(together)
    x, y = batches(3)

    def steppers(models: list[nn.Module]) -> list[torch.optim.Optimizer]:
        rates = (0.001, 0.01, 0.1)
        pairs = zip(models, rates, strict=True)
        return [torch.optim.AdamW(m.parameters(), lr=r, fused=fused) for m, r in pairs]

    mine, theirs = steppers(together), steppers(alone)
    for _ in range(5):
        losses = ensemble.backward(mse_loss, x, y)
        for k, model in enumerate(alone):
            loss = mse_loss(model(x[k]), y[k])
            model.zero_grad()
            loss.backward()
            torch.testing.assert_close(losses[k], loss.detach())
        for models, optimizers in ((together, mine), (alone, theirs)):
            clip_norm_(models[1].parameters(), 0.5)
            for optimizer in optimizers:
                optimizer.step()
    for a, b in zip(together, alone, strict=True):
        for p, q in zip(a.parameters(), b.parameters(), strict=True):
            torch.testing.assert_close(p, q)


@pytest.mark.parametrize("fused", [False, True])
def test_one_optimizer_can_step_the_stack(fused: bool) -> None:
    together, alone = ([BUILD(seed=s) for s in range(3)] for _ in range(2))
    (x, y), ensemble = batches(3), Ensemble(together)
    adam = partial(torch.optim.Adam, lr=0.01, fused=fused)
    stacked, apart = adam(ensemble.weights.values()), Ensemble(alone)
    each = [adam(model.parameters()) for model in alone]
    for _ in range(5):
        ensemble.backward(mse_loss, x, y)
        stacked.step()
        apart.backward(mse_loss, x, y)
        for optimizer in each:
            optimizer.step()
    for a, b in zip(together, alone, strict=True):
        for p, q in zip(a.parameters(), b.parameters(), strict=True):
            torch.testing.assert_close(p, q)


def test_a_change_of_one_model_is_seen() -> None:
    models = [BUILD(seed=0) for _ in range(2)]
    ensemble, (x, y) = Ensemble(models), batches(2)
    x, y = x[:1].expand(2, -1, -1), y[:1].expand(2, -1, -1)
    same = ensemble.backward(mse_loss, x, y)
    assert same[0] == same[1]
    with torch.no_grad():
        list(models[1].parameters())[-1].add_(1)
    changed = ensemble.backward(mse_loss, x, y)
    assert changed[0] == same[0]
    assert changed[1] != same[1]


def test_what_cannot_stand_side_by_side_is_refused() -> None:
    for models in ([], [BUILD(seed=0), deep_mlp(4, 8, in_features=4)]):
        with pytest.raises(ValueError, match=r"all of one shape\. Put models"):
            Ensemble(models)
    with pytest.raises(TypeError, match="models: expected Module, got int"):
        Ensemble([7])
    with pytest.raises(TypeError, match="models: expected several"):
        Ensemble(7)


def test_a_batch_for_each_model_is_asked_for() -> None:
    ensemble, (x, y) = Ensemble([BUILD(seed=0)]), batches(1)
    with pytest.raises(ValueError, match=r"inputs: expected shape \(1, batch, ...\)"):
        ensemble.backward(mse_loss, x.expand(3, -1, -1), y)
    with pytest.raises(ValueError, match=r"targets\.expand"):
        ensemble.backward(mse_loss, x, y[0])
    with pytest.raises(TypeError, match="inputs: expected Tensor"):
        ensemble.backward(mse_loss, [1.0], y)


def test_a_loss_of_many_numbers_is_refused() -> None:
    ensemble, (x, y) = Ensemble([BUILD(seed=0), BUILD(seed=1)]), batches(2)
    with pytest.raises(ValueError, match=r"loss_fn: expected one number .* \(16, 2\)"):
        ensemble.backward(partial(mse_loss, reduction="none"), x, y)


def test_weights_without_a_part_in_the_loss_get_zeros() -> None:
    class Spare(nn.Linear):
        def __init__(self) -> None:
            super().__init__(4, 2)
            self.spare = nn.Parameter(torch.ones(3))

    ensemble, (x, y) = Ensemble([Spare(), Spare()]), batches(2)
    ensemble.backward(mse_loss, x, y)
    for model in ensemble.models:
        assert model.weight.grad.any()
        assert model.spare.grad.tolist() == [0, 0, 0]


def test_a_model_that_overflows_leaves_the_others_alone() -> None:
    models = [BUILD(seed=0) for _ in range(2)]
    ensemble, (x, y) = Ensemble(models), batches(2)
    with torch.no_grad():
        next(models[0].parameters()).fill_(torch.inf)
    losses = ensemble.backward(mse_loss, x, y)
    assert not losses[0].isfinite()
    assert losses[1].isfinite()
    assert all(p.grad.isfinite().all() for p in models[1].parameters())

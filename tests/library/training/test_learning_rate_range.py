"""The learning-rate range test: its rates, its suggestion, no trace."""

import copy
import math
from functools import partial
from statistics import median

import pytest
import torch
from networks import own_seed
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD, Adam

from gradlib.clip import clip_norm_
from gradlib.errors import DivergenceError
from gradlib.training import fit, lr_range_test


def network():
    with own_seed():
        return nn.Sequential(
            nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.1), nn.Linear(8, 3)
        )


def batches(count=5, size=16):
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(count, size, 6, generator=draw)
    return list(zip(x, x[..., :3].argmax(dim=-1), strict=True))


def slope():
    """One weight under the loss w^2 / 2, where lr = 2 is the edge of stability."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    return model, [(torch.ones(1, 1), torch.zeros(1, 1))]


def parabola(outputs, targets):
    return outputs.square().mean() / 2


def test_rates_and_losses_are_those_of_the_loop_by_hand():
    model, data = slope()
    result = lr_range_test(
        model, data, loss_fn=parabola, lr_min=1e-3, lr_max=1.0, steps=4
    )
    assert result.lrs == pytest.approx([1e-3, 1e-2, 1e-1, 1.0])
    weight, losses = 1.0, []
    for lr in (1e-3, 1e-2, 1e-1, 1.0):
        losses.append(weight**2 / 2)
        weight -= lr * weight
    assert result.losses == pytest.approx(losses)


def test_it_stops_above_the_edge_of_stability():
    """Above lr = 2 each step multiplies the loss by (lr - 1)^2, here by 1.1."""
    model, data = slope()
    model.weight.data.fill_(1e3)
    result = lr_range_test(
        model, data, loss_fn=parabola, lr_min=2.05, lr_max=2.06, steps=100
    )
    assert len(result.lrs) < 30
    assert median(result.losses[-5:]) > 4 * result.losses[0]
    assert median(result.losses[-6:-1]) <= 4 * result.losses[0]
    assert result.suggestion is None
    assert "the loss never fell" in str(result)


def test_the_suggestion_is_a_tenth_of_the_best_rate():
    result = lr_range_test(network(), batches(), steps=60)
    smoothed = [
        median(result.losses[max(0, i - 2) : i + 3]) for i in range(len(result.losses))
    ]
    assert result.smoothed == smoothed
    best = result.lrs[smoothed.index(min(smoothed))]
    assert result.suggestion == pytest.approx(best / 10)
    assert f"lr={result.suggestion:.2g}" in str(result)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_suggestion_trains(momentum):
    optimizer = partial(SGD, momentum=momentum)
    model = network()
    result = lr_range_test(model, batches(), optimizer=optimizer)
    history = fit(
        model, batches(), optimizer=optimizer, lr=result.suggestion, steps=150
    )
    assert history["loss"][-1] < 0.75 * history["loss"][0]


def test_a_loss_that_is_not_finite_ends_the_test():
    values = iter([1.0, 1.0, 1.0, math.nan])
    result = lr_range_test(
        network(), batches(), loss_fn=lambda out, y: out.mean() * 0 + next(values)
    )
    assert result.losses == [1.0] * 3
    assert len(result.lrs) == 3


def test_a_first_loss_that_is_not_finite_is_divergence():
    with pytest.raises(DivergenceError, match="step 0: loss is nan"):
        lr_range_test(
            network(), batches(), loss_fn=lambda out, y: out.mean() * math.nan
        )


def test_clipping_keeps_the_loss_from_blowing_up():
    keywords = {"lr_min": 2.5, "lr_max": 1e4, "steps": 40}
    model, data = slope()
    free = lr_range_test(model, data, loss_fn=parabola, **keywords)
    clip = partial(clip_grad_norm_, max_norm=1e-4)
    clipped = lr_range_test(model, data, loss_fn=parabola, clip=clip, **keywords)
    assert len(free.lrs) < len(clipped.lrs)


def test_a_clip_that_refuses_a_broken_gradient_ends_the_test():
    model = network()
    model[0].weight.register_hook(lambda gradient: gradient * math.nan)
    clip = partial(clip_norm_, max_norm=1.0)
    assert len(lr_range_test(model, batches(), clip=clip).losses) == 1


def trained():
    """A model, its optimizer and gradients, in the middle of a training."""
    model = network()
    optimizer = Adam(model.parameters(), lr=0.01)
    with torch.random.fork_rng():
        fit(model, batches(), optimizer=optimizer)
        F.cross_entropy(model(batches()[0][0]), batches()[0][1]).backward()
    model[3].eval()
    return model, optimizer


def state(model, optimizer):
    return copy.deepcopy(
        {
            "model": model.state_dict(),
            "gradients": [p.grad for p in model.parameters()],
            "modes": [module.training for module in model.modules()],
            "optimizer": optimizer.state_dict(),
            "random": torch.get_rng_state(),
        }
    )


@pytest.mark.parametrize("fails", [False, True])
def test_it_leaves_no_trace(fails):
    model, optimizer = trained()
    before = state(model, optimizer)
    gradients = [p.grad for p in model.parameters()]
    rates = []

    def loss_fn(outputs, targets):
        rates.append(optimizer.param_groups[0]["lr"])
        if fails and len(rates) == 8:
            raise KeyError("broken loss")
        return F.cross_entropy(outputs, targets)

    try:
        lr_range_test(model, batches(), optimizer=optimizer, loss_fn=loss_fn, steps=10)
    except KeyError:
        assert fails
    assert rates[:2] == pytest.approx([1e-5, 1e-5 * 10 ** (6 / 9)])
    after = state(model, optimizer)
    assert after.keys() == before.keys()
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    assert all(p.grad is g for p, g in zip(model.parameters(), gradients, strict=True))


def test_training_goes_on_as_if_nothing_had_happened():
    plain, tested = trained(), trained()
    lr_range_test(tested[0], batches(), optimizer=tested[1], steps=20)
    expected, history = (
        _continued(model, optimizer) for model, optimizer in (plain, tested)
    )
    assert history["loss"] == expected["loss"]


def _continued(model, optimizer):
    with torch.random.fork_rng():
        return fit(model, batches(), optimizer=optimizer, steps=5)


def test_batches_of_any_form_with_a_loss():
    told = [{"x": x, "labels": y} for x, y in batches()]
    found = lr_range_test(
        network(),
        told,
        steps=6,
        loss=lambda model, b: {"loss": F.cross_entropy(model(b["x"]), b["labels"])},
    )
    assert found.losses == lr_range_test(network(), batches(), steps=6).losses
    with pytest.raises(TypeError, match=r"loss=lambda model, batch: model\(\*\*batch"):
        lr_range_test(network(), told, steps=6)


def test_a_model_in_evaluation_is_tested_in_training_mode():
    model, modes = network().eval(), []
    model[0].register_forward_hook(lambda module, *_: modes.append(module.training))
    lr_range_test(model, batches(), steps=2)
    assert modes == [True, True]
    assert not model.training


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"lr_min": 0.0}, ValueError, "lr_min: expected a finite number > 0, got 0"),
        ({"lr_max": math.inf}, ValueError, "lr_max: expected a finite number"),
        ({"lr_min": 1.0, "lr_max": 1.0}, ValueError, "more than lr_min=1, got 1"),
        ({"steps": 1}, ValueError, "steps: expected a whole number >= 2, got 1"),
        ({"clip": "norm"}, TypeError, "clip: expected a norm > 0 or a function"),
        ({"optimizer": "sgd"}, TypeError, "optimizer: .*got str"),
        ({"optimizer": torch.optim.LBFGS}, ValueError, "no closure, got LBFGS"),
        ({"loss": 3}, TypeError, "loss: expected a function"),
    ],
)
def test_it_says_what_is_wrong(keywords, error, message):
    with pytest.raises(error, match=message):
        lr_range_test(network(), batches(), **keywords)


def test_a_generator_that_ends_early_is_an_error():
    with pytest.raises(ValueError, match=r"100 steps of 1, but they ended in step 5"):
        lr_range_test(network(), iter(batches()))

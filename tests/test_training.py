"""Training: the loop against hand-written torch, divergence, edges."""

import copy
import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR

from gradlib.errors import DivergenceError, NonFiniteGradientError
from gradlib.training import accuracy, fit


def network(seed=0, *extra):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), *extra, nn.Linear(8, 3))


def digits(count=5, size=4, seed=1):
    draw = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randn(size, 6, generator=draw),
            torch.randint(3, (size,), generator=draw),
        )
        for _ in range(count)
    ]


def by_hand(model, batches, optimizer, max_norm=None, scheduler=None):
    """The loop that a reader of the torch documentation would write."""
    losses, norms, rates = [], [], []
    for x, y in batches:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        norms.append(clip_grad_norm_(model.parameters(), max_norm or math.inf).item())
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step(loss.item())
        elif scheduler is not None:
            scheduler.step()
        losses.append(loss.item())
    return losses, norms, rates


def same_parameters(a, b, **tolerance):
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(p, q, **(tolerance or {"rtol": 0, "atol": 0}))


@pytest.mark.parametrize("max_norm", [None, 0.3])
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_fit_is_the_loop_by_hand_to_the_last_bit(optimizer, max_norm):
    batches, ours, theirs = digits(12), network(), network()
    clip = max_norm and partial(clip_grad_norm_, max_norm=max_norm)
    made = optimizer(theirs.parameters(), lr=0.1)
    scheduler = StepLR(made, 5)
    expected = by_hand(theirs, batches, made, max_norm, scheduler)
    history = fit(
        ours,
        batches,
        optimizer=optimizer,
        lr=0.1,
        clip=clip,
        scheduler=partial(StepLR, step_size=5),
    )
    same_parameters(ours, theirs)
    columns = ["loss", "gradient_norm", "learning_rate"]
    assert tuple(history[column] for column in columns) == expected

"""Backward passes are noticed by few hooks, and none is missed in silence."""

import gc
import math
import weakref

import pytest
import torch
from torch import nn
from torch.optim import SGD

from gradlib import watch
from gradlib.backward import LEARNED_AFTER, BackwardPasses
from gradlib.measure import gradient_norms


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Linear(3, 3)
        self.heads = nn.ModuleList([nn.Linear(3, 1), nn.Linear(3, 1)])

    def forward(self, x, head):
        return self.heads[head](self.trunk(x)).square().mean()


class Counter:
    def __init__(self):
        self.passes = 0

    def count(self):
        self.passes += 1


def python_hooks(model):
    """Names of parameters that have a hook in Python."""
    return [
        name
        for name, p in model.named_parameters()
        if any(
            hasattr(hook, "__code__")
            for hook in (p._post_accumulate_grad_hooks or {}).values()
        )
    ]


def step(model, optimizer, head, clip=None):
    optimizer.zero_grad()
    model(torch.ones(4, 3), head).backward()
    norms = gradient_norms(model)
    if clip is not None:
        nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    return math.hypot(*norms.values())


def test_few_parameters_keep_a_hook_in_python():
    model = TwoHeads()
    optimizer = SGD(model.parameters(), lr=0.0)
    with watch(model, optimizer) as watcher:
        for k in range(LEARNED_AFTER):
            assert len(python_hooks(model)) == 6, k
            step(model, optimizer, head=0)
        assert len(python_hooks(model)) == 1
        (first,) = python_hooks(model)
        assert first.startswith("heads.0.")
        expected = [step(model, optimizer, head=0, clip=1e-3) for _ in range(3)]
    found = watcher.history["gradient_norm"][LEARNED_AFTER:]
    assert found == pytest.approx(expected, rel=1e-5)
    assert not any(p._post_accumulate_grad_hooks for p in model.parameters())


def test_losses_that_take_turns_are_learned():
    model = TwoHeads()
    optimizer = SGD(model.parameters(), lr=0.1)
    expected = []
    with watch(model, optimizer) as watcher:
        for k in range(2 * LEARNED_AFTER):
            expected.append(step(model, optimizer, head=k % 2, clip=1e-3))
        assert len(python_hooks(model)) == 2
    assert watcher.history["gradient_norm"] == pytest.approx(expected, rel=1e-5)


def test_a_pass_that_begins_elsewhere_leaves_a_gap_and_not_a_wrong_norm():
    model = TwoHeads()
    optimizer = SGD(model.parameters(), lr=0.0)
    heads = [0] * (LEARNED_AFTER + 2) + [1] * 3
    with watch(model, optimizer) as watcher:
        expected = [step(model, optimizer, head, clip=1e-3) for head in heads]
        assert len(python_hooks(model)) == 6
    gap = heads.index(1)
    found = watcher.history["gradient_norm"]
    assert math.isnan(found.pop(gap))
    expected.pop(gap)
    assert found == pytest.approx(expected, rel=1e-5)
    assert not math.isnan(watcher.history["learning_rate"][gap])


def test_a_second_pass_of_a_step_that_is_missed_leaves_a_gap():
    """Or the row would hold the norms of a part of the accumulated gradient."""
    model = TwoHeads()
    optimizer = SGD(model.parameters(), lr=0.0)
    with watch(model, optimizer) as watcher:
        for _ in range(LEARNED_AFTER):
            step(model, optimizer, head=0)
        optimizer.zero_grad()
        for head in (0, 1):
            model(torch.ones(4, 3), head).backward()
        optimizer.step()
    assert math.isnan(watcher.history["gradient_norm"][-1])


def test_steps_that_are_not_due_cost_no_gap():
    model = TwoHeads()
    optimizer = SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, every=3) as watcher:
        steps = range(3 * LEARNED_AFTER)
        expected = [step(model, optimizer, head=0, clip=1e-3) for _ in steps]
    found = watcher.history["gradient_norm"]
    assert found == pytest.approx(expected[::3], rel=1e-5)


def test_each_pass_calls_once():
    model = TwoHeads()
    counter = Counter()
    passes = BackwardPasses(counter.count)
    passes.watch(model.parameters())
    for k in range(3):
        model(torch.ones(4, 3), k % 2).backward()
        assert counter.passes == k + 1
        assert not passes.has_missed
        passes.end_step()
    passes.close()
    model(torch.ones(4, 3), 0).backward()
    assert counter.passes == 3


def test_models_go_away_with_their_watcher():
    model = TwoHeads()
    optimizer = SGD(model.parameters(), lr=0.1)
    watcher = watch(model, optimizer)
    for _ in range(LEARNED_AFTER + 2):
        step(model, optimizer, head=0)
    parameter = weakref.ref(model.trunk.weight)
    del model, optimizer, watcher
    gc.collect()
    assert parameter() is None

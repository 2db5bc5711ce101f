"""A training goes on from a copy of its state as it did the first time."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gradlib.training_state import TrainingState

OPTIMIZERS = {
    "SGD": lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9),
    "Adam": lambda ps: torch.optim.Adam(ps, lr=0.01, amsgrad=True),
    "fused AdamW": lambda ps: torch.optim.AdamW(ps, lr=0.01, fused=True),
    "tensor rate": lambda ps: torch.optim.Adam(ps, lr=torch.tensor(0.01)),
    "Adagrad": lambda ps: torch.optim.Adagrad(ps, lr=0.01),
}
SCHEDULES = {
    "none": lambda _: None,
    "steps": lambda o: torch.optim.lr_scheduler.StepLR(o, 2, gamma=0.5),
    "one cycle": lambda o: torch.optim.lr_scheduler.OneCycleLR(
        o, 0.1, 50, cycle_momentum=False
    ),
    "sequence": lambda o: torch.optim.lr_scheduler.SequentialLR(
        o,
        [
            torch.optim.lr_scheduler.LinearLR(o),
            torch.optim.lr_scheduler.CosineAnnealingLR(o, 20),
        ],
        [3],
    ),
}


def network():
    torch.manual_seed(0)
    layers = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.4)
    return nn.Sequential(*layers, nn.Linear(8, 3))


def train(model, optimizer, scheduler, steps):
    """Steps whose data are drawn from all sources of random numbers."""
    for _ in range(steps):
        drawn = random.random() + np.random.rand()  # noqa: NPY002
        x = torch.randn(16, 6) + drawn
        optimizer.zero_grad()
        F.cross_entropy(model(x), x[:, :3].argmax(dim=1)).backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()


def everything(model, optimizer, scheduler):
    state = optimizer.state_dict()
    schedule = None if scheduler is None else scheduler.state_dict()
    return copy.deepcopy((model.state_dict(), state, schedule))


def assert_same(a, b):
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for name in a:
            assert_same(a[name], b[name])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            assert_same(one, other)
    else:
        assert a == b


@pytest.mark.parametrize("before", [0, 4])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step:UserWarning")
@pytest.mark.filterwarnings("ignore:.*epoch parameter:UserWarning")
def test_training_goes_on_bit_for_bit(kind, schedule, before):
    model = network()
    optimizer = OPTIMIZERS[kind](model.parameters())
    scheduler = SCHEDULES[schedule](optimizer)
    train(model, optimizer, scheduler, before)
    training = TrainingState(model, optimizer, scheduler)
    state = training.copy()
    train(model, optimizer, scheduler, 5)
    expected = everything(model, optimizer, scheduler)
    for _ in range(2):  # a copy can be put back again
        train(model, optimizer, scheduler, 3)
        training.restore(state)
        train(model, optimizer, scheduler, 5)
        assert_same(everything(model, optimizer, scheduler), expected)


def test_moments_keep_their_own_type():
    model = network().bfloat16()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    weight = model[0].weight
    optimizer.state[weight] = {"sum": torch.full((8, 6), 1 / 3)}
    training = TrainingState(model, optimizer)
    state = training.copy()
    optimizer.state[weight]["sum"].zero_()
    training.restore(state)
    assert torch.equal(optimizer.state[weight]["sum"], torch.full((8, 6), 1 / 3))


def test_the_scale_of_a_scaler_comes_back():
    model, scaler = network(), torch.amp.GradScaler("cpu", init_scale=8.0)
    training = TrainingState(model, torch.optim.SGD(model.parameters()), None, scaler)
    scaler.scale(torch.ones(1))
    state = training.copy()
    scaler.update(2.0)
    training.restore(state)
    assert scaler.get_scale() == 8.0


def test_memory_is_that_of_the_tensors_in_a_copy():
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    training = TrainingState(model, optimizer)
    train(model, optimizer, None, 1)
    state = training.copy()
    held = [
        *state["model"].values(),
        *(t for s in state["optimizer"] for t in s.values()),
    ]
    assert training.nbytes() == sum(t.nbytes for t in held)


def test_other_parameters_are_refused():
    model = network()
    optimizer = torch.optim.SGD(model.parameters())
    training = TrainingState(model, optimizer)
    state = training.copy()
    model.append(nn.Linear(3, 3))
    with pytest.raises(RuntimeError, match="got others"):
        training.restore(state)

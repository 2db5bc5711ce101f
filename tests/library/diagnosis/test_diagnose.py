"""diagnose(): no traces, clear errors, any kind of batch and loss."""

import random
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from trainings import (
    Case,
    case,
    classes,
    good,
    mlp,
    run,
)

from gradlib.diagnosis import diagnose


class Everything(nn.Module):
    """A model with buffers, dropout, a hook, and an attribute that changes."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout(0.2))
        self.out = nn.Linear(16, 4)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        random.random()
        np.random.rand()  # noqa: NPY002
        return self.out(torch.relu(self.body(x)))


def state_of(made: Case, count: list[int]) -> list[Any]:
    model, optimizer = made["model"], made["optimizer"]
    modules = list(model.modules())
    return [
        {name: value.clone() for name, value in model.state_dict().items()},
        {
            n: None if p.grad is None else p.grad.clone()
            for n, p in model.named_parameters()
        },
        {k: v.clone() for s in optimizer.state.values() for k, v in s.items()},
        [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups],
        [m.training for m in modules],
        [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules],
        [len(p._backward_hooks or ()) for p in model.parameters()],
        [len(optimizer._optimizer_step_pre_hooks), model.calls, list(count)],
        [torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()],  # noqa: NPY002
    ]


class Shuffled:
    """Batches in an order drawn from the global random states."""

    def __iter__(self) -> Any:
        random.random()
        return iter([classes(12)[int(i)] for i in torch.randperm(12)])


@pytest.mark.parametrize("way", ["loss_fn", "loss", "step", "raises", "shuffled"])
def test_nothing_is_left_behind(way: str) -> None:
    torch.manual_seed(0)
    model = Everything()
    adam = torch.optim.Adam(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.ExponentialLR(adam, 0.9)
    x, y = classes(1)[0]
    F.cross_entropy(model(x), y).backward()
    adam.step()
    model.body[2].eval()
    count = [0]

    def step(batch: Any) -> float:
        count[0] += 1
        if way == "raises" and count[0] > 5:
            raise KeyError("a bug of the owner")
        adam.zero_grad()
        loss = F.cross_entropy(model(batch[0]), batch[1])
        loss.backward()
        adam.step()
        return float(loss)

    ways: dict[str, Any] = {
        "loss_fn": {"loss_fn": F.cross_entropy},
        "loss": {
            "loss": lambda model, batch: F.cross_entropy(model(batch[0]), batch[1])
        },
        "step": {"step": step},
        "raises": {"step": step},
        "shuffled": {"loss_fn": F.cross_entropy},
    }
    made = dict(model=model, optimizer=adam)
    far = [(100 * x, y) for x, y in classes(12)]
    batches: Any = Shuffled() if way == "shuffled" else far
    before = state_of(made, count)
    refused = pytest.raises(ValueError, match="KeyError at batch 5")
    with refused if way == "raises" else nullcontext():
        diagnose(model, adam, batches, scheduler=schedule.step, **ways[way])
    torch.testing.assert_close(state_of(made, count), before)
    assert schedule.last_epoch == 0


def hollow() -> list[Any]:
    return [(x[:0], y[:0]) if i == 3 else (x, y) for i, (x, y) in enumerate(classes())]


def raising() -> Any:
    yield classes(1)[0]
    torch.rand(1)
    raise OSError("the disk is gone")


def broken_step(batch: Any) -> float:
    raise RuntimeError("shapes cannot be multiplied")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"batches": []}, ValueError, "batches: expected at least one batch, got none"),
        ({"batches": 3}, TypeError, "batches: expected an iterable"),
        ({"batches": [torch.ones(2, 8)]}, ValueError, r"expected pairs \(x, y\)"),
        ({"model": nn.ReLU()}, ValueError, "model: expected at least one parameter"),
        ({"model": "mlp"}, TypeError, "model: expected a torch.nn.Module"),
        ({"optimizer": None}, TypeError, "optimizer: expected a torch.optim.Optimizer"),
        ({"loss_fn": None}, ValueError, "exactly one of the three, got none"),
        ({"step": broken_step}, ValueError, "got loss_fn and step"),
        ({"loss_fn": 3}, TypeError, "loss_fn: expected a callable"),
        ({"loss_fn": None, "step": broken_step}, ValueError, "RuntimeError at batch 0"),
        ({"loss_fn": None, "step": lambda b: None}, TypeError, "to return the loss"),
        ({"clip": -1.0}, ValueError, "clip: expected a finite number > 0"),
        ({"scheduler": 3}, TypeError, "scheduler: expected a callable"),
        ({"max_steps": 0}, ValueError, "max_steps: expected a whole number >= 1"),
        ({"batches": hollow()}, ValueError, "got an empty one at position 3"),
        ({"batches": raising()}, OSError, "the disk is gone"),
        ({"loss_fn": lambda out, y: out}, TypeError, "reduce the loss to one number"),
    ],
)
def test_bad_input_is_refused_and_leaves_no_traces(
    changes: Case, error: type[Exception], message: str
) -> None:
    torch.manual_seed(0)
    model = Everything()
    adam = torch.optim.Adam(model.parameters(), lr=1e-2)
    given = case(model, classes(), optimizer=adam)
    before = state_of(given, [])
    ways = {**given, **changes}
    with pytest.raises(error, match=message):
        diagnose(ways.pop("model"), ways.pop("optimizer"), ways.pop("batches"), **ways)
    torch.testing.assert_close(state_of(given, []), before)


class Guarded(torch.autograd.Function):
    """Passes a value on; its backward pass raises, or has no gradient to give."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, error: type[Exception] | None) -> Tensor:
        ctx.error = error
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *_: Any) -> tuple[None, None]:
        if ctx.error is not None:
            raise ctx.error("no such thing")
        return None, None


@pytest.mark.parametrize("error", [AttributeError, TypeError, RuntimeError])
def test_an_error_of_the_first_backward_pass_is_reported(
    error: type[Exception],
) -> None:
    def loss_fn(out: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(Guarded.apply(out, error), y)

    report = run(dict(good(), loss_fn=loss_fn))
    assert report.verdict == "broken"
    assert f"{error.__name__}: no such thing" in report.reasons[0]


def test_a_backward_pass_without_a_gradient_to_give_is_named() -> None:
    def loss_fn(out: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(Guarded.apply(out, None), y)

    assert run(dict(good(), loss_fn=loss_fn)).cause == "detached_graph"


def test_an_optimizer_of_another_model_is_a_finding() -> None:
    made = dict(good(), optimizer=torch.optim.SGD(mlp(8, 4).parameters(), lr=0.1))
    report = run(made)
    assert report.cause == "optimizer_misconfigured"
    assert "holds none" in report.findings[0].symptom


def test_sparse_gradients_are_read() -> None:
    torch.manual_seed(0)
    table = nn.EmbeddingBag(20, 4, sparse=True)
    batches = [((10 * x.abs()).long() % 20, y) for x, y in classes(60, 64)]
    adam = torch.optim.SparseAdam(list(table.parameters()), lr=0.1)
    assert run(case(table, batches, optimizer=adam)).cause == "healthy"


def test_what_was_only_watched_is_less_certain() -> None:
    made = case(mlp(8, 4), classes(), sgd=True, lr=30.0)
    model, optimizer = made["model"], made["optimizer"]

    def step(batch: Any) -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        return loss

    tried, watched = run(made), run(dict(made, loss_fn=None, step=step))
    assert tried.cause == watched.cause == "lr_too_high"
    assert watched.findings[0].confidence < tried.findings[0].confidence
    assert "only be watched" in watched.watched


def test_batches_may_be_a_generator_of_dictionaries() -> None:
    made = good()

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(model(batch["x"]), batch["y"])

    stream = ({"x": x, "y": y} for x, y in classes())
    report = diagnose(made["model"], made["optimizer"], stream, loss=loss)
    assert report.cause == "healthy"


@pytest.mark.parametrize("shape", [(), (16,), (4, 4), (2, 2, 4), (2, 2, 2, 2)])
def test_activations_of_any_shape_are_watched(shape: tuple[int, ...]) -> None:
    def loss(model: nn.Module, batch: Any) -> Tensor:
        out = model(batch[0])
        extra = torch.relu(out.sum() if shape == () else out[:, 0].reshape(shape))
        return F.cross_entropy(out, batch[1]) + 1e-3 * torch.sigmoid(extra).mean()

    made = good()
    report = diagnose(made["model"], made["optimizer"], classes(), loss=loss)
    assert report.cause == "healthy"


def test_a_gradient_that_overflows_on_its_way_is_no_undefined_slope() -> None:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.RNN(4, 32, batch_first=True)
            self.head = nn.Linear(32, 2)
            nn.init.orthogonal_(self.rnn.weight_hh_l0)
            self.rnn.weight_hh_l0.data *= 4

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(x)[0][:, -1])

    torch.manual_seed(0)
    model = Reader()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = [(torch.randn(16, 300, 4), torch.randint(2, (16,))) for _ in range(20)]
    report = diagnose(model, sgd, batches, loss_fn=F.cross_entropy)
    assert report.cause == "recurrent_explosion", report
    assert report.findings[0].layer == "rnn"

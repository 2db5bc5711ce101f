"""diagnose() in the surroundings people train in: wrappers, batches, schedules."""

import math
from collections import OrderedDict, UserDict
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from trainings import Case, case, classes, good, mlp, run

from gradlib.diagnosis import diagnose
from gradlib.measure.sharded import check_one_process


@dataclass
class Pair:
    """A batch as a dataclass."""

    x: Tensor
    y: Tensor


class Storage:
    """What a graph keeps its tensors in."""

    def __init__(self, **tensors: Tensor) -> None:
        self.entries = tensors


class Graph:
    """A batch that holds its tensors two objects deep, and can be called."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.storage = Storage(x=x, y=y)

    def __call__(self) -> None:
        """As batches of graphs can be."""

    @property
    def x(self) -> Tensor:
        return self.storage.entries["x"]

    @property
    def y(self) -> Tensor:
        return self.storage.entries["y"]


class Encoding(UserDict[str, Tensor]):
    """A batch of a tokenizer: a mapping with attributes."""

    def __getattr__(self, name: str) -> Tensor:
        if name == "data":
            raise AttributeError(name)
        return self.data[name]


def encoded(x: Tensor, y: Tensor) -> Encoding:
    return Encoding({"x": x, "y": y})


@pytest.mark.parametrize("kind", [Pair, Graph, encoded])
def test_a_batch_may_be_any_object_with_tensors(kind: Any) -> None:
    def loss(model: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(model(batch.x), batch.y)

    made = dict(good(), loss_fn=None, loss=loss)
    well = run(dict(made, batches=[kind(x, y) for x, y in classes()]))
    assert well.cause == "healthy"
    spoiled = classes()
    spoiled[2][0][3, 1] = math.nan
    report = run(dict(made, batches=[kind(x, y) for x, y in spoiled]))
    assert report.cause == "bad_data"
    assert report.findings[0].evidence["first batch"] == 2


@dataclass
class ModelOutput:
    """What a model of transformers returns."""

    loss: Tensor
    logits: Tensor


@pytest.mark.parametrize("form", ["dict", "object", "tuple"])
@pytest.mark.parametrize("way", ["loss", "step"])
def test_a_loss_may_come_with_other_outputs(form: str, way: str) -> None:
    made = good()
    model, optimizer = made["model"], made["optimizer"]

    def loss(model: nn.Module, batch: Any) -> Any:
        logits = model(batch[0])
        value = F.cross_entropy(logits, batch[1])
        if form == "dict":
            return OrderedDict(logits=logits, loss=value)
        return (value, logits) if form == "tuple" else ModelOutput(value, logits)

    def step(batch: Any) -> Any:
        optimizer.zero_grad()
        result = loss(model, batch)
        value = result[0] if form == "tuple" else getattr(result, "loss", None)
        (result["loss"] if value is None else value).backward()
        optimizer.step()
        return result

    ways: Case = {"loss": loss} if way == "loss" else {"step": step}
    report = run(dict(made, loss_fn=None, **ways))
    assert report.verdict == "healthy"


class Wrapper(torch.optim.Optimizer):
    """Looks like an optimizer and takes no hooks, as that of Accelerate."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer

    @property
    def param_groups(self) -> Any:
        return self.optimizer.param_groups

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.optimizer.step(closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.optimizer.zero_grad(set_to_none)


class Learner:
    """Holds its optimizer as ``opt``, and is none."""

    def __init__(self, opt: torch.optim.Optimizer) -> None:
        self.opt = opt


@pytest.mark.parametrize("wrapper", [Wrapper, Learner])
@pytest.mark.parametrize(("lr", "cause"), [(0.1, "healthy"), (30.0, "lr_too_high")])
def test_an_optimizer_may_be_wrapped(wrapper: Any, lr: float, cause: str) -> None:
    made = case(mlp(8, 4), classes(), sgd=True, lr=lr)
    assert run(dict(made, optimizer=wrapper(made["optimizer"]))).cause == cause


def test_a_wrapped_optimizer_in_the_owners_update() -> None:
    made = good()
    model, wrapped = made["model"], Wrapper(made["optimizer"])

    def step(batch: Any) -> Tensor:
        wrapped.zero_grad()
        loss = F.cross_entropy(model(batch[0]), batch[1])
        loss.backward()
        return wrapped.step() or loss

    report = diagnose(model, wrapped, made["batches"], step=step)
    assert report.cause == "healthy"
    assert "take turns" not in str(report)


@pytest.mark.parametrize("bound", [True, False])
def test_a_schedule_may_be_shorter_than_the_run(bound: bool) -> None:
    made = good()
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        made["optimizer"], 1e-2, total_steps=20
    )
    report = run(dict(made, scheduler=schedule.step if bound else schedule))
    assert report.cause == "healthy"
    assert report.measurements["updates"] == 20
    assert any("The schedule ends after 20" in remark for remark in report.remarks)


def test_a_schedule_that_has_ended_leaves_too_little() -> None:
    made = good()
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        made["optimizer"], 1e-2, total_steps=20
    )
    made["optimizer"].step()
    for _ in range(16):
        schedule.step()
    report = run(dict(made, scheduler=schedule))
    assert (report.verdict, report.cause) == ("unclear", "unknown")
    assert "schedule at its start" in report.next_test


def lbfgs() -> Case:
    torch.manual_seed(0)
    model = mlp(8, 4)
    batches = classes(1) * 20
    return case(model, batches, optimizer=torch.optim.LBFGS(model.parameters()))


@pytest.mark.parametrize("way", ["loss", "loss_fn"])
def test_an_optimizer_with_closures_asks_for_the_whole_update(way: str) -> None:
    made = lbfgs()
    if way == "loss":
        made.pop("loss_fn")
        made["loss"] = lambda model, b: F.cross_entropy(model(b[0]), b[1])
    with pytest.raises(ValueError, match=f"{way}: expected .* Pass .* as step="):
        run(made)


def test_closures_are_not_taken_for_a_misplaced_clip() -> None:
    made = lbfgs()
    model, optimizer = made["model"], made["optimizer"]

    def step(batch: Any) -> Any:
        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(batch[0]), batch[1])
            loss.backward()
            return loss

        return optimizer.step(closure)

    report = run(dict(made, loss_fn=None, step=step))
    assert report.cause == "healthy", str(report)


def test_a_compiled_model_is_watched_as_written() -> None:
    made = case(mlp(8, 4), classes(), sgd=True, lr=30.0)
    compiled = torch.compile(made["model"], backend="aot_eager")
    compiled(classes()[0][0])
    report = run(dict(made, model=compiled))
    assert report.cause == "lr_too_high"
    assert report.measurements["updates"] > 2
    made = good()
    made["model"].fc2.weight.data.mul_(1e4)
    compiled = torch.compile(made["model"], backend="aot_eager")
    compiled(classes()[0][0])
    report = run(dict(made, model=compiled))
    assert (report.cause, report.findings[0].layer) == (
        "init_too_large",
        "_orig_mod.fc2",
    )


class DistributedDataParallel(nn.Module):
    """Has the name of torch's."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.process_group = "all"


@pytest.mark.parametrize("ranks", [1, 2])
def test_several_processes_are_refused(
    ranks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda group: ranks)
    check_one_process(mlp(8, 4))
    wrapped = DistributedDataParallel(mlp(8, 4))
    if ranks == 1:
        check_one_process(wrapped)
        return
    with pytest.raises(ValueError, match="got one that 2 processes train"):
        check_one_process(wrapped)


def test_more_batches_than_are_used_are_told() -> None:
    report = run(case(mlp(8, 4), classes(101)))
    assert report.verdict == "healthy"
    assert any("more than 100 batches" in remark for remark in report.remarks)
    assert not any(
        "more than" in remark for remark in run(case(mlp(8, 4), classes(100))).remarks
    )

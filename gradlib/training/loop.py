"""The parts of a training loop: batches in groups, backward, optimizer, modes."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn import functional as F
from torch.optim import LBFGS, SGD, Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils._pytree import tree_leaves, tree_map

from gradlib.checks import (
    check_count,
    check_function,
    check_model,
    check_positive,
    check_type,
)
from gradlib.errors import explained
from gradlib.measure.sharded import groups_of, mean_over
from gradlib.state import loss_in, parameters_of

Batch = Any
LossFunction = Callable[[Any, Any], Any]
ModelLoss = Callable[[Any, Any], Any]
Count = Callable[[Any], Any]
IGNORED = -100  # torch's label for "leave this one out of the mean"
OptimizerSource = Optimizer | Callable[..., Optimizer] | None


class Scheduler(Protocol):
    """What a loop asks of a schedule."""

    def step(self) -> Any:
        """Set the learning rate of the next step."""


def groups_of_batches(
    batches: Iterable[Batch],
    size: int = 1,
    steps: int | None = None,
    *,
    pairs: bool = True,
) -> Iterator[list[Batch]]:
    """Lists of ``size`` batches, one list a step.

    Args:
        batches: Pairs (inputs, targets), or of any form without ``pairs``.
        size: Batches in a group. Without ``steps`` the last group may be smaller.
        steps: Number of groups, starting ``batches`` again where that is possible;
            by default as many as one pass gives.
        pairs: Refuse batches that are not pairs.

    Raises:
        TypeError: a batch is not a pair.
        ValueError: ``batches`` is empty, or an iterator that ends before ``steps``.

    Example:
        >>> [len(group) for group in groups_of_batches([(0, 1)] * 5, size=2)]
        [2, 2, 1]
    """
    check_count(size, "accumulate")
    check_type(Iterable, batches=batches)
    if steps is not None:
        check_count(steps, "steps")
    return _groups(batches, size, steps, pairs)


def _groups(
    batches: Iterable[Batch], size: int, steps: int | None, pairs: bool
) -> Iterator[list[Batch]]:
    source = iter(batches) if steps is None else _repeated(batches)
    step = 0
    while steps is None or step < steps:
        group = [_pair(b) if pairs else b for b in islice(source, size)]
        if steps is not None and len(group) < size:
            raise ValueError(
                f"batches: expected enough for {steps} steps of {size}, but they "
                f"ended in step {step}. Give a list or a DataLoader, which start "
                "again, or ask for fewer steps."
            )
        if not group and step == 0:
            raise ValueError("batches: expected at least one (inputs, targets), got 0")
        if not group:
            return
        yield group
        step += 1


def _repeated(batches: Iterable[Batch]) -> Iterator[Batch]:
    while True:
        empty = True
        for batch in batches:
            empty = False
            yield batch
        if empty:
            return


def _pair(batch: Batch) -> Batch:
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        what = f"{len(batch)} items" if isinstance(batch, (tuple, list)) else "one"
        raise TypeError(
            f"batches: expected pairs (inputs, targets), got {what} "
            f"({type(batch).__name__}). Of other batches give the loss: "
            "loss=lambda model, batch: model(**batch)."
        )
    return batch


def ways_to_loss(loss_fn: LossFunction, loss: ModelLoss | None) -> ModelLoss:
    """The function (model, batch) -> mean loss of a batch, which it checks.

    Raises:
        TypeError: one of the two is not a function.
        ValueError: both are given.
    """
    check_function(loss_fn, "loss_fn")
    if loss is None:
        return lambda model, batch: loss_of(model, loss_fn, *batch)
    check_function(loss, "loss")
    if loss_fn is not F.cross_entropy:
        raise ValueError(
            "loss, loss_fn: expected one of the two, got both. Leave out loss_fn."
        )

    def compute(model: nn.Module, batch: Batch) -> Tensor:
        with explained("loss", batch=batch):
            return checked_loss(loss(model, batch), "loss")

    return compute


def count_of(batch: Batch) -> int:
    """How many numbers the mean loss of a batch is taken over, as far as it shows.

    Of a pair, the numbers in the targets; labels of -100 are left out, as
    ``cross_entropy`` does. Of another batch, the same in its ``labels``, or else the
    length of its first tensor; 1 if there is none.

    Example:
        >>> count_of((torch.zeros(4, 3), torch.tensor([0, 2, -100, 1])))
        3
        >>> count_of({"input_ids": torch.zeros(2, 5)})
        2
    """
    if isinstance(batch, (tuple, list)) and len(batch) == 2:
        labels = batch[1]
    else:
        get = getattr(batch, "get", None)
        labels = get("labels") if callable(get) else getattr(batch, "labels", None)
    if isinstance(labels, Tensor):
        if labels.is_floating_point():
            return labels.numel()
        return int((labels != IGNORED).sum())
    sizes = [len(t) for t in tree_leaves(batch) if isinstance(t, Tensor) and t.ndim]
    return sizes[0] if sizes else 1


def shares_of(group: Sequence[Batch], count: Count) -> list[float]:
    """The weight of each micro-batch of a step: its count over that of all.

    Raises:
        ValueError: a count is negative or not finite.

    Example:
        >>> shares_of([[1.0, 2.0, 3.0], [4.0]], count=len)
        [0.75, 0.25]
    """
    if len(group) == 1:
        return [1.0]
    counts = [float(count(batch)) for batch in group]
    for number in counts:
        if not (math.isfinite(number) and number >= 0):
            raise ValueError(f"count: expected a finite number >= 0, got {number:g}")
    total = sum(counts)
    return [n / total for n in counts] if total else [1 / len(group)] * len(group)


def backward(
    model: nn.Module,
    group: Sequence[Batch],
    compute: ModelLoss,
    *,
    count: Count = count_of,
    autocast: torch.dtype | None = None,
    scaler: GradScaler | None = None,
) -> Tensor:
    """Add the gradients of the mean loss over a group of batches.

    Each loss is multiplied by the share of its batch before its backward pass, and
    then scaled. A batch with a share of 0 is passed over. Batches are moved to the
    device of the model.

    Returns:
        Scalar tensor: the mean loss, neither scaled nor attached to a graph; over all
        processes that train the model.
    """
    device = next(model.parameters()).device
    total = torch.zeros((), device=device)
    for batch, share in zip(group, shares_of(group, count), strict=True):
        if share == 0:
            continue
        with torch.autocast(device.type, autocast, autocast is not None):
            loss = compute(model, _to(batch, device))
        check_attached(loss)
        part = loss * share
        torch.autograd.backward(part if scaler is None else scaler.scale(part))
        total = total + part.detach()
    return mean_over(groups_of(model), total)


def _to(batch: Any, device: torch.device) -> Any:
    """The batch on a device; what is inside it, if the whole cannot be moved."""
    if hasattr(batch, "to"):
        return batch.to(device)
    return tree_map(lambda x: x.to(device) if hasattr(x, "to") else x, batch)


def make_optimizer(
    model: nn.Module, optimizer: OptimizerSource, lr: float | None
) -> Optimizer:
    """The optimizer itself, or the one that a class, a function or ``lr`` makes.

    Raises:
        TypeError: ``optimizer`` is neither an optimizer nor makes one.
        ValueError: neither or both are given, or the optimizer does not hold a
            trainable parameter of the model.
    """
    check_model(model)
    trainable = [p for p in model.parameters() if p.requires_grad]
    if not trainable:
        raise ValueError(
            f"model: expected at least one trainable parameter, got "
            f"{type(model).__name__} without any"
        )
    if lr is not None:
        check_positive(lr, "lr", zero_ok=True)
    if optimizer is None:
        if lr is None:
            raise ValueError("expected lr or optimizer, got neither. Try lr=0.1.")
        return SGD(trainable, lr=lr)
    if not isinstance(optimizer, Optimizer):
        if not callable(optimizer):
            raise TypeError(
                "optimizer: expected a torch.optim.Optimizer or a function that "
                f"makes one, got {type(optimizer).__name__}"
            )
        keywords = {} if lr is None else {"lr": lr}
        optimizer = optimizer(trainable, **keywords)
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                "optimizer: expected the function to make a torch.optim.Optimizer, "
                f"got {type(optimizer).__name__}"
            )
    elif lr is not None:
        raise ValueError(
            "lr: expected none beside a ready optimizer, which has its own, got "
            f"{lr}. Set it where you make the optimizer."
        )
    if isinstance(optimizer, LBFGS):
        raise ValueError(
            "optimizer: expected one whose step needs no closure, got LBFGS, which "
            "computes the loss itself. Write the loop around optimizer.step(closure)."
        )
    known = {id(p) for p in trainable}
    if not any(id(p) in known for p in parameters_of(optimizer)):
        raise ValueError(
            "optimizer: expected one that holds trainable parameters of this model, "
            "got one of other parameters. Make it from model.parameters()."
        )
    return optimizer


def make_scheduler(
    scheduler: Scheduler | Callable[[Optimizer], Scheduler] | None,
    optimizer: Optimizer,
) -> Callable[[float], object] | None:
    """How to advance the schedule after a step, given the loss of that step.

    Only ReduceLROnPlateau uses the loss.

    Args:
        scheduler: A schedule, or a function that makes one from the optimizer.
        optimizer: The optimizer that it has to drive.

    Raises:
        TypeError: there is no method ``step``.
        ValueError: the schedule drives another optimizer.
    """
    if scheduler is None:
        return None
    if isinstance(scheduler, type) or not hasattr(scheduler, "step"):
        if not callable(scheduler):
            raise TypeError(
                "scheduler: expected an object with step(), or a function that makes "
                f"one from the optimizer, got {type(scheduler).__name__}"
            )
        scheduler = scheduler(optimizer)
        if not hasattr(scheduler, "step"):
            raise TypeError(
                "scheduler: expected the function to make an object with step(), got "
                f"{type(scheduler).__name__}"
            )
    if getattr(scheduler, "optimizer", optimizer) is not optimizer:
        raise ValueError(
            "scheduler: expected one of this run's optimizer, got one of another. "
            "Give a function: scheduler=lambda optimizer: StepLR(optimizer, 10)."
        )
    if isinstance(scheduler, ReduceLROnPlateau):
        return scheduler.step
    step = scheduler.step
    return lambda loss: step()


def loss_of(
    model: Callable[[Any], Any], loss_fn: LossFunction, inputs: Any, targets: Any
) -> Tensor:
    """The mean loss of one batch, a scalar.

    Raises:
        TypeError: ``loss_fn`` is not a function, or returns no tensor, neither alone
            nor first nor under the name ``loss``.
        ValueError: the loss is not a scalar.

    Example:
        >>> loss_of(torch.nn.Identity(), torch.dot, torch.ones(2), torch.ones(2))
        tensor(2.)
    """
    check_function(loss_fn, "loss_fn")
    with explained("model", inputs=inputs):
        outputs = model(inputs)
    with explained("loss_fn", outputs=outputs, targets=targets):
        loss = loss_fn(outputs, targets)
    return checked_loss(loss, "loss_fn")


def checked_loss(result: Any, name: str) -> Tensor:
    """The mean loss in what a function returned.

    Raises:
        TypeError: there is no tensor.
        ValueError: the loss is not a scalar.
    """
    loss = loss_in(result)
    check_type(Tensor, **{name: loss})
    if loss.dim() > 0:
        raise ValueError(
            f"{name}: expected a mean loss, a scalar, got shape {tuple(loss.shape)}. "
            "Use reduction='mean'."
        )
    mean: Tensor = loss
    return mean


def check_attached(loss: Tensor) -> None:
    """Refuse a loss that no gradient can be taken of.

    Raises:
        ValueError: the loss is not part of a graph.

    Example:
        >>> check_attached(torch.ones(()))
        Traceback (most recent call last):
        ...
        ValueError: loss_fn: expected a loss with a gradient, got one without. Compute
        it from the outputs of the model, without detach() or item().
    """
    if not loss.requires_grad:
        raise ValueError(
            "loss_fn: expected a loss with a gradient, got one without. Compute it "
            "from the outputs of the model, without detach() or item()."
        )


def check_autocast(dtype: Any) -> None:
    """Refuse what ``torch.autocast`` does not compute in.

    Raises:
        TypeError: ``dtype`` is neither None nor a data type of torch.
        ValueError: it is not a half precision.

    Example:
        >>> check_autocast(torch.float32)
        Traceback (most recent call last):
        ...
        ValueError: autocast: expected torch.bfloat16, torch.float16 or None, got
        torch.float32
    """
    check_type(torch.dtype | None, autocast=dtype)
    if dtype not in (torch.bfloat16, torch.float16, None):
        raise ValueError(
            f"autocast: expected torch.bfloat16, torch.float16 or None, got {dtype}"
        )

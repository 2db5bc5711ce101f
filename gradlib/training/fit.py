"""Train a model, test a range of learning rates, measure accuracy."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.nn import functional as F
from torch.optim import Optimizer
from tqdm import tqdm

from gradlib.checks import check_choice, check_function, check_limit, check_type
from gradlib.clip import Clip, as_clipper
from gradlib.errors import DivergenceError, NonFiniteGradientError
from gradlib.history import History
from gradlib.measure.gradients import checked_gradients, total_norm
from gradlib.measure.tensors import numbers_of
from gradlib.monitor import GradientMonitor
from gradlib.state import kept_modes, parameters_of
from gradlib.training.loop import (
    Batch,
    Count,
    LossFunction,
    ModelLoss,
    OptimizerSource,
    Scheduler,
    backward,
    check_autocast,
    count_of,
    groups_of_batches,
    make_optimizer,
    make_scheduler,
    ways_to_loss,
)


def fit(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    lr: float | None = None,
    optimizer: OptimizerSource = None,
    loss_fn: LossFunction = F.cross_entropy,
    loss: ModelLoss | None = None,
    steps: int | None = None,
    clip: Clip | None = None,
    scheduler: Scheduler | Callable[[Optimizer], Scheduler] | None = None,
    accumulate: int = 1,
    count: Count = count_of,
    monitor: GradientMonitor | None = None,
    autocast: torch.dtype | None = None,
    scaler: GradScaler | None = None,
    stop_at_divergence: str = "raise",
    diverged_above: float | None = None,
    progress: bool = False,
) -> History:
    """Train a model and record every step.

    A step is: forward and backward (once for each micro-batch), unscale, measure,
    clip, step the optimizer, step the schedule, set the gradients to None. A run
    diverges when its loss is not finite or above ``diverged_above``, or when a
    gradient is not finite and neither ``clip`` nor ``scaler`` deals with it. It
    stops *before* the optimizer's step: the parameters are those that gave the
    last loss, and the gradients are still there to be looked at. Where several
    processes train the model (``DistributedDataParallel``, ``fully_shard``), the loss
    is the mean of theirs, so that all stop at the same step.

    Args:
        model: Any module. In evaluation mode it is put in training mode, and back.
        batches: Pairs (inputs, targets), or of any form with ``loss``. A list or a
            DataLoader starts again when it is used up before ``steps``; a generator
            cannot.
        lr: Learning rate of plain SGD, or of ``optimizer`` if that is a class.
        optimizer: An optimizer; or a class or function that makes one from the
            model's trainable parameters (and ``lr``, if given).
        loss_fn: (outputs, targets) -> mean loss, a scalar; alone, first, or under
            the name ``loss``.
        loss: (model, batch) -> the same, in the place of ``loss_fn``; for models that
            compute their loss, ``loss=lambda model, batch: model(**batch)``.
        steps: Number of optimizer steps; by default one pass over ``batches``.
        clip: Largest joint norm of the gradients; or a function, called with the
            optimizer's parameters, that changes gradients in place.
        scheduler: Stepped after each optimizer step; ReduceLROnPlateau gets the
            loss. Or a function that makes it from the optimizer.
        accumulate: Micro-batches a step. They give the gradient of the mean loss of
            the batch that they make together: g = sum of (n_i / n) g_i, where n_i is
            the count of micro-batch i and n that of all.
        count: batch -> n_i, the numbers that its mean loss is taken over; by default
            those in the targets or ``labels``, without labels of -100. A loss that is
            a mean over something else, such as shifted tokens, needs its own.
        monitor: Logs every step; opened for the run unless it is open already.
        autocast: Data type of ``torch.autocast`` in the forward pass.
        scaler: Loss scaler for float16; it skips steps with overflow.
        stop_at_divergence: ``"raise"``, or ``"stop"`` to return the history.
        diverged_above: Largest sane loss, by default 1000 * max(first loss, 1);
            ``math.inf`` tests for finite numbers only.
        progress: Show a progress bar.

    Returns:
        History with ``loss`` (mean over the micro-batches), ``gradient_norm`` (L2,
        before clipping), ``learning_rate`` (first parameter group), ``clipped``
        (1 where ``clip`` changed the norm); with a scaler also ``loss_scale`` and
        ``skipped``.

    Raises:
        DivergenceError: the run diverged; its ``history`` holds the run.
        TypeError: an argument has the wrong type.
        ValueError: an argument cannot be right, or ``batches`` ended early.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> model, x = nn.Linear(4, 1), torch.randn(64, 4)
        >>> batches = [(x, x.sum(1, keepdim=True))]
        >>> history = fit(model, batches, lr=0.1, steps=50, loss_fn=F.mse_loss)
        >>> history["loss"][-1] < 0.01 * history["loss"][0]
        True
    """
    check_choice(stop_at_divergence, "stop_at_divergence", ["raise", "stop"])
    clipper = as_clipper(clip)
    check_type(GradientMonitor | None, monitor=monitor)
    check_autocast(autocast)
    check_type(GradScaler | None, scaler=scaler)
    limit = check_limit(diverged_above, "diverged_above")
    compute = ways_to_loss(loss_fn, loss)
    check_function(count, "count")
    groups = groups_of_batches(batches, accumulate, steps, pairs=loss is None)
    optimizer = make_optimizer(model, optimizer, lr)
    schedule = make_scheduler(scheduler, optimizer)
    scaler = scaler if scaler is not None and scaler.is_enabled() else None
    parameters = parameters_of(optimizer)
    history = History()

    with ExitStack() as stack:
        stack.enter_context(_divergence_recorded(history, stop_at_divergence))
        stack.enter_context(kept_modes(model))
        if not model.training:
            model.train()
        if monitor is not None and not monitor.is_open:
            stack.enter_context(monitor)
        bar = tqdm(groups, total=steps, disable=not progress, unit="step")
        optimizer.zero_grad()
        for step, group in enumerate(stack.enter_context(bar)):
            mean = backward(
                model, group, compute, count=count, autocast=autocast, scaler=scaler
            )
            if scaler is not None:
                scaler.unscale_(optimizer)
            value, norm = numbers_of([mean, total_norm(parameters)])
            norm, broken = _exact(norm, model, parameters)
            rate = float(optimizer.param_groups[0]["lr"])
            history.append(step, loss=value, gradient_norm=norm, learning_rate=rate)
            if monitor is not None:
                monitor.log(value, learning_rate=rate)
            limit = 1000.0 * max(value, 1.0) if limit is None else limit
            _check_loss(step, value, limit)
            clipped = False
            try:
                if clipper is not None and not (scaler and broken):
                    clipper(parameters)
                    clipped = float(total_norm(parameters)) != norm
                elif broken and scaler is None:
                    raise broken
            except NonFiniteGradientError as error:
                found = broken or error
                reason = f"{found.kind} in the gradient of {found.name}"
                raise DivergenceError(step, value, reason) from error
            history.append(step, clipped=clipped)
            skipped = False
            if scaler is None:
                optimizer.step()
            else:
                scale = scaler.get_scale()
                scaler.step(optimizer)
                scaler.update()
                skipped = scaler.get_scale() < scale
                history.append(step, loss_scale=scale, skipped=skipped)
            if schedule is not None and not skipped:
                schedule(value)
            optimizer.zero_grad()
    return history


@contextmanager
def _divergence_recorded(history: History, then: str) -> Iterator[None]:
    try:
        yield
    except DivergenceError as error:
        history.diverged_at = error.step
        error.history = history  # type: ignore[attr-defined, unused-ignore]
        if then == "raise":
            raise


def _check_loss(step: int, loss: float, limit: float) -> None:
    if not math.isfinite(loss):
        raise DivergenceError(step, loss, "not a finite number")
    if loss > limit:
        raise DivergenceError(step, loss, f"above {limit:.4g}")


def _exact(
    norm: float, model: nn.Module, parameters: list[nn.Parameter]
) -> tuple[float, NonFiniteGradientError | None]:
    """The norm, again in float64 if it did not fit; and what broke it, if any."""
    if math.isfinite(norm):
        return norm, None
    names = {id(p): name for name, p in model.named_parameters()}
    named = [(names.get(id(p), f"parameter {i}"), p) for i, p in enumerate(parameters)]
    try:
        return float(checked_gradients(named)[1]), None
    except NonFiniteGradientError as error:
        return norm, error

"""Replay a run up to its first non-finite value and look where that was born."""

import math
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gradlib.diagnosis.evidence.base_run import BaseRun
from gradlib.diagnosis.evidence.update_trace import ForwardOrigin, UpdateTrace
from gradlib.diagnosis.nested import tensors
from gradlib.diagnosis.training_setup import TrainingSetup
from gradlib.hooks import Hooks

# Loss or gradient against its usual size just before the first NaN: 0.3 to 5 where an
# operation makes it, 80 where a recurrence grows, 5,000 and more in an explosion.
GROWTH = 100.0
# Gradients up to so many times GROWTH are of ordinary size whatever was usual.
SMALL_GRADIENTS = 10.0


@dataclass
class NanOrigin:
    """Where training stopped being finite.

    Args:
        step: The update in which it happened; None if it never did.
        forward: The operation of the forward pass, if it was there.
        backward: The operation of the backward pass (``"Sqrt"``), if it was there.
        layer: Module, parameter, ``"loss"`` or ``"(root)"``.
        loss: Loss of that update.
        calm: Loss and gradients were of ordinary size just before.
    """

    step: int | None = None
    forward: ForwardOrigin | None = None
    backward: str = ""
    layer: str = ""
    loss: float = math.nan
    calm: bool = False


def find_nan_origin(
    setup: TrainingSetup, base: BaseRun, restore: Callable[[], None]
) -> NanOrigin:
    """Replay the base run and dissect its first non-finite update."""
    step = first_bad_step(base)
    if step is None:
        return NanOrigin()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = _dissect(setup, step)
        if result.forward is None and not result.layer:
            return result
        if result.forward is None:
            restore()
            result.backward = _anomaly(setup, step)
    result.calm = is_calm(base, step)
    return result


def first_bad_step(base: BaseRun) -> int | None:
    """The first update with a loss or a gradient that is not finite."""
    columns = [column for column in base.norms.values() if column]
    length = max(map(len, columns), default=0)
    for step in range(max(length, len(base.losses))):
        if step < len(base.losses) and not math.isfinite(base.losses[step]):
            return step
        if any(step < len(c) and not math.isfinite(c[step]) for c in columns):
            return step
    return None


def is_calm(base: BaseRun, step: int) -> bool:
    """No explosion before ``step``: loss and gradients within 100 times the usual."""
    if step == 0:
        return True
    losses = [abs(x) for x in base.losses[: step + 1] if math.isfinite(x)]
    totals = [
        math.hypot(*(max(0.0, c[t]) for c in base.norms.values()))
        for t in range(min(step, len(next(iter(base.norms.values())))))
    ]
    usual = sorted(totals)[len(totals) // 2] if totals else 0.0
    recent = max(totals[-2:], default=0.0)
    steady = not losses or max(losses[-2:]) <= GROWTH * losses[0] + GROWTH
    return steady and recent <= GROWTH * usual + SMALL_GRADIENTS * GROWTH


def _dissect(setup: TrainingSetup, step: int) -> NanOrigin:
    order: list[tuple[str, bool]] = []
    result = NanOrigin(step)
    trace = UpdateTrace(setup.model, find_origin=True)
    try:
        for before in range(step):
            setup.update(before)
        with _gradient_hooks(setup.model, order), trace:
            result.loss = setup.update(step)
    except Exception:
        result.loss = math.nan
    result.forward = trace.origin
    if result.forward is not None:
        result.layer = result.forward.layer
        return result
    result.layer = _backward_layer(order, setup.model)
    return result


@contextmanager
def _gradient_hooks(model: nn.Module, order: list[tuple[str, bool]]) -> Iterator[None]:
    def note(name: str, gradient: Tensor) -> None:
        order.append((name, bool(gradient.isfinite().all())))

    def attach(name: str, _module: Any, _inputs: Any, output: Any) -> None:
        for value in tensors(output):
            if value.requires_grad:
                value.register_hook(partial(note, name))  # type: ignore[no-untyped-call]

    with Hooks() as hooks:
        for name, module in model.named_modules():
            if name == "" or not any(True for _ in module.children()):
                hooks.keep(module.register_forward_hook(partial(attach, name)))
        yield


def _backward_layer(order: list[tuple[str, bool]], model: nn.Module) -> str:
    bad = next((i for i, (_, finite) in enumerate(order) if not finite), None)
    if bad is not None:
        if not order[bad][0] or bad == 0:
            return "loss"
        return order[bad - 1][0] or "(root)"
    for name, p in model.named_parameters():
        if p.grad is not None and not bool(p.grad.isfinite().all()):
            return name.rpartition(".")[0] or "(root)"
    return ""


def _anomaly(setup: TrainingSetup, step: int) -> str:
    """Name of the backward operation that made a NaN, by torch's anomaly mode."""
    try:
        for before in range(step):
            setup.update(before)
        with torch.autograd.detect_anomaly(check_nan=True):
            setup.update(step)
    except Exception as error:
        match = re.search(r"'(\w+)Backward\d*' returned nan", str(error))
        return match.group(1) if match else ""
    return ""

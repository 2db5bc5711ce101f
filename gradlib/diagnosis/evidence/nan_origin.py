"""Replay a run up to its first non-finite value and look where that was born."""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

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
CHAINS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


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
        skipped: A scaler skipped the update, and its scale is not the reason.
        pushed: The largest gradient that reached the operation ``backward``.
        updated: The parameter that an update before made NaN, if one did.
        updated_at: That update.
    """

    step: int | None = None
    forward: ForwardOrigin | None = None
    backward: str = ""
    layer: str = ""
    loss: float = math.nan
    calm: bool = False
    skipped: bool = False
    pushed: float = 0.0
    updated: str = ""
    updated_at: int = 0


def find_nan_origin(
    setup: TrainingSetup, base: BaseRun, scalers: Sequence[Any] = ()
) -> NanOrigin:
    """Replay the base run and dissect its first non-finite update.

    Where a scaler skipped updates, the first of them is dissected at a scale of 1: what
    overflows only when scaled is no origin.
    """
    step = first_bad_step(base)
    lost = base.calls.lost if base.calls is not None else []
    skipped = step is None and bool(lost)
    if skipped:
        step = lost[0]
    if step is None:
        return NanOrigin()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = _dissect(setup, step, scalers if skipped else ())
    if skipped and result.forward is None and not result.layer:
        return NanOrigin()
    result.skipped = skipped
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


def _dissect(setup: TrainingSetup, step: int, scalers: Sequence[Any]) -> NanOrigin:
    seen = GradientOrder(setup.model)
    result = NanOrigin(step)
    trace = UpdateTrace(setup.model, find_origin=True)
    try:
        for before in range(step):
            setup.update(before)
            if not result.updated:
                result.updated, result.updated_at = _nan_in(setup.model), before
        for scaler in scalers:
            scaler._scale = None
            scaler._init_scale = 1.0
        with seen.watching(), trace:
            result.loss = setup.update(step)
    except Exception:
        result.loss = math.nan
    result.forward, result.backward = trace.origin, trace.slope
    result.pushed = trace.pushed
    if result.forward is not None:
        result.layer = result.forward.layer
    else:
        result.layer = seen.first_bad()
    return result


def _nan_in(model: nn.Module) -> str:
    """The first parameter that holds NaN."""
    named = model.named_parameters()
    return next((name for name, p in named if bool(p.isnan().any())), "")


class GradientOrder:
    """The order in which gradients reach what enters and leaves the modules.

    Args:
        model: The model, whose leaves and whole are watched.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.order: list[tuple[list[str], list[str], bool]] = []
        self._places: dict[int, tuple[Tensor, list[str], list[str]]] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch one update."""
        with Hooks() as hooks:
            for name, module in self.model.named_modules():
                if name == "" or not any(True for _ in module.children()):
                    hooks.keep(
                        module.register_forward_pre_hook(partial(self._enter, name)),
                        module.register_forward_hook(partial(self._leave, name)),
                    )
            yield

    def _enter(self, name: str, _module: Any, inputs: Any) -> None:
        for value in tensors(inputs):
            if name and value.requires_grad and not value.is_leaf:
                self._places_of(value)[1].append(name)

    def _leave(self, name: str, _module: Any, _inputs: Any, output: Any) -> None:
        for value in tensors(output):
            if value.requires_grad:
                self._places_of(value)[0].append(name)

    def _places_of(self, value: Tensor) -> tuple[list[str], list[str]]:
        """The modules that a value leaves, and those that it enters."""
        if id(value) not in self._places:
            leaving: list[str] = []
            entering: list[str] = []
            self._places[id(value)] = (value, leaving, entering)
            value.register_hook(  # type: ignore[no-untyped-call]
                lambda g: self.order.append(
                    (leaving, entering, g is None or bool(g.isfinite().all()))
                )
            )
        return self._places[id(value)][1:]

    def first_bad(self) -> str:
        """The module in whose backward pass the first bad gradient was born.

        It is the module that the value enters, or the one that holds the module which
        it leaves; ``"loss"`` behind the model.
        """
        for leaving, entering, finite in self.order:
            if finite:
                continue
            if entering:
                return entering[0]
            if "" in leaving or not leaving:
                return "loss"
            return self._holder(leaving[0])
        for name, p in self.model.named_parameters():
            if p.grad is not None and not bool(p.grad.isfinite().all()):
                return name.rpartition(".")[0] or "(root)"
        return ""

    def _holder(self, name: str) -> str:
        """The module around another one, chains left out: they compute nothing."""
        while name:
            name = name.rpartition(".")[0]
            if not isinstance(self.model.get_submodule(name), CHAINS):
                break
        return name or "(root)"

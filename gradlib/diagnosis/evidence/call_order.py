"""Watch the order of events in an update: zero, backward, clip, step."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gradlib.hooks import Hooks
from gradlib.measure.tensors import values_of
from gradlib.state import parameters_of, runs_closure


def norm_of(parameters: list[nn.Parameter]) -> float:
    """Joint L2 norm of the gradients that exist; 0 if there are none."""
    gradients = [values_of(p.grad) for p in parameters if p.grad is not None]
    if not gradients:
        return 0.0
    return float(torch.nn.utils.get_total_norm([g.float() for g in gradients]))


@dataclass
class CallOrder:
    """What happened to the gradients between two updates.

    Args:
        optimizer: The optimizer whose steps are watched.
        model: The model; its parameters' gradients are watched as they arrive.
        at_step: Norm of the gradient that each optimizer step used.
        largest: Largest magnitude in that gradient.
        pairs: Norm that an update's last step used, and norm when the update returned,
            where the gradient still existed then and no other had arrived.
        stale: Steps whose gradient still held a part that an earlier step had used.
        empty: Steps that found no gradient at all though one had arrived.
        wiped: Updates in which a gradient was cleared before a step used it. The
            weights had not been moved in between, as some methods do on purpose.
        steps: Optimizer steps of every update.
        lost: Updates that made no step, and whose gradient was not finite.
        arrived: ``id`` of each parameter that a gradient other than zero has reached.
        closures: The optimizer computes the loss itself, so hooks before its step
            see the gradient of the step before.
    """

    optimizer: Optimizer
    model: nn.Module
    at_step: list[float] = field(default_factory=list)
    largest: list[float] = field(default_factory=list)
    pairs: list[tuple[float, float]] = field(default_factory=list)
    stale: int = 0
    empty: int = 0
    wiped: int = 0
    steps: list[int] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    arrived: set[int] = field(default_factory=set)
    closures: bool = False

    def __post_init__(self) -> None:
        self.parameters = parameters_of(self.optimizer)
        self._used = {id(p) for p in self.parameters if _filled(p)}
        self._carried: set[int] = set()
        self._held = {id(p) for p in self.parameters}
        self._waiting: dict[int, int] = {}
        self._wiped = False
        self._arrived = False
        self._late = False
        self._steps = 0

    @contextmanager
    def watching(self) -> Iterator["CallOrder"]:
        """Attach the hooks, and remove them at the end."""
        watched = {id(p): p for p in (*self.parameters, *self.model.parameters())}
        with Hooks() as hooks:
            for p in watched.values():
                if p.requires_grad:
                    hooks.keep(
                        p.register_hook(  # type: ignore[no-untyped-call]
                            partial(self._arrive, p)
                        )
                    )
            hooks.keep(
                self.optimizer.register_step_pre_hook(self._before),
                self.optimizer.register_step_post_hook(self._after),
            )
            yield self

    def end_of_update(self) -> None:
        """Note what the gradient is after the owner's update has returned."""
        norm = norm_of(self.parameters)
        if self._steps and norm > 0 and not self._late:
            self.pairs.append((self.at_step[-1], norm))
        if self._arrived and not self._steps and not math.isfinite(norm):
            self.lost.append(len(self.steps))
        self.steps.append(self._steps)
        self.wiped += self._wiped
        self._wiped = False
        self._steps, self._arrived, self._late = 0, False, False

    def _arrive(self, parameter: nn.Parameter, gradient: Tensor | None) -> None:
        if gradient is None:
            return
        filled = bool(gradient.any())
        self._arrived |= filled
        self._late |= filled and self._steps > 0
        if filled:
            self.arrived.add(id(parameter))
        if id(parameter) in self._held:
            moved = self._waiting.get(id(parameter)) != parameter._version
            self._wiped |= not moved and not _filled(parameter)
            if filled:
                self._waiting[id(parameter)] = parameter._version
        if id(parameter) in self._used and _filled(parameter):
            self._carried.add(id(parameter))
        else:
            self._carried.discard(id(parameter))
            self._used.discard(id(parameter))

    def _before(self, _optimizer: Any, given: Any, named: Any) -> None:
        self._steps += 1
        self.closures |= runs_closure(given, named)
        filled = [p for p in self.parameters if p.grad is not None]
        self.at_step.append(norm_of(filled))
        values = [values_of(p.grad).float() for p in filled if p.grad is not None]
        peaks = [v.abs().max() for v in values if v.numel()]
        self.largest.append(float(torch.stack(peaks).max()) if peaks else 0.0)
        self.stale += any(id(p) in self._carried for p in filled)
        self.empty += self._arrived and not any(_filled(p) for p in filled)

    def _after(self, *_: Any) -> None:
        self._waiting.clear()
        self._used |= {id(p) for p in self.parameters if p.grad is not None}


def _filled(parameter: nn.Parameter) -> bool:
    return parameter.grad is not None and bool(values_of(parameter.grad).any())

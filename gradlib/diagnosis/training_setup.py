"""The training under examination: one object that can make an update."""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gradlib.checks import check_model
from gradlib.clip import Clip, as_clipper
from gradlib.diagnosis.nested import copied, tensors
from gradlib.diagnosis.saved_state import unchanged_random_state
from gradlib.measure.sharded import check_one_process
from gradlib.state import bare_optimizer, loss_in

WATCHED_STEPS = 100
FEWEST_STEPS = 30

Context = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class TrainingSetup:
    """A model, its data and the way it is trained.

    Exactly one of ``loss_fn``, ``loss`` and ``step`` is set. ``more`` says that there
    were more batches than were kept. Three fields belong to treatments:
    ``loss_factor`` scales the loss before the backward pass (not what is reported),
    ``before`` runs before every update, ``contexts`` are entered around it.
    """

    model: nn.Module
    optimizer: Optimizer
    batches: list[Any]
    loss_fn: Callable[..., Tensor] | None = None
    loss: Callable[..., Tensor] | None = None
    step: Callable[..., Any] | None = None
    clip: Clip | None = None
    scheduler: Any = None
    max_steps: int | None = None
    loss_factor: float = 1.0
    before: tuple[Callable[[], None], ...] = ()
    contexts: tuple[Context, ...] = ()
    more: bool = False

    @classmethod
    def checked(
        cls,
        model: nn.Module,
        optimizer: Any,
        batches: Iterable[Any],
        *,
        loss_fn: Callable[..., Tensor] | None,
        loss: Callable[..., Tensor] | None,
        step: Callable[..., Any] | None,
        clip: Clip | None,
        scheduler: Any,
        max_steps: int | None,
    ) -> "TrainingSetup":
        """Check the arguments of :func:`gradlib.diagnose` and bundle them."""
        check_model(model)
        if not any(True for _ in model.parameters()):
            raise ValueError(
                "model: expected at least one parameter, got none to train"
            )
        check_one_process(model)
        optimizer = bare_optimizer(optimizer)
        ways = {"loss_fn": loss_fn, "loss": loss, "step": step}
        given = [name for name, way in ways.items() if way is not None]
        if len(given) != 1:
            raise ValueError(
                "loss_fn, loss, step: expected exactly one of the three, got "
                f"{' and '.join(given) or 'none'}"
            )
        if not callable(ways[given[0]]):
            raise TypeError(f"{given[0]}: expected a callable, got {ways[given[0]]!r}")
        if scheduler is not None and not callable(stepper(scheduler)):
            raise TypeError(f"scheduler: expected a callable, got {type(scheduler)}")
        if step is None and isinstance(optimizer, torch.optim.LBFGS):
            raise ValueError(
                f"{given[0]}: expected an optimizer whose step needs no closure, got "
                "LBFGS, which computes the loss itself. Pass your whole update as "
                "step=, a function of the batch that calls optimizer.step(closure) "
                "and returns the loss"
            )
        as_clipper(clip)
        if max_steps is not None and (not isinstance(max_steps, int) or max_steps < 1):
            raise ValueError(
                f"max_steps: expected a whole number >= 1, got {max_steps!r}"
            )
        kept, more = _collect(batches, max_steps or WATCHED_STEPS)
        if loss_fn is not None:
            _check_pairs(kept)
        return cls(
            model,
            optimizer,
            kept,
            loss_fn,
            loss,
            step,
            clip,
            scheduler,
            max_steps,
            more=more,
        )

    @property
    def steps(self) -> int:
        """How many updates to make: one pass, at least a few, at most a hundred.

        No more than a schedule of fixed length has left.
        """
        usual = min(max(len(self.batches), FEWEST_STEPS), WATCHED_STEPS)
        wanted = usual if self.max_steps is None else self.max_steps
        return int(max(1, min(wanted, self.scheduled)))

    @property
    def scheduled(self) -> float:
        """Updates that are left in a schedule of fixed length (OneCycleLR)."""
        schedule = getattr(self.scheduler, "__self__", self.scheduler)
        total = getattr(schedule, "total_steps", None)
        done = getattr(schedule, "last_epoch", None)
        if isinstance(total, int) and isinstance(done, int):
            return total - done
        return math.inf

    def batch(self, step: int) -> Any:
        """A copy of the batch of this step, so that an update may change it."""
        return copied(self.batches[step % len(self.batches)])

    def output(self, x: Any) -> Any:
        """Call the model on one input, whatever its structure."""
        if isinstance(x, Mapping):
            return self.model(**x)
        if isinstance(x, (tuple, list)) and _positional(self.model) > 1:
            return self.model(*x)
        return self.model(x)

    def compute(self, batch: Any) -> Tensor:
        """The loss of one batch; not available with ``step``."""
        if self.loss is not None:
            loss: Tensor = loss_in(self.loss(self.model, batch))
            return loss
        assert self.loss_fn is not None
        loss = loss_in(self.loss_fn(self.output(batch[0]), batch[1]))
        return loss

    def update(self, step: int) -> float:
        """Make one update and return its loss."""
        batch = self.batch(step)
        with ExitStack() as stack:
            for context in self.contexts:
                stack.enter_context(context())
            for prepare in self.before:
                prepare()
            loss = self._step(batch)
            if self.scheduler is not None:
                stepper(self.scheduler)()
        return as_number(loss)

    def _step(self, batch: Any) -> Any:
        if self.step is not None:
            return self.step(batch)
        self.optimizer.zero_grad()
        loss = self.compute(batch)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise TypeError(
                "loss: expected a tensor with one value, got "
                f"{tuple(loss.shape) if isinstance(loss, Tensor) else type(loss)}; "
                "reduce the loss to one number"
            )
        (loss * self.loss_factor).backward()  # type: ignore[no-untyped-call]
        clipper = as_clipper(self.clip, nonfinite="pass")
        if clipper is not None:
            clipper(list(self.model.parameters()))
        self.optimizer.step()
        return loss


def _collect(batches: Iterable[Any], most: int) -> tuple[list[Any], bool]:
    """The first batches, and whether there are more."""
    if not isinstance(batches, Iterable):
        raise TypeError(f"batches: expected an iterable of (x, y), got {type(batches)}")
    with unchanged_random_state():
        stream = iter(batches)
        kept = list(islice(stream, most))
        more = len(kept) == most and next(stream, None) is not None
    if not kept:
        raise ValueError("batches: expected at least one batch, got none")
    for index, batch in enumerate(kept):
        if any(t.ndim and not len(t) for t in tensors(batch)[:1]):
            raise ValueError(
                f"batches: expected samples in every batch, got an empty one at "
                f"position {index}; leave it out (drop_last=True in a DataLoader)"
            )
    return kept, more


def _check_pairs(batches: Sequence[Any]) -> None:
    for index, batch in enumerate(batches):
        if not isinstance(batch, (tuple, list)) or len(batch) < 2:
            raise ValueError(
                f"batches: expected pairs (x, y) with loss_fn, got {type(batch)} at "
                f"position {index}; use loss=lambda model, batch: ... instead"
            )


def _positional(model: nn.Module) -> int:
    parameters = inspect.signature(model.forward).parameters.values()
    return sum(
        p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters
    )


def stepper(scheduler: Any) -> Any:
    """What to call after a step: the scheduler's ``step``, or the callable that it is.

    Example:
        >>> stepper(print) is print
        True
    """
    step = getattr(scheduler, "step", None)
    return step if callable(step) else scheduler


def as_number(loss: Any) -> float:
    """The loss as a float, whatever an update returned."""
    loss = loss_in(loss)
    if isinstance(loss, Tensor):
        return float(loss.detach().float().mean())
    try:
        return float(loss)
    except (TypeError, ValueError):
        raise TypeError(
            f"step: expected it to return the loss, got {type(loss).__name__}; "
            "return loss at its end"
        ) from None

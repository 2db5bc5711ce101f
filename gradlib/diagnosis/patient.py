"""The patient: one training, what was observed, and short runs under treatments."""

import math
import time
import warnings
from functools import cached_property

import torch
from torch import nn
from torch.optim import Optimizer

from gradlib.diagnosis import autopsy
from gradlib.diagnosis.baseline import naive_loss
from gradlib.diagnosis.course import Course
from gradlib.diagnosis.observation import Observation, watch
from gradlib.diagnosis.setup import Setup, as_number
from gradlib.diagnosis.snapshot import Snapshot
from gradlib.diagnosis.treatments import Treatment, slower

SECONDS = 9.0
EXPLODED = 1e6
STUCK = Course((math.nan,), None, False)


class Patient:
    """A training that rules can look at and try treatments on.

    Everything is measured once and then remembered. After every run the state is
    put back, so all runs start from the same point with the same random numbers.

    Args:
        setup: The training.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.deadline = time.process_time() + SECONDS
        ways = (setup.step, setup.loss, setup.loss_fn, setup.scheduler, setup.clip)
        self.snapshot = Snapshot([setup.model, setup.optimizer, *ways])
        self._trials: dict[str, Course] = {}

    @cached_property
    def naive(self) -> float | None:
        """Loss of a model that ignores its input, if it can be known."""
        try:
            return naive_loss(self.setup, self.seen.graph.operations)
        finally:
            self.restore()

    def restore(self) -> None:
        """Put model, optimizer and everything else back."""
        self.snapshot.restore()

    @cached_property
    def seen(self) -> Observation:
        """The base run."""
        try:
            return watch(self.setup)
        finally:
            self.restore()

    @cached_property
    def course(self) -> Course:
        """The loss curve of the base run."""
        finite = all(math.isfinite(m) for m in self.seen.moved.values())
        return Course(tuple(self.seen.losses), self.naive, finite, self.still)

    @cached_property
    def still(self) -> tuple[float, ...]:
        """Losses of the untrained model on the batches of the base run."""
        if self.setup.step is not None:
            return self._run(slower(math.inf)).losses
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                computed = [
                    self.setup.compute(self.setup.batch(step))
                    for step in range(self.steps)
                ]
            return tuple(as_number(loss) for loss in computed)
        except Exception:
            return ()
        finally:
            self.restore()

    @cached_property
    def death(self) -> "autopsy.Autopsy":
        """Where the first value that is not finite was born."""
        try:
            return autopsy.examine(self.setup, self.seen, self.snapshot.restore)
        finally:
            self.restore()

    @property
    def steps(self) -> int:
        """Length of a run: that of the base run where updates take long."""
        return len(self.seen.losses) if self.seen.hurried else self.setup.steps

    @property
    def ill(self) -> bool:
        """Whether the loss curve calls for an explanation."""
        if self.alternating:
            return not math.isfinite(self.course.end)
        return bool(self.seen.failure) or not self.course.well

    @property
    def alternating(self) -> bool:
        """Several optimizers take turns, so no single loss has to fall."""
        used = [
            o
            for o in self.optimizers
            if any(p.requires_grad for g in o.param_groups for p in g["params"])
        ]
        known = {id(p) for p in self.setup.model.parameters()}
        mine = [
            o
            for o in used
            if any(id(p) in known for g in o.param_groups for p in g["params"])
        ]
        return self.setup.step is not None and len(mine) > 1

    @property
    def doubtful(self) -> bool:
        """Whether the training is ill, or learns so little that a rule may look."""
        if self.ill:
            return True
        return self.naive is not None and self.course.score > 0.6

    def under(
        self, name: str, treatment: Treatment, *, rescaled: bool = False
    ) -> Course:
        """The loss curve of a short run under a treatment (remembered by name)."""
        if name not in self._trials:
            self._trials[name] = self._run(treatment, rescaled=rescaled)
        return self._trials[name]

    def cures(self, name: str, treatment: Treatment, *, rescaled: bool = False) -> bool:
        """Whether a treatment turns the illness into clear learning."""
        treated = self.under(name, treatment, rescaled=rescaled)
        if treated.blown or not math.isfinite(treated.end):
            return False
        reference = (
            treated.reference
            if rescaled or self.naive is not None
            else self.course.start
        )
        value = 1 + (treated.end - reference) / max(abs(reference), 1e-12)
        if self.course.score > 10 and value < min(1.15, 0.1 * self.course.score):
            return True
        if self.course.score > EXPLODED and value < self.course.score**0.5:
            return True
        if not (value < 0.92 and value < 1 - 3 * treated.noise):
            return False
        if not self.ill:
            return value < 0.55 * self.course.score
        if self.course.blown:
            return True
        return value < 0.7 * self.course.score or self.course.score - value > 0.3

    def restrained(self, name: str, treatment: Treatment) -> bool:
        """Whether a gentler schedule cures, or keeps what the run lost again."""
        if not self.ill and not self.course.relapsed:
            return False
        cured = self.cures(name, treatment)
        return cured and (self.ill or self._trials[name].end < 0.5 * self.course.best)

    def _run(self, treatment: Treatment, *, rescaled: bool = False) -> Course:
        if time.process_time() > self.deadline:
            return STUCK
        losses: list[float] = []
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                treated = treatment(self.setup)
                naive = self.naive
                if rescaled:
                    naive = naive_loss(treated, self.seen.graph.operations)
                    self.restore()
                    treated = treatment(self.setup)
                for step in range(self.steps):
                    losses.append(treated.update(step))
                    if (
                        not math.isfinite(losses[-1])
                        or time.process_time() > self.deadline
                    ):
                        break
                finite = all(
                    bool(p.isfinite().all()) for p in self.setup.model.parameters()
                )
            still = (
                ()
                if rescaled or treated.batches is not self.setup.batches
                else self.__dict__.get("still", ())
            )
            return Course(tuple(losses), naive, finite, still)
        except Exception:
            return STUCK
        finally:
            self.restore()

    @cached_property
    def optimizers(self) -> list[Optimizer]:
        """The optimizer, and others that the owner's update uses."""
        found: list[Optimizer] = self.snapshot.objects(Optimizer)
        return found

    @cached_property
    def held(self) -> set[int]:
        """``id`` of every parameter that some optimizer holds."""
        groups = [g for o in self.optimizers for g in o.param_groups]
        return {id(p) for group in groups for p in group["params"]}

    @cached_property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Named parameters that want a gradient."""
        named = self.setup.model.named_parameters()
        return {name: p for name, p in named if p.requires_grad}


def layer_of(parameter: str) -> str:
    """Module of a parameter: ``"fc1"`` for ``"fc1.weight"``, ``"U"`` for ``"U"``."""
    owner, _, name = parameter.rpartition(".")
    return owner or name

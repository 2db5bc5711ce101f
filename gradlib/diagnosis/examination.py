"""The examination: one training, what was observed, and short runs under treatments."""

import math
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gradlib.diagnosis.evidence.base_run import BaseRun, run_base
from gradlib.diagnosis.evidence.dependence import Dependence, dependence_of
from gradlib.diagnosis.evidence.loss_curve import (
    SMALLEST_FALL,
    TINY,
    LossCurve,
    median,
)
from gradlib.diagnosis.evidence.naive_loss import naive_loss, watched_naive_loss
from gradlib.diagnosis.evidence.nan_origin import NanOrigin, find_nan_origin
from gradlib.diagnosis.evidence.update_trace import UpdateTrace
from gradlib.diagnosis.nested import copied, rows_of, samples
from gradlib.diagnosis.saved_state import SavedState
from gradlib.diagnosis.training_setup import TrainingSetup, as_number
from gradlib.diagnosis.treatments import (
    Treatment,
    from_the_middle,
    reversed_order,
    slower,
)
from gradlib.state import is_set_up

# Processor time for a whole examination: most of the clinic's cases need 1, the slowest
# 4 to 9. The base run ends early after a part of it.
SECONDS = 9.0
BASE_SHARE = 0.28
# Parts of a batch whose losses are compared.
PARTS = 64
# A loss, or a value inside the network, so many times its ordinary size has exploded.
EXPLODED = 1e6
# A run that ends above this share of the naive loss learns so little that rules which
# measure an oddity may look. Saturated or badly initialized networks that still learn
# end at 0.53 to 0.79; two thirds of the healthy end below 0.41.
LEARNS_LITTLE = 0.45
# A treated run cures if it ends below this share of the naive loss: a stalled one ends
# at 0.98 to 1.07, and what learns by the treatment at 0.93 or below.
CURED = 0.95
# Distance of the treated run below the naive loss, in units of its noise: cured but
# rough runs are 2.7 to 5 away; by chance it is 1 or less.
CURED_IN_NOISE = 2.0
# A base run that ends above HOPELESS, in units of the naive loss, is cured by what
# takes it near a constant output, and to a tenth.
HOPELESS = 10.0
NEAR_CONSTANT = 1.15
TENTH = 0.1
# Where an ill run did not explode, a cure ends lower by this factor or by this much.
CLEARLY_LOWER = 0.7
LOWER_BY = 0.3
# Where the run is not ill, the treated one must end at about half of it.
MUCH_LOWER = 0.55
# Where the run is not ill, a gentler schedule must end below half the base run's best.
BEST_HALVED = 0.5
# A loss of this size beside a gradient of that one is zero by construction: group
# relative advantages leave 1e-9 to 1e-7, a loss that has been learned to 0 has no
# gradient left either.
ZERO_LOSS = 1e-6
REAL_GRADIENT = 1e-4
# Share of updates at which the loss changes its sign: the surrogate of a policy
# gradient does so at a third, a likelihood once or never.
SWINGS = 0.15
# A run improves if it ends lower by this share of the scale, and so many times the
# noise: where a change makes no difference both ends agree to 0.05 and 2.
IMPROVED = 0.1
IMPROVED_IN_NOISE = 3.0
# Batches on which a trained model is judged.
JUDGED_BATCHES = 20
# A difference of gradients below this share of one of them is rounding.
ROUNDED = 1e-5
NOT_RUN = LossCurve((math.nan,), None, False)
# Other orders of the batches that a training must bear too.
ORDERS = {
    "in reverse order": reversed_order,
    "with the second half first": from_the_middle,
}
# Fewest batches that have an order.
FEWEST_BATCHES = 4


class Examination:
    """A training that rules can look at and try treatments on.

    Everything is measured once and then remembered. After every run the state is
    put back, so all runs start from the same point with the same random numbers.

    Args:
        setup: The training.
        seconds: Processor time after which no trial goes on.
    """

    def __init__(self, setup: TrainingSetup, seconds: float = SECONDS) -> None:
        self.setup = setup
        self.seconds = seconds
        self.deadline = time.process_time() + seconds
        self.out_of_time = False
        ways = (setup.step, setup.loss, setup.loss_fn, setup.scheduler, setup.clip)
        self.saved = SavedState([setup.model, setup.optimizer, *ways])
        self._trials: dict[str, LossCurve] = {}

    @cached_property
    def naive(self) -> float | None:
        """Loss of a model that ignores its input, if it can be known."""
        if self.setup.step is not None:
            traces = self.base.traces.items()
            seen = {step: trace.calls.losses for step, trace in traces}
            return watched_naive_loss(self.base.losses, seen)
        operations = self.base.graph.operations
        with self._aside():
            return naive_loss(self.setup, operations)

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """A look beside the run: it warns of nothing, and everything is put back."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            self.restore()

    def restore(self) -> None:
        """Put model, optimizer and everything else back."""
        self.saved.restore()

    @cached_property
    def base(self) -> BaseRun:
        """The base run."""
        try:
            return run_base(self.setup, BASE_SHARE * self.seconds)
        finally:
            self.restore()

    @cached_property
    def curve(self) -> LossCurve:
        """The loss curve of the base run."""
        finite = all(math.isfinite(m) for m in self.base.moved.values())
        return LossCurve(
            tuple(self.base.losses), self.naive, finite, self.untrained_losses
        )

    @cached_property
    def untrained_losses(self) -> tuple[float, ...]:
        """Losses of the untrained model on the batches of the base run."""
        if self.setup.step is not None:
            return self._run(slower(math.inf)).losses
        try:
            with self._aside(), torch.no_grad():
                computed = [
                    self.setup.compute(self.setup.batch(step))
                    for step in range(self.steps)
                ]
            return tuple(as_number(loss) for loss in computed)
        except Exception:
            return ()

    @cached_property
    def losses_of_parts(self) -> tuple[float, ...]:
        """Losses of the untrained model on small parts of the first batch."""
        if self.setup.step is not None:
            return ()
        try:
            batch = self.setup.batch(0)
            count = samples(batch)
            size = max(2, count // PARTS)
            with self._aside(), torch.no_grad():
                computed = [
                    self.setup.compute(rows_of(batch, start, start + size))
                    for start in range(0, count - size + 1, size)
                ]
            return tuple(as_number(loss) for loss in computed)
        except Exception:
            return ()

    @cached_property
    def origin(self) -> NanOrigin:
        """Where the first value that is not finite was born."""
        try:
            return find_nan_origin(self.setup, self.base, self.scalers)
        finally:
            self.restore()

    @cached_property
    def pulls(self) -> list[float]:
        """Gradient of each loss function over that of the rest of the loss.

        Taken at the first update, on the parameters that both reach; NaN where there
        are none. Not available with ``step``.
        """
        if self.setup.step is not None or not self.base.first.calls.losses:
            return []
        try:
            with self._aside():
                return self._pulls()
        except Exception:
            return []

    def _pulls(self) -> list[float]:
        trace = UpdateTrace(self.setup.model)
        trace.calls.keep = True
        with trace:
            loss = self.setup.compute(self.setup.batch(0))
        gradient = self._flat_gradient
        whole, pulls = gradient(loss), []
        for call in trace.calls.losses:
            if call.result is None or not call.result.requires_grad:
                pulls.append(math.nan)
                continue
            (weight,) = torch.autograd.grad(loss, call.result, retain_graph=True)
            mine = gradient((call.result * weight).sum())
            rest = whole - mine
            noise = ROUNDED * whole.abs()
            both = (mine != 0) & (rest.abs() > noise)
            ratio = mine[both].norm() / rest[both].norm() if both.any() else math.nan
            pulls.append(float(ratio))
        return pulls

    def _flat_gradient(self, value: Tensor) -> Tensor:
        """Gradient of a value with respect to all parameters, in one row."""
        wanted = list(self.parameters.values())
        found = torch.autograd.grad(value, wanted, retain_graph=True, allow_unused=True)
        parts = zip(found, wanted, strict=True)
        return torch.cat(
            [(torch.zeros_like(p) if g is None else g).flatten() for g, p in parts]
        )

    def gradient_of(self, factor: float) -> Tensor | None:
        """Gradient of so many times the loss at the first update, in one row."""
        try:
            with self._aside():
                loss = self.setup.compute(self.setup.batch(0))
                return self._flat_gradient(factor * loss)
        except Exception:
            return None

    @cached_property
    def dependence(self) -> Dependence:
        """What the outputs of the first call depend on, before any update."""
        if self.base.call is None:
            return Dependence()
        with self._aside():
            return dependence_of(self.setup.model, self.base.call)

    def improves(
        self, name: str, treatment: Treatment, *, share: float | None = None
    ) -> bool:
        """Whether a treated run ends clearly lower, whatever a constant reaches."""
        treated = self.run_under(name, treatment)
        if treated.exploded or not math.isfinite(treated.end):
            return False
        lower = self.curve.end - treated.end
        noise = max(self.curve.noise, treated.noise) * self.curve.scale
        least = IMPROVED if share is None else share
        return lower > max(least * self.curve.scale, IMPROVED_IN_NOISE * noise)

    def loss_of(self, batch: Any, treatment: Treatment | None = None) -> float:
        """Loss of one batch before any update, always with the same random numbers."""
        try:
            with self._aside(), torch.no_grad():
                setup = treatment(self.setup) if treatment else self.setup
                return as_number(setup.compute(copied(batch)))
        except Exception:
            return math.nan

    def cures_in_own_units(self, name: str, treatment: Treatment) -> bool:
        """Whether a treated run learns: falls clearly where the run as it is does not.

        For updates that can only be watched, often no constant answer is known.
        """
        treated = self.run_under(name, treatment)
        if treated.exploded or treated.flat or not math.isfinite(treated.end):
            return False
        return treated.end < MUCH_LOWER * min(self.curve.end, treated.start)

    def loss_after(self, treatment: Treatment) -> float:
        """Mean loss on the batches as given, once a treated run is over."""
        if self._time_is_up() or self.setup.step is not None:
            return math.nan
        count = len(self.setup.batches)
        chosen = range(0, count, max(1, count // JUDGED_BATCHES))
        try:
            with self._aside():
                treated = treatment(self.setup)
                for step in range(self.steps):
                    treated.update(step)
                with torch.no_grad():
                    losses = [
                        float(self.setup.compute(self.setup.batch(i))) for i in chosen
                    ]
            return sum(losses) / len(losses)
        except Exception:
            return math.nan

    @cached_property
    def stopped_in(self) -> str:
        """The module in which the update raised; ``"loss"`` behind the model."""
        done = len(self.base.losses) - bool(self.base.losses)
        trace = UpdateTrace(self.setup.model)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for step in range(done):
                    self.setup.update(step)
                with trace:
                    self.setup.update(done)
        except Exception:
            return trace.where
        finally:
            self.restore()
        return "(root)"

    @property
    def steps(self) -> int:
        """Length of a run: that of the base run where updates take long."""
        return len(self.base.losses) if self.base.cut_short else self.setup.steps

    @property
    def is_ill(self) -> bool:
        """Whether the loss curve calls for an explanation."""
        if self.alternating or self.says_nothing:
            return not math.isfinite(self.curve.end)
        return bool(self.base.failure) or not self.curve.learns

    @property
    def alternating(self) -> bool:
        """Several optimizers take turns, so no single loss has to fall.

        Those that step together, after the last backward pass, share a loss.
        """
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
        if self.setup.step is None or len(mine) < 2:
            return False
        trace = self.base.first
        together = all(trace.stepped.get(id(o)) == trace.backwards for o in mine)
        return not together

    @property
    def says_nothing(self) -> bool:
        """The loss is zero by construction, or swings around it; no gradient is."""
        calls, losses = self.base.calls, self.base.losses
        if calls is None or not calls.at_step or not losses:
            return False
        zero = max(map(abs, losses)) < ZERO_LOSS
        crossed = sum(a * b < 0 for a, b in pairwise(losses)) / len(losses)
        return (zero or crossed > SWINGS) and median(calls.at_step) > REAL_GRADIENT

    @property
    def worth_a_look(self) -> bool:
        """Whether the training is ill, or learns so little that a rule may look."""
        if self.is_ill:
            return True
        return self.naive is not None and self.curve.score > LEARNS_LITTLE

    @property
    def gets_a_gradient(self) -> bool:
        """Whether any parameter gets a gradient other than zero, at any step."""
        columns = self.base.norms.values()
        return any(norm not in (0.0, -1.0) for column in columns for norm in column)

    def run_under(
        self, name: str, treatment: Treatment, *, rescaled: bool = False
    ) -> LossCurve:
        """The loss curve of a short run under a treatment (remembered by name)."""
        if name not in self._trials:
            self._trials[name] = self._run(treatment, rescaled=rescaled)
        return self._trials[name]

    def cures(self, name: str, treatment: Treatment, *, rescaled: bool = False) -> bool:
        """Whether a treatment turns the illness into clear learning."""
        treated = self.run_under(name, treatment, rescaled=rescaled)
        if treated.exploded or not math.isfinite(treated.end):
            return False
        reference = (
            treated.reference
            if rescaled or self.naive is not None
            else self.curve.start
        )
        value = 1 + (treated.end - reference) / max(abs(reference), TINY)
        if self.curve.score > HOPELESS and value < min(
            NEAR_CONSTANT, TENTH * self.curve.score
        ):
            return True
        if self.curve.score > EXPLODED and value < math.sqrt(self.curve.score):
            return True
        if not (value < CURED and value < 1 - CURED_IN_NOISE * treated.noise):
            return False
        if not self.is_ill:
            return value < MUCH_LOWER * self.curve.score
        if self.curve.exploded:
            return True
        lower = self.curve.score - value
        return value < CLEARLY_LOWER * self.curve.score or lower > LOWER_BY

    @cached_property
    def unlucky_order(self) -> str:
        """An order of the same batches in which the loss leaves all bounds, or ``""``.

        What learns by the luck of an order is not healthy: the next epoch, or another
        seed, has another one.
        """
        if len(self.setup.batches) < FEWEST_BATCHES:
            return ""
        for name, treatment in ORDERS.items():
            curve = self.run_under(name, treatment)
            if curve is NOT_RUN:
                continue
            lost = not math.isfinite(curve.end)
            if lost or (self.naive is not None and curve.exploded):
                return name
        return ""

    def outcome(self, name: str) -> str:
        """What a trial led to, in words: it learns, or the loss only stays finite."""
        curve = self._trials[name]
        low = CURED if curve.naive is not None else 1 - SMALLEST_FALL
        if curve.score < low:
            return "the same training learns"
        return "the loss of the same training stays finite, though it learns little"

    def compared(self, name: str) -> dict[str, float]:
        """The end of the base run beside that of a run that was tried, as evidence."""
        return {
            "loss at the end": self.curve.end,
            f"with {name}": self._trials[name].end,
        }

    def cured_by_gentler(self, name: str, treatment: Treatment) -> bool:
        """Whether a gentler schedule cures, or helps much where little is learned."""
        if not self.worth_a_look and not self.curve.relapsed:
            return False
        cured = self.cures(name, treatment)
        return cured and (
            self.is_ill or self._trials[name].end < BEST_HALVED * self.curve.best
        )

    def _run(self, treatment: Treatment, *, rescaled: bool = False) -> LossCurve:
        if self._time_is_up():
            return NOT_RUN
        losses: list[float] = []
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                naive = self.naive
                treated = treatment(self.setup)
                if rescaled:
                    naive = naive_loss(treated, self.base.graph.operations)
                    self.restore()
                    treated = treatment(self.setup)
                for step in range(self.steps):
                    losses.append(treated.update(step))
                    if not math.isfinite(losses[-1]) or self._time_is_up():
                        break
                finite = all(
                    bool(p.isfinite().all()) for p in self.setup.model.parameters()
                )
            still = (
                ()
                if rescaled or treated.batches is not self.setup.batches
                else self.__dict__.get("untrained_losses", ())
            )
            return LossCurve(tuple(losses), naive, finite, still)
        except Exception:
            return NOT_RUN
        finally:
            self.restore()

    @property
    def seconds_left(self) -> float:
        """Processor time until the deadline."""
        return self.deadline - time.process_time()

    def _time_is_up(self) -> bool:
        self.out_of_time |= time.process_time() > self.deadline
        return self.out_of_time

    @cached_property
    def optimizers(self) -> list[Optimizer]:
        """The optimizer, and others that the owner's update uses."""
        found: list[Optimizer] = self.saved.objects(Optimizer)
        return [optimizer for optimizer in found if is_set_up(optimizer)]

    @cached_property
    def scalers(self) -> list[Any]:
        """The scalers of losses that the owner's update uses."""
        found = self.saved.objects(torch.amp.GradScaler)
        return [scaler for scaler in found if scaler.is_enabled()]

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

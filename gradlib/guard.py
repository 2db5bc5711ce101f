"""Guard a training against spikes: go, skip a step, or roll back to a good state."""

import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any, SupportsFloat, TypeVar

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from gradlib.checks import check_choice, check_count, check_model, check_positive
from gradlib.errors import DivergenceError
from gradlib.measure.tensors import number_of, numbers_of
from gradlib.state import bare_optimizer, parameters_of
from gradlib.training_state import State, TrainingState

__all__ = ["DECISIONS", "SpikeGuard", "agree"]

DECISIONS = ("go", "skip", "rollback")
"""What a `SpikeGuard` decides, the strongest last."""

SIGMA = 1.4826
"""Standard deviation over median absolute deviation, for normal noise."""

USUAL_RISE = 0.05
"""Part of its size by which a quantity may always vary: near the end of a training that
sees all data at each step, the deviation is zero."""

Flag = TypeVar("Flag", str, bool)


class SpikeGuard:
    """Judge each step before it is made: go, skip it, or roll back.

    A step is unusual if its loss, gradient norm or update RMS lies more than
    ``threshold`` deviations above the median of the last ``window`` usual ones:

        log x > median(log x_i) + threshold * (1.4826 * MAD(log x_i) + 0.05)

    MAD is the median absolute deviation; where a quantity is not always positive, x
    itself takes the place of its logarithm, and 5 % of the median that of 0.05. NaN
    and infinity are unusual. An unusual step is to be skipped. As nothing moves then,
    a bad batch is followed by usual steps; where ``patience`` steps in a row are
    unusual, the weights are ill, and the guard rolls back: model, optimizer, schedule
    and scaler are again, bit for bit, as they were in the last good state. Random
    numbers go on, and with them the data: put back, they would draw the same batches
    again. It forgets its window then, so that a loss that has risen for good becomes
    usual; until ``least`` more usual steps only NaN and infinity are unusual. If
    another rollback follows before a new state was kept, it goes one state further
    back.

    Each copy takes the memory of the model and of what the optimizer holds (under Adam
    three times the model), in main memory; `nbytes` tells how much all of them take.

    With a ``scaler``, numbers that are not finite are its business while its scale is
    at least 1: the decision is ``"go"``, and the scaler skips the step itself.

    Where several processes train together, all must judge each step, and all get the
    strongest decision of theirs.

    Args:
        model: Any module.
        optimizer: Its optimizer, also inside a wrapper such as Accelerate's.
        scheduler: Its schedule; anything with ``state_dict``.
        scaler: Its `torch.amp.GradScaler`.
        window: How many usual values of each quantity to keep.
        least: How many of them it takes to judge.
        threshold: Deviations above the median from which on a step is unusual; > 0.
        patience: Unusual steps in a row that lead to a rollback.
        every: A copy of the state is kept each so many steps.
        keep: How many copies are kept.
        rollbacks: How many rollbacks may follow each other before a new state is kept.
        group: The processes that agree; by default all.

    Attributes:
        step: Steps judged so far.
        reason: Why the last step was not to be made; empty if it was.
        counts: How often each decision was taken.

    Raises:
        TypeError: the model or the optimizer is something else.
        ValueError: the optimizer holds no parameter, or a number cannot be right.

    Example:
        >>> model = nn.Linear(3, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> guard = SpikeGuard(model, optimizer, least=5)
        >>> for step in range(8):
        ...     x = torch.full((4, 3), 1e6 if step == 7 else 1.0)
        ...     optimizer.zero_grad()
        ...     loss = model(x).square().mean() + 1
        ...     loss.backward()
        ...     norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        ...     if guard.judge(loss, norm) == "go":
        ...         optimizer.step()
        >>> guard.counts
        Counter({'go': 7, 'skip': 1})

    References:
        Chowdhery et al. 2023, https://arxiv.org/abs/2204.02311, section 5.1
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        scheduler: Any = None,
        scaler: GradScaler | None = None,
        window: int = 100,
        least: int = 20,
        threshold: float = 4.0,
        patience: int = 3,
        every: int = 100,
        keep: int = 2,
        rollbacks: int = 3,
        group: Any = None,
    ) -> None:
        check_model(model)
        optimizer = bare_optimizer(optimizer)
        if not parameters_of(optimizer):
            raise ValueError("optimizer: expected parameters, got none")
        self.window = check_count(window, "window")
        self.least = check_count(least, "least")
        if least > window:
            raise ValueError(
                f"least: expected at most window={window} values, got {least}"
            )
        self.threshold = check_positive(threshold, "threshold")
        self.patience = check_count(patience, "patience")
        self.every = check_count(every, "every")
        self.rollbacks = check_count(rollbacks, "rollbacks")
        self.group = group
        self.step = 0
        self.reason = ""
        self.counts: Counter[str] = Counter()
        self._training = TrainingState(model, optimizer, scheduler, scaler)
        self._past: dict[str, deque[float]] = {}
        self._unusual = 0
        self._rolled = 0
        self._states: deque[State] = deque(maxlen=check_count(keep, "keep"))
        self._states.append(self._training.copy())
        self._kept_at = 0

    @torch.no_grad()
    def judge(
        self,
        loss: Tensor | float,
        norm: Tensor | float | None = None,
        update_rms: Tensor | float | None = None,
    ) -> str:
        """Decide about the step of these numbers; call it before ``optimizer.step()``.

        ``"go"``: make the step. ``"skip"``: do not make it. ``"rollback"``: do not make
        it; the training has been put back to a good state already. After the last two
        there are no gradients, and a scaler is ready for the next step.

        Args:
            loss: The loss of the step, one number.
            norm: Norm of its gradients, before clipping and without the loss scale.
            update_rms: Root mean square of the update, where it is at hand.

        Returns:
            One of `DECISIONS`.

        Raises:
            DivergenceError: too many rollbacks followed each other.
            TypeError: a value is not a number.
            ValueError: a tensor holds more or less than one number.
        """
        given = {"norm": norm, "update_rms": update_rms}
        known = {name: value for name, value in given.items() if value is not None}
        values = _numbers({"loss": loss, **known})
        reason = self._unusual_in(values)
        decision = "go"
        if reason:
            enough = self._unusual + 1 >= self.patience
            decision = "rollback" if enough else "skip"
        agreed = agree(decision, self.group)
        self.reason = reason or "another process" * (agreed != "go")
        self.counts[agreed] += 1
        self.step += 1
        if agreed == "go":
            self._unusual = 0
            self._count(values)
            self._keep()
        else:
            self._unusual += 1
            if agreed == "rollback":
                self._roll_back(values["loss"])
            self._forget_gradients()
        return agreed

    @property
    def nbytes(self) -> int:
        """Memory of the copies when all are there, in bytes, as the state is now."""
        return (self._states.maxlen or 0) * self._training.nbytes()

    def state_dict(self) -> dict[str, Any]:
        """What a run that is resumed needs: the windows, and how many steps there were.

        The copies of the training's state are not among it.
        """
        past = {name: list(values) for name, values in self._past.items()}
        return {"past": past, "step": self.step, "counts": dict(self.counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken; the good state is the present one.

        Raises:
            KeyError: the state is that of something else.
        """
        past, self.step = state["past"], state["step"]
        self.counts = Counter(state["counts"])
        self._past = {n: deque(values, self.window) for n, values in past.items()}
        self._unusual = self._rolled = 0
        self._states.clear()
        self._states.append(self._training.copy())
        self._kept_at = self.step

    def _unusual_in(self, values: dict[str, float]) -> str:
        """What is unusual in a step; empty if nothing is."""
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if bad:
            scaler = self._training.scaler
            if scaler is not None and scaler.is_enabled() and scaler.get_scale() >= 1:
                return ""
            return f"{bad[0]} is {values[bad[0]]}"
        for name, value in values.items():
            past = self._past.get(name, ())
            if len(past) < self.least:
                continue
            deviations = deviation(value, past)
            if deviations > self.threshold:
                return (
                    f"{name} {value:.4g} lies {deviations:.1f} deviations above its "
                    f"median {median(past):.4g}"
                )
        return ""

    def _count(self, values: dict[str, float]) -> None:
        if all(map(math.isfinite, values.values())):
            for name, value in values.items():
                self._past.setdefault(name, deque(maxlen=self.window)).append(value)

    def _keep(self) -> None:
        """Copy the state before a step that is usual, once enough were."""
        known = min(map(len, self._past.values()), default=0) >= self.least
        if known and self.step - self._kept_at >= self.every:
            self._states.append(self._training.copy())
            self._kept_at = self.step
            self._rolled = 0

    def _roll_back(self, loss: float) -> None:
        if self._rolled == self.rollbacks:
            raise DivergenceError(
                self.step - 1,
                loss,
                f"{self._rolled} rollbacks did not help; {self.reason}",
            )
        if self._rolled and len(self._states) > 1:
            self._states.pop()
        self._training.restore(self._states[-1], random=False)
        self._rolled += 1
        self._unusual = 0
        self._past.clear()
        self._kept_at = self.step

    def _forget_gradients(self) -> None:
        for p in parameters_of(self._training.optimizer):
            p.grad = None
        scaler = self._training.scaler
        if scaler is not None and scaler.is_enabled():
            scaler.update(scaler.get_scale())  # as if unscale_ had not been called


def deviation(value: float, past: Iterable[float]) -> float:
    """How many deviations a value lies above the median of past ones.

    Example:
        >>> round(deviation(2.0, [1.0, 1.1, 0.9]), 1)
        3.6
    """
    past = list(past)
    floor = USUAL_RISE
    if min(value, *past) > 0:
        value, past = math.log(value), [math.log(x) for x in past]
    else:
        floor *= max(map(abs, past))
    middle = median(past)
    spread = SIGMA * median(abs(x - middle) for x in past) + floor
    return (value - middle) / spread if spread else 0.0


def agree(flag: Flag, group: Any = None) -> Flag:
    """The strongest decision of all processes; the same in each.

    Of one process it is its own. All processes of the group must call it.

    Args:
        flag: One of `DECISIONS`, or True where something is to be done.
        group: The processes, by default all.

    Raises:
        ValueError: it is neither.

    Example:
        >>> agree("skip"), agree(False)
        ('skip', False)
    """
    from torch import distributed

    if not isinstance(flag, bool):
        check_choice(flag, "flag", DECISIONS)
    if not (distributed.is_available() and distributed.is_initialized()):
        return flag
    strength = int(flag) if isinstance(flag, bool) else DECISIONS.index(flag)
    on_device = "nccl" in distributed.get_backend(group)
    strongest = torch.tensor(strength, device="cuda" if on_device else "cpu")
    distributed.all_reduce(strongest, distributed.ReduceOp.MAX, group=group)
    agreed = int(strongest)
    return bool(agreed) if isinstance(flag, bool) else DECISIONS[agreed]


def _numbers(given: Mapping[str, Tensor | SupportsFloat]) -> dict[str, float]:
    """The values as numbers, by one read of the device."""
    numbers = {name: number_of(value, name) for name, value in given.items()}
    tensors = {n: x.double() for n, x in numbers.items() if isinstance(x, Tensor)}
    read = dict(zip(tensors, numbers_of(list(tensors.values())), strict=True))
    return {n: read[n] if n in read else float(x) for n, x in numbers.items()}

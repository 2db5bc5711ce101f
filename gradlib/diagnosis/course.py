"""Read a loss curve: did it fall, stall or blow up?"""

import math
from itertools import pairwise
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradlib.diagnosis.observation import median
from gradlib.diagnosis.setup import Setup

TINY = 1e-12


@dataclass(frozen=True)
class Course:
    """A loss curve, reduced to the numbers that decisions need.

    Args:
        losses: Loss of every update.
        naive: Loss of the best constant output, or None if unknown.
        finite: The parameters were finite at the end.
        still: Losses of the untrained model on the same batches.
    """

    losses: tuple[float, ...]
    naive: float | None = None
    finite: bool = True
    still: tuple[float, ...] = ()

    @property
    def start(self) -> float:
        """Loss of the first updates."""
        return self._level(0, max(2, len(self.losses) // 12))

    @property
    def end(self) -> float:
        """Loss of the last updates; infinite if it is not a number any more."""
        if not self.finite or not self.losses or not math.isfinite(self.losses[-1]):
            return math.inf
        return self._level(len(self.losses) - max(4, len(self.losses) // 5), None)

    @property
    def best(self) -> float:
        """Lowest level over an eighth of the run."""
        width = max(3, len(self.losses) // 8)
        starts = range(0, max(1, len(self.losses) - width + 1), width)
        levels = [self._level(i, i + width) for i in starts]
        return min((m for m in levels if math.isfinite(m)), default=math.inf)

    def _level(self, start: int, stop: int | None) -> float:
        """Median loss of some updates, with the luck of their batches taken out.

        The losses of the untrained model on the same batches serve as a control
        variate: what a batch adds for the untrained model, it adds (to some part)
        for the trained one.
        """
        losses = list(self.losses[max(0, start) : stop])
        luck = list(self.still[max(0, start) : stop])
        typical = median(list(self.still))
        if len(luck) < len(losses) or not all(map(math.isfinite, [*losses, *luck])):
            return median(losses)
        share = _slope(luck, losses)
        return median(
            [x - share * (u - typical) for x, u in zip(losses, luck, strict=False)]
        )

    @property
    def reference(self) -> float:
        """The naive loss, or the loss at the start where it is unknown."""
        return self.start if self.naive is None else self.naive

    @property
    def scale(self) -> float:
        """Unit for comparisons of losses."""
        return max(abs(self.reference), TINY)

    @property
    def noise(self) -> float:
        """Typical jump between neighbouring medians, in units of ``scale``."""
        luck = (
            self.still
            if len(self.still) >= len(self.losses)
            else (0.0,) * len(self.losses)
        )
        rest = [x - u for x, u in zip(self.losses, luck, strict=False)]
        either = [list(self.losses), rest]
        return min(self._jump(values) for values in either)

    def _jump(self, values: list[float]) -> float:
        jumps = [abs(b - a) for a, b in pairwise(values)]
        return median(jumps) / math.sqrt(max(4, len(self.losses) // 5)) / self.scale

    @property
    def score(self) -> float:
        """Loss at the end in units of the reference; lower is better."""
        if not math.isfinite(self.end):
            return math.inf
        return 1 + (self.end - self.reference) / self.scale

    @property
    def fall(self) -> float:
        """How far the loss fell at its best, in units of its start."""
        return (self.start - self.best) / max(abs(self.start), TINY)

    @property
    def blown(self) -> bool:
        """Not finite, or far above both its start and the naive loss."""
        if not math.isfinite(self.end):
            return True
        rise = self.end - max(self.start, self.reference)
        return rise > max(1.0 * self.scale, 6 * self.noise * self.scale)

    @property
    def flat(self) -> bool:
        """Finite, and hardly lower than at the start."""
        return not self.blown and self.fall < max(0.04, 2 * self.noise)

    @property
    def well(self) -> bool:
        """Learning: the loss fell, and a constant output would do worse."""
        if self.blown or self.flat:
            return False
        if self.naive is None:
            return True
        return self.score < 0.97 or (self.best < 0.85 * self.naive and self.score < 1.3)


def _slope(xs: list[float], ys: list[float]) -> float:
    """Least squares slope of y over x, between 0 and 1."""
    x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - x_mean) ** 2 for x in xs)
    if len(xs) < 2 or spread == 0:
        return 0.0
    joint = sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True))
    return min(1.0, max(0.0, joint / spread))


def naive_loss(setup: Setup) -> float | None:
    """Loss of the best constant output that is easy to find, or None.

    Tries zero, the mean target and the log frequency of the classes.
    """
    if setup.loss_fn is None:
        return None
    totals: dict[str, list[float]] = {}
    try:
        with torch.no_grad():
            share, mean = _classes(setup), _mean_target(setup)
            for step in range(min(4, len(setup.batches))):
                batch = setup.batch(step)
                out = setup.output(batch[0])
                if not isinstance(out, Tensor):
                    return None
                for name, constant in _constants(
                    out.float(), batch[1], share, mean
                ).items():
                    value = float(setup.loss_fn(constant, batch[1]))
                    totals.setdefault(name, []).append(value)
    except Exception:
        return None
    means = [median(values) for values in totals.values()]
    return min((m for m in means if math.isfinite(m)), default=None)


def _classes(setup: Setup) -> Tensor | None:
    targets = [b[1] for b in setup.batches if isinstance(b[1], Tensor)]
    if (
        not targets
        or targets[0].is_floating_point()
        or not all(len(t) for t in targets)
    ):
        return None
    flat = torch.cat([t.reshape(-1) for t in targets]).long()
    if int(flat.min()) < 0 or int(flat.max()) > 100_000:
        return None
    return torch.bincount(flat).float() / len(flat)


def _mean_target(setup: Setup) -> Tensor | None:
    targets = [b[1] for b in setup.batches if isinstance(b[1], Tensor) and b[1].ndim]
    if not targets or not all(t.is_floating_point() for t in targets):
        return None
    if len({t.shape[1:] for t in targets}) != 1:
        return None
    return torch.nanmean(torch.cat(targets).float(), 0, keepdim=True)


def _constants(
    out: Tensor, y: Any, share: Tensor | None, mean: Tensor | None
) -> dict[str, Tensor]:
    found = {"zero": torch.zeros_like(out)}
    if not isinstance(y, Tensor):
        return found
    if y.is_floating_point() and y.shape == out.shape and mean is not None:
        mean = mean.expand_as(out).clone()
        found["mean"] = mean
        if float(mean.min()) >= 0 and float(mean.max()) <= 1:
            found["logit"] = torch.logit(mean.clamp(0.001, 0.999))
    elif share is not None and out.ndim > 1:
        dim = (
            1
            if out.ndim > 2
            and out.shape[-1] != out.shape[1]
            and y.shape[1:] == out.shape[2:]
            else -1
        )
        if out.shape[dim] >= len(share):
            missing = out.shape[dim] - len(share)
            logits = torch.log(torch.cat([share, share.new_zeros(missing)]) + 1e-6)
            found["frequency"] = (
                logits.expand_as(out.movedim(dim, -1)).movedim(-1, dim).clone()
            )
    return found

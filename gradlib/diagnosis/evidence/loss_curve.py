"""Read a loss curve: did it fall, stall or blow up?"""

import math
import statistics
from dataclasses import dataclass
from itertools import pairwise

TINY = 1e-12
SPIKE = 5.0


@dataclass(frozen=True)
class LossCurve:
    """A loss curve, reduced to the numbers that decisions need.

    Args:
        losses: Loss of every update.
        naive: Loss of the best constant output, or None if unknown.
        finite: The parameters were finite at the end.
        untrained_losses: Losses of the untrained model on the same batches.
    """

    losses: tuple[float, ...]
    naive: float | None = None
    finite: bool = True
    untrained_losses: tuple[float, ...] = ()

    @property
    def start(self) -> float:
        """Loss of the untrained model, or of the first updates."""
        if len(self.untrained_losses) >= len(self.losses) and math.isfinite(
            median(list(self.untrained_losses))
        ):
            return median(list(self.untrained_losses))
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
        """Central loss of some updates, with the luck of their batches taken out.

        The losses of the untrained model on the same batches serve as a control
        variate: what a batch adds for the untrained model, it adds (to some part)
        for the trained one.
        """
        losses = list(self.losses[max(0, start) : stop])
        luck = list(self.untrained_losses[max(0, start) : stop])
        typical = median(list(self.untrained_losses))
        if len(luck) < len(losses) or not all(map(math.isfinite, [*losses, *luck])):
            return central(losses)
        luck = luck[: len(losses)]
        share = _slope(luck, losses)
        pairs = zip(losses, luck, strict=True)
        return central([x - share * (u - typical) for x, u in pairs])

    @property
    def reference(self) -> float:
        """The naive loss, or the loss at the start where it is unknown."""
        return self.start if self.naive is None else self.naive

    @property
    def scale(self) -> float:
        """Unit for comparisons of losses."""
        half = list(self.losses[: len(self.losses) // 2 + 1])
        middle = median(half)
        swing = median([abs(x - middle) for x in half])
        known = 0.0 if self.naive is None and math.isnan(swing) else swing
        return max(abs(self.reference), known if self.naive is None else 0.0, TINY)

    @property
    def noise(self) -> float:
        """Typical jump between neighboring medians, in units of ``scale``."""
        luck = (
            self.untrained_losses
            if len(self.untrained_losses) >= len(self.losses)
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
    def exploded(self) -> bool:
        """Not finite, or far above both its start and the naive loss."""
        if not math.isfinite(self.end):
            return True
        rise = self.end - max(self.start, self.reference)
        return rise > max(1.0 * self.scale, 6 * self.noise * self.scale)

    @property
    def flat(self) -> bool:
        """Finite, and hardly lower than at the start."""
        return not self.exploded and self.fall < max(0.04, min(0.5, 2 * self.noise))

    @property
    def erratic(self) -> bool:
        """The second half jumps far above the untrained model, again and again."""
        if self.naive is None:
            return False
        limit = SPIKE * max(self.start, self.naive)
        return sum(x > limit for x in self.losses[len(self.losses) // 2 :]) >= 3

    @property
    def learns(self) -> bool:
        """Learning: the loss fell, and a constant output would do worse."""
        if (
            not self.exploded
            and self.naive is not None
            and self.start < 0.8 * self.naive
        ):
            rise = self.end - self.start
            return self.end < 0.9 * self.naive and rise < 0.25 * self.naive
        if self.exploded or self.flat or self.erratic:
            return False
        if self.naive is None:
            return True
        if self.fall > 0.85 and self.score < 6:
            return True
        return self.score < 0.97 or self.relapsed

    @property
    def relapsed(self) -> bool:
        """Beat the constant output on the way, and lost that again."""
        if self.naive is None or self.exploded or not 0.97 <= self.score < 1.3:
            return False
        return self.best < 0.85 * self.naive


def central(values: list[float]) -> float:
    """Mean of the finite values without the lowest and the highest fifth."""
    finite = sorted(value for value in values if math.isfinite(value))
    cut = len(finite) // 5
    kept = finite[cut : len(finite) - cut]
    return sum(kept) / len(kept) if kept else math.nan


def _slope(xs: list[float], ys: list[float]) -> float:
    """Least squares slope of y over x, between 0 and 1."""
    x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - x_mean) ** 2 for x in xs)
    if len(xs) < 2 or spread == 0:
        return 0.0
    joint = sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True))
    return min(1.0, max(0.0, joint / spread))


def median(values: list[float]) -> float:
    """Median of the finite values; NaN if there are none."""
    finite = [value for value in values if math.isfinite(value)]
    return statistics.median(finite) if finite else math.nan

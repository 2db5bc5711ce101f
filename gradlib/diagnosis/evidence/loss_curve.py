"""Read a loss curve: did it fall, stall or blow up?"""

import math
import statistics
from dataclasses import dataclass
from itertools import pairwise

# Smallest unit of a loss: below it, a difference of losses is rounding.
TINY = 1e-12
# Parts of a run, as divisors of its length: long enough to average over batches, short
# enough that the level does not change inside.
START_PART = 12
END_PART = 5
BEST_PART = 8
# One in so many of the lowest and of the highest losses is left out of a level.
TRIMMED_PART = 5
# Rise above start and naive loss, in units of the scale: a stalled run stays below
# 0.3, one that explodes goes beyond 3.
EXPLODED_RISE = 1.0
# The same in units of the noise: loud batches alone jump two or three times as far.
EXPLODED_NOISE = 6.0
# Fall in units of the start: stalled runs stay below 0.02, learning begins at 0.1.
SMALLEST_FALL = 0.04
# The same in units of the noise, and the fall that is believed whatever the noise.
FALL_IN_NOISE = 2.0
SURE_FALL = 0.5
# Fall from the second quarter to the second half of a run that still learns, in units
# of the scale: those that have stalled stay below 0.01. The same in units of the noise.
STILL_FALLS = 0.02
STILL_FALLS_IN_NOISE = 1.2
# Fall over all quarters, each lower than the one before, in units of the noise.
STEADY_FALL = 6.0
# Fall in the last quarter over the mean fall in one: where a constant was found it is
# 0.1 and less, where learning goes on 0.6 and more.
LAST_FALL = 0.3
# A run without a naive loss that gives back this share of its fall has lost it again.
GIVEN_BACK = 0.6
# A loss so many times its start is a spike, and so many of them in the second half are
# no accident: outliers in the data spike once or twice. The third highest loss of the
# healthy is at most 1.7 times the start, that of the erratic 3.6 to 200.
SPIKE = 2.5
SPIKES = 3
# A loss in the second half over that of the untrained model on the same batch: outliers
# in the data are loud for both, the healthy reach 5.5. What leaves its range for a
# moment has 170 and more.
OUT_OF_HAND = 30.0
# A start below this share of the naive loss is that of a model trained before; it is
# well if it stays below the second share, and rises by less than the third.
PRETRAINED_START = 0.8
PRETRAINED_END = 0.9
PRETRAINED_RISE = 0.25
# A fall to a seventh of the start that goes on counts although a constant would be as
# good still: large outputs shrink first. Where inputs out of scale make it fall, it
# stands at twice that.
DEEP_FALL = 0.85
DEEP_FALL_SCORE = 1.2
# Share of the naive loss below which a constant output is beaten: a constant that is
# still being found ends at 1.00 to 1.05.
BEATEN = 0.97
# The same for a run that falls no more: the healthy end below 0.76, or still fall. One
# whose gradient vanishes finds 0.94 by luck of the draw.
CLEARLY_BEATEN = 0.9
# A run that once got below the first share of the naive loss, and ends below the
# second, lost again what it had learned.
ONCE_BEATEN = 0.85
LOST_AGAIN = 1.3


@dataclass(frozen=True)
class LossCurve:
    """A loss curve, reduced to the numbers that decisions need.

    Args:
        losses: Loss of every update.
        naive: Loss of the best constant output, or None if unknown.
        finite: The parameters were finite at the end.
        untrained_losses: Losses of the untrained model on the same batches.
        recorded: The losses were recorded, maybe every so many steps, so the first
            one is the start.
    """

    losses: tuple[float, ...]
    naive: float | None = None
    finite: bool = True
    untrained_losses: tuple[float, ...] = ()
    recorded: bool = False

    @property
    def start(self) -> float:
        """Loss of the untrained model, or of the first updates."""
        if self.recorded and self.losses and math.isfinite(self.losses[0]):
            return self.losses[0]
        if len(self.untrained_losses) >= len(self.losses) and math.isfinite(
            median(list(self.untrained_losses))
        ):
            return median(list(self.untrained_losses))
        return self._level(0, max(2, len(self.losses) // START_PART))

    @property
    def end(self) -> float:
        """Loss of the last updates; infinite if it is not a number any more."""
        if not self.finite or not self.losses or not math.isfinite(self.losses[-1]):
            return math.inf
        return self._level(
            len(self.losses) - max(4, len(self.losses) // END_PART), None
        )

    @property
    def best(self) -> float:
        """Lowest level over an eighth of the run."""
        width = max(3, len(self.losses) // BEST_PART)
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
        level = central([x - share * (u - typical) for x, u in pairs])
        return max(level, min(filter(math.isfinite, self.losses), default=level))

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
        width = max(4, len(self.losses) // END_PART)
        return median(jumps) / math.sqrt(width) / self.scale

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
    def still_falls(self) -> bool:
        """The second half lies below the second quarter, and does not rise again."""
        if self.exploded or len(self.losses) < 4:
            return False
        first, second, third, last = self._quarters
        fall = second - (third + last) / 2
        falls_on = last < third < second < first
        if falls_on and first - last > STEADY_FALL * self.noise * self.scale:
            return True
        if self.flat:
            return False
        steady = last - third <= self.noise * self.scale
        return steady and fall > self.scale * max(
            STILL_FALLS, STILL_FALLS_IN_NOISE * self.noise
        )

    @property
    def falls_to_the_end(self) -> bool:
        """Still falls, and in the last quarter about as fast as before."""
        if not self.still_falls:
            return False
        first, *_, last = self._quarters
        return self._late_fall > LAST_FALL * (first - last) / 3

    @property
    def _late_fall(self) -> float:
        """Fall from the third quarter to the last."""
        *_, third, last = self._quarters
        return third - last

    @property
    def _quarters(self) -> tuple[float, float, float, float]:
        part = len(self.losses) // 4
        first, second, third = (self._level(i * part, (i + 1) * part) for i in range(3))
        return first, second, third, self._level(3 * part, None)

    @property
    def rose_again(self) -> bool:
        """Fell, and lost most of that again, where no constant output is known.

        What may be negative, such as a critic's loss, need not fall.
        """
        if self.naive is not None or self.flat or self.exploded or self.best < 0:
            return False
        gained = max(self.start - self.best, TINY)
        return self.end - self.best > max(
            GIVEN_BACK * gained, EXPLODED_NOISE * self.noise * self.scale
        )

    @property
    def exploded(self) -> bool:
        """Not finite, or far above both its start and the naive loss."""
        if not math.isfinite(self.end):
            return True
        rise = self.end - max(self.start, self.reference)
        return rise > max(EXPLODED_RISE, EXPLODED_NOISE * self.noise) * self.scale

    @property
    def flat(self) -> bool:
        """Finite, and hardly lower than at the start."""
        return not self.exploded and self.fall < max(
            SMALLEST_FALL, min(SURE_FALL, FALL_IN_NOISE * self.noise)
        )

    @property
    def erratic(self) -> bool:
        """The second half jumps far above the untrained model, again and again."""
        if self.naive is None:
            return False
        limit = SPIKE * max(self.start, self.naive)
        return sum(x > limit for x in self.losses[len(self.losses) // 2 :]) >= SPIKES

    @property
    def out_of_hand(self) -> int | None:
        """The worst update of the second half, if far worse than without training."""
        half = len(self.losses) // 2
        if not half or len(self.untrained_losses) < len(self.losses):
            return None
        usual = max(abs(self.start), TINY)
        pairs = zip(self.losses, self.untrained_losses, strict=False)
        shares = [
            loss / max(abs(before), usual) if math.isfinite(loss + before) else 0.0
            for loss, before in pairs
        ]
        worst = max(range(half, len(self.losses)), key=lambda step: shares[step])
        return worst if shares[worst] > OUT_OF_HAND else None

    @property
    def learns(self) -> bool:
        """Learning: the loss fell, and a constant output would do clearly worse."""
        if (
            not self.exploded
            and self.naive is not None
            and self.start < PRETRAINED_START * self.naive
        ):
            rise = self.end - self.start
            below = self.end < PRETRAINED_END * self.naive
            return below and rise < PRETRAINED_RISE * self.naive
        if self.exploded or self.flat or self.erratic:
            return False
        if self.naive is None:
            return True
        deep = self.fall > DEEP_FALL and self.score < DEEP_FALL_SCORE
        if deep and self.still_falls and self._late_fall > STILL_FALLS * self.scale:
            return True
        limit = BEATEN if self.still_falls else CLEARLY_BEATEN
        return self.score < limit or self.relapsed

    @property
    def relapsed(self) -> bool:
        """Beat the constant output on the way, and lost that again."""
        if self.naive is None or self.exploded or not BEATEN <= self.score < LOST_AGAIN:
            return False
        return self.best < ONCE_BEATEN * self.naive


def central(values: list[float]) -> float:
    """Mean of the finite values without the lowest and the highest fifth."""
    finite = sorted(value for value in values if math.isfinite(value))
    cut = len(finite) // TRIMMED_PART
    kept = finite[cut : len(finite) - cut]
    return sum(kept) / len(kept) if kept else math.nan


def _slope(xs: list[float], ys: list[float]) -> float:
    """Least squares slope of y over x, between 0 and 1."""
    if len(xs) < 2:
        return 0.0
    x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - x_mean) ** 2 for x in xs)
    if spread == 0:
        return 0.0
    joint = sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True))
    return min(1.0, max(0.0, joint / spread))


def median(values: list[float]) -> float:
    """Median of the finite values; NaN if there are none."""
    finite = [value for value in values if math.isfinite(value)]
    return statistics.median(finite) if finite else math.nan

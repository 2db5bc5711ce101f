"""Rules on a loss that rises: explosions, slow rises, jumps where a run goes on."""

import math
from bisect import bisect_right
from statistics import median

from gradlib.diagnosis.evidence.training_log import Curve, TrainingLog
from gradlib.diagnosis.rules.log.nonfinite import CLIMB
from gradlib.diagnosis.rules.log.sign import BROKEN, TENTH, TINY, UNCLEAR, Sign
from gradlib.logs.names import is_validation

EXTREME_LOSS = 1e9
"""Mean losses of regressions on raw units reach 1e7; beyond 1e9 nothing is learned."""

EXTREME_RATIO = 1e6
"""Largest loss over the loss at the start: 1e3 is a bad batch, 1e6 is divergence."""

EXTREME_NORM = 1e9
"""Gradient norm: sums over a batch give 1e5, float16 ends at 6.5e4 an element."""

RISE = 4.0
"""Loss at the end over its start: bad luck of batches stays below 3."""

SURGE = 10.0
"""A record over the median of those before it, which begins an explosion."""

PERPLEXITY_RISE = 4.0
"""Perplexity at the end over its best: the noise of batches moves it by 2."""

SLOW_RISE = 1.25
"""Loss at the end over its best level, on training data: schedules with restarts make
it 1.1."""

DOUBLED = 2.0
"""The same for a run that has lost what it learned; data that gets harder makes 1.5."""

LOST = 0.25
"""Part of what the loss had fallen that a rise must undo; near 0, a loss doubles
without losing anything."""

RISING = 8
"""Records from which a rise is told from the noise of a few batches."""

AFTER = 3
"""Records after the lowest one, all far above it, that are a rise for good however few
records there are; two are bad batches."""

NOISE = 4.0
"""Usual differences of neighbours that a rise must exceed."""

RESUMED_JUMP = 3.0
"""Loss over the record before it when a run goes on without its state."""

MID_RUN = 1000
"""First step of a log from which it shows no beginning, but a run that goes on."""

MID_RUN_PART = 0.01
"""Part of that first step within which a jump is told to the resume: a later one has
other reasons."""


def explosion(log: TrainingLog) -> Sign | None:
    """The loss or the norm is many times what it was."""
    loss = log.loss
    for norm in log.norms:
        if norm.largest > EXTREME_NORM:
            step = first_above(norm, EXTREME_NORM)
            return _exploded(log, norm, step, f"reaches {norm.largest:.3g}")
    if loss is None or not loss.finite.values:
        return None
    start = abs(loss.start)
    extreme = loss.largest > EXTREME_LOSS and not log.is_reinforcement
    if extreme or loss.largest > EXTREME_RATIO * start > 0:
        limit = min(EXTREME_LOSS, EXTREME_RATIO * max(start, TINY))
        step = min(_surge(loss) or loss.steps[-1], first_above(loss, limit))
        return _exploded(log, loss, step, f"reaches {loss.largest:.3g}")
    if log.is_reinforcement or log.is_adversarial or log.improves:
        return None
    if not loss.start > 0:
        return None
    first, *later = loss.finite.values
    if len(later) >= AFTER and min(later) > RISE * first > 0:
        return _exploded(
            log, loss, loss.finite.steps[1], f"starts at {first:.4g} and never returns"
        )
    rise = loss.end / loss.start
    if rise > RISE and loss.end - loss.start > NOISE * loss.jump * _few(loss):
        step = _surge(loss) or first_above(loss, CLIMB * loss.start)
        return _exploded(
            log, loss, step, f"goes from {loss.start:.4g} to {loss.end:.4g} (medians)"
        )
    return None


def _few(curve: Curve) -> float:
    """Neighbours say nothing about noise where there are hardly any."""
    return 1.0 if len(curve.finite) >= 8 else 0.0


def first_above(curve: Curve, limit: float) -> int:
    pairs = zip(curve.steps, curve.values, strict=True)
    return next((s for s, v in pairs if abs(v) > limit), curve.steps[-1])


def _surge(curve: Curve) -> int | None:
    """First record that is far above the median of up to 100 before it."""
    values = curve.values
    for place in range(1, len(values)):
        value = values[place]
        if math.isfinite(value) and value > CLIMB * curve.start:
            before = [
                v for v in values[max(0, place - 100) : place] if math.isfinite(v)
            ]
            if before and value > SURGE * max(abs(median(before)), TINY):
                return curve.steps[place]
    return None


def _exploded(log: TrainingLog, curve: Curve, step: int, told: str) -> Sign:
    rate = _rate_at(log, step)
    known = "" if rate is None else f", at a learning rate of {rate:.3g}"
    return Sign(
        BROKEN,
        f"{curve.name} {told}; {log.at(step)} is the first record of it{known}.",
        (("lr_too_high", 0.7), ("warmup_missing", 0.45), ("bad_data", 0.4)),
        step,
        curve.name,
        {"start": curve.start, "largest": curve.largest, "end": curve.end},
        TENTH,
    )


def _rate_at(log: TrainingLog, step: int) -> float | None:
    """The learning rate that was printed last, at a step."""
    if log.rate is None:
        return None
    place = bisect_right(log.rate.steps, step)
    return log.rate.values[place - 1] if place else None


def perplexity_rise(log: TrainingLog) -> Sign | None:
    """The perplexity was low once, and is several times that at the end."""
    curve = log.curves.get("perplexity")
    if curve is None or len(curve) < 2 * 3 or not curve.is_finite:
        return None
    if not curve.end > PERPLEXITY_RISE * curve.best:
        return None
    return Sign(
        BROKEN,
        f"The perplexity falls to {curve.best:.4g} and is {curve.end:.4g} at the end, "
        f"after {curve.start:.4g} at the start of this log.",
        (("lr_too_high", 0.6), ("bad_data", 0.3)),
        curve.steps[0],
        "perplexity",
        {"best": curve.best, "end": curve.end},
        TENTH,
    )


def slow_rise(log: TrainingLog) -> Sign | None:
    """The loss on training data rises for good, more than its noise."""
    loss = log.loss
    if loss is None or log.is_reinforcement or log.is_adversarial or log.improves:
        return None
    if loss.name in log.log.running or not loss.best > 0:
        return None
    rise, after = loss.end / loss.best, _after_lowest(loss)
    for_good = len(after) >= AFTER and min(after.values) > DOUBLED * loss.best
    in_noise = len(loss.finite) < RISING or loss.end - loss.best < NOISE * loss.jump
    if rise <= SLOW_RISE or (in_noise and not for_good):
        return None
    told = (
        f"{loss.name} is {loss.end:.4g} at the end, {rise:.3g} times its best level "
        f"{loss.best:.4g} (medians of three records)."
    )
    lost = loss.end - loss.best > LOST * (loss.start - loss.best)
    if rise < DOUBLED or not lost or is_validation(loss.name):
        return Sign(UNCLEAR, told, step=loss.steps[-1], test=TENTH)
    limit = max(DOUBLED * loss.best, 0.0 if for_good else loss.best + NOISE * loss.jump)
    return Sign(
        BROKEN,
        told,
        (("lr_too_high", 0.6), ("bad_data", 0.35), ("warmup_missing", 0.3)),
        first_above(after if for_good else loss.after_best, limit),
        loss.name,
        {"best": loss.best, "end": loss.end},
        TENTH,
    )


def _after_lowest(curve: Curve) -> Curve:
    """The finite records after the lowest one."""
    finite = curve.finite
    lowest = min(finite.values)
    place = max(k for k, value in enumerate(finite.values) if value == lowest)
    return Curve(curve.name, finite.steps[place + 1 :], finite.values[place + 1 :])


def resume_jump(log: TrainingLog) -> Sign | None:
    """The loss jumps between neighbours where a run goes on, and stays there."""
    loss = log.loss
    if loss is None or log.is_reinforcement or len(loss) < 2:
        return None
    resumed = [event.step for event in log.events("resumed", "restarted")]
    values = loss.values
    places = {bisect_right(loss.steps, step - 1) for step in resumed}
    if loss.steps[0] >= MID_RUN and log.log.unit == "step":
        near = bisect_right(loss.steps, loss.steps[0] * (1 + MID_RUN_PART))
        places |= set(range(1, min(near, 4)))
    for place in sorted(places):
        if not 0 < place < len(values) or not values[place - 1] > 0:
            continue
        after = [v for v in values[place : place + 5] if math.isfinite(v)]
        if after and min(after) > RESUMED_JUMP * values[place - 1]:
            step = loss.steps[place]
            return Sign(
                BROKEN,
                f"Between {log.at(loss.steps[place - 1])} and {log.at(step)} the loss "
                f"jumps from {values[place - 1]:.4g} to {values[place]:.4g} and stays: "
                "a run that goes on from a checkpoint has lost a part of its state.",
                (("resume_state_lost", 0.72), ("lr_too_high", 0.5), ("bad_data", 0.3)),
                step,
                "loss",
                {"before": values[place - 1], "after": values[place]},
                "Evaluate the checkpoint on the batches before it: the same loss as "
                "before means that the optimizer, the scaler or the schedule was not "
                "restored.",
            )
    return None

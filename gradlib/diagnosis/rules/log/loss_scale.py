"""Rules on the loss scale of half precision: it searches its level, or collapses."""

import math
from bisect import bisect_left
from statistics import median

from gradlib.diagnosis.evidence.training_log import TrainingLog
from gradlib.diagnosis.rules.log.nonfinite import CLIMB
from gradlib.diagnosis.rules.log.rise import RESUMED_JUMP
from gradlib.diagnosis.rules.log.sign import (
    BROKEN,
    FLOAT32,
    NORMAL,
    TINY,
    UNCLEAR,
    Sign,
)

SCALE_START = 2.0**15 * 0.9
"""Loss scale from which a scaler starts to search: 2^16 in PyTorch, 2^32 in DeepSpeed.
(Logs round; 0.9 lets 2^15 in.)"""

SCALE_LOW = 256.0
"""Loss scale from which falling on is a collapse: gradients of a sound network fit
below 65504 times 1/256."""

SCALE_LEVEL = 1024.0
"""Loss scale above which a search that goes on has room left."""

HALVINGS = 3
"""Scales in a row, each half of the one before, that are a collapse in mid-run."""

SKIPPED = 0.2
"""Share of skipped updates; a scaler that holds its level skips 0.001."""


def scale_collapse(log: TrainingLog) -> Sign | None:
    """The loss scale falls below 1, or halves again and again in mid-run."""
    scales = log.scales
    low = next((step for step, value in scales if value < 1), None)
    start, run = _halvings(scales)
    falling = len(run) >= HALVINGS and run[0][1] <= SCALE_LOW
    if low is None and not falling:
        return _skipping(log)
    if low is not None:
        step = low
        least = min(value for _, value in scales)
        told = f"The loss scale falls below 1 at {log.at(step)}, to {least:.3g}"
    else:
        step = run[1][0] if len(run) > 1 else start
        least = run[-1][1]
        told = (
            f"From {log.at(step)} on the loss scale halves {len(run) - 1} times in a "
            f"row, from {run[0][1]:g} to {least:g}"
        )
    rose = _rose_before(log, step)
    causes = (
        (("lr_too_high", 0.6), ("fp16_overflow", 0.55))
        if rose
        else (("fp16_overflow", 0.7), ("lr_too_high", 0.45), ("bad_data", 0.35))
    )
    return Sign(
        BROKEN,
        told + ": at no scale are the gradients finite, so updates are skipped.",
        causes,
        step,
        "loss_scale",
        {"lowest scale": least, "overflows": len(log.events("overflow"))},
        FLOAT32.format(where=log.at(step)),
    )


def _skipping(log: TrainingLog) -> Sign | None:
    curve = log.curves.get("skipped")
    if curve is None or len(curve) < 2:
        return None
    steps = curve.steps[-1] - curve.steps[-2]
    share = (curve.values[-1] - curve.values[-2]) / max(1, steps)
    if not share > SKIPPED:
        return None
    return Sign(
        BROKEN,
        f"{share:.0%} of the last {steps} updates were skipped.",
        (("fp16_overflow", 0.7), ("bad_data", 0.35)),
        curve.steps[-2],
        "loss_scale",
        {"share of skipped updates": share},
        FLOAT32.format(where=log.at(curve.steps[-2])),
    )


def _halvings(scales: list[tuple[int, float]]) -> tuple[int, list[tuple[int, float]]]:
    """The longest fall of the scale without a rise between; its first step too."""
    longest: list[tuple[int, float]] = []
    run: list[tuple[int, float]] = []
    for step, value in scales:
        if run and value > 1.05 * run[-1][1]:
            run = []
        if not run or value < 0.75 * run[-1][1]:
            run.append((step, value))
        if len(run) > len(longest):
            longest = list(run)
    return (longest[0][0] if longest else 0), longest


def _rose_before(log: TrainingLog, step: int) -> bool:
    loss = log.loss
    if loss is None:
        return False
    values = [v for s, v in zip(loss.steps, loss.values, strict=True) if s < step]
    values = [v for v in values[-100:] if math.isfinite(v)]
    return len(values) > 3 and values[-1] > CLIMB * max(median(values), TINY)


def scaler_searching(log: TrainingLog) -> Sign | None:
    """The loss scale comes down from its start and finds its level."""
    scales = log.scales
    _, run = _halvings(scales)
    overflows = log.events("overflow")
    if not overflows or not scales:
        return None
    if (
        len(overflows) == 1
        and log.loss is not None
        and _goes_on(log, overflows[0].step)
    ):
        return Sign(
            NORMAL,
            f"One overflow at {log.at(overflows[0].step)}: the loss scaler tried a "
            "doubled scale and skipped one update; the records after it are finite.",
            step=overflows[0].step,
            assures=True,
        )
    top, least = run[0][1], min(value for _, value in scales)
    if top < SCALE_START and scale_collapse(log) is not None:
        return None
    if top >= SCALE_START and least >= SCALE_LEVEL:
        return Sign(
            NORMAL,
            f"{len(overflows)} overflows bring the loss scale from {top:g} to "
            f"{least:g}: a scaler starts too high on purpose and skips an update for "
            "each halving until the gradients fit.",
            step=overflows[0].step,
            assures=True,
        )
    return Sign(
        UNCLEAR,
        f"{len(overflows)} overflows bring the loss scale from {top:g} to {least:g}: "
        "a level not yet found, or the beginning of a collapse.",
        step=overflows[0].step,
        test="Look at the next 200 steps: a scale that stays is normal, one that falls "
        "below 1 is not.",
    )


def _goes_on(log: TrainingLog, step: int) -> bool:
    loss = log.loss
    place = bisect_left(loss.steps, step) if loss else 0
    return bool(loss and loss.values[place:] and loss.is_finite)


def overflow_and_rise(log: TrainingLog) -> Sign | None:
    """Overflows, and the loss afterwards is several times what it was before."""
    loss, overflows = log.loss, log.events("overflow")
    if loss is None or len(overflows) < 2 or not loss.is_finite:
        return None
    first = overflows[0].step
    place = max(1, bisect_left(loss.steps, first))
    before, after = loss.values[max(0, place - 3) : place], loss.values[place:]
    if not before or not after or not min(before) > 0:
        return None
    level = median(after[:3])
    if level < max(RESUMED_JUMP * before[-1], max(before)):
        return None
    return Sign(
        BROKEN,
        f"Around {len(overflows)} overflows from {log.at(first)} on the loss goes from "
        f"{before[-1]:.4g} to {level:.4g}.",
        (("lr_too_high", 0.5), ("fp16_overflow", 0.45), ("bad_data", 0.3)),
        first,
        "loss",
        {"loss before": before[-1], "loss after": level},
        FLOAT32.format(where=log.at(first)),
    )

"""Rules on numbers that are not finite: in the loss, its parts, the norm, or hidden."""

import math
from bisect import bisect_right
from statistics import median

from gradlib.diagnosis.evidence.training_log import Curve, TrainingLog
from gradlib.diagnosis.rules.log.sign import (
    BROKEN,
    FLOAT32,
    NORMAL,
    OTHER_BATCH,
    RATE_ZERO,
    TINY,
    UNCLEAR,
    Sign,
)

CLIMB = 3.0
"""Loss before a NaN over its median: batches differ by a factor of 2, a run that
diverges passes 3 on its way."""

NORM_CLIMB = 10.0
"""Gradient norm before a NaN over its median: norms scatter by a factor of 5."""

FIRST_STEPS = 5
"""Updates after which a NaN is one of the first steps: the rate of a warm-up is then
still near 0."""

RARE = 0.05
"""Share of records with a norm that is not finite, below which a loss scaler is at its
usual work: it tries a doubled scale every 2,000 steps and skips one update."""

CALM = 1.5
"""Loss after over loss before, up to which it did not rise but scatters."""

FOR_GOOD = 3
"""Records in a row up to the end without a finite norm, from which on it does not come
back: a loss scaler that searches skips one or two."""

LOWEST = 0.01
"""Lowest loss over the median, above which a loss of exactly 0 is not where the run was
heading."""

FLOAT32_FORMATS = {
    *("caffe", "columns", "darknet", "detectron2", "frcnn_session", "keras", "mmcv"),
    *("mxnet", "opennmt", "pytorch_imagenet", "ssd_pytorch", "tf_estimator", "tf_slim"),
}
"""Programs that compute in float32 unless told otherwise, or know nothing else."""


def first_nonfinite(log: TrainingLog) -> Sign | None:
    """A loss, or a part of one, is NaN or infinite and does not come back."""
    curves = [c for c in log.training_losses or _any_loss(log) if c.bad]
    if not curves:
        return None
    first = min(curves, key=lambda curve: curve.steps[curve.bad[0]])
    place = first.bad[0]
    step = first.steps[place]
    rest = len(first) - place
    others = sum(math.isfinite(value) for value in first.values[place:])
    if others > rest / 2 and math.isfinite(first.values[-1]):
        return Sign(
            UNCLEAR,
            f"{first.name} is {first.values[place]} at {log.at(step)} and finite "
            f"again in {others} of the {rest - 1} records after it: one bad batch or a "
            "skipped update does that.",
            step=step,
            layer=first.name,
            test=f"Look at the batch of {log.at(step)}: train on it alone, with the "
            "learning rate 0.",
        )
    norm = _first_bad_norm(log, step)
    what, value = first.name, first.values[place]
    if norm:
        what, value = norm.name, norm.values[norm.bad[0]]
        step = norm.steps[norm.bad[0]]
    lead, symptom = _lead_up(log, first, place)
    told = (
        f"{what} is the first number that is not finite, at {log.at(step)} "
        f"({value}). {symptom}"
    )
    return Sign(
        BROKEN,
        told,
        _causes_of_nan(log, lead),
        step,
        what,
        {
            "first bad step": log.log.shown(step),
            "last finite loss": _before(first, place),
            "records after it": rest - 1,
        },
        _test_of_nan(log, lead, step).format(where=log.at(step)),
    )


def _test_of_nan(log: TrainingLog, lead: str, step: int) -> str:
    if lead == "start" and log.log.shown(step) <= 1:
        return OTHER_BATCH
    return RATE_ZERO if lead in ("start", "climb") else FLOAT32


def _any_loss(log: TrainingLog) -> list[Curve]:
    return [log.loss] if log.loss else []


def _first_bad_norm(log: TrainingLog, step: int) -> Curve | None:
    """A norm that is bad for good before the loss is."""
    for norm in log.norms:
        if norm.bad and norm.steps[norm.bad[0]] < step:
            after = norm.values[norm.bad[0] :]
            if not any(map(math.isfinite, after)):
                return norm
    return None


def _before(curve: Curve, place: int) -> float:
    return curve.values[place - 1] if place else math.nan


def _lead_up(log: TrainingLog, curve: Curve, place: int) -> tuple[str, str]:
    """How the curve came to its first bad record: a word, and a sentence."""
    before = [v for v in curve.values[max(0, place - 100) : place] if math.isfinite(v)]
    step = curve.steps[place]
    if not before:
        return "start", "It is the first record."
    usual = median(before)
    peak = max(map(abs, before[-3:])) / max(abs(usual), TINY)
    if len(before) > 1 and peak > CLIMB:
        return "climb", (
            f"Before it the loss had risen to {peak:.3g} times its median {usual:.4g}."
        )
    if log.norm:
        until = bisect_right(log.norm.steps, step - 1)
        norms = [
            v for v in log.norm.values[max(0, until - 100) : until] if math.isfinite(v)
        ]
        usual_norm = median(norms) if norms else math.nan
        if len(norms) > 2 and max(norms[-3:]) > NORM_CLIMB * max(usual_norm, TINY):
            return "climb", (
                f"Before it the gradient norm had risen to {max(norms[-3:]):.3g}, "
                f"{max(norms[-3:]) / max(usual_norm, TINY):.3g} times its median."
            )
    if len(before) <= FIRST_STEPS and log.log.shown(step) <= FIRST_STEPS:
        return "early", (
            f"{len(before)} finite record(s) come before it, the last {before[-1]:.4g}."
        )
    return "quiet", (
        f"The {len(before)} record(s) before it were quiet: {before[-1]:.4g} just "
        f"before, median {usual:.4g}."
    )


def _causes_of_nan(log: TrainingLog, lead: str) -> tuple[tuple[str, float], ...]:
    half = 0.1 if log.log.half_precision else 0.0
    if log.log.format in FLOAT32_FORMATS and not half and lead != "start":
        return (
            ("lr_too_high", 0.7 if lead == "climb" else 0.5),
            ("bad_data", 0.45),
            ("loss_numerics", 0.4),
            ("fp16_overflow", 0.3),
        )
    if lead == "start":
        if log.log.format == "ultralytics":
            return (
                ("hardware_half_precision_bug", 0.55),
                ("bad_data", 0.45),
                ("fp16_overflow", 0.4),
            )
        return (
            ("bad_data", 0.5),
            ("loss_numerics", 0.45),
            ("fp16_overflow", 0.4 + half),
        )
    if lead == "climb":
        return (("lr_too_high", 0.7), ("warmup_missing", 0.4), ("fp16_overflow", 0.35))
    if lead == "early":
        return (
            ("lr_too_high", 0.5),
            ("fp16_overflow", 0.45 + half),
            ("bad_data", 0.4),
            ("loss_numerics", 0.35),
        )
    return (("fp16_overflow", 0.55 + half), ("bad_data", 0.45), ("loss_numerics", 0.4))


def _causes_of_zero(
    log: TrainingLog, loss: Curve, place: int
) -> tuple[tuple[str, float], ...]:
    """As of a NaN; the 0 itself is a mark of no type."""
    lead, _ = _lead_up(log, loss, place)
    if lead == "climb":
        return _causes_of_nan(log, lead)
    half = 0.1 if log.log.half_precision else 0.0
    return (
        ("fp16_overflow", 0.55 + half),
        ("bad_data", 0.45),
        ("labels_masked", 0.35),
        ("lr_too_high", 0.3),
    )


def hidden_nan(log: TrainingLog) -> Sign | None:
    """NaN that the program does not print: a loss of exactly 0, or none at all."""
    if log.is_reinforcement:
        return None
    missing = _missing_loss(log)
    if missing is not None:
        return Sign(
            BROKEN,
            f"From {log.at(missing)} on the line holds a gradient norm that is not "
            "finite and no loss: the program leaves a loss out that is NaN.",
            (("fp16_overflow", 0.5), ("bad_data", 0.45), ("lr_too_high", 0.35)),
            missing,
            "loss",
            {"first bad step": log.log.shown(missing)},
            FLOAT32.format(where=log.at(missing)),
        )
    loss = log.loss
    if loss is None or loss.name != "loss":
        return None
    zeros = [k for k, value in enumerate(loss.values) if value == 0.0]
    if not zeros or any(loss.values[zeros[0] :]):
        return None
    bad_norm = bool(log.norm and log.norm.bad)
    if zeros[0] == 0 and not bad_norm:
        return None
    if len(zeros) < 2 and not bad_norm:
        return None
    step = loss.steps[zeros[0]]
    if (
        bad_norm
        and log.norm
        and not any(map(math.isfinite, log.norm.values[log.norm.bad[0] :]))
    ):
        step = min(step, log.norm.steps[log.norm.bad[0]])
    before = loss.values[zeros[0] - 1] if zeros[0] else math.nan
    if not bad_norm and before < LOWEST * loss.values[0]:
        return None
    return Sign(
        BROKEN,
        f"The loss is exactly 0 from {log.at(loss.steps[zeros[0]])} on"
        + (f", after {before:.4g}" if math.isfinite(before) else "")
        + (", with a gradient norm that is not finite" if bad_norm else "")
        + ": the Hugging Face Trainer puts a finite number in place of NaN, 0 where "
        "nothing else is left.",
        _causes_of_zero(log, loss, zeros[0]),
        step,
        "loss",
        {"first bad step": log.log.shown(step), "records of exactly 0": len(zeros)},
        "Set logging_nan_inf_filter=False to see the NaN, and run these 50 steps in "
        "bfloat16 or float32: finite numbers mean half precision.",
    )


def zero_records(log: TrainingLog) -> Sign | None:
    """A loss of exactly 0 here and there, between losses that are far from it."""
    loss = log.loss
    if loss is None or loss.name != "loss" or log.is_reinforcement:
        return None
    zeros = [k for k, value in enumerate(loss.values) if value == 0.0]
    last = max((k for k, value in enumerate(loss.values) if value), default=-1)
    inside = [k for k in zeros if k < last]
    others = [abs(v) for v in loss.finite.values if v]
    if not inside or len(inside) > len(others) or min(others) < LOWEST * median(others):
        return None
    first = inside[0]
    return Sign(
        UNCLEAR,
        f"The loss is exactly 0 at {len(inside)} of {len(loss)} records, first at "
        f"{log.at(loss.steps[first])}, between losses of {min(others):.4g} to "
        f"{max(others):.4g}: a batch in which no label counts, or a NaN that the "
        "Hugging Face Trainer replaces by 0.",
        step=loss.steps[first],
        layer="loss",
        test="Count the labels of that batch that are not masked (-100), and set "
        "logging_nan_inf_filter=False to see a NaN.",
    )


def _missing_loss(log: TrainingLog) -> int | None:
    norm = log.norm
    if norm is None or not norm.bad or log.log.format not in ("megatron", "neox"):
        return None
    with_loss = set(log.loss.steps) if log.loss else set()
    absent = [norm.steps[k] for k in norm.bad if norm.steps[k] not in with_loss]
    return absent[0] if absent else None


def norm_not_finite(log: TrainingLog) -> Sign | None:
    """The norm is NaN or infinite where the loss is finite."""
    norm, loss = log.norm, log.loss
    if norm is None or not norm.bad or loss is None or not loss.finite.values:
        return None
    if loss.bad or not any(loss.values):
        return None
    first, last = norm.bad[0], norm.bad[-1]
    rose = loss.end > CALM * abs(loss.start)
    back = last < len(norm) - 1
    still = log.rate is not None and _stands_still(log.rate, norm.steps[first])
    few = len(norm.bad) <= max(1, RARE * len(norm))
    told = (
        f"The gradient norm is {norm.values[first]} at {len(norm.bad)} of {len(norm)} "
        f"records, first at {log.at(norm.steps[first])}; the loss stays finite"
    )
    if few and back and not rose:
        return Sign(
            NORMAL,
            told
            + (", and the learning rate stands still there" if still else "")
            + ": a loss scaler skipped that update, and the next ones are finite.",
            step=norm.steps[first],
            assures=True,
        )
    return Sign(
        UNCLEAR,
        told + (" and rises." if rose else ". It does not say whether updates go on."),
        step=norm.steps[first],
        layer=norm.name,
        test="Look at the loss and the loss scale of the next 100 steps: if the loss "
        "still falls only these updates are lost; if both stand still, run 50 steps in "
        "float32.",
    )


def norm_without_loss(log: TrainingLog) -> Sign | None:
    """No loss was logged, and from some record on no norm is finite."""
    norm = log.norm
    if log.loss or norm is None or not norm.bad:
        return None
    finite = norm.finite
    place = bisect_right(norm.steps, finite.steps[-1]) if len(finite) else 0
    rest = len(norm) - place
    if rest < FOR_GOOD:
        return None
    step, lead = norm.steps[place], "start"
    if before := finite.values[-100:]:
        usual = max(median(before), TINY)
        lead = "climb" if max(before[-3:]) > NORM_CLIMB * usual else "quiet"
    return Sign(
        BROKEN,
        f"{norm.name} is {norm.values[place]} at {log.at(step)}, and at none of the "
        f"{rest - 1} records after it finite. No loss was logged.",
        _causes_of_nan(log, lead),
        step,
        norm.name,
        {"first bad step": log.log.shown(step), "records after it": rest - 1},
        _test_of_nan(log, lead, step).format(where=log.at(step)),
    )


def _stands_still(rate: Curve, step: int) -> bool:
    place = bisect_right(rate.steps, step) - 1
    near = rate.values[max(0, place - 1) : place + 2]
    return len(set(near)) < len(near) and len(set(rate.values)) > 1


def average_not_finite(log: TrainingLog) -> Sign | None:
    """A running mean is infinite for good after one value, the medians are finite."""
    for name in log.log.running:
        curve = log.curves.get(name)
        median_curve = log.curves.get(name.removeprefix("average_"))
        if curve and curve.bad and median_curve and median_curve is not curve:
            if not median_curve.is_finite:
                continue
            return Sign(
                NORMAL,
                f"{name} is {curve.values[curve.bad[0]]} from "
                f"{log.at(curve.steps[curve.bad[0]])} on while {median_curve.name} "
                "stays finite: one bad value stays in a mean over the epoch, and the "
                "updates after it are sound.",
                step=curve.steps[curve.bad[0]],
                assures=True,
            )
    return None


def stopped(log: TrainingLog) -> Sign | None:
    """The program itself gave up on a number that is not finite."""
    events = log.events("stopped")
    if not events:
        return None
    step = events[0].step
    loss = log.loss
    place = bisect_right(loss.steps, step) if loss else 0
    lead = "quiet"
    if loss and place:
        steps, values = loss.steps[:place], loss.values[:place]
        steps.append(step)
        values.append(math.nan)
        lead, _ = _lead_up(log, Curve(loss.name, steps, values), place)
    return Sign(
        BROKEN,
        f"The program stopped at {log.at(step)} because a number was not finite.",
        _causes_of_nan(log, lead),
        step,
        "loss",
        {"line": events[0].line},
        FLOAT32.format(where=log.at(step)),
    )


def refused(log: TrainingLog) -> Sign | None:
    """The program reports losses that it does not accept, and goes on without them."""
    events = log.events("refused", "skipped")
    if not events or log.loss:
        return None
    return Sign(
        UNCLEAR,
        f"{len(events)} batches were left out; the log does not say of how many.",
        step=events[0].step,
        test="Count the batches that are left out against all batches: below 5 % they "
        "are odd samples (a target longer than its input), above it something breaks.",
    )

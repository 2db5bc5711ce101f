"""Rules that read a training log: each sees one pattern, or stays silent.

A log shows numbers and no model, so a rule gives every cause that fits the pattern,
the likeliest first, and the test that tells them apart. They are all in one file: they
share their thresholds, and a log that one of them explains must not alarm the others.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any

from gradlib.diagnosis.evidence.training_log import Curve, TrainingLog, log_of
from gradlib.logs.names import is_loss, is_validation

BROKEN, NORMAL, UNCLEAR = "broken", "normal", "unclear"

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

NOISE = 4.0
"""Usual differences of neighbours that a rise must exceed."""

NEAR = 0.002
"""Relative distance from log(k) within which a loss is at chance; a network that
learned only how often classes occur is 0.01 below."""

CHANCE_STEPS = 50
"""Steps after which a loss must have left log(k), where every network starts."""

CHANCE_EPOCHS = 5
"""The same in epochs."""

CLASSES = (
    2, 10, 20, 80, 100, 1000, 21841, 21843, 30522, 32000, 32768, 49152, 50257, 50265,
    50304, 50432, 51200, 65024, 65536, 100277, 128256, 151936, 152064, 250002, 256000,
)  # fmt: skip
"""Numbers of classes that benchmarks and vocabularies have."""

SAME_RECORDS = 4
"""Records with the same loss to the last digit; three happen by rounding."""

DIGITS = 4
"""Digits that a loss must have for a repetition to mean something."""

FLOAT32_FLOOR = 87.3365
LARGEST_LOG_PERPLEXITY = 100.0
CLAMPS = {
    FLOAT32_FLOOR: "-log(1.2e-38), the smallest number of float32",
    LARGEST_LOG_PERPLEXITY: "the logarithm of e^100, at which printed perplexities end",
    27.6310: "-log(1e-12)",
    23.0259: "-log(1e-10)",
    18.4207: "-log(1e-8)",
    16.1181: "-log(1e-7)",
    13.8155: "-log(1e-6)",
}
"""Losses at which a floor inside a logarithm holds them."""

CLAMP_DIGITS = 2e-5
"""Relative distance from such a level: logs print 5 to 6 digits of it."""

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

RESUMED_JUMP = 3.0
"""Loss over the record before it when a run goes on without its state."""

MID_RUN = 1000
"""First step of a log from which it shows no beginning, but a run that goes on."""

MID_RUN_PART = 0.01
"""Part of that first step within which a jump is told to the resume: a later one has
other reasons."""

SPIKE = 30.0
"""Gradient norm over its median; heavy tails of language models reach 10."""

FLOAT32_FORMATS = {
    *("caffe", "columns", "darknet", "detectron2", "frcnn_session", "keras", "mmcv"),
    *("mxnet", "opennmt", "pytorch_imagenet", "ssd_pytorch", "tf_estimator", "tf_slim"),
}
"""Programs that compute in float32 unless told otherwise, or know nothing else."""

TINY = 1e-12

RATE_ZERO = (
    "Run {where} again from the last checkpoint with the learning rate 0: NaN again "
    "means the data or the arithmetic, finite numbers mean the updates before it."
)
FLOAT32 = (
    "Run the 50 steps before {where} again from a checkpoint in float32 (or bfloat16): "
    "finite numbers mean half precision; NaN at the same batch means that batch."
)
TENTH = (
    "Run the same steps from the start with a tenth of the learning rate: if the loss "
    "falls, the rate was too high."
)


@dataclass(frozen=True)
class Sign:
    """What one rule saw in a log.

    Args:
        verdict: ``"broken"``, ``"normal"`` (odd, and as it should be) or
            ``"unclear"``.
        symptom: What was seen, in a sentence with numbers.
        causes: Causes that fit, with their confidence.
        step: First bad step, in the history.
        layer: Where: the column that was bad first.
        evidence: Name -> number.
        test: The one test that tells the causes apart.
        assures: Of a normal sign: that the run goes as it should, even where too few
            records are shown to see the loss fall.
    """

    verdict: str
    symptom: str
    causes: tuple[tuple[str, float], ...] = ()
    step: int | None = None
    layer: str = "global"
    evidence: dict[str, Any] = field(default_factory=dict)
    test: str = ""
    assures: bool = False


LogRule = Callable[[TrainingLog], Sign | None]


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
    what = norm.name if norm else first.name
    step = norm.steps[norm.bad[0]] if norm else step
    lead, symptom = _lead_up(log, first, place)
    told = (
        f"{what} is the first number that is not finite, at {log.at(step)} "
        f"({first.values[place]}). {symptom}"
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
        (RATE_ZERO if lead in ("start", "climb") else FLOAT32).format(
            where=log.at(step)
        ),
    )


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
    return Sign(
        BROKEN,
        f"The loss is exactly 0 from {log.at(loss.steps[zeros[0]])} on"
        + (f", after {before:.4g}" if math.isfinite(before) else "")
        + (", with a gradient norm that is not finite" if bad_norm else "")
        + ": the Hugging Face Trainer replaces NaN by 0 in the mean that it prints.",
        (
            ("fp16_overflow", 0.7),
            ("bad_data", 0.4),
            ("labels_masked", 0.35),
            ("lr_too_high", 0.3),
        ),
        step,
        "loss",
        {"first bad step": log.log.shown(step), "records of exactly 0": len(zeros)},
        "Set logging_nan_inf_filter=False to see the NaN, and run these 50 steps in "
        "bfloat16 or float32: finite numbers mean half precision.",
    )


def _missing_loss(log: TrainingLog) -> int | None:
    norm = log.norm
    if norm is None or not norm.bad or log.log.format not in ("megatron", "neox"):
        return None
    with_loss = set(log.loss.steps) if log.loss else set()
    absent = [norm.steps[k] for k in norm.bad if norm.steps[k] not in with_loss]
    return absent[0] if absent else None


def nothing_to_learn(log: TrainingLog) -> Sign | None:
    """Every loss is exactly 0 at every record, and so is the norm: no label counts."""
    losses, norm = log.training_losses, log.norm
    if log.is_reinforcement or not losses or any(any(c.values) for c in losses):
        return None
    count = len(losses[0])
    if count < (2 if norm else 3) or (norm and any(norm.values)):
        return None
    return Sign(
        BROKEN,
        f"The loss {'and the gradient norm are' if norm else 'is'} exactly 0 in all "
        f"{count} records.",
        (("labels_masked", 0.6), ("detached_graph", 0.4), ("bad_data", 0.3)),
        losses[0].steps[0],
        "data",
        {"records": count},
        "Count the labels of one batch that are not -100 (or are not masked): 0 means "
        "that nothing is left to learn from.",
    )


def constant_norm(log: TrainingLog) -> Sign | None:
    """A loss of exactly 0 with the same norm to the last digit at every record."""
    loss, norm = log.loss, log.norm
    if log.is_reinforcement or loss is None or norm is None or len(norm) < 2:
        return None
    value = norm.values[0]
    if any(loss.values) or not value or len(set(norm.values)) > 1:
        return None
    if not math.isfinite(value):
        return None
    return Sign(
        BROKEN,
        f"The loss is exactly 0 and the gradient norm {value:.8g} to the last digit in "
        f"all {len(norm)} records, whatever the batch: these are no gradients of data.",
        (
            ("fp16_overflow", 0.5),
            ("software_version_bug", 0.45),
            ("labels_masked", 0.4),
        ),
        norm.steps[0],
        norm.name,
        {"gradient norm": value, "records": len(norm)},
        "Run ten steps on one GPU without DeepSpeed in float32: another norm means "
        "half precision or a library, the same one means the labels.",
    )


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


def explosion(log: TrainingLog) -> Sign | None:
    """The loss or the norm is many times what it was."""
    loss = log.loss
    for norm in log.norms:
        if norm.largest > EXTREME_NORM:
            step = _first_above(norm, EXTREME_NORM)
            return _exploded(log, norm, step, f"reaches {norm.largest:.3g}")
    if loss is None or not loss.finite.values or log.is_reinforcement:
        return None
    start = abs(loss.start)
    if loss.largest > EXTREME_LOSS or loss.largest > EXTREME_RATIO * start > 0:
        limit = min(EXTREME_LOSS, EXTREME_RATIO * max(start, TINY))
        step = min(_surge(loss) or loss.steps[-1], _first_above(loss, limit))
        return _exploded(log, loss, step, f"reaches {loss.largest:.3g}")
    if log.is_adversarial or log.improves or not loss.start > 0:
        return None
    rise = loss.end / loss.start
    if rise > RISE and loss.end - loss.start > NOISE * loss.jump * _few(loss):
        step = _surge(loss) or _first_above(loss, CLIMB * loss.start)
        return _exploded(
            log, loss, step, f"goes from {loss.start:.4g} to {loss.end:.4g}"
        )
    return None


def _few(curve: Curve) -> float:
    """Neighbours say nothing about noise where there are hardly any."""
    return 1.0 if len(curve.finite) >= 8 else 0.0


def _first_above(curve: Curve, limit: float) -> int:
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
    if loss.name in log.log.running or len(loss.finite) < RISING or not loss.best > 0:
        return None
    rise = loss.end / loss.best
    if rise <= SLOW_RISE or loss.end - loss.best < NOISE * loss.jump:
        return None
    told = (
        f"{loss.name} is {loss.end:.4g} at the end, {rise:.3g} times its best level "
        f"{loss.best:.4g}."
    )
    lost = loss.end - loss.best > LOST * (loss.start - loss.best)
    if rise < DOUBLED or not lost or is_validation(loss.name):
        return Sign(UNCLEAR, told, step=loss.steps[-1], test=TENTH)
    limit = max(DOUBLED * loss.best, loss.best + NOISE * loss.jump)
    return Sign(
        BROKEN,
        told,
        (("lr_too_high", 0.6), ("bad_data", 0.35), ("warmup_missing", 0.3)),
        _first_above(loss.after_best, limit),
        loss.name,
        {"best": loss.best, "end": loss.end},
        TENTH,
    )


def at_chance(log: TrainingLog) -> Sign | None:
    """The loss stays at log(k), what guessing among k classes gives."""
    loss = log.loss
    if loss is None or len(loss.finite) < 3 or log.is_adversarial:
        return None
    values = loss.finite.values
    tail = values[-max(3, len(values) // 2) :]
    classes = [
        k
        for k in CLASSES
        if all(abs(v - math.log(k)) < NEAR * math.log(k) for v in tail)
    ]
    late = CHANCE_EPOCHS if log.log.unit == "epoch" else CHANCE_STEPS
    last = log.log.shown(loss.steps[-1])
    if not classes or last < late:
        return None
    level = median(tail)
    k = min(classes, key=lambda k: abs(level - math.log(k)))
    jitter = max(tail) > min(tail)
    begin = len(values) - len(tail)
    while begin and abs(values[begin - 1] - math.log(k)) < NEAR * math.log(k):
        begin -= 1
    return Sign(
        BROKEN,
        f"The loss stays at {level:.5g}, which is log({k}): guessing among {k} classes"
        + (
            ". It scatters, so updates are made and nothing is learned."
            if jitter
            else ", and it is the same to the last digit: nothing is updated."
        ),
        (
            (("lr_too_high", 0.5), ("dead_relu", 0.35), ("bad_data", 0.35))
            if jitter
            else (("detached_graph", 0.5), ("optimizer_misconfigured", 0.45))
        ),
        loss.finite.steps[begin],
        "loss",
        {"loss": level, f"log({k})": math.log(k), "records": len(tail)},
        "Train on one batch for 100 steps with a tenth of the learning rate: a loss "
        "that stays shows that no gradient reaches the parameters.",
    )


def clamped(log: TrainingLog) -> Sign | None:
    """The loss stands at the floor of a logarithm, and stays there."""
    for curve in _losses_and_perplexity(log):
        for level, meaning in CLAMPS.items():
            sure = level == FLOAT32_FLOOR or curve.name == "log perplexity"
            if (level == LARGEST_LOG_PERPLEXITY) != (curve.name == "log perplexity"):
                continue
            if not any(_is_at(value, level) for value in curve.values[-2:]):
                continue
            places = [k for k, v in enumerate(curve.values) if _is_at(v, level)]
            if len(places) < (1 if sure else 3):
                continue
            step = curve.steps[places[0]]
            return Sign(
                BROKEN,
                f"{curve.name} is {curve.values[places[0]]:.6g} at {log.at(step)}: "
                f"{meaning}. The right answer gets the probability 0.",
                (("lr_too_high", 0.72), ("bad_data", 0.4), ("loss_numerics", 0.4)),
                step,
                curve.name,
                {"records there": len(places)},
                TENTH,
            )
    return None


def _losses_and_perplexity(log: TrainingLog) -> list[Curve]:
    curves = [curve for name, curve in log.curves.items() if is_loss(name)]
    perplexity = log.curves.get("perplexity")
    return curves if perplexity is None else [*curves, log_of(perplexity)]


def _is_at(value: float, level: float) -> bool:
    return abs(value - level) < CLAMP_DIGITS * level


def no_update(log: TrainingLog) -> Sign | None:
    """The loss is the same to the last digit, so no parameter moved."""
    loss = log.loss
    if loss is None or log.is_reinforcement:
        return None
    if loss.name in log.log.running and log.log.unit != "epoch":
        return None
    values = loss.values
    last = values[-1]
    if not math.isfinite(last) or last == 0 or _digits(last) < DIGITS:
        return None
    count = 0
    for value in reversed(values):
        if value != last:
            break
        count += 1
    span = loss.steps[-1] - loss.steps[len(loss) - count]
    far = count >= 2 and span >= 100 and _digits(last) > DIGITS and count == len(loss)
    if count < SAME_RECORDS and not far:
        return None
    step = loss.steps[len(loss) - count]
    return Sign(
        BROKEN,
        f"The loss is {last:.8g} to the last digit in {count} records from "
        f"{log.at(step)} on: no update changes the model.",
        (
            ("detached_graph", 0.5),
            ("optimizer_misconfigured", 0.45),
            ("fp16_overflow", 0.3),
        ),
        step,
        "loss",
        {"records": count},
        "Print the norm of one parameter before and after an update, and its grad: "
        "None means a cut graph, 0 a frozen or masked model, no change a wrong "
        "optimizer.",
    )


def _digits(value: float) -> int:
    """Digits of a number as it was printed, at least."""
    return len(f"{value!r}".replace(".", "").replace("-", "").strip("0").split("e")[0])


def no_gradient(log: TrainingLog) -> Sign | None:
    """The gradient norm is exactly 0 while the loss is not."""
    norm, loss = log.norm, log.loss
    if norm is None or loss is None or log.is_reinforcement or len(norm) < 3:
        return None
    if any(norm.values[-3:]) or not any(loss.values[-3:]) or not norm.is_finite:
        return None
    zeros = next(k for k in range(len(norm)) if not any(norm.values[k:]))
    step = norm.steps[zeros]
    return Sign(
        BROKEN,
        f"The gradient norm is exactly 0 from {log.at(step)} on; the loss is "
        f"{loss.end:.4g}.",
        (("detached_graph", 0.6), ("labels_masked", 0.4), ("dead_relu", 0.35)),
        step,
        norm.name,
        {"records": len(norm) - zeros},
        "Count the parameters with requires_grad and the labels that are not masked.",
    )


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


def reward_without_gradient(log: TrainingLog) -> Sign | None:
    """Rewards differ, and still the gradient is exactly 0."""
    norm, spread = log.norm, log.curves.get("reward_std")
    if norm is None or spread is None or not norm.is_finite or any(norm.values):
        return None
    same = log.curves.get("frac_reward_zero_std")
    if spread.largest > 0 and not (same and min(same.values) >= 1):
        return Sign(
            BROKEN,
            f"The gradient norm is exactly 0 in all {len(norm)} record(s) although the "
            f"rewards differ (standard deviation {spread.largest:.3g}).",
            (("software_version_bug", 0.55), ("detached_graph", 0.5)),
            norm.steps[0],
            norm.name,
            {"reward_std": spread.largest, "records": len(norm)},
            "Run the script with the versions that its authors name, then with the "
            "latest ones: a norm above 0 means that a library loses the gradient.",
        )
    if len(norm) < 3:
        return None
    return Sign(
        BROKEN,
        f"All rewards of a group are the same in all {len(norm)} records, so every "
        "advantage is 0.",
        (("zero_advantage", 0.75),),
        norm.steps[0],
        "data",
        {"reward_std": spread.largest},
        "Print the rewards of one group of completions.",
    )


def reinforcement(log: TrainingLog) -> Sign | None:
    """In reinforcement learning the loss is no measure."""
    if not log.is_reinforcement:
        return None
    norm, loss = log.norm, log.loss
    moving = norm is not None and norm.is_finite and any(norm.values)
    explained = log.curves.get("explained_variance")
    fits = explained is not None and explained.end > 0.5
    if loss is not None and moving and loss.largest < 1e-3:
        return Sign(
            NORMAL,
            f"The loss is about 0 (at most {loss.largest:.1g}) while the gradient norm "
            f"is {norm.typical if norm else 0:.3g}: the advantages of a group sum to "
            "0, so this loss starts at 0 and its gradient does not.",
            assures=True,
        )
    return Sign(
        NORMAL,
        "This log has rewards: the loss of reinforcement learning need not fall, and "
        "is not judged here. Read the reward, the KL divergence and the norm.",
        assures=moving or fits,
    )


def norm_spike(log: TrainingLog) -> Sign | None:
    """One norm far above the others, and the next record is as before."""
    norm = log.norm
    if norm is None or len(norm.finite) < 6 or norm.largest > EXTREME_NORM:
        return None
    finite = norm.finite
    if not finite.largest > SPIKE * max(finite.typical, TINY):
        return None
    place = max(range(len(finite)), key=lambda k: finite.values[k])
    after = finite.values[place + 1 : place + 4]
    if not after or max(after) > SPIKE * finite.typical or place < 3:
        return None
    loss = log.loss
    if loss and loss.end > CALM * max(abs(loss.start), TINY):
        return None
    step = finite.steps[place]
    return Sign(
        NORMAL if len(finite) >= 50 else UNCLEAR,
        f"The gradient norm is {finite.largest:.4g} at {log.at(step)}, "
        f"{finite.largest / max(finite.typical, TINY):.3g} times its median, and "
        f"{after[0]:.4g} right after: one batch, harmless where gradients are clipped.",
        step=step,
        layer=norm.name,
        test=f"Look at the batch of {log.at(step)}, and clip at "
        f"{5 * finite.typical:.2g}.",
    )


def growing_sums(log: TrainingLog) -> Sign | None:
    """Losses grow while the scores get better: they are sums."""
    loss = log.loss
    if loss is None or not log.improves or not loss.end > CALM * abs(loss.start):
        return None
    return Sign(
        NORMAL,
        f"{loss.name} grows from {loss.start:.4g} to {loss.end:.4g} while the score "
        "rises: it is a sum over batches, not a mean.",
        assures=True,
    )


def negative_loss(log: TrainingLog) -> Sign | None:
    """The loss falls below 0, which some losses may."""
    loss = log.loss
    if loss is None or not loss.finite.values or log.is_reinforcement:
        return None
    below = next((k for k, v in enumerate(loss.values) if v < 0), None)
    if below is None:
        return None
    return Sign(
        UNCLEAR,
        f"{loss.name} is {loss.values[below]:.4g} at {log.at(loss.steps[below])}: "
        "normal for the likelihood of a density and for a loss with a negative term, "
        "impossible for cross entropy and squared errors.",
        step=loss.steps[below],
        test="Evaluate the loss on one batch with perfect outputs: its lowest value "
        "tells whether it may be negative.",
    )


def epoch_boundaries(log: TrainingLog) -> Sign | None:
    """Jumps of a running mean at the start of an epoch are resets."""
    running = [log.curves[n] for n in log.log.running if n in log.curves]
    epochs = log.curves.get("epoch")
    if not running or epochs is None or len(epochs) != len(running[0]):
        return None
    curve = running[0]
    turns = [k for k, (a, b) in enumerate(pairwise(epochs.values), 1) if b > a]
    jumps = [
        k for k in turns if abs(curve.values[k] - curve.values[k - 1]) > 4 * curve.jump
    ]
    if log.log.unit == "epoch" or not jumps:
        return None
    return Sign(
        NORMAL,
        f"{curve.name} jumps where an epoch begins ({len(jumps)} of {len(turns)} "
        "times): it is a mean over the epoch so far, which starts again there.",
    )


LOG_RULES: tuple[LogRule, ...] = (
    first_nonfinite,
    hidden_nan,
    nothing_to_learn,
    constant_norm,
    scale_collapse,
    scaler_searching,
    overflow_and_rise,
    norm_not_finite,
    average_not_finite,
    explosion,
    perplexity_rise,
    slow_rise,
    at_chance,
    clamped,
    no_update,
    no_gradient,
    resume_jump,
    stopped,
    refused,
    reward_without_gradient,
    reinforcement,
    norm_spike,
    growing_sums,
    negative_loss,
    epoch_boundaries,
)
"""All rules on logs, in the order in which their remarks are told."""

"""Rules on a loss that stands: at chance, at a clamp, or to the last digit."""

import math
from statistics import median

from gradlib.diagnosis.evidence.training_log import Curve, TrainingLog, log_of
from gradlib.diagnosis.rules.log.nonfinite import FIRST_STEPS
from gradlib.diagnosis.rules.log.rise import DOUBLED, slow_rise
from gradlib.diagnosis.rules.log.sign import BROKEN, TENTH, UNCLEAR, Sign
from gradlib.logs.names import is_loss

NEAR = 0.002
"""Relative distance from log(k) within which a loss is at chance; a network that
learned only how often classes occur is 0.01 below."""

CHANCE_STEPS = 50
"""Steps after which a loss must have left log(k), where every network starts."""

CHANCE_EPOCHS = 5
"""The same in epochs."""

CLASSES = (
    2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 80, 100, 1000, 21841, 21843, 30522, 32000,
    32768, 49152, 50257, 50265, 50304, 50432, 51200, 65024, 65536, 100277, 128256,
    151936, 152064, 250002, 256000,
)  # fmt: skip
"""Numbers of classes that benchmarks and vocabularies have."""

GONE = 1e-4
"""Loss over the first one that a few updates do not reach; the best first step of a
language model divides it by 2."""

FALLEN = 0.005
"""Fall of the loss over its start, below which nothing was learned."""

BY_CHANCE = 2.8
"""The same over the usual difference of neighbours, times the square root of the number
of records whose medians are compared: for a loss that only scatters the standard
deviation of it is 1.9 (normal noise)."""

FIRST_FALL = 4.0
"""Fall from the first loss over the usual difference of neighbours: a fast start, and
four standard deviations of a loss that only scatters."""

FIRST_EPOCHS = 0.1
"""Epochs before the first record of a log that shows the start of a run."""

FLAT_RECORDS = 5
"""Records from which a loss that stands is told from one that has not begun."""

REPEATED = 4
"""Records in a row that are those of the epoch before, to the last digit; two are so by
rounding."""

DISTINCT = 3
"""Losses of an epoch that repeats; a rate at the edge makes two that take turns."""

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

ONE_PARAMETER = (
    "Print the norm of one parameter before and after an update, and its grad: None "
    "means a cut graph, 0 a frozen or masked model, no change a wrong optimizer."
)


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


def gone_at_once(log: TrainingLog) -> Sign | None:
    """The loss falls to exactly 0 within the first updates, and stays there."""
    loss = log.loss
    if loss is None or log.is_reinforcement or not loss.is_finite:
        return None
    first = next((k for k, value in enumerate(loss.values) if value == 0.0), 0)
    if not 0 < first <= FIRST_STEPS or any(loss.values[first:]):
        return None
    if len(loss) - first < 2 or not loss.values[first - 1] < GONE * loss.values[0]:
        return None
    fallen = next(k for k, v in enumerate(loss.values) if v < GONE * loss.values[0])
    step = loss.steps[fallen]
    return Sign(
        BROKEN,
        f"The loss falls from {loss.values[0]:.4g} to {loss.values[fallen]:.2g} at "
        f"{log.at(step)} and to exactly 0 at {log.at(loss.steps[first])}: no data are "
        "learned that fast.",
        (("bad_data", 0.55), ("labels_masked", 0.5), ("fp16_overflow", 0.3)),
        step,
        "data",
        {"records of exactly 0": len(loss) - first},
        "Print one batch as the loss sees it: targets that are all the same, that "
        "stand in the input, or that are masked give this.",
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
        ONE_PARAMETER,
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


def repeated_epochs(log: TrainingLog) -> Sign | None:
    """Each epoch shows the numbers of the one before, so no parameter moved."""
    loss = log.loss
    if loss is None or log.is_reinforcement or log.events("resumed", "restarted"):
        return None
    values = loss.values
    last = values[-1]
    if not math.isfinite(last) or _digits(last) < DIGITS:
        return None
    before = (k for k in range(len(values) - 2, -1, -1) if values[k] == last)
    period = len(values) - 1 - next(before, len(values) - 1)
    if not period:
        return None
    start = len(values)
    while start > period and values[start - 1] == values[start - 1 - period]:
        start -= 1
    count = len(values) - start
    if count < max(period, REPEATED) or len(set(values[-period:])) < DISTINCT:
        return None
    step = loss.steps[start]
    return Sign(
        BROKEN,
        f"From {log.at(step)} on each of {count} losses is that of {period} records "
        "before, to the last digit: each epoch gives the same numbers, so no update "
        "changes the model.",
        (("optimizer_misconfigured", 0.5), ("detached_graph", 0.5)),
        step,
        "loss",
        {"records": count, "period": period},
        ONE_PARAMETER,
    )


def nothing_learned(log: TrainingLog) -> Sign | None:
    """From the first record to the last the loss has not fallen more than by chance."""
    loss = log.loss
    if loss is None or not loss.is_finite or len(loss) < FLAT_RECORDS:
        return None
    if 0.0 in loss.values:
        return None
    if log.is_reinforcement or log.is_adversarial or log.improves:
        return None
    if log.events("overflow", "skipped") or _warms_up(log) or slow_rise(log):
        return None
    third = max(2, len(loss) // 3)
    start, end = median(loss.values[:third]), median(loss.values[-third:])
    from_the_start = _shows_the_start(log, loss)
    chance = BY_CHANCE * loss.jump / math.sqrt(third) if from_the_start else 0.0
    if start - end > max(FALLEN * abs(start), chance):
        return None
    if from_the_start and loss.values[0] - end > FIRST_FALL * loss.jump > 0:
        return None
    rate = log.rate
    known = f", at a learning rate of at most {rate.largest:.3g}" if rate else ""
    told = (
        f"The median of {loss.name} is {start:.5g} in the first third of {len(loss)} "
        f"records and {end:.5g} in the last, and neighbours differ by "
        f"{loss.jump:.2g}{known}: "
    )
    if not from_the_start:
        return Sign(
            UNCLEAR,
            told + "it stands, and this part of the run does not show from where it "
            "came.",
            layer=loss.name,
            test="Read the log from its start: a loss that has fallen stands at its "
            "level, one that never fell learns nothing.",
        )
    return Sign(
        UNCLEAR,
        told + "nothing is learned so far.",
        layer=loss.name,
        test="Train on one batch for 100 steps: a loss that falls there needs more "
        "steps or a larger rate, one that stays shows that no gradient reaches the "
        "parameters.",
    )


def _warms_up(log: TrainingLog) -> bool:
    """The rate rises to the end of the log, so little is expected yet."""
    rate = log.rate
    return bool(rate and rate.values[-1] == rate.largest > DOUBLED * rate.values[0])


def _shows_the_start(log: TrainingLog, loss: Curve) -> bool:
    """The log begins where the run does, or does not say where it begins."""
    epochs = log.curves.get("epoch")
    if log.log.unit == "epoch":
        return log.log.shown(loss.steps[0]) <= 1
    if log.log.unit == "step":
        every = max(1, loss.steps[1] - loss.steps[0])
        return log.log.shown(loss.steps[0]) <= every
    return epochs is None or epochs.values[0] <= FIRST_EPOCHS

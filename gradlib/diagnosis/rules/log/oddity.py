"""Rules on what looks odd and may be as it should."""

import re
from itertools import pairwise

from gradlib.diagnosis.evidence.training_log import TrainingLog
from gradlib.diagnosis.rules.log.nonfinite import CALM
from gradlib.diagnosis.rules.log.rise import EXTREME_NORM
from gradlib.diagnosis.rules.log.sign import NORMAL, TINY, UNCLEAR, Sign

_DISCRIMINATOR = re.compile(r"\bd_?loss|loss_?d|disc")

SPIKE = 30.0
"""Gradient norm over its median; heavy tails of language models reach 10."""


WON = 0.5
"""Share of records in which a discriminator's loss is exactly 0; one that still learns
has a few."""


def discriminator_wins(log: TrainingLog) -> Sign | None:
    """The loss of a discriminator is exactly 0 most of the time."""
    if not log.is_adversarial:
        return None
    for name, curve in log.curves.items():
        zeros = [k for k, value in enumerate(curve.values) if value == 0.0]
        if not _DISCRIMINATOR.search(name) or len(curve) < FEWEST_AROUND:
            continue
        if len(zeros) >= WON * len(curve):
            return Sign(
                UNCLEAR,
                f"{name} is exactly 0 at {len(zeros)} of {len(curve)} records: a "
                "discriminator that is always right, which leaves the generator little "
                "to learn from.",
                step=curve.steps[zeros[0]],
                layer=name,
                test="Look at samples of the generator now and 1,000 steps later: if "
                "they get no better, weaken the discriminator (a smaller rate, a "
                "gradient penalty).",
            )
    return None


LOSS_SPIKE = 3.0
"""Loss over its median and over its neighbours; ordinary batches differ by 2."""

FEWEST_AROUND = 5
"""Records of which one can stand out."""

MANY = 30
"""Records around a spike that show that it did no harm."""


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
        NORMAL if len(finite) >= MANY else UNCLEAR,
        f"The gradient norm is {finite.largest:.4g} at {log.at(step)}, "
        f"{finite.largest / max(finite.typical, TINY):.3g} times its median, and "
        f"{after[0]:.4g} right after: one batch, harmless where gradients are clipped.",
        step=step,
        layer=norm.name,
        test=f"Look at the batch of {log.at(step)}, and clip at "
        f"{5 * finite.typical:.2g}.",
    )


def loss_spike(log: TrainingLog) -> Sign | None:
    """One loss far above the others, and the next record is as before."""
    loss = log.loss
    if loss is None or loss.bad or len(loss) < FEWEST_AROUND:
        return None
    if log.is_reinforcement or log.is_adversarial or loss.name in log.log.running:
        return None
    usual = loss.typical
    place = max(range(len(loss)), key=lambda k: loss.values[k])
    around = [*loss.values[max(0, place - 2) : place], *loss.values[place + 1 :][:2]]
    if place < 2 or len(around) < 3 or not usual > 0:
        return None
    if loss.values[place] < LOSS_SPIKE * max(*around, usual):
        return None
    step = loss.steps[place]
    return Sign(
        NORMAL if len(loss) >= MANY else UNCLEAR,
        f"{loss.name} is {loss.values[place]:.4g} at {log.at(step)}, "
        f"{loss.values[place] / usual:.3g} times its median, and "
        f"{loss.values[place + 1]:.4g} right after: one batch that is unlike the "
        "others, harmless where gradients are clipped.",
        step=step,
        layer=loss.name,
        test=f"Look at the batch of {log.at(step)}, and clip the gradient.",
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

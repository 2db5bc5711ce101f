"""Rules about a training that goes on: weights and states that were not taken along."""

import math

from gradlib.diagnosis.evidence.loss_curve import median
from gradlib.diagnosis.examination import Examination
from gradlib.diagnosis.report import Finding
from gradlib.diagnosis.treatments import (
    both,
    repeated,
    slower,
    warmed,
)

# A start below this share of the naive loss is that of a model trained before. The
# first updates with full moments raise it by 0.05 of the naive loss or less, without
# them by 0.3 and more.
TRAINED_BEFORE = 0.5
JUMPS = 0.25
# The same where it was trained far below the naive loss: the loss triples.
SMALL_JUMP = 0.1
TRIPLED = 2.0
FIRST_LOSSES = 20
# An optimizer that has counted so many steps and begins again at none has lost its
# state; the median of as many losses is so many times that before.
OLD_ENOUGH = 5
WORSE_WITHOUT_STATE = 1.5
# The first update moves the weights so many times as far as each of the next ones: the
# first steps of an optimizer differ by a factor of 3, with a warm-up they are smaller.
# What is written over them lies 30 and more away. The loss of the first batch rises to
# so many times what it was; where nothing is written over, it stays.
REPLACED = 10.0
FEWEST_JUMPS = 4
WORSE = 1.5


def replaced_weights(examination: Examination) -> Finding | None:
    """The first update puts other weights in place of those that were loaded.

    It does so at a learning rate of 0 too, where no step can have moved them.
    """
    jumps, curve = examination.base.jumps, examination.curve
    if len(jumps) < FEWEST_JUMPS or not math.isfinite(curve.end):
        return None
    rest = max(jumps[1:])
    if not 0 < REPLACED * rest < jumps[0]:
        return None
    still = examination.run_under("no learning", both(repeated, slower(math.inf)))
    # Only the second: an optimizer inside may go on at a rate of its own.
    first, after = (*still.losses, math.nan)[:2]
    if not after > WORSE * first > 0:
        return None
    return Finding(
        "resume_state_lost",
        "loop",
        f"The first update moves the weights by {jumps[0]:.2g} of their size, the next "
        f"ones by {rest:.2g} at most. At a learning rate of 0 the loss of the first "
        f"batch still goes from {first:.3g} to {after:.3g}: the update writes older "
        "weights over those that the model had, as from the float32 masters of an "
        "optimizer that was built before the "
        "checkpoint was loaded.",
        {"first move": jumps[0], "largest move after it": rest, "first loss": first},
        0.9,
        fix="Load the checkpoint before the optimizer (and its copies of the weights) "
        "is built, or copy the loaded weights into these too.",
    )


def lost_state(examination: Examination) -> Finding | None:
    """A model that was trained before jumps away; with a warm-up it does not.

    The optimizer starts without the moments that it had when training stopped.
    """
    curve, naive = examination.curve, examination.naive
    optimizer = examination.setup.optimizer
    adaptive = any("betas" in g for g in optimizer.param_groups)
    if naive is None or not adaptive or any(optimizer.state.values()):
        return None
    if not curve.start < TRAINED_BEFORE * naive:
        return None
    first = [x for x in curve.losses[:FIRST_LOSSES] if math.isfinite(x)]
    rise = max(first, default=curve.start) - curve.start
    least = min(JUMPS * naive, max(SMALL_JUMP * naive, TRIPLED * curve.start))
    if rise < least:
        return None
    name = "a warm-up of 20 steps"
    treated = examination.run_under(name, warmed(20))
    calm = max(treated.losses[:FIRST_LOSSES]) - curve.start
    if not calm < rise / 2:
        return None
    return Finding(
        "resume_state_lost",
        "global",
        f"The model was trained before (loss {curve.start:.3g}), and its optimizer "
        f"starts empty: the first updates raise the loss by {rise:.3g}, after a "
        f"warm-up by {max(calm, 0):.3g}.",
        {"rise": rise, "rise with a warm-up": max(calm, 0.0)},
        0.85,
        fix='optimizer.load_state_dict(checkpoint["optimizer"]); without it, warm '
        "the learning rate up.",
    )


def state_starts_anew(examination: Examination) -> Finding | None:
    """The optimizer counts its steps from 0 again, and the loss jumps there."""
    ages, losses = examination.base.ages, examination.base.losses
    anew = [
        k
        for k in range(OLD_ENOUGH, min(len(ages), len(losses)))
        if ages[k] == 0 and ages[k - 1] >= OLD_ENOUGH
    ]
    if not anew or len(ages) > len(losses):
        return None
    update = anew[0]
    before = median(losses[update - OLD_ENOUGH : update])
    after = median(losses[update + 1 : update + 1 + OLD_ENOUGH])
    if not after > before + (WORSE_WITHOUT_STATE - 1) * abs(before):
        return None
    return Finding(
        "resume_state_lost",
        "loop",
        f"At update {update} the optimizer, which had counted {ages[update - 1] + 1} "
        f"steps, begins with an empty state; the loss goes from {before:.3g} to "
        f"{after:.3g}.",
        {"update": update, "loss before": before, "loss after": after},
        0.9,
        fix='optimizer.load_state_dict(checkpoint["optimizer"]) where the training '
        "goes on; without it, warm the learning rate up again.",
    )

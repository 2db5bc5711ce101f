"""The verdict on a training: broken, healthy or unclear, with reasons in words."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from gradlib.diagnosis.evidence.loss_curve import LossCurve
from gradlib.diagnosis.examination import Examination
from gradlib.diagnosis.report import Finding
from gradlib.diagnosis.rules import data
from gradlib.diagnosis.training_setup import TrainingSetup

# Updates below which a falling loss may be luck.
FEWEST_UPDATES = 10
# Warnings of the run that are told.
MOST_WARNINGS = 3
# What no rule can see, and where to look for it.
BEYOND = (
    "A loss tells nothing of held-out data, of samples, of an averaged copy or of what "
    'a reward means. If one of these is wrong all the same: "It learns, but not what '
    'it should", in the field guide.'
)


@dataclass(frozen=True)
class Verdict:
    """What can be said of a training as a whole.

    Args:
        verdict: ``"broken"``, ``"healthy"`` or ``"unclear"``.
        reasons: Why, where no finding says it.
        remarks: What looks odd and is normal, and what was left out.
        next_test: What to try next.
    """

    verdict: str
    reasons: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    next_test: str = ""


def judge_lost_weights(setup: TrainingSetup) -> Verdict | None:
    """Weights that updates before this call have broken no longer tell why."""
    broken = [n for n, p in setup.model.named_parameters() if not p.isfinite().all()]
    if not broken or not setup.optimizer.state:
        return None
    reason = (
        f"{broken[0]} holds NaN or infinity, and the optimizer has made updates: what "
        "broke it lies before them."
    )
    test = (
        "Hand in a fresh model with a new optimizer, or the last good checkpoint, and "
        "diagnose again."
    )
    return Verdict("broken", (reason,), (), test)


def judge_training(examination: Examination, findings: list[Finding]) -> Verdict:
    """Broken where a rule spoke; healthy only for a reason; else unclear."""
    remarks = tuple(_remarks(examination))
    if findings:
        return Verdict("broken", (), remarks, _time_test(examination))
    curve, base = examination.curve, examination.base
    if base.failure:
        reason = f"The update raised, after {len(base.losses)} updates: {base.failure}"
        return Verdict("broken", (reason,), remarks, "Run the batch after those alone.")
    if examination.is_ill:
        return _ill(examination, curve, remarks)
    if examination.out_of_time and examination.worth_a_look:
        reason = "It learns little, and time ran out before the trials."
        return Verdict("unclear", (reason,), remarks, _time_test(examination))
    if len(base.losses) < FEWEST_UPDATES:
        return Verdict("unclear", (_few(examination),), remarks, _longer(examination))
    if curve.rose_again and not (examination.alternating or examination.says_nothing):
        reason = (
            f"The loss fell to {curve.best:.4g} and rose to {curve.end:.4g} again; no "
            "rule says why."
        )
        return Verdict("unclear", (reason,), remarks, _data_or_model(examination))
    worst = curve.out_of_hand
    if worst is not None and not examination.says_nothing:
        reason = (
            f"At update {worst} the loss is {curve.losses[worst]:.4g}, where the "
            f"untrained model has {curve.untrained_losses[worst]:.4g} on that batch: "
            "something leaves its range and comes back, by luck. No rule says what."
        )
        test = (
            "Run it again with another seed, and look at exp, pow and divisions of "
            "what the network puts out."
        )
        return Verdict("unclear", (reason,), remarks, test)
    return Verdict("healthy", tuple(_assurances(examination)), remarks, BEYOND)


def judge_luck(examination: Examination, name: str) -> Verdict:
    """Broken, though it learns in the order given: another order breaks it."""
    ends = examination.compared(name)
    usual, other = ends.values()
    reason = (
        f"In the order given the loss ends at {usual:.4g}; with the same batches "
        f"{name} it ends at {other:.4g}. What breaks that run can break this one at "
        "any step."
    )
    test = "Run it again with another seed, or with the batches shuffled."
    return Verdict("broken", (reason,), tuple(_remarks(examination)), test)


def _ill(
    examination: Examination, curve: LossCurve, remarks: tuple[str, ...]
) -> Verdict:
    end = f"The loss ends at {curve.end:.4g}"
    if curve.exploded:
        reason = f"{end}, far above its start of {curve.start:.4g}; no rule says why."
        return Verdict("broken", (reason,), remarks, _data_or_model(examination))
    if len(examination.base.losses) < FEWEST_UPDATES:
        return Verdict("unclear", (_few(examination),), remarks, _longer(examination))
    if _falls_enough(examination, curve):
        reason = f"The loss still falls: from {curve.start:.4g} to {curve.end:.4g}."
        slow = (
            f"It learns slowly: a constant output reaches {examination.naive:.4g}."
            if examination.naive is not None
            else "It learns slowly."
        )
        test = "Watch it longer, with max_steps= and more batches."
        return Verdict("healthy", (reason,), (slow, *remarks), test)
    if examination.naive is not None:
        reason = (
            f"{end}, and the best constant output reaches {examination.naive:.4g}: "
            "what enters the model makes little difference so far, and no rule says "
            "why."
        )
    else:
        reason = f"{end}, hardly below its start of {curve.start:.4g}."
    return Verdict("unclear", (reason,), remarks, _data_or_model(examination))


def _falls_enough(examination: Examination, curve: LossCurve) -> bool:
    """Still falls; where a constant answer is still better, by more than a little.

    Large outputs shrink first. A fall of a hundredth may be that of a bias alone.
    """
    if not curve.falls_to_the_end or examination.out_of_time:
        return False
    return examination.naive is None or curve.score < 1 or not curve.flat


def _data_or_model(examination: Examination) -> str:
    if examination.out_of_time:
        return _time_test(examination)
    return (
        "Diagnose one batch alone, batches=[batch] * 100. If its loss falls to zero, "
        "the model can learn: look at the pairs (x, y) and train longer. If not, look "
        "at the model and the loss."
    )


def _few(examination: Examination) -> str:
    count = len(examination.base.losses)
    return f"Only {count} update{'s' * (count != 1)} could be watched."


def _longer(examination: Examination) -> str:
    if examination.base.cut_short:
        return f"Give more time: seconds={10 * examination.seconds:g}."
    if examination.setup.scheduled < FEWEST_UPDATES:
        return "Diagnose with the schedule at its start: it has no steps left."
    return "Leave max_steps out, or give at least 30."


def _time_test(examination: Examination) -> str:
    if not examination.out_of_time:
        return ""
    return f"Give more time: seconds={10 * examination.seconds:g}."


def _assurances(examination: Examination) -> Iterator[str]:
    curve = examination.curve
    if examination.says_nothing:
        yield (
            "The value of the loss says nothing; its gradient is finite and not zero, "
            "and the weights move."
        )
    elif examination.alternating:
        yield "Several optimizers take turns; no loss has to fall, and all stay finite."
    elif examination.naive is not None:
        yield (
            f"The loss ends at {curve.end:.4g}, where the best constant output "
            f"reaches {examination.naive:.4g}."
        )
    else:
        yield f"The loss fell from {curve.start:.4g} to {curve.end:.4g}."
    moving = [n for n in examination.parameters if examination.base.moved[n] > 0]
    total = len(examination.parameters)
    yield f"{len(moving)} of {total} parameters that want a gradient move."


def _remarks(examination: Examination) -> Iterator[str]:
    curve, base, setup = examination.curve, examination.base, examination.setup
    if examination.says_nothing and not base.failure:
        yield (
            "The loss stays at zero, or swings around it, by construction, as the "
            "surrogate of a policy gradient does: watch the reward instead."
        )
    elif math.isfinite(curve.end) and curve.end < 0:
        yield (
            "The loss is negative, as the negative log-likelihood of a density or a "
            "critic's loss may be: only its direction counts."
        )
    broken = data.broken_batches(examination)
    if broken and not base.failure and math.isfinite(curve.end):
        yield (
            f"{len(broken)} batches hold NaN or infinite values, which do not enter "
            "the loss: a mask or torch.where keeps them out."
        )
    skipped = base.calls.lost if base.calls is not None else []
    if skipped and examination.scalers and len(skipped) < len(base.losses):
        yield (
            f"The scaler skipped {len(skipped)} of {len(base.losses)} updates while it "
            "looked for its scale."
        )
    late = [
        n
        for n, column in base.norms.items()
        if len(column) > 2 and column[0] == 0 and max(column[1:]) > 0
    ]
    if late:
        yield (
            f"{', '.join(late[:3])} had no gradient at the first step only, as behind "
            "a branch that starts at zero."
        )
    if setup.more:
        yield (
            f"There were more than {len(setup.batches)} batches; only the first "
            f"{len(setup.batches)} were used: give max_steps= to see more."
        )
    if setup.scheduled < math.inf and setup.steps >= setup.scheduled:
        yield f"The schedule ends after {setup.steps} updates, so no more were run."
    if base.cut_short:
        yield f"Updates take long, so the run was cut to {len(base.losses)}."
    for warning in base.warnings[:MOST_WARNINGS]:
        yield f"Warned: {warning}"

"""The last rule: nothing cures, so name the change that helps most."""

import math

from torch import nn

from gradlib.diagnosis.evidence.feature_scale import off_scale
from gradlib.diagnosis.evidence.loss_curve import BEATEN
from gradlib.diagnosis.examination import Examination
from gradlib.diagnosis.report import Finding, layer_of
from gradlib.diagnosis.treatments import (
    TENTH_OF_RATE,
    Treatment,
    clipped,
    leaky,
    new_tensor,
    normalized,
    reinitialized,
    slower,
)

# A change helps if the score falls by so much, and by so many times its noise.
ENOUGH = 0.1
ENOUGH_IN_NOISE = 3.0
# A run that ends above SPOILED, in units of the naive loss, is helped by what brings it
# back to a constant output.
SPOILED = 1.3
AS_CONSTANT = 1.1
# Share of silent or flat units at which another activation is tried.
SOME_DEAD = 0.5
# Confidence of a guess.
GUESS = 0.5


def best_change(examination: Examination) -> Finding | None:
    """The training is ill, no rule's change cures it, but one clearly helps."""
    if not examination.is_ill:
        return None
    helped: list[tuple[float, str, str, str]] = []
    for cause, layer, name, treatment in _changes(examination):
        treated = examination.run_under(name, treatment)
        if treated.exploded or not math.isfinite(treated.end):
            continue
        gain = examination.curve.score - treated.score
        limit = AS_CONSTANT if examination.curve.score > SPOILED else BEATEN
        if treated.score < limit and gain > max(
            ENOUGH, ENOUGH_IN_NOISE * treated.noise
        ):
            helped.append((treated.score, cause, layer, name))
    if not helped:
        return _unexplained(examination)
    _, cause, layer, name = min(helped)
    return Finding(
        cause,
        layer,
        f"No single change cures; of those tried, {name} helps most.",
        examination.compared(name),
        GUESS,
        conclusive=False,
    )


def _changes(examination: Examination) -> list[tuple[str, str, str, Treatment]]:
    first = layer_of(next(iter(examination.parameters)))
    changes: list[tuple[str, str, str, Treatment]] = []
    index, features = off_scale(examination.setup.batches, 0)
    if index is not None and features is not None:
        standardize = new_tensor(index, features.standardize)
        changes.append(
            ("unnormalized_input", "data", "standardized inputs", standardize)
        )
    used = examination.base.first.activations
    rectifier = next((a.layer for a in used if "relu" in a.function), None)
    if rectifier is not None and any(a.share > SOME_DEAD for a in used):
        changes.append(("dead_relu", rectifier, "leaky ReLU", leaky))
    cells = [
        n
        for n, m in examination.setup.model.named_modules()
        if isinstance(m, nn.RNNBase)
    ]
    if cells:
        name = "clipping at 1"
        changes.append(("recurrent_explosion", cells[0], name, clipped(1.0)))
    changes += [
        ("deep_no_skip_or_norm", first, "normalized layers", normalized),
        ("vanishing", first, "He initialization", reinitialized(2**0.5)),
        ("lr_too_high", "global", *TENTH_OF_RATE),
        ("lr_too_high", "global", "a learning rate 100 times smaller", slower(100.0)),
    ]
    return changes


def _unexplained(examination: Examination) -> Finding | None:
    """Training that ends in NaN is broken, even where no change helps."""
    if examination.base.failure and examination.curve.finite:
        return None
    origin = examination.origin
    if origin.step is None or math.isfinite(examination.curve.end):
        return None
    born = origin.forward.function if origin.forward is not None else origin.backward
    return Finding(
        "loss_numerics",
        origin.layer or "loss",
        f"NaN or infinity first appears at step {origin.step}"
        f"{' in ' + born if born else ''}, and no change that was tried prevents it.",
        {"step": origin.step},
        GUESS - 0.1,
        conclusive=False,
    )

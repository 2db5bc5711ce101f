"""The last rule: nothing cures, so name the change that helps most."""

import math

from torch import nn

from gradlib.diagnosis.columns import off_scale
from gradlib.diagnosis.patient import Patient, layer_of
from gradlib.diagnosis.replacements import leaky
from gradlib.diagnosis.report import Finding
from gradlib.diagnosis.rules_data import compared
from gradlib.diagnosis.treatments import (
    Treatment,
    clipped,
    new_tensor,
    normalised,
    reinitialised,
    slower,
)

ENOUGH = 0.1
BEATEN = 0.97
GUESS = 0.5


def best_change(patient: Patient) -> Finding | None:
    """The training is ill, no rule's change cures it, but one clearly helps."""
    if not patient.ill:
        return None
    helped: list[tuple[float, str, str, str]] = []
    for cause, layer, name, treatment in _changes(patient):
        treated = patient.under(name, treatment)
        if treated.blown or not math.isfinite(treated.end):
            continue
        gain = patient.course.score - treated.score
        if treated.score < BEATEN and gain > max(ENOUGH, 3 * treated.noise):
            helped.append((treated.score, cause, layer, name))
    if not helped:
        return _unexplained(patient)
    _, cause, layer, name = min(helped)
    return Finding(
        cause,
        layer,
        f"No single change cures; of those tried, {name} helps most.",
        compared(patient, name),
        GUESS,
    )


def _changes(patient: Patient) -> list[tuple[str, str, str, Treatment]]:
    first = layer_of(next(iter(patient.parameters)))
    changes: list[tuple[str, str, str, Treatment]] = []
    index, columns = off_scale(patient.setup.batches, 0)
    if index is not None and columns is not None:
        standardise = new_tensor(index, columns.standardise)
        changes.append(
            ("unnormalized_input", "data", "standardised inputs", standardise)
        )
    used = patient.seen.first.activations
    rectifier = next((a.layer for a in used if "relu" in a.function), None)
    if rectifier is not None and any(a.share > 0.5 for a in used):
        changes.append(("dead_relu", rectifier, "leaky ReLU", leaky))
    cells = [
        n for n, m in patient.setup.model.named_modules() if isinstance(m, nn.RNNBase)
    ]
    if cells:
        name = "clipping at 1"
        changes.append(("recurrent_explosion", cells[0], name, clipped(1.0)))
    changes += [
        ("deep_no_skip_or_norm", first, "normalised layers", normalised),
        ("vanishing", first, "He initialisation", reinitialised(2**0.5)),
        ("lr_too_high", "global", "a learning rate 10 times smaller", slower(10.0)),
        ("lr_too_high", "global", "a learning rate 100 times smaller", slower(100.0)),
    ]
    return changes


def _unexplained(patient: Patient) -> Finding | None:
    """Training that ends in NaN is broken, even where no change helps."""
    death = patient.death
    if death.step is None or math.isfinite(patient.course.end):
        return None
    born = death.birth.function if death.birth is not None else death.backward
    return Finding(
        "loss_numerics",
        death.layer or "loss",
        f"NaN or infinity first appears at step {death.step}"
        f"{' in ' + born if born else ''}, and no change that was tried prevents it.",
        {"step": death.step},
        GUESS - 0.1,
    )

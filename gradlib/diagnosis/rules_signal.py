"""Rules about the signal inside the network: dead, flat, vanishing, exploding."""

import math

from gradlib.diagnosis.patient import Patient, layer_of
from gradlib.diagnosis.replacements import leaky, rectified
from gradlib.diagnosis.report import Finding
from gradlib.diagnosis.rules_data import compared
from gradlib.diagnosis.treatments import both, reinitialised

DEAD = 0.9


def dead_units(patient: Patient) -> Finding | None:
    """A ReLU layer gives zero for every sample, from the start or soon."""
    if not patient.doubtful:
        return None
    first, last = (
        [a for a in probe.activations if a.share >= DEAD and "relu" in a.function]
        for probe in (patient.seen.first, patient.seen.last)
    )
    if not first and not last:
        return None
    cured = patient.cures("leaky ReLU", leaky)
    if not cured and not (first and patient.course.flat):
        return None
    worst = (first or last)[0]
    when = "first" if first else "last"
    return Finding(
        "dead_relu",
        worst.layer or "(root)",
        f"{worst.share:.0%} of the ReLU units after {worst.layer or 'the model'} are "
        f"zero for all samples of the {when} batch.",
        {"dead share": worst.share, **compared(patient, "leaky ReLU")},
        (0.91 if cured else 0.7) if first else 0.85,
    )


def flat_ends(patient: Patient) -> Finding | None:
    """A sigmoid or tanh starts on its flat ends."""
    if not patient.ill or patient.course.blown:
        return None
    first = [
        a
        for a in patient.seen.first.activations
        if a.share >= 0.7 and "relu" not in a.function
    ]
    if not first:
        return None
    worst = max(first, key=lambda a: a.share)
    return Finding(
        "saturated_activation",
        worst.layer or "(root)",
        f"{worst.share:.0%} of the values of {worst.function} after {worst.layer} are "
        "within 1 % of its limits at the first step.",
        {"saturated share": worst.share, "loss at the end": patient.course.end},
        0.91,
    )


def vanishing_signal(patient: Patient) -> Finding | None:
    """Gradients shrink towards the first layers; ReLU and He initialisation cure."""
    if not patient.ill or patient.course.blown:
        return None
    weights = [
        n for n, p in patient.parameters.items() if p.ndim > 1 and patient.seen.norms[n]
    ]
    if len(weights) < 3:
        return None
    first = patient.seen.norms[weights[0]][0]
    last = max(patient.seen.norms[n][0] for n in patient.parameters)
    ratio = first / last if last > 0 else math.nan
    if not ratio < 0.05:
        return None
    name = "He initialisation"
    if not patient.cures(name, reinitialised(2**0.5)):
        name = "ReLU and He initialisation"
        hidden = both(reinitialised(2**0.5), rectified(_hidden_squashings(patient)))
        if not patient.cures(name, hidden):
            return None
    return Finding(
        "vanishing",
        layer_of(weights[0]),
        f"The gradient of the first layer is {ratio:.2g} of the largest one; with "
        f"{name} the same training learns.",
        {"first / largest gradient norm": ratio, **compared(patient, name)},
        0.87,
    )


def _hidden_squashings(patient: Patient) -> int:
    """Calls of sigmoid and tanh before the last layer with weights."""
    used = [a for a in patient.seen.first.activations if "relu" not in a.function]
    last = used[-1].layer if used else ""
    final = [name for name in patient.seen.first.layers if name]
    return sum(a.layer != last or last != final[-1] for a in used)

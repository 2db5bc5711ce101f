"""Rules about the signal inside the network: dead, flat, vanishing, exploding."""

import math

from gradlib.diagnosis.examination import Examination
from gradlib.diagnosis.report import Finding, layer_of
from gradlib.diagnosis.treatments import both, leaky, rectified, reinitialized

# Share of units that are zero for a whole batch: a sparse layer has up to 0.66 at the
# start and 0.84 later, one that died 1.
DEAD = 0.9
# Share of values on a flat end at the first step: the healthy have up to 0.32, a layer
# with inputs or weights too wide 0.83 to 1.
AT_ITS_ENDS = 0.6
# Layers with weights that a gradient can vanish over.
FEWEST_LAYERS = 3
# First gradient over the largest: 1e-6 to 6e-5 where it vanishes. Of the healthy, a few
# have 0.01 to 0.04 as well, so that a cure must decide.
VANISHED = 0.05
INITIALIZED = (
    'nn.init.kaiming_normal_(weight, nonlinearity="relu") and nn.init.zeros_(bias) '
    "for every layer, also where tanh follows."
)


def dead_units(examination: Examination) -> Finding | None:
    """A ReLU layer gives zero for every sample, from the start or soon."""
    if not examination.worth_a_look:
        return None
    first, last = (
        [a for a in trace.activations if a.share >= DEAD and "relu" in a.function]
        for trace in (examination.base.first, examination.base.last)
    )
    if not first and not last:
        return None
    cured = examination.cures("leaky ReLU", leaky)
    if not cured and not (first and examination.curve.flat):
        return None
    worst = (first or last)[0]
    when = "first" if first else "last"
    failed = "" if cured else " A leaky ReLU alone does not cure."
    return Finding(
        "dead_relu",
        worst.layer or "(root)",
        f"{worst.share:.0%} of the ReLU units after {worst.layer or 'the model'} are "
        f"zero for all samples of the {when} batch.{failed}",
        {"dead share": worst.share, **examination.compared("leaky ReLU")},
        (0.91 if cured else 0.7) if first else 0.85,
        conclusive=bool(first) and cured,
    )


def flat_ends(examination: Examination) -> Finding | None:
    """A sigmoid or tanh starts on its flat ends."""
    if not examination.is_ill or examination.curve.exploded:
        return None
    first = [
        a
        for a in examination.base.first.activations
        if a.share >= AT_ITS_ENDS and "relu" not in a.function
    ]
    if not first:
        return None
    worst = max(first, key=lambda a: a.share)
    return Finding(
        "saturated_activation",
        worst.layer or "(root)",
        f"{worst.share:.0%} of the values of {worst.function} after {worst.layer} are "
        "within 1 % of its limits at the first step.",
        {"saturated share": worst.share, "loss at the end": examination.curve.end},
        0.91,
    )


def vanishing_signal(examination: Examination) -> Finding | None:
    """Gradients shrink towards the first layers; ReLU and He initialization cure."""
    if not examination.is_ill or examination.curve.exploded:
        return None
    weights = [
        n
        for n, p in examination.parameters.items()
        if p.ndim > 1 and examination.base.norms[n]
    ]
    if len(weights) < FEWEST_LAYERS:
        return None
    first = examination.base.norms[weights[0]][0]
    last = max(examination.base.norms[n][0] for n in examination.parameters)
    ratio = first / last if last > 0 else math.nan
    if not ratio < VANISHED:
        return None
    name, fix = "He initialization", INITIALIZED
    if not examination.cures(name, reinitialized(2**0.5)):
        name, fix = "ReLU and He initialization", ""
        hidden = both(reinitialized(2**0.5), rectified(_hidden_squashings(examination)))
        if not examination.cures(name, hidden):
            return None
    return Finding(
        "vanishing",
        layer_of(weights[0]),
        f"The gradient of the first layer is {ratio:.2g} of the largest one; with "
        f"{name} the same training learns.",
        {"first / largest gradient norm": ratio, **examination.compared(name)},
        0.87,
        fix=fix,
    )


def _hidden_squashings(examination: Examination) -> int:
    """Calls of sigmoid and tanh before the last layer with weights."""
    used = [a for a in examination.base.first.activations if "relu" not in a.function]
    last = used[-1].layer if used else ""
    final = [name for name in examination.base.first.layers if name]
    return sum(a.layer != last or last != final[-1] for a in used)

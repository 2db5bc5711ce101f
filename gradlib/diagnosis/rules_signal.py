"""Rules about the signal inside the network: dead, flat, vanishing, exploding."""

import math

from torch import nn

from gradlib.diagnosis.observation import ONE_VALUE
from gradlib.diagnosis.patient import Patient, layer_of
from gradlib.diagnosis.report import Finding
from gradlib.diagnosis.rules_data import compared
from gradlib.diagnosis.setup import Setup, samples, tensors
from gradlib.diagnosis.treatments import (
    both,
    bounded,
    clipped,
    fan_in,
    filled,
    leaky,
    merged,
    normalised,
    rectified,
    reinitialised,
    scaled,
    shortened,
)

LAYERS = (nn.Linear, nn.modules.conv._ConvNd, nn.Bilinear)
REUSED = 8
DEEP = 8
DEAD = 0.9
WIDE = 4.0
WIDE_VECTOR = 20.0


def lonely_batch_norm(patient: Patient) -> Finding | None:
    """Batch norm in training mode sees one or two samples at a time; more cure."""
    norms = [
        name
        for name, m in patient.setup.model.named_modules()
        if "batchnorm" in type(m).__name__.lower() and m.training
    ]
    sizes = [samples(batch) for batch in patient.setup.batches]
    size = sorted(sizes)[len(sizes) // 2]
    if ONE_VALUE in patient.seen.failure:
        return Finding(
            "batchnorm_misuse",
            norms[0] if norms else "(root)",
            "A batch has one value per channel, so batch norm has no variance and raises.",
            {"smallest batch": min(sizes), "batches": len(sizes)},
            0.97,
        )
    if not norms or size > 2:
        return None
    if not patient.cures("batches of 32", merged(32)):
        return None
    return Finding(
        "batchnorm_misuse",
        norms[0],
        f"Batch norm takes its statistics from batches of {size}; with larger batches "
        "the same training learns.",
        {
            "batch size": size,
            "batch norms": len(norms),
            **compared(patient, "batches of 32"),
        },
        0.96,
    )


def frozen_batch_norm(patient: Patient) -> Finding | None:
    """Batch norm in evaluation mode uses statistics that do not fit the data."""
    norms = {
        name: m
        for name, m in patient.setup.model.named_modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and not m.training
    }
    if not norms or not patient.ill:
        return None

    def training(setup: Setup) -> Setup:
        for module in norms.values():
            module.train()
        return setup

    name = "batch norm in training mode"
    if not patient.cures(name, training):
        return None
    return Finding(
        "batchnorm_misuse",
        next(iter(norms)),
        f"{len(norms)} batch norms use their stored statistics while training; with {name} "
        "the same training learns.",
        {"batch norms": len(norms), **compared(patient, name)},
        0.92,
        fix="Call model.train() before training.",
    )


def recurrent_growth(patient: Patient) -> Finding | None:
    """Weights that are applied at every step blow up over long sequences."""
    course, seen = patient.course, patient.seen
    cells = {
        n for n, m in patient.setup.model.named_modules() if isinstance(m, nn.RNNBase)
    }
    reused = {
        n: p for n, p in patient.parameters.items() if seen.graph.uses[id(p)] >= REUSED
    }
    reused |= {n: p for n, p in patient.parameters.items() if layer_of(n) in cells}
    if not reused or not patient.ill:
        return None
    peak = max((max(c, default=0.0) for c in seen.norms.values()), default=0.0)
    outputs = max(
        (s.largest for p in seen.probes.values() for s in p.layers.values()),
        default=0.0,
    )
    huge = not math.isfinite(outputs + peak) or max(peak, outputs) > 1e3 or course.blown
    if not huge:
        return None
    first = tensors(patient.setup.batches[0])[0]
    trials = [("clipping at 1", clipped(1.0)), ("tanh instead of ReLU", bounded)]
    if first.ndim > 1 and first.shape[1] >= 16:
        trials.append(("a quarter of the sequence", shortened(0.25)))
    matrices = [p for n, p in reused.items() if "bias" not in n]
    trials.append(("recurrent weights halved", scaled(0.5, matrices)))
    cure = next((name for name, t in trials if patient.cures(name, t)), None)
    if cure is None:
        return None
    wide = max((_gain(p) for p in matrices if p.ndim > 1), default=0.0)
    return Finding(
        "recurrent_explosion",
        layer_of(next(iter(reused))),
        "The same weights act at every step and the signal grows with each; the "
        f"training learns with {cure}.",
        {
            "largest gradient norm": peak,
            "largest output": outputs,
            **compared(patient, cure),
        },
        0.9 if wide < 2.5 else 0.7,
    )


def _gain(p: nn.Parameter) -> float:
    return float(p.detach().float().pow(2).mean().sqrt()) * fan_in(p) ** 0.5


def broken_weights(patient: Patient) -> Finding | None:
    """Some parameters are not finite before the first step."""
    bad = [
        n
        for n, p in patient.setup.model.named_parameters()
        if not bool(p.isfinite().all())
    ]
    if not bad:
        return None
    return Finding(
        "init_too_large",
        layer_of(bad[0]),
        f"{bad[0]} holds NaN or infinity before the first step: it was never initialised.",
        {"parameters": len(bad)},
        0.97,
    )


def wide_weights(patient: Patient) -> Finding | None:
    """Some weights start far above 1 / sqrt(fan_in), and shrinking them cures."""
    if not patient.doubtful and not patient.course.start > 8 * patient.course.reference:
        return None
    gains = {n: _gain(p) for n, p in patient.parameters.items()}
    limits = {
        n: WIDE if p.ndim > 1 else WIDE_VECTOR for n, p in patient.parameters.items()
    }
    wide = {n: g for n, g in gains.items() if g > limits[n]}
    if not wide:
        return None
    ranked = sorted(wide, key=lambda n: wide[n], reverse=True)
    chosen = [patient.parameters[n] for n in ranked]
    constant = [
        p
        for p in chosen
        if float(p.detach().std()) < 0.1 * float(p.detach().abs().mean())
    ]
    name = "smaller initial weights"
    if not patient.cures(name, reinitialised(1.0, chosen)):
        name = "smaller initial values"
        if not constant or not patient.cures(name, filled(-4.0, constant)):
            return None
    return Finding(
        "init_too_large",
        layer_of(ranked[0]),
        f"{ranked[0]} starts {wide[ranked[0]]:.3g} times wider than 1 / sqrt(fan_in); "
        f"with {name} the same training learns.",
        {"gain": wide[ranked[0]], **compared(patient, name)},
        0.9,
    )


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
        f"{100 * worst.share:.0f} % of the ReLU units after {worst.layer or 'the model'} "
        f"are zero for all samples of the {when} batch.",
        {"dead share": worst.share, **compared(patient, "leaky ReLU")},
        (0.91 if cured else 0.7) if first else 0.86,
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
        f"{100 * worst.share:.0f} % of the values of {worst.function} after {worst.layer} are within "
        "1 % of its limits at the first step.",
        {"saturated share": worst.share, "loss at the end": patient.course.end},
        0.91,
    )


def plain_depth(patient: Patient) -> Finding | None:
    """Many layers in a row, and normalising each one cures."""
    model = patient.setup.model
    depth = sum(isinstance(m, LAYERS) for m in model.modules())
    normed = sum("norm" in type(m).__name__.lower() for m in model.modules())
    if not patient.ill or depth < DEEP or normed >= depth // 3:
        return None
    if _squashing(patient) or not patient.cures("normalised layers", normalised):
        return None
    sizes = [s.rms for n, s in patient.seen.first.layers.items() if n]
    spreads = [s.spread for n, s in patient.seen.first.layers.items() if n]
    names = [n for n, m in model.named_modules() if isinstance(m, LAYERS)]
    growing = len(sizes) > 1 and sizes[-1] > 30 * sizes[0]
    layer = names[-2] if growing else names[0]
    inner = [n for n in names[1:-1]] or names
    return Finding(
        "deep_no_skip_or_norm",
        inner[-1] if growing else (inner[0] if layer else names[0]),
        f"{depth} layers follow each other without normalisation; normalising each "
        "makes the same training learn.",
        {
            "layers": depth,
            "output rms, first layer": sizes[0] if sizes else math.nan,
            "output rms, last layer": sizes[-1] if sizes else math.nan,
            "spread over samples, last layer": spreads[-1] if spreads else math.nan,
            **compared(patient, "normalised layers"),
        },
        0.88,
    )


def _squashing(patient: Patient) -> bool:
    used = [a.function for a in patient.seen.first.activations]
    return sum(f in ("sigmoid", "tanh") for f in used) > 1


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
        f"The gradient of the first layer is {ratio:.2g} of the largest one; with {name} "
        "the same training learns.",
        {"first / largest gradient norm": ratio, **compared(patient, name)},
        0.87,
    )


def _hidden_squashings(patient: Patient) -> int:
    """Calls of sigmoid and tanh before the last layer with weights."""
    used = [a for a in patient.seen.first.activations if "relu" not in a.function]
    last = used[-1].layer if used else ""
    final = [name for name in patient.seen.first.layers if name]
    return sum(a.layer != last or last != final[-1] for a in used)

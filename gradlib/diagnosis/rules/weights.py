"""Rules about weights: never initialized, too wide, or applied at every step."""

import math

from torch import nn

from gradlib.diagnosis.examination import Examination
from gradlib.diagnosis.nested import tensors
from gradlib.diagnosis.report import Finding, layer_of
from gradlib.diagnosis.treatments import (
    bounded,
    clipped,
    filled,
    reinitialized,
    scaled,
    shortened,
)
from gradlib.initialization.weight_layers import fan_in

REUSED = 8
WIDE = 4.0
WIDE_VECTOR = 20.0


def broken_weights(examination: Examination) -> Finding | None:
    """Some parameters are not finite before the first step."""
    bad = [
        n
        for n, p in examination.setup.model.named_parameters()
        if not bool(p.isfinite().all())
    ]
    if not bad:
        return None
    return Finding(
        "init_too_large",
        layer_of(bad[0]),
        f"{bad[0]} holds NaN or infinity before the first step: nothing set it.",
        {"parameters": len(bad)},
        0.97,
    )


def wide_weights(examination: Examination) -> Finding | None:
    """Some weights start far above 1 / sqrt(fan_in), and shrinking them cures."""
    if (
        not examination.worth_a_look
        and not examination.curve.start > 8 * examination.curve.reference
    ):
        return None
    gains = {n: _gain(p) for n, p in examination.parameters.items()}
    limits = {
        n: WIDE if p.ndim > 1 else WIDE_VECTOR
        for n, p in examination.parameters.items()
    }
    wide = {n: g for n, g in gains.items() if g > limits[n]}
    if not wide:
        return None
    ranked = sorted(wide, key=lambda n: wide[n], reverse=True)
    chosen = [examination.parameters[n] for n in ranked]
    constant = [
        p
        for p in chosen
        if float(p.detach().std()) < 0.1 * float(p.detach().abs().mean())
    ]
    name = "smaller initial weights"
    if not examination.cures(name, reinitialized(1.0, chosen)):
        name = "smaller initial values"
        if not constant or not examination.cures(name, filled(-4.0, constant)):
            return None
    return Finding(
        "init_too_large",
        layer_of(ranked[0]),
        f"{ranked[0]} starts {wide[ranked[0]]:.3g} times wider than 1 / sqrt(fan_in); "
        f"with {name} the same training learns.",
        {"gain": wide[ranked[0]], **examination.compared(name)},
        0.9,
    )


def recurrent_growth(examination: Examination) -> Finding | None:
    """Weights that are applied at every step blow up over long sequences."""
    curve, base = examination.curve, examination.base
    cells = {
        n
        for n, m in examination.setup.model.named_modules()
        if isinstance(m, nn.RNNBase)
    }
    reused = {
        n: p
        for n, p in examination.parameters.items()
        if base.graph.uses[id(p)] >= REUSED
    }
    reused |= {n: p for n, p in examination.parameters.items() if layer_of(n) in cells}
    if not reused or not examination.is_ill:
        return None
    peak = max((max(c, default=0.0) for c in base.norms.values()), default=0.0)
    outputs = max(
        (s.largest for p in base.traces.values() for s in p.layers.values()),
        default=0.0,
    )
    huge = (
        not math.isfinite(outputs + peak) or max(peak, outputs) > 1e3 or curve.exploded
    )
    if not huge:
        return None
    first = tensors(examination.setup.batches[0])[0]
    trials = [("clipping at 1", clipped(1.0)), ("tanh instead of ReLU", bounded)]
    if first.ndim > 1 and first.shape[1] >= 16:
        trials.append(("a quarter of the sequence", shortened(0.25)))
    matrices = [p for n, p in reused.items() if "bias" not in n]
    trials.append(("recurrent weights halved", scaled(0.5, matrices)))
    cure = next((name for name, t in trials if examination.cures(name, t)), None)
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
            **examination.compared(cure),
        },
        0.9 if wide < 2.5 else 0.7,
    )


def _gain(p: nn.Parameter) -> float:
    rms = float(p.detach().float().pow(2).mean().sqrt())
    return rms * math.sqrt(fan_in(p))

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

# Uses of one parameter in a loss: tied and siamese weights have 2 or 3, a recurrent
# cell one a step, 10 to 120.
REUSED = 6
# Gain of a matrix, in units of 1 / sqrt(fan_in): layers of torch have 0.6 to 2.7, its
# embeddings 4 to 6 (the root of their width), weights that are too wide 8 and more. So
# do some of the healthy: a cure must decide.
WIDE = 4.0
# The same of a vector: scales of norms have 1, biases up to 12; too wide ones 40.
WIDE_VECTOR = 20.0
# Standard deviation of an embedding: torch draws 1.
USUAL_TABLE = 1.2
# First loss over the naive one: the healthy start at 1 to 2.5, or 5 at the worst;
# networks whose weights are too wide at 60 to 40,000.
BAD_START = 8.0
# Standard deviation over mean magnitude: 0 for a vector that was filled, 0.8 to 1.7 for
# one that was drawn.
FILLED = 0.1
# Largest output or gradient norm: above it the signal has grown over the sequence.
HUGE = 1e3
# Shortest sequence that a quarter of can be tried.
LONG = 16
# Recurrent weights with a gain above it may be merely too large.
WIDE_AGAIN = 2.5


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
        and not examination.curve.start > BAD_START * examination.curve.reference
    ):
        return None
    gains = {n: _gain(p) for n, p in examination.parameters.items()}
    limits = {
        n: WIDE if p.ndim > 1 else WIDE_VECTOR
        for n, p in examination.parameters.items()
    }
    wide = {
        n: g
        for n, g in gains.items()
        if g > limits[n] and not _usual_table(examination, n)
    }
    if not wide:
        return None
    ranked = sorted(wide, key=lambda n: wide[n], reverse=True)
    chosen = [examination.parameters[n] for n in ranked]
    constant = [
        p
        for p in chosen
        if float(p.detach().std()) < FILLED * float(p.detach().abs().mean())
    ]
    name = "smaller initial weights"
    cured = examination.cures(name, reinitialized(1.0, chosen))
    if not cured and not _begins_well(examination, name):
        name = "smaller initial values"
        if not constant or not examination.cures(name, filled(-4.0, constant)):
            return None
    return Finding(
        "init_too_large",
        layer_of(ranked[0]),
        f"{ranked[0]} starts {wide[ranked[0]]:.3g} times wider than 1 / sqrt(fan_in); "
        f"with {name} {examination.outcome(name)}.",
        {"gain": wide[ranked[0]], **examination.compared(name)},
        0.9,
    )


def _usual_table(examination: Examination, name: str) -> bool:
    """An embedding as torch draws it, N(0, 1), that no other layer uses."""
    module = dict(examination.setup.model.named_modules()).get(layer_of(name))
    if not isinstance(module, nn.Embedding):
        return False
    p = examination.parameters[name]
    tied = examination.base.graph.uses[id(p)] > 1
    return not tied and float(p.detach().float().std()) < USUAL_TABLE


def _begins_well(examination: Examination, name: str) -> bool:
    """Whether a bad start goes away under a treatment, and the end is no worse."""
    curve = examination.curve
    treated = examination.run_under(name, lambda setup: setup)
    limit = BAD_START * abs(curve.reference)
    return treated.losses[0] < limit < curve.start and treated.end < curve.end


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
        not math.isfinite(outputs + peak) or max(peak, outputs) > HUGE or curve.exploded
    )
    if not huge:
        return None
    first = tensors(examination.setup.batches[0])[0]
    trials = [("clipping at 1", clipped(1.0)), ("tanh instead of ReLU", bounded)]
    if first.ndim > 1 and first.shape[1] >= LONG:
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
        "The same weights act at every step and the signal grows with each; with "
        f"{cure} {examination.outcome(cure)}.",
        {
            "largest gradient norm": peak,
            "largest output": outputs,
            **examination.compared(cure),
        },
        0.9 if wide < WIDE_AGAIN else 0.7,
        conclusive=wide < WIDE_AGAIN,
    )


def _gain(p: nn.Parameter) -> float:
    rms = float(p.detach().float().pow(2).mean().sqrt())
    return rms * math.sqrt(fan_in(p))

"""Rules about the graph: gradients that never arrive, or that nothing hears."""

import math

import torch

from gradlib.diagnosis.evidence.base_run import DETACHED
from gradlib.diagnosis.examination import Examination
from gradlib.diagnosis.report import Finding, layer_of
from gradlib.diagnosis.treatments import redrawn, using

# A gradient below this share of the largest at every one of so many steps is rounding,
# which reaches 7e-8 to 1.8e-7, by the processor's vectors: the smallest of the healthy
# have 1e-5 at times.
ROUNDING = 1e-6
FEWEST_SILENT = 10
# Relative change of the loss that another argmax makes: without effect it is 0.
MATTERS = 1e-6


def cut_graph(examination: Examination) -> Finding | None:
    """Parameters in the optimizer, used in the forward pass, never get a gradient."""
    base = examination.base
    if DETACHED in base.failure:
        return Finding(
            "detached_graph",
            "loss",
            "No parameter leads to the loss through the graph: backward raises.",
            {"error": base.failure[:80]},
            0.96,
        )
    if not any(base.norms.values()) or not math.isfinite(base.losses[0]):
        return None
    reached = base.calls.arrived if base.calls is not None else set()
    silent = [
        name
        for name, p in examination.parameters.items()
        if id(p) in examination.held
        and base.norms[name]
        and max(base.norms[name]) <= 0
        and id(p) not in reached
        and all(math.isfinite(v) for v in base.norms[name])
        and _used(examination, name)
        and (base.moved[name] == 0 or max(base.norms[name]) == 0)
    ]
    none = [name for name in silent if max(base.norms[name]) < 0]
    if none and not _enters_loss(examination, none):
        return _unused(examination, none)
    rounding = base.graph.rounding
    if none:
        chosen, why = none, "has no path to the loss"
    elif rounding and silent:
        chosen, why = (
            silent,
            f"passes through {rounding[0].lower()}, whose slope is zero",
        )
    else:
        return hard_values(examination)
    return Finding(
        "detached_graph",
        layer_of(chosen[0]),
        f"{', '.join(chosen[:4])} never got a gradient: the output {why}.",
        {
            "parameters without gradient": len(chosen),
            "of": len(examination.parameters),
            "steps": len(base.losses),
        },
        0.94,
    )


def _unused(examination: Examination, names: list[str]) -> Finding | None:
    """Layers run, and nothing uses their results: odd only where it does not learn.

    The last of several layers often has a branch that no loss asks for.
    """
    if not examination.is_ill:
        return None
    return Finding(
        "detached_graph",
        layer_of(names[0]),
        f"{', '.join(names[:4])} never got a gradient, and other values of them leave "
        "the loss as it is: their layers run, and nothing uses what they put out.",
        {"parameters without gradient": len(names)},
        0.4,
        conclusive=False,
        fix="Use the result (x = layer(x), not layer(x) alone), or leave it out.",
    )


def _enters_loss(examination: Examination, names: list[str]) -> bool:
    """Whether other values of these parameters change the loss, gradient or none.

    A loss function whose result is lost on the way counts, too: it was meant.
    """
    lost = [math.isnan(c.weight) for c in examination.base.first.calls.losses]
    if examination.setup.step is not None or any(lost):
        return True
    batch = examination.setup.batch(0)
    usual = examination.loss_of(batch)
    chosen = [examination.parameters[name] for name in names]
    return examination.loss_of(batch, redrawn(chosen)) != usual


def silent_weights(examination: Examination) -> Finding | None:
    """A matrix that is used and held gets a gradient that is zero but for rounding."""
    base = examination.base
    columns = {n: c for n, c in base.norms.items() if c and min(c) >= 0}
    if not columns:
        return None
    steps = list(zip(*columns.values(), strict=True))
    largest = [max(step) for step in steps]
    if len(steps) < FEWEST_SILENT or not min(largest) > 0:
        return None
    # Another layer's gradient that explodes makes no other one silent.
    usual = max(1.0, abs(examination.curve.start))
    silent = [
        name
        for name, p in examination.parameters.items()
        if p.ndim > 1
        and id(p) in examination.held
        and name in columns
        and _used(examination, name)
        and not _heard(examination, name, columns, largest)
        and all(
            norm <= ROUNDING * min(top, usual)
            for norm, top in zip(columns[name], largest, strict=True)
        )
    ]
    if not silent:
        return None
    share = max(
        norm / top for norm, top in zip(columns[silent[0]], largest, strict=True)
    )
    return Finding(
        "detached_graph",
        layer_of(silent[0]),
        f"{', '.join(silent[:3])} got a gradient of at most {share:.1g} of the largest "
        f"one at all {len(steps)} steps: what the layer puts out does not change the "
        "loss. It is detached, multiplied by zero, or divided by itself.",
        {"parameters": len(silent), "largest share of a gradient": share},
        0.75,
        conclusive=False,
        fix="Print the layer's output and what is made of it: leave out .detach(), a "
        "factor of 0, or a normalization over a single value.",
    )


def _heard(
    examination: Examination,
    name: str,
    columns: dict[str, list[float]],
    largest: list[float],
) -> bool:
    """Whether the bias of the same layer gets a gradient: then its input is zero."""
    column = columns.get(f"{layer_of(name)}.bias", [])
    return any(
        norm > ROUNDING * top for norm, top in zip(column, largest, strict=False)
    )


def hard_values(examination: Examination) -> Finding | None:
    """The loss depends on the result of an argmax or a rounding that has no slope."""
    graph, trace = examination.base.graph, examination.base.first
    steep = [name for name in graph.rounding if name in ("Round", "Ceil", "Trunc")]
    name = steep[0].lower() if steep else ""
    if not name and trace.hard and _matters(examination):
        name = "argmax"
    if not name:
        return None
    return Finding(
        "detached_graph",
        "loss",
        f"A part of the loss is computed from the result of {name}, through which no "
        "gradient flows.",
        {"operation": name},
        0.9,
    )


def _matters(examination: Examination) -> bool:
    """Whether the loss changes when every argmax gives another answer."""
    shifted = using(argmax=lambda x, *a, **k: torch.argmin(x, *a, **k))
    try:
        usual = examination.setup.update(0)
        examination.restore()
        other = shifted(examination.setup).update(0)
    except Exception:
        return False
    finally:
        examination.restore()
    return math.isfinite(usual) and abs(usual - other) > MATTERS * abs(usual)


def _used(examination: Examination, name: str) -> bool:
    """Whether the layer of a parameter took part in the first forward pass."""
    layer = layer_of(name)
    return "." not in name or layer in examination.base.first.layers

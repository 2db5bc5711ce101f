"""Rules about the data: broken values, inputs and targets out of scale."""

import math
from typing import Any

import torch
from torch import Tensor

from gradlib.diagnosis.patient import Patient
from gradlib.diagnosis.report import Finding
from gradlib.diagnosis.setup import tensors
from gradlib.diagnosis.treatments import new_inputs, new_targets, reinitialised, scaled

LARGE = 4.0
SMALL = 0.02


def broken_values(patient: Patient) -> Finding | None:
    """Some inputs or targets are NaN or infinite."""
    batches = patient.setup.batches
    bad = [i for i, batch in enumerate(batches) if not _finite(batch)]
    if not bad:
        return None
    counted = sum(int((~t.isfinite()).sum()) for i in bad for t in _floats(batches[i]))
    return Finding(
        "bad_data",
        "data",
        f"{len(bad)} of {len(batches)} batches hold NaN or infinite values, first at "
        f"batch {bad[0]}.",
        {"batches": len(bad), "first batch": bad[0], "values": counted},
        0.98,
    )


def impossible_samples(patient: Patient) -> Finding | None:
    """A few batches give a non-finite loss whatever the weights are."""
    step = patient.death.step
    if step is None or patient.death.birth is None or patient.death.birth.half:
        return None
    if math.isfinite(patient.death.loss):
        return None
    batches = patient.setup.batches
    weights = list(patient.parameters.values())
    worlds = [lambda s: s, scaled(0.1, weights), reinitialised(1.0)]
    here = step % len(batches)
    if any(_loss_in(patient, world, here) for world in worlds):
        return None
    others = [i for i in range(len(batches)) if i != here][:12]
    fine = sum(_loss_in(patient, worlds[1], i) for i in others)
    if fine < 0.6 * len(others) or not others:
        return None
    return Finding(
        "bad_data",
        "data",
        f"Batch {here} gives a loss of {patient.death.loss} for three different sets "
        f"of weights; {fine} of {len(others)} other batches do not.",
        {"batch": here, "operation": patient.death.birth.function},
        0.96,
    )


def _loss_in(patient: Patient, world: Any, index: int) -> bool:
    """Whether the loss of one batch is finite after a change of the weights."""
    try:
        return math.isfinite(world(patient.setup).update(index))
    except Exception:
        return False
    finally:
        patient.restore()


def input_scale(patient: Patient) -> Finding | None:
    """Inputs are far from mean 0 and variance 1, and standardising them cures."""
    if not patient.doubtful:
        return None
    columns = _columns(
        [b[0] if isinstance(b, (tuple, list)) else b for b in patient.setup.batches]
    )
    if columns is None:
        return None
    mean, std, dim = columns
    largest = float(torch.maximum(mean.abs(), std).max())
    spread = float(std.max() / std.clamp_min(1e-12).min())
    if largest < LARGE and float(std.max()) > SMALL:
        return None
    shape = [1] * dim + [-1]

    def change(t: Tensor) -> Tensor:
        moved = t.movedim(1, -1) if t.ndim >= 4 else t
        cut = [1] * (moved.ndim - 1) + [-1]
        new = (moved - mean.view(cut)) / std.clamp_min(1e-8).view(cut)
        return new.movedim(-1, 1) if t.ndim >= 4 else new

    del shape
    if not patient.cures("standardised inputs", new_inputs(change)):
        return None
    return Finding(
        "unnormalized_input",
        "data",
        f"Input features reach a mean or standard deviation of {largest:.3g}; with "
        "standardised inputs the same training learns.",
        {
            "largest mean or std": largest,
            "ratio of feature scales": spread,
            **compared(patient, "standardised inputs"),
        },
        0.93,
    )


def target_scale(patient: Patient) -> Finding | None:
    """Targets are far from mean 0 and variance 1, and scaling them cures."""
    if not patient.ill or patient.setup.step is not None:
        return None
    try:
        targets = [t for b in patient.setup.batches for t in _floats(b[1])]
    except (TypeError, LookupError):
        return None
    if not targets:
        return None
    y = torch.cat([t.reshape(-1).float() for t in targets])
    y = y[y.isfinite()]
    if len(y) < 2:
        return None
    mean, std, top = float(y.mean()), float(y.std()), float(y.abs().max())
    if max(abs(mean), std) < LARGE and std > SMALL:
        return None
    standard = new_targets(lambda t: (t - mean) / max(std, 1e-12))
    unit = new_targets(lambda t: t / top)
    name = next(
        (
            name
            for name, treatment in (
                ("standardised targets", standard),
                ("targets divided by their maximum", unit),
            )
            if patient.cures(name, treatment, rescaled=True)
        ),
        None,
    )
    if name is None:
        return None
    return Finding(
        "unscaled_target",
        "data",
        f"Targets have mean {mean:.3g} and standard deviation {std:.3g}; with "
        f"{name} the same training learns.",
        {"target mean": mean, "target std": std, **compared(patient, name)},
        0.94,
    )


def compared(patient: Patient, name: str) -> dict[str, Any]:
    """The end of the base run beside the end under a treatment, for evidence."""
    treated = patient.under(name, lambda setup: setup)
    return {
        "loss at the end": patient.course.end,
        f"with {name}": treated.end,
    }


def _floats(batch: Any) -> list[Tensor]:
    return [t for t in tensors(batch) if t.is_floating_point() and t.numel()]


def _finite(batch: Any) -> bool:
    return all(bool(t.isfinite().all()) for t in _floats(batch))


def _columns(inputs: list[Any]) -> tuple[Tensor, Tensor, int] | None:
    """Mean and standard deviation of every feature (channel) over all batches."""
    firsts = [f[0] for f in map(_floats, inputs) if f]
    if not firsts or firsts[0].ndim < 2:
        return None
    moved = [t.movedim(1, -1) if t.ndim >= 4 else t for t in firsts]
    if len({t.shape[-1] for t in moved}) != 1:
        return None
    flat = torch.cat([t.reshape(-1, t.shape[-1]).float() for t in moved])
    flat = flat[flat.isfinite().all(1)]
    if len(flat) < 2:
        return None
    return flat.mean(0), flat.std(0), firsts[0].ndim - 1

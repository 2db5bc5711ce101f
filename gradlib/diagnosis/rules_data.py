"""Rules about the data: broken values, inputs and targets out of scale."""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gradlib.diagnosis.patient import Patient
from gradlib.diagnosis.report import Finding
from gradlib.diagnosis.setup import tensors
from gradlib.diagnosis.treatments import both, new_tensor, reinitialised, scaled

LARGE = 4.0
SMALL = 0.02
MOST_ROWS = 20_000
FAR = 1000.0


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


def outlying_samples(patient: Patient) -> Finding | None:
    """A few batches hold values far outside all others, and leaving them out cures."""
    batches = patient.setup.batches
    if not patient.ill or len(batches) < 8:
        return None
    peaks = [
        max((float(t.abs().max()) for t in _floats(b)), default=0.0) for b in batches
    ]
    usual = sorted(peaks)[len(peaks) // 2]
    far = [i for i, peak in enumerate(peaks) if peak > FAR * max(usual, 1e-12)]
    if not far or len(far) > 0.2 * len(batches):
        return None
    kept = [b for i, b in enumerate(batches) if i not in far]
    name = "those batches left out"
    if not patient.cures(
        name, lambda setup: replace(setup, batches=kept, max_steps=setup.steps)
    ):
        return None
    return Finding(
        "bad_data",
        "data",
        f"{len(far)} of {len(batches)} batches hold values up to {max(peaks):.3g}, where "
        f"{usual:.3g} is usual, first at batch {far[0]}.",
        {"first batch": far[0], "batches": len(far), **compared(patient, name)},
        0.92,
    )


def input_scale(patient: Patient) -> Finding | None:
    """Inputs are far from mean 0 and variance 1, and standardising them cures."""
    if not patient.doubtful:
        return None
    index, columns = _off_scale(patient, 0)
    if index is None or columns is None:
        return None
    name = "standardised inputs"
    if not patient.cures(name, new_tensor(index, columns.standardise)):
        return None
    return Finding(
        "unnormalized_input",
        "data",
        f"Input features reach a mean or standard deviation of {columns.largest:.3g}; "
        "with standardised inputs the same training learns.",
        {
            "largest mean or std": columns.largest,
            "ratio of feature scales": columns.spread,
            **compared(patient, name),
        },
        0.93,
    )


def target_scale(patient: Patient) -> Finding | None:
    """Targets are far from mean 0 and variance 1, and scaling them cures."""
    if not patient.doubtful:
        return None
    index, columns = _off_scale(patient, 1)
    if index is None or columns is None:
        return None
    treatments = {
        "standardised targets": new_tensor(index, columns.standardise),
        "targets divided by their maximum": new_tensor(index, columns.shrink),
    }
    inputs, features = _off_scale(patient, 0)
    if inputs is not None and features is not None:
        treatments["standardised inputs and targets"] = both(
            new_tensor(inputs, features.standardise), treatments["standardised targets"]
        )
    cured = (n for n, t in treatments.items() if patient.cures(n, t, rescaled=True))
    name = next(cured, None)
    if name is None:
        return None
    return Finding(
        "unscaled_target",
        "data",
        f"Targets reach a mean or standard deviation of {columns.largest:.3g}; with {name} "
        "the same training learns.",
        {"largest mean or std": columns.largest, **compared(patient, name)},
        0.94,
    )


@dataclass(frozen=True)
class Columns:
    """Mean and standard deviation of every feature of a tensor over all batches."""

    mean: Tensor
    std: Tensor
    top: float
    channels: bool

    @property
    def largest(self) -> float:
        """Largest mean or standard deviation of a feature."""
        return float(torch.maximum(self.mean.abs(), self.std).max())

    @property
    def spread(self) -> float:
        """Largest over smallest standard deviation."""
        return float(self.std.max() / self.std.clamp_min(1e-12).min())

    @property
    def off(self) -> bool:
        """Whether a feature is far from mean 0 and variance 1."""
        return self.largest > LARGE or float(self.std.max()) < SMALL

    def standardise(self, t: Tensor) -> Tensor:
        """Give every feature mean 0 and variance 1."""
        moved = t.movedim(1, -1) if self.channels else t
        floor = 1e-6 * (1e-6 + self.mean.abs())
        new = (moved - self.mean) / torch.maximum(self.std, floor)
        return (new.movedim(-1, 1) if self.channels else new).to(t.dtype)

    def shrink(self, t: Tensor) -> Tensor:
        """Divide by the largest magnitude."""
        return t / max(self.top, 1e-12)


def _off_scale(patient: Patient, place: int) -> tuple[int | None, Columns | None]:
    """The first floating tensor (place 0) or a later one (1) that is out of scale."""
    batches = patient.setup.batches
    first = tensors(batches[0])
    floating = [i for i, t in enumerate(first) if t.is_floating_point() and t.numel()]
    later = [i for i in floating if i > 0]
    for index in (
        floating[:1] if place == 0 and floating[:1] == [0] else later if place else []
    ):
        columns = _columns([tensors(b)[index] for b in batches])
        if columns is not None and columns.off:
            return index, columns
    return None, None


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


def _columns(parts: list[Tensor]) -> Columns | None:
    channels = parts[0].ndim >= 4
    moved = [t.movedim(1, -1) if channels else t for t in parts]
    if moved[0].ndim < 2:
        moved = [t.reshape(-1, 1) for t in moved]
    if len({t.shape[-1] for t in moved}) != 1:
        return None
    flat = torch.cat([t.reshape(-1, t.shape[-1]).float() for t in moved])
    flat = flat[flat.isfinite().all(1)][:MOST_ROWS]
    if len(flat) < 2:
        return None
    top = float(flat.abs().max())
    inside = flat.clamp(flat.quantile(0.01, 0), flat.quantile(0.99, 0))
    if len(flat) >= 100 and float(inside.std(0).max()) > 0:
        flat = inside
    mean, std = flat.mean(0), flat.std(0)
    return Columns(
        mean.squeeze() if parts[0].ndim < 2 else mean,
        std.squeeze() if parts[0].ndim < 2 else std,
        top,
        channels,
    )

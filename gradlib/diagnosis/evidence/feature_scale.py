"""Mean and scale of the features of a data set."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradlib.diagnosis.evidence.loss_curve import TINY
from gradlib.diagnosis.nested import tensors

# Mean or standard deviation of a feature: most are below 3, pixels and columns as they
# are recorded have 50 and more. A cure must decide.
LARGE = 4.0
# Largest standard deviation: the healthy have 0.1 and more, rates and concentrations
# less than 0.005.
SMALL = 0.02
# Rows that are read: means of more differ by less than a hundredth.
MOST_ROWS = 20_000
# Means that differ so many times more along the second axis than along the last say
# that channels come first: for noise the ratio is near 1, for images above 4.
CHANNELS_FIRST = 2.0
SHAPED_BATCHES = 20
# The lowest and highest hundredth are clamped where that leaves enough rows.
CLAMPED = 0.01
ENOUGH_ROWS = 100
# Floor of a standard deviation, relative to the mean: below it a feature is constant.
CONSTANT = 1e-6


@dataclass(frozen=True)
class FeatureScale:
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
        return float(self.std.max() / self.std.clamp_min(TINY).min())

    @property
    def off(self) -> bool:
        """Whether a feature is far from mean 0 and variance 1."""
        return self.largest > LARGE or float(self.std.max()) < SMALL

    def standardize(self, t: Tensor) -> Tensor:
        """Give every feature mean 0 and variance 1."""
        moved = t.movedim(1, -1) if self.channels else t
        floor = CONSTANT * (CONSTANT + self.mean.abs())
        new = (moved - self.mean) / torch.maximum(self.std, floor)
        return (new.movedim(-1, 1) if self.channels else new).to(t.dtype)

    def shrink(self, t: Tensor) -> Tensor:
        """Divide by the largest magnitude."""
        return t / max(self.top, TINY)


def off_scale(batches: list[Any], place: int) -> tuple[int | None, FeatureScale | None]:
    """The first floating tensor (place 0) or a later one (1) that is out of scale."""
    first = tensors(batches[0])
    floating = [i for i, t in enumerate(first) if t.is_floating_point() and t.numel()]
    later = [i for i in floating if i > 0]
    for index in (
        floating[:1] if place == 0 and floating[:1] == [0] else later if place else []
    ):
        scale = _scale_of([tensors(b)[index] for b in batches])
        if scale is not None and scale.off:
            return index, scale
    return None, None


def _channels_first(parts: list[Tensor]) -> bool:
    """Whether means differ more along the second axis than along the last."""
    if len({t.shape[1:] for t in parts}) != 1:
        return False
    whole = torch.cat([t.float() for t in parts[:SHAPED_BATCHES]])
    second, last = whole.mean((0, 2)), whole.mean((0, 1))
    return float(second.std(correction=0)) > CHANNELS_FIRST * float(
        last.std(correction=0)
    )


def _scale_of(parts: list[Tensor]) -> FeatureScale | None:
    channels = parts[0].ndim >= 4 or (parts[0].ndim == 3 and _channels_first(parts))
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
    inside = flat.clamp(flat.quantile(CLAMPED, 0), flat.quantile(1 - CLAMPED, 0))
    if len(flat) >= ENOUGH_ROWS and float(inside.std(0).max()) > 0:
        flat = inside
    mean, std = flat.mean(0), flat.std(0)
    return FeatureScale(
        mean.squeeze() if parts[0].ndim < 2 else mean,
        std.squeeze() if parts[0].ndim < 2 else std,
        top,
        channels,
    )

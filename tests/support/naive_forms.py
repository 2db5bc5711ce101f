"""Naive forms in NumPy of what gradlib computes. Written from the formulas alone."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def total_norm(gradients: list[Array], order: float = 2.0) -> float:
    flat = np.concatenate([g.ravel() for g in gradients])
    if order == np.inf:
        return float(np.abs(flat).max())
    return float((np.abs(flat) ** order).sum() ** (1 / order))


def clip_value(gradients: list[Array], bound: float) -> list[Array]:
    return [np.minimum(np.maximum(g, -bound), bound) for g in gradients]


def clip_norm(gradients: list[Array], bound: float, order: float = 2.0) -> list[Array]:
    norm = total_norm(gradients, order)
    return [g * bound / norm if norm > bound else g for g in gradients]


def clip_each_norm(gradients: list[Array], bound: float) -> list[Array]:
    return [clip_norm([g], bound)[0] for g in gradients]


def normalize(gradients: list[Array], norm: float) -> list[Array]:
    return [g * norm / total_norm(gradients) for g in gradients]


def clip_adaptive(
    weights: list[Array], gradients: list[Array], clipping: float, eps: float
) -> list[Array]:
    clipped = []
    for weight, gradient in zip(weights, gradients, strict=True):
        if weight.ndim < 2:
            weight, gradient = weight[None], gradient[None]
            (unit,) = _clip_units(weight, gradient, clipping, eps)
            clipped.append(unit)
        else:
            units = _clip_units(weight, gradient, clipping, eps)
            clipped.append(np.stack(units))
    return clipped


def _clip_units(
    weight: Array, gradient: Array, clipping: float, eps: float
) -> list[Array]:
    units = []
    for w, g in zip(weight, gradient, strict=True):
        limit = clipping * max(np.sqrt((w**2).sum()), eps)
        size = np.sqrt((g**2).sum())
        units.append(g * limit / size if size > limit else g)
    return units


def autoclip_bounds(norms: list[float], percentile: float, window: int) -> list[float]:
    return [
        float(np.percentile(norms[max(0, k + 1 - window) : k + 1], percentile))
        for k in range(len(norms))
    ]


def zclip_norms(
    norms: list[float], threshold: float, decay: float, warmup: int
) -> list[float]:
    """The norm after clipping, step by step."""
    first = np.array(norms[:warmup])
    mean, variance = first.mean(), ((first - first.mean()) ** 2).mean()
    clipped = list(norms[:warmup])
    for norm in norms[warmup:]:
        deviation = np.sqrt(variance)
        z = (norm - mean) / deviation
        if z > threshold:
            norm = mean + threshold**2 / z * deviation
        clipped.append(float(norm))
        mean = decay * mean + (1 - decay) * norm
        variance = decay * variance + (1 - decay) * (norm - mean) ** 2
    return clipped


def angle(a: Array, b: Array) -> float:
    cosine = a @ b / np.sqrt(a @ a) / np.sqrt(b @ b)
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def jacobian(function: Callable[[Array], Array], x: Array, step: float = 1e-6) -> Array:
    columns = []
    for k in range(len(x)):
        shift = step * np.eye(len(x))[k]
        columns.append((function(x + shift) - function(x - shift)) / (2 * step))
    return np.stack(columns, axis=1)


def spectral_penalty(matrices: list[Array]) -> float:
    return sum(np.linalg.svd(m, compute_uv=False)[0] ** 2 for m in matrices) / 2


def orthogonality_penalty(matrices: list[Array], gain: float) -> float:
    total = 0.0
    for matrix in matrices:
        values = np.linalg.svd(matrix, compute_uv=False)
        total += float((((values / gain) ** 2 - 1) ** 2).sum())
    return total


def recurrent_penalty(
    hidden: Array, direct: Array, weight: Array, slope: Callable[[Array], Array]
) -> float:
    """Of states and direct gradients (steps, batch, width), by full Jacobians."""
    steps, batch, width = hidden.shape
    terms = []
    for b in range(batch):
        d = np.zeros(width)
        for k in reversed(range(steps)):
            d = d + direct[k, b]
            jacobian = np.diag(slope(hidden[k, b])) @ weight
            size = np.sqrt(d @ d)
            carried = d @ jacobian
            if size > 0:
                terms.append((np.sqrt(carried @ carried) / size - 1) ** 2)
            d = carried
    return float(np.mean(terms))

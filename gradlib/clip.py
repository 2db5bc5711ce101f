"""Clip gradients: by value, by norm, by parameter, by unit, or to a fixed norm.

A clipper takes parameters, changes their gradients in place, and returns the total
norm *before*. Parameters whose ``grad`` is None are skipped; if there are no
gradients at all, nothing happens and the norm is 0. Gradients that hold NaN or
infinity are refused: where they come from is worth an error, and clipping would
spread one NaN over all gradients, or turn the finite ones into zeros. The check
costs one read of the device. With ``nonfinite="skip"`` there are no gradients
afterwards, and the step moves nothing; with ``nonfinite="pass"`` they are left to
others, such as a GradScaler.
"""

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gradlib.checks import check_choice, check_count, check_limit, check_positive
from gradlib.measure.gradients import NONFINITE, Gradients, Parameters, gradients_of
from gradlib.measure.sharded import has_whole_rows, parts_of
from gradlib.measure.tensors import (
    EXACT_IN_FLOAT32,
    joint_norm,
    norm_dtype,
    norms_of,
    on_one_device,
)

__all__ = [
    "AutoClip",
    "ZClip",
    "clip_adaptive_",
    "clip_each_norm_",
    "clip_norm_",
    "clip_value_",
    "normalize_",
]

Clipper = Callable[[list[nn.Parameter]], object]
Clip = float | Clipper


def as_clipper(clip: Clip | None, *, nonfinite: str = "raise") -> Clipper | None:
    """What a training loop calls to clip: a function as it is, or one for a norm.

    Args:
        clip: Largest joint norm, > 0 (``math.inf`` never clips); or a function, called
            with the parameters after ``backward()``; or None.
        nonfinite: As for `clip_norm_`, where ``clip`` is a norm.

    Raises:
        TypeError: ``clip`` is neither a number nor a function.
        ValueError: it is a number that is not > 0.

    Example:
        >>> p = torch.nn.Parameter(torch.zeros(2))
        >>> p.grad = torch.tensor([3.0, 4.0])
        >>> _ = as_clipper(1.0)([p])
        >>> p.grad
        tensor([0.6000, 0.8000])
    """
    if isinstance(clip, type):
        raise TypeError(
            f"clip: expected a norm or a function of the parameters, got the class "
            f"{clip.__name__}. Write {clip.__name__}()."
        )
    if clip is None or callable(clip):
        return clip
    if isinstance(clip, str) or not hasattr(clip, "__float__"):
        raise TypeError(
            f"clip: expected a norm > 0 or a function of the parameters, got {clip!r}. "
            "Write for example clip=1.0."
        )
    bound = check_limit(clip, "clip")
    if bound is None or bound == math.inf:
        return None
    return partial(clip_norm_, max_norm=bound, nonfinite=nonfinite)


@torch.no_grad()
def clip_value_(
    parameters: Parameters, clip_value: float, *, nonfinite: str = "raise"
) -> Tensor:
    """Bound each number of the gradients. The direction changes.

    g_i <- min(max(g_i, -clip_value), clip_value), in place.

    Args:
        parameters: Parameters, or pairs (name, parameter).
        clip_value: Largest absolute value, in units of the gradient; > 0.
        nonfinite: What to do with NaN and infinity: ``"raise"``, ``"skip"``, or
            ``"pass"``; with the last, as in torch,
            infinity becomes ``clip_value`` and NaN stays.

    Returns:
        Scalar tensor: the L2 norm of all gradients before clipping.

    Raises:
        NonFiniteGradientError: a gradient holds NaN or infinity; names the parameter.
        ValueError: ``parameters`` is empty, or ``clip_value`` is not > 0.

    Example:
        >>> p = torch.nn.Parameter(torch.zeros(2))
        >>> p.grad = torch.tensor([3.0, 4.0])
        >>> clip_value_([p], clip_value=3.5)
        tensor(5.)
        >>> p.grad
        tensor([3.0000, 3.5000])
    """
    clip_value = check_positive(clip_value, "clip_value")
    found = gradients_of(parameters, nonfinite=nonfinite)
    if found.tensors:
        torch._foreach_clamp_min_(found.tensors, -clip_value)
        torch._foreach_clamp_max_(found.tensors, clip_value)
    return found.total


@torch.no_grad()
def clip_norm_(
    parameters: Parameters,
    max_norm: float,
    norm_type: float = 2.0,
    *,
    nonfinite: str = "raise",
) -> Tensor:
    """Rescale gradients so that their joint norm is at most ``max_norm``.

    g <- g * min(1, max_norm / (||g|| + 1e-6)), in place, as
    ``torch.nn.utils.clip_grad_norm_``. The direction stays.

    Args:
        parameters: Parameters, or pairs (name, parameter).
        max_norm: Largest allowed norm, in units of the gradient; > 0.
        norm_type: Order of the norm, > 0; ``math.inf`` for the largest number.
        nonfinite: What to do with NaN and infinity. ``"raise"``: refuse them.
            ``"skip"``: set all gradients to None, so that the optimizer's step moves
            nothing. ``"pass"``: read nothing from the device; as in torch, NaN spreads
            and infinity leaves zeros. A GradScaler skips such steps itself.

    Returns:
        Scalar tensor: the norm before clipping.

    Raises:
        NonFiniteGradientError: a gradient holds NaN or infinity; names the parameter.
        ValueError: ``parameters`` is empty, or a number cannot be right.

    Example:
        >>> p = torch.nn.Parameter(torch.zeros(2))
        >>> p.grad = torch.tensor([3.0, 4.0])
        >>> clip_norm_([p], max_norm=1.0)
        tensor(5.)
        >>> p.grad
        tensor([0.6000, 0.8000])

    References:
        Pascanu et al. 2013, https://arxiv.org/abs/1211.5063
    """
    max_norm = check_positive(max_norm, "max_norm")
    found = gradients_of(parameters, norm_type, nonfinite=nonfinite)
    _scale_down_to_(found, max_norm)
    return found.total


@torch.no_grad()
def clip_each_norm_(
    parameters: Parameters, max_norm: float, *, nonfinite: str = "raise"
) -> Tensor:
    """Bound the norm of each parameter's gradient by itself.

    g_p <- g_p * min(1, max_norm / (||g_p|| + 1e-6)) for each parameter p, in place.
    The direction of the whole gradient changes, those of its parts stay.

    Args:
        parameters: Parameters, or pairs (name, parameter).
        max_norm: Largest norm of one gradient, in units of the gradient; > 0.
        nonfinite: What to do with NaN and infinity: ``"raise"``, ``"skip"``, or
            ``"pass"``; with the last nothing is read from the device, and a
            broken gradient stays broken or becomes zero by itself.

    Returns:
        Scalar tensor: the L2 norm of all gradients before clipping.

    Raises:
        NonFiniteGradientError: a gradient holds NaN or infinity; names the parameter.
        ValueError: ``parameters`` is empty, or ``max_norm`` is not > 0.

    Example:
        >>> layer = torch.nn.Linear(1, 1)
        >>> layer.weight.grad, layer.bias.grad = torch.full((1, 1), 3.0), torch.ones(1)
        >>> norm = clip_each_norm_(layer.parameters(), max_norm=2.0)
        >>> layer.weight.grad, layer.bias.grad
        (tensor([[2.0000]]), tensor([1.]))
    """
    max_norm = check_positive(max_norm, "max_norm")
    found = gradients_of(parameters, nonfinite=nonfinite)
    if found.tensors:
        norms = torch.stack(on_one_device(found.norms))
        scales = torch.clamp(max_norm / (norms + 1e-6), max=1.0)
        _scale_each_(found.tensors, list(scales))
    return found.total


@torch.no_grad()
def normalize_(
    parameters: Parameters, norm: float = 1.0, *, nonfinite: str = "raise"
) -> Tensor:
    """Rescale gradients to a joint norm, up or down, so that only direction counts.

    g <- g * norm / ||g||, in place. A gradient of zero has no direction and stays.

    Args:
        parameters: Parameters, or pairs (name, parameter).
        norm: The L2 norm to give to all gradients together; > 0.
        nonfinite: What to do with NaN and infinity: ``"raise"``, ``"skip"``, or
            ``"pass"``; with the last such gradients are left as they are.

    Returns:
        Scalar tensor: the L2 norm of all gradients before.

    Raises:
        NonFiniteGradientError: a gradient holds NaN or infinity; names the parameter.
        ValueError: ``parameters`` is empty, or ``norm`` is not > 0.

    Example:
        >>> p = torch.nn.Parameter(torch.zeros(2))
        >>> p.grad = torch.tensor([0.0, 0.01])
        >>> before = normalize_([p])
        >>> p.grad
        tensor([0., 1.])

    References:
        Hazan et al. 2015, https://arxiv.org/abs/1507.02030
    """
    norm = check_positive(norm, "norm")
    found = gradients_of(parameters, nonfinite=nonfinite)
    if found.tensors:
        fits = found.size is not None and EXACT_IN_FLOAT32 < found.size < 1e38
        size = found.total if fits else _exact_norm(found.tensors)
        scale = torch.clamp(norm / size, max=1e38)
        has_direction = (size > 0) & size.isfinite()
        _scale_(found.tensors, torch.where(has_direction, scale, 1.0))
    return found.total


def _exact_norm(tensors: list[Tensor]) -> Tensor:
    return joint_norm(norms_of(tensors, dtype=torch.float64))


@torch.no_grad()
def clip_adaptive_(
    parameters: Parameters,
    clipping: float = 0.01,
    eps: float = 1e-3,
    *,
    nonfinite: str = "raise",
) -> Tensor:
    """Bound the gradient of each output unit by the size of its weights (AGC).

    G_i <- G_i * min(1, clipping * max(||W_i||, eps) / ||G_i||), in place, where i
    counts the output units: slices along the first axis, since weights of torch are
    (out, in, ...). A parameter with fewer than two axes is one unit.

    Brock et al. leave out the last layer: pass the parameters of the others.

    Args:
        parameters: Parameters, or pairs (name, parameter); those whose ``grad`` is
            None are skipped.
        clipping: Largest ratio of gradient to weights; > 0.
        eps: Smallest size that weights count for, so that units at zero can move.
        nonfinite: What to do with NaN and infinity: ``"raise"``, ``"skip"``, or
            ``"pass"``; with the last nothing is read from the device, a broken
            unit stays broken, and the others are clipped.

    Returns:
        Scalar tensor: the L2 norm of all gradients before clipping.

    Raises:
        NonFiniteGradientError: a gradient holds NaN or infinity; names the parameter.
        ValueError: ``parameters`` is empty or cut through units, or a number cannot
            be right.

    Example:
        >>> p = torch.nn.Parameter(torch.tensor([[3.0, 4.0], [0.0, 50.0]]))
        >>> p.grad = torch.tensor([[0.0, 0.01], [0.0, 2.0]])
        >>> norm = clip_adaptive_([p], clipping=0.01)
        >>> p.grad
        tensor([[0.0000, 0.0100],
                [0.0000, 0.5000]])

    References:
        Brock et al. 2021, https://arxiv.org/abs/2102.06171
    """
    clipping, eps = check_positive(clipping, "clipping"), check_positive(eps, "eps")
    found = gradients_of(parameters, norms=_unit_norms, nonfinite=nonfinite)
    if not found.tensors:
        return found.total
    limits = _unit_norms([_touched(p) for p in found.owners])
    torch._foreach_clamp_min_(limits, eps)
    _scale_(limits, limits[0].new_tensor(clipping))
    scales = torch._foreach_div(limits, found.norms)
    torch._foreach_clamp_max_(scales, 1.0)
    torch._foreach_mul_(parts_of(found.tensors), scales)
    return found.total


class AutoClip:
    """Clip to a percentile of the norms seen so far.

    max_norm = percentile of the last norms, the present one included. Norms that are
    zero or not finite are not counted.

    Args:
        percentile: Between 0 and 100; the paper's is 10.
        window: How many norms to keep. The paper keeps all.
        nonfinite: What to do with NaN and infinity: ``"raise"``, ``"skip"``, or
            ``"pass"``; with the last such gradients are left as they are.

    Attributes:
        norms: The norms kept, oldest first.

    Raises:
        ValueError: an argument cannot be right.

    Example:
        >>> p, clip = torch.nn.Parameter(torch.zeros(1)), AutoClip(percentile=50)
        >>> for size in (1.0, 2.0, 600.0):
        ...     p.grad = torch.tensor([size])
        ...     norm = clip([p])
        >>> p.grad
        tensor([2.])

    References:
        Seetharaman et al. 2020, https://arxiv.org/abs/2007.14469
    """

    def __init__(
        self,
        percentile: float = 10.0,
        window: int = 1000,
        *,
        nonfinite: str = "raise",
    ) -> None:
        self.percentile = check_positive(percentile, "percentile", zero_ok=True)
        if percentile > 100:
            raise ValueError(
                f"percentile: expected a number from 0 to 100, got {percentile}"
            )
        self.nonfinite = check_choice(nonfinite, "nonfinite", NONFINITE)
        self.norms: deque[float] = deque(maxlen=check_count(window, "window"))
        self._ranked: list[float] = []

    @torch.no_grad()
    def __call__(self, parameters: Parameters) -> Tensor:
        """Clip the gradients in place; return their L2 norm before, a scalar tensor."""
        found = gradients_of(parameters, nonfinite=self.nonfinite)
        size = found.norm()
        if 0 < size < math.inf:
            self._count(size)
            _scale_down_to_(found, self._bound())
        return found.total

    def state_dict(self) -> dict[str, Any]:
        """What a run that is resumed needs: the norms, oldest first."""
        return {"norms": list(self.norms)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken; the oldest norms give way to ``window``.

        Raises:
            KeyError: the state is that of something else.
        """
        self.norms.clear()
        self.norms.extend(state["norms"])
        self._ranked = sorted(self.norms)

    def _count(self, size: float) -> None:
        if len(self.norms) == self.norms.maxlen:
            del self._ranked[bisect_left(self._ranked, self.norms[0])]
        self.norms.append(size)
        insort(self._ranked, size)

    def _bound(self) -> float:
        place = self.percentile / 100 * (len(self._ranked) - 1)
        below, above = self._ranked[math.floor(place)], self._ranked[math.ceil(place)]
        return below + (above - below) * (place % 1)


class ZClip:
    """Clip norms that lie far above their running mean.

    With mean m and deviation s of past norms, z = (||g|| - m) / s. Where z is above
    the threshold z0, the norm becomes m + s * z0^2 / z: the larger the spike, the
    closer to the mean. Then m <- a m + (1 - a) ||g|| and
    s^2 <- a s^2 + (1 - a) (||g|| - m)^2, with the norm after clipping.

    The first ``warmup`` norms are only counted; from them come the first m and s.
    Norms that are not finite are not counted.

    Args:
        z_threshold: z0; > 0.
        decay: a; between 0 and 1, the memory is about 1 / (1 - a) steps.
        warmup: How many norms to count before clipping.
        max_norm: A fixed bound besides, from the first step on.
        nonfinite: What to do with NaN and infinity: ``"raise"``, ``"skip"``, or
            ``"pass"``; with the last such gradients are left as they are.

    Attributes:
        mean: m; None during warm-up.
        variance: s^2; None during warm-up.

    Raises:
        ValueError: an argument cannot be right.

    Example:
        >>> p, clip = torch.nn.Parameter(torch.zeros(1)), ZClip(warmup=2)
        >>> for size in (1.0, 3.0, 12.0):
        ...     p.grad = torch.tensor([size])
        ...     norm = clip([p])
        >>> p.grad
        tensor([2.6250])

    References:
        Kumar et al. 2025, https://arxiv.org/abs/2504.02507
    """

    def __init__(
        self,
        z_threshold: float = 2.5,
        decay: float = 0.97,
        warmup: int = 25,
        *,
        max_norm: float | None = None,
        nonfinite: str = "raise",
    ) -> None:
        self.z_threshold = check_positive(z_threshold, "z_threshold")
        self.decay = check_positive(decay, "decay", below=1.0)
        self.warmup = check_count(warmup, "warmup")
        fixed = math.inf if max_norm is None else check_positive(max_norm, "max_norm")
        self.max_norm = fixed
        self.nonfinite = check_choice(nonfinite, "nonfinite", NONFINITE)
        self.mean: float | None = None
        self.variance: float | None = None
        self._first: list[float] = []

    @torch.no_grad()
    def __call__(self, parameters: Parameters) -> Tensor:
        """Clip the gradients in place; return their L2 norm before, a scalar tensor."""
        found = gradients_of(parameters, nonfinite=self.nonfinite)
        size = found.norm()
        if math.isfinite(size):
            _scale_down_to_(found, min(self._bound(size), self.max_norm))
        return found.total

    def state_dict(self) -> dict[str, Any]:
        """What a run that is resumed needs: mean, variance, norms of the warm-up."""
        return {
            "mean": self.mean,
            "variance": self.variance,
            "first": list(self._first),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        Raises:
            KeyError: the state is that of something else.
        """
        self.mean, self.variance = state["mean"], state["variance"]
        self._first = list(state["first"])

    def _bound(self, size: float) -> float:
        """The norm that a gradient of this size may have; counts it."""
        if self.mean is None or self.variance is None:
            self._first.append(size)
            if len(self._first) == self.warmup:
                self.mean = float(np.mean(self._first))
                self.variance = float(np.var(self._first))
                self._first.clear()
            return math.inf
        deviation = math.sqrt(self.variance)
        z = (size - self.mean) / (deviation + 1e-6)
        spike = z > self.z_threshold
        bound = self.mean + deviation * self.z_threshold**2 / z if spike else math.inf
        kept, a = min(size, bound), self.decay
        self.mean = a * self.mean + (1 - a) * kept
        self.variance = a * self.variance + (1 - a) * (kept - self.mean) ** 2
        return bound


def _unit_norms(
    tensors: list[Tensor], order: float = 2.0, dtype: torch.dtype | None = None
) -> list[Tensor]:
    """Norms of the slices along the first axis, with all axes kept; of a vector one.

    Of a sharded tensor those that this process holds, which must be whole.
    """
    dtype = dtype or norm_dtype(tensors)
    vectors = iter(norms_of([t for t in tensors if t.ndim < 2], order, dtype))
    if not all(map(has_whole_rows, tensors)):
        raise ValueError(
            "parameters: expected tensors whose units each lie in one process, got "
            "some that are cut along another axis than the first. Clip with clip_norm_."
        )
    return [
        torch.linalg.vector_norm(t, order, tuple(range(1, t.ndim)), True, dtype=dtype)
        if t.ndim > 1
        else next(vectors)
        for t in parts_of(tensors)
    ]


def _touched(parameter: Tensor) -> Tensor:
    """The parameter; of one with a sparse gradient, the rows that have a gradient."""
    grad = parameter.grad
    if grad is None or grad.layout is torch.strided:
        return parameter
    return parameter[tuple(grad.indices())]


def _scale_down_to_(found: Gradients, max_norm: float) -> None:
    """Scale gradients to a joint norm of at most ``max_norm``, as torch does."""
    size = math.inf if found.size is None else found.size
    surely_below = size * (1 + 1e-6) + 1e-6 < max_norm
    if found.tensors and not surely_below:
        _scale_(found.tensors, torch.clamp(max_norm / (found.total + 1e-6), max=1.0))


def _scale_(tensors: list[Tensor], scale: Tensor) -> None:
    """Multiply all tensors by one number; of a sharded one, what lies here."""
    if all(t.device == scale.device for t in tensors):
        torch._foreach_mul_(parts_of(tensors), scale)
    else:
        _scale_each_(tensors, [scale] * len(tensors))


def _scale_each_(tensors: list[Tensor], scales: list[Tensor]) -> None:
    """Multiply each tensor by its own number or numbers."""
    near = [s.to(t.device) for s, t in zip(scales, tensors, strict=True)]
    torch._foreach_mul_(tensors, near)

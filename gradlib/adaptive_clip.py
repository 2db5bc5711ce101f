"""Clippers whose bound adapts: to the parameters, or to the norms of past steps."""

import math
from bisect import bisect_left, insort
from collections import deque

import numpy as np
import torch
from torch import Tensor

from gradlib.errors import check_count, check_positive
from gradlib.gradients import Parameters, gather, norms_of, scale_, shrink_, wide


@torch.no_grad()
def clip_adaptive_(
    parameters: Parameters,
    clipping: float = 0.01,
    eps: float = 1e-3,
    *,
    error_if_nonfinite: bool = True,
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
        error_if_nonfinite: Refuse NaN and infinity. If False nothing is read from the
            device; a broken unit stays broken, and the others are clipped.

    Returns:
        Scalar tensor: the L2 norm of all gradients before clipping.

    Raises:
        NonFiniteGradientError: a gradient holds NaN or infinity; names the parameter.
        ValueError: ``parameters`` is empty, or a number cannot be right.

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
    found = gather(parameters, norms=_unit_norms, error_if_nonfinite=error_if_nonfinite)
    if not found.tensors:
        return found.total
    limits = _unit_norms([_touched(p) for p in found.owners])
    torch._foreach_clamp_min_(limits, eps)
    scale_(limits, limits[0].new_tensor(clipping))
    scales = torch._foreach_div(limits, found.norms)
    torch._foreach_clamp_max_(scales, 1.0)
    torch._foreach_mul_(found.tensors, scales)
    return found.total


class AutoClip:
    """Clip to a percentile of the norms seen so far.

    max_norm = percentile of the last norms, the present one included. Norms that are
    zero or not finite are not counted.

    Args:
        percentile: Between 0 and 100; the paper's is 10.
        window: How many norms to keep. The paper keeps all.
        error_if_nonfinite: Refuse NaN and infinity. If False such gradients are left
            as they are.

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
        error_if_nonfinite: bool = True,
    ) -> None:
        self.percentile = check_positive(percentile, "percentile", zero_ok=True)
        if percentile > 100:
            raise ValueError(
                f"percentile: expected a number from 0 to 100, got {percentile}"
            )
        self.error_if_nonfinite = error_if_nonfinite
        self.norms: deque[float] = deque(maxlen=check_count(window, "window"))
        self._ranked: list[float] = []

    @torch.no_grad()
    def __call__(self, parameters: Parameters) -> Tensor:
        """Clip the gradients in place; return their L2 norm before, a scalar tensor."""
        found = gather(parameters, error_if_nonfinite=self.error_if_nonfinite)
        size = found.read()
        if 0 < size < math.inf:
            self._count(size)
            shrink_(found, self._bound())
        return found.total

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
        error_if_nonfinite: Refuse NaN and infinity. If False such gradients are left
            as they are.

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
        error_if_nonfinite: bool = True,
    ) -> None:
        self.z_threshold = check_positive(z_threshold, "z_threshold")
        self.decay = check_positive(decay, "decay", below=1.0)
        self.warmup = check_count(warmup, "warmup")
        fixed = math.inf if max_norm is None else check_positive(max_norm, "max_norm")
        self.max_norm = fixed
        self.error_if_nonfinite = error_if_nonfinite
        self.mean: float | None = None
        self.variance: float | None = None
        self._first: list[float] = []

    @torch.no_grad()
    def __call__(self, parameters: Parameters) -> Tensor:
        """Clip the gradients in place; return their L2 norm before, a scalar tensor."""
        found = gather(parameters, error_if_nonfinite=self.error_if_nonfinite)
        size = found.read()
        if math.isfinite(size):
            shrink_(found, min(self._bound(size), self.max_norm))
        return found.total

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
    """Norms of the slices along the first axis, with all axes kept; of a vector one."""
    dtype = dtype or wide(tensors)
    vectors = iter(norms_of([t for t in tensors if t.ndim < 2], order, dtype))
    return [
        torch.linalg.vector_norm(t, order, tuple(range(1, t.ndim)), True, dtype=dtype)
        if t.ndim > 1
        else next(vectors)
        for t in tensors
    ]


def _touched(parameter: Tensor) -> Tensor:
    """The parameter; of one with a sparse gradient, the rows that have a gradient."""
    grad = parameter.grad
    if grad is None or grad.layout is torch.strided:
        return parameter
    return parameter[tuple(grad.indices())]

"""Norms of tensors, whether they are finite, and reading numbers from a device.

Norms of half precision are taken in float32. The square of a number above 1e19 does
not fit float32: where that makes the norm of finite tensors infinite, it is taken
again in float64.
"""

import math
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from gradlib.measure.sharded import parts_of, whole_norms

HALF_TYPES = (torch.float16, torch.bfloat16)
EXACT_IN_FLOAT32 = 1e-16
"""A norm above this is exact in float32: the squares of what matters in it do not
fall below the smallest normal number, 1.2e-38. Below it, it is taken in float64."""

KINDS = ("", "inf", "nan")
"""What a tensor holds, by the code of `nonfinite_code`."""

_IS_CPU = attrgetter("is_cpu")
_IS_SPARSE = attrgetter("is_sparse")
_DTYPE = attrgetter("dtype")


def values_of(tensor: Tensor) -> Tensor:
    """The values of a tensor, of a sparse one those that it stores; without a graph.

    Values that a sparse tensor stores for the same index are summed: its norm is
    then that of the dense tensor.

    Example:
        >>> embedding = torch.nn.Embedding(5, 1, sparse=True)
        >>> embedding(torch.tensor([3, 3])).sum().backward()
        >>> values_of(embedding.weight.grad)
        tensor([[2.]])
    """
    tensor = tensor.detach()
    return tensor if tensor.layout is torch.strided else tensor.coalesce().values()


def dense_of(tensors: list[Tensor]) -> list[Tensor]:
    """The same list, or where one is sparse, `values_of` each."""
    if any(map(_IS_SPARSE, tensors)):
        return [values_of(tensor) for tensor in tensors]
    return tensors


def numbers_of(scalars: list[Tensor]) -> list[float]:
    """The numbers of scalar tensors, in at most one read of a device.

    On the CPU a read waits for nothing, and costs less than to stack the scalars.
    """
    if all(map(_IS_CPU, scalars)):
        return [scalar.item() for scalar in scalars]
    numbers: list[float] = torch.stack(on_one_device(scalars)).tolist()
    return numbers


def number_of(value: Any, name: str) -> Tensor | float:
    """A number that somebody handed over; that of a device stays there, as a scalar.

    Raises:
        TypeError: it is not a number.
        ValueError: a tensor holds more or less than one number.

    Example:
        >>> number_of(2, "loss"), number_of(torch.ones(1, 1), "loss")
        (2.0, 1.0)
    """
    if isinstance(value, Tensor):
        if value.numel() != 1:
            raise ValueError(
                f"{name}: expected one number, got shape {tuple(value.shape)}"
            )
        return (
            float(value.item()) if value.is_cpu else value.detach().clone().reshape(())
        )
    if isinstance(value, str) or not hasattr(value, "__float__"):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    return float(value)


def norms_of(
    tensors: list[Tensor], order: float = 2.0, dtype: torch.dtype | None = None
) -> list[Tensor]:
    """Norm of each tensor, as scalar tensors; of the whole, where it is sharded."""
    parts = parts_of(tensors)
    norms = _norms_of_parts(parts, order, dtype)
    return norms if parts is tensors else whole_norms(norms, tensors, order)


def _norms_of_parts(
    parts: list[Tensor], order: float = 2.0, dtype: torch.dtype | None = None
) -> list[Tensor]:
    if not parts:
        return []
    if order == math.inf:
        parts = [t if t.numel() else t.new_zeros(1) for t in parts]
    return list(torch._foreach_norm(parts, order, dtype=dtype or norm_dtype(parts)))


class DeferredNumbers:
    """The numbers of scalar tensors, read later, so that no step waits for a device.

    The copy to the CPU starts at once. `read` waits for it, which costs nothing once
    the device has gone on to a later step.

    Example:
        >>> DeferredNumbers([torch.tensor(1.5), torch.tensor(2.0)]).read()
        [1.5, 2.0]
    """

    def __init__(self, scalars: list[Tensor]) -> None:
        self._numbers: list[float] | None = None
        self._done: torch.cuda.Event | None = None
        if all(map(_IS_CPU, scalars)):
            self._numbers = [scalar.item() for scalar in scalars]
            return
        stacked = torch.stack(on_one_device(scalars))
        pinned = stacked.is_cuda
        copy = torch.empty(stacked.shape, dtype=stacked.dtype, pin_memory=pinned)
        self._copy = copy.copy_(stacked, non_blocking=pinned)
        if pinned:
            self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._done.record()

    def read(self) -> list[float]:
        """The numbers; waits until they have come."""
        if self._numbers is None:
            if self._done is not None:
                self._done.synchronize()
            self._numbers = self._copy.tolist()
        return self._numbers


class DeferredNorms:
    """Norms of tensors as they are now, read later.

    A norm of tensors on the CPU that does not fit float32 is taken in float64; on a
    device, where that would need a wait, it is infinite.

    Args:
        tensors: Dense ones, also sharded.

    Example:
        >>> norms = DeferredNorms([torch.tensor([3.0, 4.0])])
        >>> norms.send()
        >>> norms.read()
        [5.0]
    """

    def __init__(self, tensors: list[Tensor]) -> None:
        parts = parts_of(tensors)
        self._sharded = tensors if parts is not tensors else None
        self._norms = _norms_of_parts(parts)
        self._sizes: list[float] = []
        self._numbers: DeferredNumbers | None = None
        if all(map(_IS_CPU, self._norms)):
            sizes = [norm.item() for norm in self._norms]
            is_finite = math.hypot(*sizes) < math.inf
            if not (is_finite and min(sizes, default=1.0) > EXACT_IN_FLOAT32):
                self._norms = _norms_of_parts(parts, dtype=torch.float64)
                sizes = [norm.item() for norm in self._norms]
            if self._sharded is None:
                self._sizes, self._norms = sizes, []

    def send(self) -> None:
        """Start the copy; for sharded tensors every process must call this."""
        if self._sharded is not None:
            self._norms = whole_norms(self._norms, self._sharded, 2.0)
        if not self._sizes:
            self._numbers = DeferredNumbers(self._norms)

    def read(self) -> list[float]:
        """The norms; waits until they have come."""
        return self._sizes if self._numbers is None else self._numbers.read()


def ratios_of(sizes: list[float], wholes: list[float]) -> list[float]:
    """Each size over its whole; infinite where only the whole is 0, and 0 / 0 is 0.

    Example:
        >>> ratios_of([1.0, 1.0, 0.0], [4.0, 0.0, 0.0])
        [0.25, inf, 0.0]
    """
    return [
        size / whole if whole else (math.inf if size else 0.0)
        for size, whole in zip(sizes, wholes, strict=True)
    ]


def joint_norm(norms: list[Tensor], order: float = 2.0) -> Tensor:
    """Norm of the whole, from the norms of its parts; on the device of the first."""
    near = on_one_device(norms)
    of_units = any(norm.ndim for norm in near)
    together = (
        torch.cat([norm.view(-1) for norm in near]) if of_units else torch.stack(near)
    )
    total: Tensor = torch.linalg.vector_norm(together, order)
    return total


def norm_dtype(tensors: list[Tensor]) -> torch.dtype | None:
    """The type in which to take norms, where it is not that of the tensors."""
    types = set(map(_DTYPE, tensors))
    if types.isdisjoint(HALF_TYPES):
        return None
    return torch.float64 if torch.float64 in types else torch.float32


def on_one_device(tensors: list[Tensor]) -> list[Tensor]:
    """The tensors on the device of the first."""
    if len({t.get_device() for t in tensors}) < 2:
        return tensors
    return [t.to(tensors[0].device) for t in tensors]


def kind_of(tensor: Tensor) -> str:
    """``"nan"`` if a tensor holds NaN, else ``"inf"`` if infinity, else ``""``.

    Example:
        >>> kind_of(torch.tensor([1.0, float("inf")]))
        'inf'
    """
    return KINDS[int(nonfinite_code(tensor))]


def kinds_of(tensors: list[Tensor]) -> list[str]:
    """What `kind_of` says of each; of sharded tensors, the same in all processes."""
    codes = [nonfinite_code(tensor).float() for tensor in tensors]
    return [KINDS[int(code)] for code in whole_norms(codes, tensors, math.inf)]


def nonfinite_code(tensor: Tensor, mask: bool = False) -> Tensor:
    """2 if there is NaN, else 1 if there is infinity, else 0; on the device.

    In a mask, negative infinity is fine. Of a sharded tensor, this process's part
    counts.
    """
    (values,) = parts_of([values_of(tensor)])
    infinite = values.isposinf() if mask else values.isinf()
    return torch.maximum(2 * values.isnan().any().byte(), infinite.any().byte())

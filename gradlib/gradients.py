"""The gradients of parameters: which there are, how large, whether finite.

Norms of half precision are taken in float32. The square of a number above 1e19 does
not fit float32: where that makes the norm of finite gradients infinite, it is taken
again in float64.
"""

import math
from collections.abc import Iterable
from operator import attrgetter
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from gradlib.errors import NonFiniteGradientError, check_positive
from gradlib.nonfinite import kind_of

Parameters = Tensor | Iterable[Tensor] | Iterable[tuple[str, Tensor]]

_DTYPE = attrgetter("dtype")
_HALF = (torch.float16, torch.bfloat16)


class Gradients(NamedTuple):
    """The gradients of some parameters, with their norms."""

    owners: list[Tensor]
    """The parameters whose gradient is not None."""
    tensors: list[Tensor]
    """Their gradients, as dense tensors that share memory with ``grad``."""
    norms: list[Tensor]
    """Norm of each, or of each of its units."""
    total: Tensor
    """Norm of all together, a scalar tensor; 0 if there are none."""
    size: float | None
    """The same as a number, if it was read."""

    def read(self) -> float:
        """The norm of all together as a number, by one read of the device at most."""
        return self.total.item() if self.size is None else self.size


class Norms(Protocol):
    """Gives the norm of each tensor, or those of its parts."""

    def __call__(
        self, tensors: list[Tensor], order: float, dtype: torch.dtype | None = None
    ) -> list[Tensor]: ...


@torch.no_grad()
def total_norm(parameters: Parameters, norm_type: float = 2.0) -> Tensor:
    """Norm of all gradients together, as if they were one vector.

    ||g|| = (sum of |g_i|^p)^(1/p), as ``torch.nn.utils.get_total_norm``; gradients of
    half precision give a norm in float32. Nothing is read from the device, so a norm
    that does not fit float32 is infinite here; see `checked_gradients`.

    Args:
        parameters: Parameters, or pairs (name, parameter); those whose ``grad`` is
            None are skipped.
        norm_type: p > 0; ``math.inf`` for the largest absolute value.

    Returns:
        Scalar tensor; 0 if there are no gradients.

    Raises:
        TypeError: ``parameters`` holds something else.
        ValueError: ``parameters`` is empty, or a generator that was used before.

    Example:
        >>> p = nn.Parameter(torch.zeros(2))
        >>> p.grad = torch.tensor([3.0, 4.0])
        >>> total_norm([p])
        tensor(5.)
    """
    return gather(parameters, norm_type, error_if_nonfinite=False).total


@torch.no_grad()
def checked_gradients(
    parameters: Parameters, norm_type: float = 2.0
) -> tuple[list[Tensor], Tensor]:
    """Gradients and their joint norm, after a check that all are finite.

    Args:
        parameters: As for `total_norm`.
        norm_type: As for `total_norm`.

    Returns:
        The gradients as dense tensors that share memory with ``grad`` (a sparse
        gradient is coalesced), and the norm as by `total_norm`; in float64 where
        finite gradients have a norm that does not fit float32.

    Raises:
        NonFiniteGradientError: a gradient holds NaN or infinity; names the parameter,
            or its position if the parameters came without names.

    Example:
        >>> p = nn.Parameter(torch.zeros(2))
        >>> p.grad = torch.tensor([1.0, float("nan")])
        >>> checked_gradients([("weight", p)])
        Traceback (most recent call last):
        ...
        gradlib.errors.NonFiniteGradientError: expected finite gradients, got nan in
        the gradient of weight...
    """
    found = gather(parameters, norm_type, error_if_nonfinite=True)
    return found.tensors, found.total


def norms_of(
    tensors: list[Tensor], order: float = 2.0, dtype: torch.dtype | None = None
) -> list[Tensor]:
    """Norm of each tensor, as scalar tensors."""
    if not tensors:
        return []
    if order == math.inf:
        tensors = [t if t.numel() else t.new_zeros(1) for t in tensors]
    return list(torch._foreach_norm(tensors, order, dtype=dtype or wide(tensors)))


def gather(
    parameters: Parameters,
    norm_type: float = 2.0,
    *,
    norms: Norms = norms_of,
    error_if_nonfinite: bool,
) -> Gradients:
    """The gradients that are not None and their norms.

    Raises:
        NonFiniteGradientError: a gradient holds NaN or infinity, and that is checked.
    """
    order = (
        math.inf if norm_type == math.inf else check_positive(norm_type, "norm_type")
    )
    items = _items(parameters)
    tensors = [item if isinstance(item, Tensor) else _second(item) for item in items]
    pairs = [(t, grad) for t in tensors if (grad := t.grad) is not None]
    owners = [owner for owner, _ in pairs]
    grads = [_dense(owner, grad) for owner, grad in pairs]
    if not grads:
        return Gradients(owners, grads, [], torch.tensor(0.0), 0.0)
    each = norms(grads, order)
    total = joint_norm(each, order)
    size = total.item() if error_if_nonfinite else None
    if size is not None and not math.isfinite(size):
        _refuse_nonfinite(items)
        each = norms(grads, order, torch.float64)
        total = joint_norm(each, order)
        size = total.item()
    return Gradients(owners, grads, each, total, size)


def joint_norm(norms: list[Tensor], order: float = 2.0) -> Tensor:
    """Norm of the whole, from the norms of its parts; on the device of the first."""
    near = on_one_device(norms)
    of_units = any(norm.ndim for norm in near)
    together = (
        torch.cat([norm.view(-1) for norm in near]) if of_units else torch.stack(near)
    )
    total: Tensor = torch.linalg.vector_norm(together, order)
    return total


def wide(tensors: list[Tensor]) -> torch.dtype | None:
    """The type in which to take norms, where it is not that of the tensors."""
    types = set(map(_DTYPE, tensors))
    if types.isdisjoint(_HALF):
        return None
    return torch.float64 if torch.float64 in types else torch.float32


def on_one_device(tensors: list[Tensor]) -> list[Tensor]:
    """The tensors on the device of the first."""
    if len({t.get_device() for t in tensors}) < 2:
        return tensors
    return [t.to(tensors[0].device) for t in tensors]


def shrink_(found: Gradients, max_norm: float) -> None:
    """Scale gradients to a joint norm of at most ``max_norm``, as torch does."""
    size = math.inf if found.size is None else found.size
    surely_below = size * (1 + 1e-6) + 1e-6 < max_norm
    if found.tensors and not surely_below:
        scale_(found.tensors, torch.clamp(max_norm / (found.total + 1e-6), max=1.0))


def scale_(tensors: list[Tensor], scale: Tensor) -> None:
    """Multiply all tensors by one number."""
    if all(t.device == scale.device for t in tensors):
        torch._foreach_mul_(tensors, scale)
    else:
        scale_each_(tensors, [scale] * len(tensors))


def scale_each_(tensors: list[Tensor], scales: list[Tensor]) -> None:
    """Multiply each tensor by its own number or numbers."""
    near = [s.to(t.device) for s, t in zip(scales, tensors, strict=True)]
    torch._foreach_mul_(tensors, near)


def _items(parameters: Parameters) -> list[Tensor] | list[tuple[str, Tensor]]:
    if isinstance(parameters, Tensor):
        return [parameters]
    if isinstance(parameters, nn.Module) or not isinstance(parameters, Iterable):
        raise _wrong(parameters)
    items = list(parameters)
    if not items:
        raise ValueError(
            "parameters: expected at least one, got none. A generator such as "
            "model.parameters() can be used only once: make a list of it."
        )
    return items


def _second(item: object) -> Tensor:
    if isinstance(item, tuple) and len(item) == 2 and isinstance(item[1], Tensor):
        return item[1]
    raise _wrong(item)


def _wrong(got: object) -> TypeError:
    return TypeError(
        "parameters: expected parameters or pairs (name, parameter), got "
        f"{type(got).__name__}. Pass model.parameters() or model.named_parameters()."
    )


def _dense(owner: Tensor, grad: Tensor) -> Tensor:
    if grad.layout is torch.strided:
        return grad
    if not grad.is_coalesced():
        grad = owner.grad = grad.coalesce()
    return grad._values()


def _refuse_nonfinite(items: list[Tensor] | list[tuple[str, Tensor]]) -> None:
    for position, item in enumerate(items):
        name, tensor = (
            item if isinstance(item, tuple) else (f"parameter {position}", item)
        )
        kind = "" if tensor.grad is None else kind_of(tensor.grad)
        if kind:
            raise NonFiniteGradientError(name, kind)

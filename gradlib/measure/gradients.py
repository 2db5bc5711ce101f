"""The gradients of parameters: which there are, how large, whether finite."""

import math
from collections.abc import Iterable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from gradlib.checks import check_choice, check_positive
from gradlib.errors import NonFiniteGradientError
from gradlib.measure.sharded import is_sharded
from gradlib.measure.tensors import joint_norm, kinds_of, norms_of

NONFINITE = ("raise", "skip", "pass")
"""What can be done where a gradient holds NaN or infinity."""

Parameters = Tensor | Iterable[Tensor] | Iterable[tuple[str, Tensor]]


class Gradients(NamedTuple):
    """The gradients of some parameters, with their norms."""

    owners: list[Tensor]
    """The parameters whose gradient is not None."""
    tensors: list[Tensor]
    """Their gradients, as dense tensors that share memory with ``grad``."""
    norms: list[Tensor]
    """Norm of each, or of each of its units; of a sharded one, of those held here."""
    total: Tensor
    """Norm of all together, a scalar tensor; 0 if there are none."""
    size: float | None
    """The same as a number, if it was read."""

    def norm(self) -> float:
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
    return gradients_of(parameters, norm_type, nonfinite="pass").total


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
    found = gradients_of(parameters, norm_type, nonfinite="raise")
    return found.tensors, found.total


def gradients_of(
    parameters: Parameters,
    norm_type: float = 2.0,
    *,
    norms: Norms = norms_of,
    nonfinite: str,
) -> Gradients:
    """The gradients that are not None and their norms.

    Args:
        parameters: As for `total_norm`.
        norm_type: As for `total_norm`.
        norms: Takes the norms.
        nonfinite: Where NaN or infinity is found, ``"raise"`` an error, ``"skip"`` the
            step by setting all gradients to None, or let it ``"pass"`` unread.

    Raises:
        NonFiniteGradientError: a gradient holds NaN or infinity, and that is to raise.
    """
    check_choice(nonfinite, "nonfinite", NONFINITE)
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
    parts_only = norms is not norms_of and any(map(is_sharded, grads))
    total = joint_norm(norms_of(grads, order) if parts_only else each, order)
    size = None if nonfinite == "pass" else total.item()
    if size is not None and not math.isfinite(size):
        each = norms(grads, order, torch.float64)
        exact = norms_of(grads, order, torch.float64) if parts_only else each
        total = joint_norm(exact, order)
        size = total.item()
        broken = _broken(items)
        if broken and nonfinite == "raise":
            raise NonFiniteGradientError(*broken)
        if broken:
            for owner in owners:
                owner.grad = None
            return Gradients([], [], [], total, size)
    return Gradients(owners, grads, each, total, size)


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


def _broken(
    items: list[Tensor] | list[tuple[str, Tensor]],
) -> tuple[str, str] | None:
    """Name and kind of the first gradient with NaN or infinity, in all processes."""
    pairs = [
        item if isinstance(item, tuple) else (f"parameter {position}", item)
        for position, item in enumerate(items)
    ]
    named = [(name, t.grad) for name, t in pairs if t.grad is not None]
    kinds = kinds_of([grad for _, grad in named])
    found = ((name, kind) for (name, _), kind in zip(named, kinds, strict=True) if kind)
    return next(found, None)

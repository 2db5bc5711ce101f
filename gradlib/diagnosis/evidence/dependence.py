"""What the model's outputs depend on, found by changing a part of its input."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gradlib.diagnosis.nested import mapped, tensors
from gradlib.state import kept_modes

# Largest change of an output that counts as none, relative to the outputs' size: sums
# in another order change the last digits, 1e-6; what depends changes by 1e-2 and more.
UNCHANGED = 1e-4


@dataclass
class Dependence:
    """Answers for one call of the model in evaluation mode; None: cannot be asked.

    Args:
        on_others: The output of one sample depends on another sample.
        on_itself: The output of a sample depends on that sample.
        ahead: The output at one place of a sequence depends on the next place.
        on_place: The output of a sample depends on its place in the batch.
    """

    on_others: bool | None = None
    on_itself: bool | None = None
    ahead: bool | None = None
    on_place: bool | None = None


@dataclass
class ModelCall:
    """The arguments of one call of the model."""

    args: Any = ()
    kwargs: Any = None

    @property
    def inputs(self) -> list[Tensor]:
        """All tensors of the call."""
        return tensors([self.args, self.kwargs or {}])

    def changed(self, change: Callable[[Tensor], Tensor]) -> "ModelCall":
        """The same call on other tensors."""
        args = mapped(self.args, change)
        return ModelCall(args, mapped(self.kwargs or {}, change))


def dependence_of(model: nn.Module, call: ModelCall) -> Dependence:
    """Change one sample, or the end of all sequences, and see which outputs change.

    Example:
        >>> x = torch.randn(4, 3)
        >>> dependence_of(nn.Linear(3, 2), ModelCall((x,))).on_others
        False
        >>> dependence_of(nn.Softmax(0), ModelCall((x,))).on_others
        True
    """
    first = next((t for t in call.inputs if t.ndim > 1), None)
    if first is None or len(first) < 2:
        return Dependence()
    count = len(first)
    usual = _output(model, call)
    if usual is None or not _same(usual, _output(model, call)):
        return Dependence()
    result = Dependence()
    if all(t.ndim and len(t) == count for t in call.inputs):
        _ask_others(result, model, call, usual, count)
    if usual.ndim > 2 and first.shape[1] == usual.shape[1] and usual.shape[1] > 2:
        result.ahead = _looks_ahead(model, call, usual, first)
    return result


def _ask_others(
    result: Dependence, model: nn.Module, call: ModelCall, usual: Tensor, count: int
) -> None:
    if usual.ndim == 0 or len(usual) % count or tuple(usual.shape) == (count, count):
        return
    other = _output(model, call.changed(_without_first))
    if other is None or other.shape != usual.shape:
        return
    rows = len(usual) // count
    size = float(usual.abs().max())
    moved = (other - usual).abs()
    result.on_itself = float(moved[:rows].max()) > UNCHANGED * size
    result.on_others = float(moved[rows:].max()) > UNCHANGED * size
    exchanged = _output(model, call.changed(lambda t: t.roll(1, 0)))
    drawn = not _same(usual, _output(model, call, seed=1))
    if exchanged is not None and exchanged.shape == usual.shape and not drawn:
        moved = (exchanged - usual.roll(rows, 0)).abs()
        result.on_place = float(moved.max()) > UNCHANGED * size


def _without_first(t: Tensor) -> Tensor:
    """The first sample replaced by the last one."""
    new = t.clone()
    new[0] = t[-1]
    return new


def _looks_ahead(
    model: nn.Module, call: ModelCall, usual: Tensor, first: Tensor
) -> bool | None:
    length = usual.shape[1]
    answers = [
        _depends_behind(model, call, usual, first, place)
        for place in (length // 2, length - 1)
    ]
    return None if None in answers else any(answers)


def _depends_behind(
    model: nn.Module, call: ModelCall, usual: Tensor, first: Tensor, place: int
) -> bool | None:
    """Whether outputs before a place change with what stands from there on."""

    def change(t: Tensor) -> Tensor:
        if t is not first:
            return t
        new = t.clone()
        new[:, place:] = t[:, place:].roll(1, 0)
        return new

    other = _output(model, call.changed(change))
    if other is None or other.shape != usual.shape:
        return None
    moved = float((other - usual)[:, :place].abs().max())
    return moved > UNCHANGED * float(usual.abs().max())


def _output(model: nn.Module, call: ModelCall, seed: int = 0) -> Tensor | None:
    """The first floating output with at least one axis, in evaluation mode."""
    try:
        with kept_modes(model), torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            model.eval()
            made = model(*call.args, **(call.kwargs or {}))
    except Exception:
        return None
    found = [t for t in tensors(made) if t.is_floating_point() and t.ndim]
    return found[0].float() if found and found[0].numel() else None


def _same(a: Tensor, b: Tensor | None) -> bool:
    return b is not None and a.shape == b.shape and bool(torch.equal(a, b))

"""All that a training needs to go on from a moment, copied and put back bit for bit.

That is the numbers of the model, the optimizer with its rates, the schedule, the loss
scaler, and the states of random numbers. Not among them: the data, and random
generators that a program keeps for itself.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from gradlib.measure.sharded import is_sharded
from gradlib.state import (
    parameters_of,
    plain_name,
    random_state,
    set_random_state,
)

State = dict[str, Any]


class TrainingState:
    """Copies the state of a training, and puts a copy back.

    Copies lie in main memory, also those of numbers on a device. Of parameters that
    are cut over processes, each process copies its own part.

    Args:
        model: Any module; its parameters and buffers are copied.
        optimizer: Its optimizer.
        scheduler: Its schedule, or None; anything with ``state_dict``.
        scaler: Its loss scaler, or None.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> adam = torch.optim.Adam(layer.parameters())
        >>> training = TrainingState(layer, adam)
        >>> before = training.copy()
        >>> layer(torch.ones(1, 2)).sum().backward()
        >>> adam.step()
        >>> training.restore(before)
        >>> torch.equal(layer.weight, before["model"]["weight"]), len(adam.state)
        (True, 0)
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        scheduler: Any = None,
        scaler: GradScaler | None = None,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.scaler = scaler

    @torch.no_grad()
    def copy(self) -> State:
        """The state as it is now; later steps leave the copy alone."""
        return {
            "model": {name: _copy(t) for name, t in self._numbers().items()},
            "optimizer": self._optimizer_state(),
            "groups": [_copy(options) for options in self.options()],
            "scheduler": _copy(_state_dict(self.scheduler)),
            "scaler": _copy(_state_dict(self.scaler)),
            "random": random_state(),
        }

    @torch.no_grad()
    def restore(self, state: State, *, random: bool = True) -> None:
        """Put a copy back; it can be put back again.

        Args:
            state: The copy.
            random: Put the random numbers back too. Batches that are drawn from them
                then come again.

        Raises:
            RuntimeError: the model or the optimizer has other parameters by now.
        """
        numbers = self._numbers()
        parameters = parameters_of(self.optimizer)
        if numbers.keys() != state["model"].keys() or len(parameters) != len(
            state["optimizer"]
        ):
            raise RuntimeError(
                "expected the parameters and buffers that there were when the state "
                "was copied, got others. Where layers or parameter groups are added, "
                "begin anew from there."
            )
        for name, value in state["model"].items():
            _part(numbers[name]).copy_(value)
        for p, found in zip(parameters, state["optimizer"], strict=True):
            self._restore_moments(p, found)
        for part, found in (
            (self.scheduler, state["scheduler"]),
            (self.scaler, state["scaler"]),
        ):
            if part is not None and found is not None:
                part.load_state_dict(copy.deepcopy(found))
        groups = zip(self.optimizer.param_groups, state["groups"], strict=True)
        for group, options in groups:
            for name, value in options.items():
                group[name] = _put(group.get(name), value, torch.device("cpu"))
        if random:
            set_random_state(state["random"])

    def options(self) -> list[dict[str, Any]]:
        """Rates and the like of each parameter group."""
        return [
            {name: value for name, value in group.items() if name != "params"}
            for group in self.optimizer.param_groups
        ]

    def nbytes(self) -> int:
        """Memory of one copy in bytes, with what the optimizer holds by now.

        Most optimizers make their moments at their first step: Adam's copy is then
        three times as large.

        Example:
            >>> layer = nn.Linear(99, 1)
            >>> TrainingState(layer, torch.optim.Adam(layer.parameters())).nbytes()
            400
        """
        held = list(self._numbers().values())
        for p in parameters_of(self.optimizer):
            held += _tensors(self.optimizer.state.get(p, {}))
        return sum(part.numel() * part.element_size() for part in map(_part, held))

    def _numbers(self) -> dict[str, Tensor]:
        """Parameters and buffers, by their names without the prefixes of wrappers."""
        named = (*self.model.named_parameters(), *self.model.named_buffers())
        return {plain_name(name): tensor for name, tensor in named}

    def _optimizer_state(self) -> list[dict[str, Any]]:
        state = self.optimizer.state
        return [
            _copy(dict(state[p])) if p in state else {}
            for p in parameters_of(self.optimizer)
        ]

    def _restore_moments(self, p: Tensor, found: dict[str, Any]) -> None:
        if not found:
            self.optimizer.state.pop(p, None)
            return
        moments = self.optimizer.state[p]
        for name in [name for name in moments if name not in found]:
            del moments[name]
        for name, value in found.items():
            # torch keeps the number of a step in main memory, moments beside p
            near = torch.device("cpu") if name == "step" else p.device
            moments[name] = _put(moments.get(name), value, near)


def _state_dict(part: Any) -> Any:
    return None if part is None else part.state_dict()


def _part(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor, without a graph."""
    held: Any = tensor.detach()
    part: Tensor = held.to_local() if is_sharded(held) else held
    return part


def _copy(value: Any) -> Any:
    if isinstance(value, Tensor):
        return _part(value).to("cpu", copy=True)
    if type(value) is dict:
        return {name: _copy(entry) for name, entry in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_copy, value))
    return copy.deepcopy(value)


def _put(old: Any, value: Any, device: torch.device) -> Any:
    """The value, in the tensor that was there if it fits."""
    if isinstance(value, Tensor):
        kept = _part(old) if isinstance(old, Tensor) else None
        if kept is None or (kept.shape, kept.dtype) != (value.shape, value.dtype):
            return value.to(device, copy=True)
        kept.copy_(value)
        return old
    if type(value) is dict:
        before = old if isinstance(old, Mapping) else {}
        return {n: _put(before.get(n), entry, device) for n, entry in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_put(None, entry, device) for entry in value)
    return copy.deepcopy(value)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return []
    return [tensor for entry in value for tensor in _tensors(entry)]

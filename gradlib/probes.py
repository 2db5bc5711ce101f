"""What a monitor reads: gradients, outputs of modules, updates of weights."""

import math
from collections.abc import Iterable
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from gradlib.gradients import norms_of, on_one_device, wide
from gradlib.sparse import values_of

Names = tuple[str, ...]

_IS_CPU = attrgetter("is_cpu")
_IS_SPARSE = attrgetter("is_sparse")
_HALF = {torch.float16, torch.bfloat16}


def read(scalars: list[Tensor]) -> list[float]:
    """The numbers of scalar tensors, in at most one read of a device.

    On the CPU a read waits for nothing, and costs less than to stack the scalars.
    """
    if all(map(_IS_CPU, scalars)):
        return [scalar.item() for scalar in scalars]
    numbers: list[float] = torch.stack(on_one_device(scalars)).tolist()
    return numbers


def columns(quantity: str, names: Iterable[str]) -> Names:
    """Names of the columns that hold a quantity of each parameter.

    Example:
        >>> columns("gradient_norm", ["weight", "bias"])
        ('gradient_norm/weight', 'gradient_norm/bias')
    """
    return tuple(f"{quantity}/{name}" for name in names)


class GradientProbe:
    """The gradients of parameters, as they are at the moment.

    Args:
        named: Parameters by name. Norms are taken in a type that fits all of them.

    Example:
        >>> layer = nn.Linear(4, 1)
        >>> layer.weight.grad = torch.ones(1, 4)
        >>> probe = GradientProbe(dict(layer.named_parameters()))
        >>> names, grads = probe.find()
        >>> names, probe.norms(grads)
        (('gradient_norm/weight',), [tensor(2.)])
    """

    def __init__(self, named: dict[str, Tensor]) -> None:
        self._columns = columns("gradient_norm", named)
        self._parameters = list(named.values())
        self._dtype = wide(self._parameters)

    def find(self) -> tuple[Names, list[Tensor]]:
        """Columns for the gradients that are not None, and these as dense tensors."""
        grads = [g for p in self._parameters if (g := p.grad) is not None]
        names = self._columns
        if len(grads) < len(names):
            pairs = zip(names, self._parameters, strict=True)
            names = tuple(name for name, p in pairs if p.grad is not None)
        if any(map(_IS_SPARSE, grads)):
            grads = [values_of(g) for g in grads]
        return names, grads

    def norms(self, grads: list[Tensor]) -> list[Tensor]:
        """Norms of gradients, without asking each for its type as `norms_of` does."""
        return list(torch._foreach_norm(grads, dtype=self._dtype))


class OutputProbe:
    """Mean, standard deviation and share of zeros of each module's output.

    Looks at the modules without children, in forward passes that build a graph;
    evaluation under ``torch.no_grad()`` is left out. Of an output that is a tuple
    it takes the first tensor, and of several forward passes the last.

    Args:
        model: Any module.

    Attributes:
        found: Scalar tensors by column, for example ``activation_mean/0``, in the
            order of the forward pass.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        >>> probe = OutputProbe(model)
        >>> probe.start()
        >>> _ = model(torch.zeros(1, 2))
        >>> probe.stop()
        >>> list(probe.found)[-1]
        'activation_zeros/1'
    """

    def __init__(self, model: nn.Module) -> None:
        self.found: dict[str, Tensor] = {}
        self._leaves = {
            name or type(module).__name__: module
            for name, module in model.named_modules()
            if next(module.children(), None) is None
        }
        self._handles: list[RemovableHandle] = []

    def start(self) -> None:
        """Forget what was found, and look at the next forward pass."""
        self.found = {}
        if not self._handles:
            self._handles = [self._hook(*leaf) for leaf in self._leaves.items()]

    def stop(self) -> None:
        """Remove all hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _hook(self, name: str, module: nn.Module) -> RemovableHandle:
        columns = [f"activation_{what}/{name}" for what in ("mean", "std", "zeros")]

        def look(module: nn.Module, inputs: Any, output: Any) -> None:
            tensor = _first_tensor(output)
            if torch.is_grad_enabled() and tensor is not None:
                self.found |= zip(columns, _statistics(tensor.detach()), strict=True)

        return module.register_forward_hook(look)


def _first_tensor(output: Any) -> Tensor | None:
    while isinstance(output, (tuple, list)) and output:
        output = output[0]
    usable = isinstance(output, Tensor) and output.is_floating_point()
    return output if usable and output.numel() else None


def _statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if x.dtype in _HALF:
        x = x.float()
    return x.mean(), x.std(correction=0), 1.0 - x.count_nonzero() / x.numel()


class UpdateProbe:
    """Norms of parameters, and of their change between two moments.

    Args:
        named: Parameters by name.

    Attributes:
        columns: Names of the columns for the changes, relative to the parameters.
        is_waiting: Whether there are copies to compare with.

    Example:
        >>> p = torch.full((4,), 2.0)
        >>> probe = UpdateProbe({"p": p})
        >>> probe.start()
        [4.0]
        >>> p += 0.5
        >>> probe.stop()
        [0.25]
    """

    def __init__(self, named: dict[str, Tensor]) -> None:
        self.columns = columns("update_ratio", named)
        self._parameters = list(named.values())
        self.is_waiting = False
        self._copies: list[Tensor] = []
        self._sizes: list[float] = []

    @torch.no_grad()
    def start(self) -> list[float]:
        """Copy the parameters; gives their norms."""
        if not self._copies:
            self._copies = [torch.empty_like(p) for p in self._parameters]
        torch._foreach_copy_(self._copies, self._parameters)
        self._sizes = read(norms_of(self._parameters))
        self.is_waiting = True
        return self._sizes

    @torch.no_grad()
    def stop(self) -> list[float]:
        """Norms of the changes since `start` over those of the parameters.

        Infinite for a parameter that was zero; 0 if it stayed so.
        """
        self.is_waiting = False
        torch._foreach_sub_(self._copies, self._parameters)
        updates = read(norms_of(self._copies))
        return [
            update / size if size else (math.inf if update else 0.0)
            for update, size in zip(updates, self._sizes, strict=True)
        ]

"""Find the first tensor of a training step that holds NaN or infinity."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from gradlib.checks import check_function, check_model
from gradlib.hooks import Hooks
from gradlib.measure.sharded import gathered, groups_of
from gradlib.measure.tensors import KINDS, nonfinite_code
from gradlib.state import loss_in, unchanged, uncompiled, without_gradient_hooks

STAGES = ("parameter", "input", "forward", "loss", "backward")
"""Where NaN or infinity can be, in the order in which a step computes."""


class NonFinite(NamedTuple):
    """Where NaN or infinity was met first."""

    name: str
    """Of the module, of the parameter, or ``"loss"``."""
    where: str
    """``"parameter"``, ``"input"``, ``"forward"``, ``"loss"`` or ``"backward"``."""
    kind: str
    """``"nan"`` or ``"inf"``."""
    rank: int | None = None
    """Of the process that met it, where several train one model."""

    def __repr__(self) -> str:
        known = {n: v for n, v in self._asdict().items() if v is not None}
        told = ", ".join(f"{name}={value!r}" for name, value in known.items())
        return f"{type(self).__name__}({told})"


def first_nonfinite(model: nn.Module, run: Callable[[], Any]) -> NonFinite | None:
    """Run a step and name the first tensor that is not finite.

    Looks in the order in which a step computes: parameters, then forward the inputs
    and outputs of each module, then the loss, then backward the gradients.

    - ``"parameter"``: the parameter itself is broken already.
    - ``"input"``: the tensor that this module gets. No module made it: it comes
      from the data, or from an operation between modules. Negative infinity counts
      as an attention mask here, and passes.
    - ``"forward"``: the module makes it from finite inputs.
    - ``"loss"``: the model's outputs are finite, the loss is not.
    - ``"backward"``: the module's backward pass makes it; the name is that of a
      parameter if its gradient is the first, of the enclosing module if an
      operation between modules makes it, and ``"loss"`` if the loss function does.

    The top module, which has no name, goes by its class. Where several processes train
    one model (``DistributedDataParallel``, ``fully_shard``), all must call this, and
    all get the same answer: the earliest that one of them met, with its ``rank``.
    Afterwards hooks are removed, and gradients, buffers, modes and random state are as
    before, also if ``run`` raises. Hooks of others on the parameters, which an
    optimizer inside the backward pass consists of, do not run.

    Args:
        model: The module to look into.
        run: Makes the forward pass and returns the loss, alone, first, or under the
            name ``loss``. If it does not call ``backward()``, that is done here. It
            must not step the optimizer.

    Returns:
        The first finding; None if all is finite.

    Raises:
        RuntimeError: ``run`` has changed a parameter.
        TypeError: ``run`` returns something else than a scalar tensor or None.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
        >>> _ = nn.init.constant_(model[0].weight, 1e38)
        >>> first_nonfinite(model, lambda: model(torch.full((1, 2), 10.0)).sum())
        NonFinite(name='0', where='forward', kind='inf')
    """
    check_model(model)
    check_function(run, "run")
    watch = _Watch()
    versions = {id(p): p._version for p in model.parameters()}
    with (
        unchanged(model),
        uncompiled(),
        without_gradient_hooks(model),
        watch.over(model),
    ):
        loss = loss_in(run())
        if loss is not None and not (isinstance(loss, Tensor) and loss.numel() == 1):
            raise TypeError(
                f"run: expected it to return a scalar loss or None, got {loss!r:.80}"
            )
        found = watch.first("parameter", "input", "forward")
        if loss is not None:
            watch.note("loss", "loss", loss)
            found = found or watch.first("loss")
            done = any(p.grad is not None for p in model.parameters())
            # Also where the forward pass broke: other processes wait for the gradients.
            if loss.requires_grad and not done:
                loss.backward()  # type: ignore[no-untyped-call]
        for name, p in model.named_parameters():
            if p.grad is not None:  # with what came from other processes
                watch.note("backward", name, p.grad)
    for name, p in model.named_parameters():
        if versions.get(id(p), p._version) != p._version:
            raise RuntimeError(
                f"run: expected one that leaves the parameters as they are, but {name} "
                "changed. Leave out optimizer.step(), also inside backward(); load the "
                "parameters again."
            )
    return _first_of_all(found or watch.first("backward"), model)


def _first_of_all(mine: NonFinite | None, model: nn.Module) -> NonFinite | None:
    """The earliest finding of all processes that train the model."""
    for group in groups_of(model):
        if mine is not None and mine.rank is None:
            mine = mine._replace(rank=torch.distributed.get_rank())
        found = [NonFinite(*f) for f in gathered(mine, group) if f is not None]
        mine = min(found, key=lambda f: STAGES.index(f.where), default=None)
    return mine


@dataclass
class _Source:
    """What makes a gradient; known better as the forward pass goes on."""

    tensor: Tensor
    name: str

    def __str__(self) -> str:
        return self.name


class _Watch:
    """Notes on the tensors of a step, in the order of their making."""

    def __init__(self) -> None:
        self._notes: list[tuple[str, str | _Source, Tensor]] = []
        self._sources: dict[tuple[int, int], _Source] = {}
        self._running: list[str] = []
        self._hooks = Hooks()

    @contextmanager
    def over(self, model: nn.Module) -> Iterator[None]:
        """Hooks on all modules and parameters, for as long as this is open."""
        with self._hooks:
            for name, parameter in model.named_parameters():
                self.note("parameter", name, parameter)
                self._note_gradient(name, parameter)
            for name, module in model.named_modules():
                self._hook(name or type(model).__name__, module)
            yield

    def note(
        self, where: str, name: "str | _Source", tensor: Tensor, mask: bool = False
    ) -> None:
        self._notes.append((where, name, nonfinite_code(tensor, mask)))

    def first(self, *wheres: str) -> NonFinite | None:
        """The first note of something not finite, by one read of the device."""
        notes = [note for note in self._notes if note[0] in wheres]
        codes = [code.to(notes[0][2].device) for _, _, code in notes]
        for (where, name, _), code in zip(
            notes, torch.stack(codes).tolist() if codes else [], strict=True
        ):
            if code:
                return NonFinite(str(name), where, KINDS[code])
        return None

    def _hook(self, name: str, module: nn.Module) -> None:
        def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
            self._running.append(name)
            for tensor in _floating((args, kwargs)):
                self.note("input", name, tensor, mask=True)
                self._note_gradient(name, tensor)

        def leave(module: nn.Module, args: Any, output: Any) -> None:
            self._running.pop()
            outer = self._running[-1] if self._running else "loss"
            for tensor in _floating(output):
                self.note("forward", name, tensor)
                self._note_gradient(outer, tensor)

        self._hooks.keep(
            module.register_forward_pre_hook(enter, with_kwargs=True),
            module.register_forward_hook(leave),
        )

    def _note_gradient(self, name: str, tensor: Tensor) -> None:
        """Note the gradient when it comes; of several names, the last holds.

        A tensor is the output of inner, then outer modules, then the input of
        outer, then inner ones: the last is the module nearest to the operation.
        """
        if not tensor.requires_grad:
            return
        key = (id(tensor), tensor._version)
        if key in self._sources:
            self._sources[key].name = name
            return
        source = self._sources[key] = _Source(tensor, name)
        hook = tensor.register_hook(  # type: ignore[no-untyped-call]
            lambda gradient: self.note("backward", source, gradient)
        )
        self._hooks.keep(hook)


def _floating(nest: Any) -> list[Tensor]:
    return [
        leaf
        for leaf in tree_leaves(nest)
        if isinstance(leaf, Tensor) and (leaf.is_floating_point() or leaf.is_complex())
    ]

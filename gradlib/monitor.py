"""Watch the gradients, updates and activations of a model while it trains."""

import math
import warnings
import weakref
from collections.abc import Callable, Iterable
from typing import Any, Self, SupportsFloat

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.modules import module as torch_module

from gradlib.checks import check_count, check_model, check_type
from gradlib.history import History
from gradlib.hooks import Handle, Hooks, OpenedOnce
from gradlib.measure.nonfinite import NonFinite
from gradlib.measure.sharded import is_sharded, parts_of, whole_norms
from gradlib.measure.tensors import (
    EXACT_IN_FLOAT32,
    HALF_TYPES,
    dense_of,
    kind_of,
    norm_dtype,
    norms_of,
    numbers_of,
    ratios_of,
)
from gradlib.state import loss_in, plain_name

__all__ = ["GradientMonitor"]

Names = tuple[str, ...]

_UPDATES_EVERY = 200


class GradientMonitor(OpenedOnce):
    """Record norms of gradients, parameters and updates, layer by layer.

    It works with any module in any loop. Call `log` once a step, after
    ``backward()`` and before clipping, so that the norms are those of the raw
    gradients. The update of a step is the change of the parameters until the next
    call. Norms of parameters and updates cost more than those of gradients, and
    change slowly; therefore they have an interval of their own. A step that records an
    update keeps a copy of all parameters until the next call. A recorded step waits
    for a device once, and once more for each of these two.

    Names are those of `gradlib.watch`, without the prefixes of wrappers. Layers that
    are unfrozen or added later get their columns then. Under ``fully_shard`` norms are
    those of the whole; every process must call `log`.

    Rows of ``history`` hold ``loss``, ``gradient_norm`` (all layers together) and
    for each parameter ``gradient_norm/<name>``, ``parameter_norm/<name>`` and
    ``update_ratio/<name>`` (norm of the update / norm of the parameter); for each
    module without children ``activation_mean/<name>``, ``activation_std/<name>``
    and ``activation_zeros/<name>`` (share of exact zeros).

    Args:
        model: Any module with trainable parameters.
        every: Record each ``every``-th step, the first one included.
        updates_every: Record norms of parameters and updates each so many steps; a
            multiple of ``every``, by default the smallest one from 200 on.
        activations: Record the outputs of forward passes that build a graph; of
            several in a step, the last.

    Attributes:
        history: The `History` of the recorded steps.
        first_nonfinite: Where NaN or infinity was first seen in a recorded step,
            or None.
        first_nonfinite_step: That step.

    Raises:
        TypeError: ``model`` is no module.
        ValueError: it has no trainable parameter, or an interval cannot be right.

    Example:
        >>> model = nn.Linear(3, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> with GradientMonitor(model) as monitor:
        ...     for _ in range(20):
        ...         optimizer.zero_grad()
        ...         loss = model(torch.ones(8, 3)).square().mean()
        ...         loss.backward()
        ...         monitor.log(loss)
        ...         optimizer.step()
        >>> len(monitor.history["gradient_norm/weight"])
        20
        >>> monitor.history.recorded("update_ratio/weight")[0]
        [0]
    """

    _updates: "UpdateProbe"

    def __init__(
        self,
        model: nn.Module,
        every: int = 1,
        *,
        updates_every: int | None = None,
        activations: bool = False,
    ) -> None:
        check_model(model)
        self.every = check_count(every, "every")
        self.updates_every = _updates_every(self.every, updates_every)
        self.history = History()
        self.first_nonfinite: NonFinite | None = None
        self.first_nonfinite_step: int | None = None
        self._model = model
        self._hooks = Hooks()
        weakref.finalize(self, self._hooks.close)
        self._watch_parameters()
        if not self._named:
            raise ValueError(
                "model: expected at least one trainable parameter, got "
                f"{type(model).__name__} without any"
            )
        self._outputs = OutputProbe(model) if activations else None
        self._step = 0
        self._has_warned = False

    def __enter__(self) -> Self:
        self._open()
        self._hooks.keep(*_registration_hooks(self))
        self._await_step()
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        self._state = "closed"
        self._hooks.close()
        if self._outputs is not None:
            self._outputs.stop()
        if kind is None and self._updates.is_waiting:
            self._record_updates()
        self._updates = UpdateProbe({})

    def log(
        self,
        loss: Any = None,
        *,
        scaler: GradScaler | None = None,
        **columns: SupportsFloat,
    ) -> None:
        """Count a step, and record it if it is due.

        Args:
            loss: The loss of the step, alone, first, or under the name ``loss``.
            scaler: The `torch.amp.GradScaler` of the loop. Where it has not unscaled
                the gradients yet, norms are divided by its scale.
            **columns: Further numbers for the row, such as the learning rate.

        Raises:
            RuntimeError: the monitor is not open, or no parameter has a gradient.
            ValueError: the loss is not one number.
        """
        if self._state != "open":
            raise RuntimeError(
                f"expected an open monitor, got one that is {self._state}. Call log "
                "inside `with GradientMonitor(model) as monitor:`."
            )
        if self._updates.is_waiting:
            self._record_updates()
        if self._step % self.every == 0:
            if self._has_news or any(p.requires_grad for p in self._frozen):
                self._watch_parameters()
            check_type(GradScaler | None, scaler=scaler)
            self._record(loss_in(loss), columns, _scale_of(scaler))
        self._step += 1
        self._await_step()

    def _watch_parameters(self) -> None:
        """Watch all parameters that train by now."""
        named = list(self._model.named_parameters())
        self._named: dict[str, Tensor] = {
            plain_name(name): p for name, p in named if p.requires_grad
        }
        self._frozen = [p for _, p in named if not p.requires_grad]
        self._gradients = GradientProbe(self._named)
        self._parameter_columns = columns("parameter_norm", self._named)
        self._updates = UpdateProbe(self._named)
        self._grown: tuple[int, int, int] | None = None
        self._has_news = False

    def _record(
        self,
        loss: Tensor | float | None,
        given: dict[str, SupportsFloat],
        scale: float,
    ) -> None:
        names, grads = self._gradients.find()
        if not grads:
            raise RuntimeError(
                "expected gradients, got none in any parameter. Call log after "
                "backward() of this model, before the gradients are set to None."
            )
        scalars = self._gradients.norms(grads)
        if self._outputs is not None:
            names += tuple(self._outputs.found)
            scalars += self._outputs.found.values()
        if isinstance(loss, Tensor):
            scalars.append(_scalar(loss))
            *numbers, loss = numbers_of(scalars)
        else:
            numbers = numbers_of(scalars)
        norms, others = numbers[: len(grads)], numbers[len(grads) :]
        total = math.hypot(*norms)
        if not (min(norms) > EXACT_IN_FLOAT32 and total < math.inf):
            norms = numbers_of(norms_of(grads, dtype=torch.float64))
            total = math.hypot(*norms)
        if scale != 1:
            norms, total = [norm / scale for norm in norms], total / scale
        self._warn_of_odd_rows(total)
        if loss is not None:
            given = {"loss": loss, **given}
        given["gradient_norm"] = total
        row = [*given.values(), *norms, *others]
        self.history.extend(self._step, (*given, *names), row)
        seen = [*given.values(), *others]
        if self._step % self.updates_every == 0:
            seen += self._record_parameters()
        if self.first_nonfinite is None and not all(map(math.isfinite, seen)):
            self._note_nonfinite(loss)

    def _warn_of_odd_rows(self, total: float) -> None:
        """Say what is wrong with the loop, where rows tell, once."""
        if total == 0 and not len(self.history):
            _warn(
                "all gradients of the first step are exactly 0. Call log after "
                "backward() and before zero_grad()."
            )
        if self._outputs is not None and not self._outputs.found and not self._step:
            _warn(
                "activations: expected outputs of modules, got none. A compiled model "
                "that has run before ignores new hooks: open the monitor before its "
                "first batch, or call torch.compiler.reset()."
            )
        p = next(iter(self._named.values()))
        grown = None if p.grad is None else (id(p.grad), p.grad._version, p._version)
        before, self._grown = self._grown, grown
        if not (grown and before) or self._has_warned:
            return
        if grown == (before[0], before[1] + 1, before[2]):
            self._has_warned = True
            _warn(
                "gradients grow from row to row, without a step between. Call log once "
                "a step, after the last of its micro-batches."
            )

    def _record_parameters(self) -> list[float]:
        sizes = self._updates.start()
        self.history.extend(self._step, self._parameter_columns, sizes)
        return sizes

    def _record_updates(self) -> None:
        ratios = self._updates.stop()
        self.history.extend(self._step - 1, self._updates.columns, ratios)

    def _note_nonfinite(self, loss: float | None) -> None:
        """Keep the first in the order of a step; a norm may overflow without any."""
        outputs = "activation_mean/"
        found = {} if self._outputs is None else self._outputs.found
        suspects: list[tuple[str, str, Any]] = [
            *((name, "parameter", p) for name, p in self._named.items()),
            *(
                (column.removeprefix(outputs), "forward", value)
                for column, value in found.items()
                if column.startswith(outputs)
            ),
            ("loss", "loss", loss),
            *((name, "backward", p.grad) for name, p in reversed(self._named.items())),
        ]
        for name, where, value in suspects:
            kind = "" if value is None else kind_of(torch.as_tensor(value))
            if kind:
                self.first_nonfinite = NonFinite(name, where, kind)
                self.first_nonfinite_step = self._step
                return

    def _await_step(self) -> None:
        if self._outputs is None:
            return
        if self._step % self.every == 0:
            self._outputs.start()
        else:
            self._outputs.stop()


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=5)


def _scale_of(scaler: GradScaler | None) -> float:
    """What gradients are multiplied with at the moment."""
    if scaler is None or not scaler.is_enabled():
        return 1.0
    stages = [state["stage"].name for state in scaler._per_optimizer_states.values()]
    return scaler.get_scale() if set(stages) <= {"READY"} else 1.0


def _registration_hooks(monitor: GradientMonitor) -> tuple[Handle, Handle]:
    """Tell a monitor of parameters and modules that anything gets."""
    reference = weakref.ref(monitor)

    def note(*_: object) -> None:
        if (monitor := reference()) is not None:
            monitor._has_news = True

    return (
        torch_module.register_module_parameter_registration_hook(note),
        torch_module.register_module_module_registration_hook(note),
    )


def _scalar(loss: Tensor) -> Tensor:
    if loss.ndim == 0:
        return loss
    if loss.numel() != 1:
        raise ValueError(f"loss: expected one number, got shape {tuple(loss.shape)}")
    return loss.reshape(())


def _updates_every(every: int, updates_every: int | None) -> int:
    if updates_every is None:
        return every * math.ceil(_UPDATES_EVERY / every)
    return check_multiple(updates_every, every)


def check_multiple(number: int, every: int, name: str = "updates_every") -> int:
    """Return a number of steps if it is a multiple of ``every``.

    Raises:
        TypeError: it is not a whole number.
        ValueError: it is not a multiple.
    """
    if check_count(number, name) % every:
        raise ValueError(f"{name}: expected a multiple of every={every}, got {number}")
    return number


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
        self._dtype = norm_dtype(self._parameters)
        self._is_sharded = any(map(is_sharded, self._parameters))

    def find(self) -> tuple[Names, list[Tensor]]:
        """Columns for the gradients that are not None, and these as dense tensors."""
        grads = [g for p in self._parameters if (g := p.grad) is not None]
        names = self._columns
        if len(grads) < len(names):
            pairs = zip(names, self._parameters, strict=True)
            names = tuple(name for name, p in pairs if p.grad is not None)
        return names, dense_of(grads)

    def norms(self, grads: list[Tensor]) -> list[Tensor]:
        """Norms of gradients, without asking each for its type as `norms_of` does."""
        if self._is_sharded:
            return norms_of(grads, dtype=self._dtype)
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
            plain_name(name) or type(module).__name__: module
            for name, module in model.named_modules()
            if next(module.children(), None) is None
        }
        self._hooks = Hooks()
        self._is_on = False
        weakref.finalize(self, self._hooks.close)

    def start(self) -> None:
        """Forget what was found, and look at the next forward pass."""
        self.found = {}
        if not self._is_on:
            self._is_on = True
            for name, module in self._leaves.items():
                self._hooks.keep(self._hook(name, module))

    def stop(self) -> None:
        """Remove all hooks."""
        self._hooks.close()
        self._is_on = False

    def _hook(self, name: str, module: nn.Module) -> Handle:
        columns = [f"activation_{what}/{name}" for what in ("mean", "std", "zeros")]

        return module.register_forward_hook(_Look(self, columns))


class _Look:
    """The forward hook of an `OutputProbe`; a copy of the module has a blind one."""

    def __init__(self, probe: OutputProbe | None, columns: list[str]) -> None:
        self._probe: Callable[[], OutputProbe | None]
        self._probe = weakref.ref(probe) if probe else lambda: None
        self._columns = columns

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        probe, tensor = self._probe(), _first_tensor(output)
        if probe and torch.is_grad_enabled() and tensor is not None:
            found = _statistics(tensor.detach())
            probe.found |= zip(self._columns, found, strict=True)

    def __reduce__(self) -> tuple[type["_Look"], tuple[None, list[str]]]:
        return _Look, (None, [])


def _first_tensor(output: Any) -> Tensor | None:
    while isinstance(output, (tuple, list)) and output:
        output = output[0]
    usable = isinstance(output, Tensor) and output.is_floating_point()
    return output if usable and output.numel() else None


def _statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if x.dtype in HALF_TYPES:
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
        parts = parts_of(self._parameters)
        self._copies = [torch.empty_like(p) for p in parts]
        torch._foreach_copy_(self._copies, parts)
        self._sizes = numbers_of(norms_of(self._parameters))
        self.is_waiting = True
        return self._sizes

    @torch.no_grad()
    def stop(self) -> list[float]:
        """Norms of the changes since `start` over those of the parameters.

        Infinite for a parameter that was zero; 0 if it stayed so.
        """
        self.is_waiting = False
        changes, self._copies = self._copies, []
        torch._foreach_sub_(changes, parts_of(self._parameters))
        norms = whole_norms(norms_of(changes), self._parameters, 2.0)
        return ratios_of(numbers_of(norms), self._sizes)

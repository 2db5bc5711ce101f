"""Watch the gradients, updates and activations of a model while it trains."""

import math
from typing import Any, Self, SupportsFloat

import torch
from torch import Tensor, nn

from gradlib.errors import check_count, check_model
from gradlib.gradients import norms_of
from gradlib.history import History
from gradlib.nonfinite import NonFinite, kind_of
from gradlib.probes import GradientProbe, OutputProbe, UpdateProbe, columns, read

_SURELY_EXACT = 1e-16
_UPDATES_EVERY = 200


class GradientMonitor:
    """Record norms of gradients, parameters and updates, layer by layer.

    It works with any module in any loop. Call `log` once a step, after
    ``backward()`` and before clipping, so that the norms are those of the raw
    gradients. The update of a step is the change of the parameters until the next
    call. Norms of parameters and updates cost more than those of gradients, and
    change slowly; therefore they have an interval of their own. A recorded step
    waits for a device once, and once more for each of these two.

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
        self._named: dict[str, Tensor] = {
            name: p for name, p in model.named_parameters() if p.requires_grad
        }
        if not self._named:
            raise ValueError(
                "model: expected at least one trainable parameter, got "
                f"{type(model).__name__} without any"
            )
        self._gradients = GradientProbe(self._named)
        self._parameter_columns = columns("parameter_norm", self._named)
        self._updates = UpdateProbe(self._named)
        self._outputs = OutputProbe(model) if activations else None
        self._state = "new"
        self._step = 0

    @property
    def is_open(self) -> bool:
        """Whether the monitor is inside its ``with``."""
        return self._state == "open"

    def __enter__(self) -> Self:
        if self._state != "new":
            raise RuntimeError(
                f"expected a new monitor, got one that is {self._state}. Make another "
                "GradientMonitor for another run."
            )
        self._state = "open"
        self._await_step()
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        self._state = "closed"
        if self._outputs is not None:
            self._outputs.stop()
        if kind is None and self._updates.is_waiting:
            self._record_updates()
        self._updates = UpdateProbe({})

    def log(self, loss: Tensor | float | None = None, **columns: SupportsFloat) -> None:
        """Count a step, and record it if it is due.

        Args:
            loss: The loss of the step.
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
            self._record(loss, columns)
        self._step += 1
        self._await_step()

    def _record(
        self, loss: Tensor | float | None, given: dict[str, SupportsFloat]
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
            *numbers, loss = read(scalars)
        else:
            numbers = read(scalars)
        norms, others = numbers[: len(grads)], numbers[len(grads) :]
        total = math.hypot(*norms)
        if not (min(norms) > _SURELY_EXACT and total < math.inf):
            norms = read(norms_of(grads, dtype=torch.float64))
            total = math.hypot(*norms)
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


def _scalar(loss: Tensor) -> Tensor:
    if loss.ndim == 0:
        return loss
    if loss.numel() != 1:
        raise ValueError(f"loss: expected one number, got shape {tuple(loss.shape)}")
    return loss.reshape(())


def _updates_every(every: int, updates_every: int | None) -> int:
    if updates_every is None:
        return every * math.ceil(_UPDATES_EVERY / every)
    if check_count(updates_every, "updates_every") % every:
        raise ValueError(
            f"updates_every: expected a multiple of every={every}, got {updates_every}"
        )
    return updates_every

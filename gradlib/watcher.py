"""Watch any training in one line, also one whose loop belongs to a framework.

Hooks on the parameters measure after each backward pass, and a hook of the optimizer
ends a row. So the norms are those of the whole accumulated step before clipping,
whoever clips, and no line of the loop changes. Only what hooks on tensors change within
the backward pass is in the norms already.
"""

import atexit
import math
import weakref
from collections.abc import Iterable, Mapping
from operator import attrgetter
from os import PathLike
from pathlib import Path
from typing import Any, Self, SupportsFloat

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from gradlib.attention import AttentionMonitor
from gradlib.checks import check_count, check_model, check_positive, check_type
from gradlib.history import History
from gradlib.hooks import Hooks, at_the_end
from gradlib.measure.second_moment import (
    check_second_moment,
    rms_of,
    second_moment_norms,
)
from gradlib.measure.tensors import (
    DeferredNorms,
    DeferredNumbers,
    norms_of,
    number_of,
    ratios_of,
)
from gradlib.monitor import GradientProbe, check_multiple, columns
from gradlib.rowfile import RowFile
from gradlib.state import bare_optimizer, parameters_of, plain_name, runs_closure

__all__ = ["Watcher", "watch"]

KEPT_ROWS = 1000
"""Rows that stay in memory, at least, where a file holds all of them."""

WAITING_ROWS = 50
"""Rows that are written together where no file wants them: code that runs once a step
finds the caches of the processor cold, and takes several times as long."""

_NO_BACKWARD = -1
_TRAINS = attrgetter("requires_grad")
Names = tuple[str, ...]
current_backward = torch._C._current_graph_task_id


def watch(
    model: nn.Module,
    optimizer: Optimizer | Iterable[Optimizer],
    *,
    every: int = 1,
    updates_every: int | None = None,
    update_rms_every: int | None = None,
    attention: AttentionMonitor | None = None,
    scaler: GradScaler | None = None,
    file: str | PathLike[str] | None = None,
    flush_seconds: float = 10.0,
    first_step: int | None = None,
) -> "Watcher":
    """Record the norms of a training, step by step, without a line in its loop.

    Call it once, after the model and the optimizer are made. From then on each call of
    ``optimizer.step()`` ends a row of `Watcher.history`: ``gradient_norm`` (of all
    parameters together), ``gradient_norm/<name>`` and ``learning_rate``. The norms are
    those of the accumulated gradients *before* clipping, except by a hook on a tensor,
    which acts within the backward pass. With several optimizers a row ends when each
    has stepped, or when one steps again.

    It works under accumulation, ``torch.compile``, checkpointing,
    ``DistributedDataParallel``, ``fully_shard`` (norms are those of the whole, the same
    in all processes), and with optimizers that step inside the backward pass.
    Parameters that are unfrozen or added to the optimizer later get their column then.

    Args:
        model: Any module; names are those of its parameters, without the prefixes of
            wrappers (``module.``, ``_orig_mod.``, ``_fsdp_wrapped_module.``).
        optimizer: The optimizer, one that a framework wrapped, or several.
        every: Record each ``every``-th step, the first one included.
        updates_every: Record ``parameter_norm/<name>`` and ``update_ratio/<name>``
            each so many steps, a multiple of ``every``. Such a step keeps a copy of all
            parameters while the optimizer steps. By default there are none, and never
            a copy.
        update_rms_every: Record ``update_rms/<name>``, as `gradlib.update_rms` defines
            it, each so many steps, a multiple of ``every``. It reads gradients as the
            optimizer gets them, after clipping, and its second moments; a step that is
            given a closure has none.
        attention: A new `gradlib.AttentionMonitor` of the model; its columns join the
            rows, each ``attention.every`` steps, a multiple of ``every``.
        scaler: The `torch.amp.GradScaler` of the loop. Norms are then divided by its
            scale, which becomes the column ``loss_scale``; a step that it skips is a
            row with ``skipped`` = 1. With ``every`` above 1 that is the number of
            skipped steps since the row before.
        file: Rows are appended to this file of JSON lines, which ``gradlib log`` and
            `History.read` read; only the last thousand or two stay in memory. Of
            several processes the first writes it.
        flush_seconds: A killed run loses the rows of at most so many seconds, and the
            last row.
        first_step: Number of the first step; by default 0, or one more than the last
            step of ``file``.

    Returns:
        A `Watcher`. It watches until it is closed, also if nobody keeps it.

    Raises:
        TypeError: the model or an optimizer is something else.
        ValueError: no optimizer holds a parameter of the model, or a number cannot be
            right.

    Example:
        >>> model = nn.Linear(3, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> watcher = watch(model, optimizer)
        >>> for _ in range(2):
        ...     model(torch.ones(1, 3)).square().sum().backward()
        ...     _ = nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
        ...     optimizer.step()
        >>> watcher.history.columns
        ['step', 'learning_rate', 'gradient_norm', 'gradient_norm/weight',
        'gradient_norm/bias']
        >>> min(watcher.history["gradient_norm"]) > 1e-3
        True
        >>> watcher.close()
    """
    check_model(model)
    every = check_count(every, "every")
    optimizers = _optimizers(optimizer)
    if updates_every is not None:
        check_multiple(updates_every, every)
    if update_rms_every is not None:
        check_multiple(update_rms_every, every, "update_rms_every")
        for one in optimizers:
            check_second_moment(one)
    if attention is not None:
        check_type(AttentionMonitor, attention=attention)
        check_multiple(attention.every, every, "attention.every")
    flush_seconds = check_positive(flush_seconds, "flush_seconds", zero_ok=True)
    if first_step is not None:
        check_count(first_step, "first_step", least=0)
    names = {id(p): plain_name(name) for name, p in model.named_parameters()}
    if not any(id(p) in names for o in optimizers for p in parameters_of(o)):
        raise ValueError(
            "optimizer: expected one that holds parameters of the model, got none of "
            "them. Make the optimizer from the parameters of this model, as it is now."
        )
    rows = RowFile(Path(file), flush_seconds) if file is not None else None
    if first_step is None:
        first_step = 0 if rows is None else rows.next_step
    if rows is not None and not _is_first_process():
        rows = None
    return Watcher(
        names,
        optimizers,
        scaler,
        every,
        updates_every,
        update_rms_every,
        attention,
        rows,
        first_step,
    )


def _optimizers(given: Any) -> list[Optimizer]:
    if isinstance(given, Mapping):
        given = given.values()
    items = list(given) if isinstance(given, Iterable) else [given]
    if not items:
        raise ValueError("optimizer: expected at least one, got none")
    return [bare_optimizer(item) for item in items]


def _is_first_process() -> bool:
    from torch import distributed

    is_one_of_many = distributed.is_available() and distributed.is_initialized()
    return not is_one_of_many or distributed.get_rank() == 0


class _Watched:
    """An optimizer, its parameters by name, and what was measured of them."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.named: dict[str, Tensor] = {}
        self.probe = GradientProbe({})
        self.frozen: dict[str, Tensor] = {}
        self.count = 0
        self.measured: tuple[Names, DeferredNorms] | None = None
        self.copies: dict[str, Tensor] = {}
        self.runs_closure = False
        self.has_stepped = False

    def has_news(self) -> bool:
        """Whether parameters were unfrozen or added since the last were adopted."""
        count = sum(len(group["params"]) for group in self.optimizer.param_groups)
        return count != self.count or any(map(_TRAINS, self.frozen.values()))

    @torch.no_grad()
    def measure(self) -> None:
        """Take the norms of the gradients that there are."""
        names, grads = self.probe.find()
        self.measured = names, DeferredNorms(grads)


class _Row:
    """A step's numbers, most of which a device may not have sent yet."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.given: dict[str, Tensor | float] = {}
        self.scale = 1.0
        self.norms: list[tuple[Names, DeferredNorms]] = []
        self.updates: list[tuple[list[str], DeferredNumbers]] = []
        self.update_rms: list[tuple[list[str], list[int], DeferredNumbers]] = []
        self.attention: tuple[Names, DeferredNumbers] | None = None
        self.skipped = 0

    def add_norms(self, names: Names, norms: DeferredNorms) -> None:
        norms.send()
        self.norms.append((names, norms))

    def read(self) -> tuple[Names, list[float]]:
        """Names of the columns, and their numbers; waits for the device."""
        given = {name: float(value) for name, value in self.given.items()}
        names: Names = ()
        norms: list[float] = []
        for more, deferred in self.norms:
            names += more
            norms += deferred.read()
        if self.scale != 1.0:
            norms = [norm / self.scale for norm in norms]
        if norms:
            given["gradient_norm"] = math.hypot(*norms)
        if self.skipped:
            given["skipped"] = float(self.skipped)
        names, numbers = (*given, *names), [*given.values(), *norms]
        for updated, sizes_and_changes in self.updates:
            sizes = sizes_and_changes.read()
            wholes, changes = sizes[: len(updated)], sizes[len(updated) :]
            names += columns("parameter_norm", updated)
            names += columns("update_ratio", updated)
            numbers += [*wholes, *ratios_of(changes, wholes)]
        for measured, counts, sizes_of_steps in self.update_rms:
            names += columns("update_rms", measured)
            numbers += rms_of(sizes_of_steps.read(), counts)
        if self.attention is not None:
            names += self.attention[0]
            numbers += self.attention[1].read()
        return names, numbers


class Watcher:
    """What `watch` gives: the record of a training that goes on.

    Attributes:
        is_open: Whether it still watches.
        step: Number of the step that is going on.

    Example:
        >>> layer = nn.Linear(1, 1, bias=False)
        >>> optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
        >>> with watch(layer, optimizer) as watcher:
        ...     layer(torch.tensor([[3.0]])).sum().backward()
        ...     watcher.log(loss=2.5)
        ...     optimizer.step()
        >>> watcher.history
        step  loss  learning_rate  gradient_norm
           0   2.5            0.5              3
        and 1 columns of layers
    """

    def __init__(
        self,
        names: dict[int, str],
        optimizers: list[Optimizer],
        scaler: GradScaler | None,
        every: int,
        updates_every: int | None,
        update_rms_every: int | None,
        attention: AttentionMonitor | None,
        rows: RowFile | None,
        first_step: int,
    ) -> None:
        self.step = self._first_step = first_step
        self.is_open = True
        self._names = names
        self._scaler = scaler
        self._scale = self._scale_now()
        self._every = every
        self._updates_every = updates_every
        self._update_rms_every = update_rms_every
        self._attention = attention
        self._rows = rows
        self._history = History()
        self._given: dict[str, Tensor | float] = {}
        self._waiting: list[_Row] = []
        self._patience = WAITING_ROWS if rows is None else 1
        self._skipped = 0
        self._has_gradients = False
        self._last_backward = [_NO_BACKWARD]
        self._hooks = Hooks()
        self._row = _Row(first_step)
        self._watched = [_Watched(optimizer) for optimizer in optimizers]
        for watched in self._watched:
            self._adopt(watched)
            self._hooks.keep(*self._step_hooks(watched))
        self._listen()
        _OPEN.add(self)

    @property
    def history(self) -> History:
        """Rows of the steps that have ended; with a file, at least the last 1000."""
        self._write()
        return self._history

    def log(self, **columns: SupportsFloat) -> None:
        """Add numbers, such as the loss, to the row of the step that is going on.

        Raises:
            TypeError: a value is not a number.
            ValueError: a tensor holds more or less than one number.
        """
        self._given |= {n: number_of(value, n) for n, value in columns.items()}

    def log_last(self, **columns: SupportsFloat) -> None:
        """Add numbers to the row of the last step, for loops that tell its loss late.

        Where ``every`` leaves that step out, so are they.

        Raises:
            RuntimeError: no step has ended.
            TypeError: a value is not a number.
            ValueError: a tensor holds more or less than one number.
        """
        last = self.step - 1
        if last < self._first_step:
            raise RuntimeError(
                "expected a step that has ended, got none. Call log_last after "
                "optimizer.step()."
            )
        numbers = {n: number_of(value, n) for n, value in columns.items()}
        if self._waiting and self._waiting[-1].step == last:
            self._waiting[-1].given |= numbers
        elif last % self._every == 0:
            self._keep(last, tuple(numbers), [float(x) for x in numbers.values()])

    def close(self) -> None:
        """Stop watching: remove all hooks, and write what is left."""
        if not self.is_open:
            return
        self.is_open = False
        self._hooks.close()
        if self._attention is not None:
            self._attention.stop()
        self._note_scale()
        self._write()
        if self._rows is not None:
            self._rows.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    @property
    def _is_due(self) -> bool:
        return self.step % self._every == 0

    @property
    def _updates_are_due(self) -> bool:
        return self._updates_every is not None and self.step % self._updates_every == 0

    @property
    def _update_rms_is_due(self) -> bool:
        every = self._update_rms_every
        return every is not None and self.step % every == 0

    def _scale_now(self) -> float:
        return 1.0 if self._scaler is None else self._scaler.get_scale()

    def _adopt(self, watched: _Watched) -> None:
        """Watch the parameters that an optimizer has by now, and all that train."""
        parameters = parameters_of(watched.optimizer)
        watched.count = len(parameters)
        known = {id(p) for p in watched.named.values()}
        # torch holds the hooks of tensors where the collector of cycles sees them not
        reference = weakref.ref(self)
        last = self._last_backward

        def measure(parameter: Tensor) -> None:
            backward = current_backward()
            if backward != last[0]:
                last[0] = backward
                watcher = reference()
                if watcher and (watcher._is_due or watcher._scaler is not None):
                    at_the_end(watcher._after_others)

        for place, p in enumerate(parameters):
            name = self._names.get(id(p), f"parameter_{place}")
            if id(p) in known:
                continue
            if p.requires_grad:
                watched.frozen.pop(name, None)
                watched.named[name] = p
                hook = p.register_post_accumulate_grad_hook(measure)  # type: ignore[no-untyped-call]
                self._hooks.keep(hook)
            else:
                watched.frozen[name] = p
        watched.probe = GradientProbe(watched.named)

    def _after_others(self) -> None:
        """Wait once more: wrappers of many processes also finish at the end."""
        at_the_end(self._measure)

    def _measure(self) -> None:
        self._note_scale()
        self._has_gradients = True
        if not self._is_due:
            return
        for watched in self._watched:
            if not (watched.runs_closure and watched.measured):
                if watched.has_news():
                    self._adopt(watched)
                watched.measure()

    def _note_scale(self) -> None:
        """A scale that has fallen tells that the scaler skipped the last step."""
        scale = self._scale_now()
        if scale < self._scale:
            if self._has_gradients:
                for watched in self._watched if self._is_due else ():
                    self._take(watched)
                self._end_row()
            if self._waiting and self._waiting[-1].step == self.step - 1:
                self._waiting[-1].skipped += 1
            else:
                self._skipped += 1
        self._scale = scale

    def _step_hooks(self, watched: _Watched) -> tuple[Any, Any]:
        def before(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            if watched.has_stepped:
                self._end_row()
            if watched.has_news():
                self._adopt(watched)
            watched.runs_closure = runs_closure(args, kwargs)
            if watched.runs_closure:
                watched.measured = None
            elif self._is_due:
                if current_backward() != _NO_BACKWARD:
                    watched.measure()  # it steps inside the backward pass
                self._take(watched)
            if self._update_rms_is_due and not watched.runs_closure:
                self._take_update_rms(watched)
            if self._updates_are_due:
                named = watched.named
                watched.copies = {n: p.detach().clone() for n, p in named.items()}

        def after(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            if watched.runs_closure and self._is_due:
                self._take(watched)
            watched.runs_closure = False
            if watched.copies:
                self._take_updates(watched)
            watched.has_stepped = True
            if all(other.has_stepped for other in self._watched):
                self._end_row()

        return (
            watched.optimizer.register_step_pre_hook(before),
            watched.optimizer.register_step_post_hook(after),
        )

    def _take(self, watched: _Watched) -> None:
        """Put what was measured of an optimizer's parameters into the row."""
        if watched.measured is None:
            watched.measure()
        if watched.measured is not None:
            self._row.add_norms(*watched.measured)
        watched.measured = None
        self._row.scale = self._scale
        rate = number_of(watched.optimizer.param_groups[0]["lr"], "learning_rate")
        self._row.given.setdefault("learning_rate", rate)
        if self._scaler is not None:
            self._row.given["loss_scale"] = self._scale

    @torch.no_grad()
    def _take_updates(self, watched: _Watched) -> None:
        copies, watched.copies = watched.copies, {}
        changes = [watched.named[n].detach() - copy for n, copy in copies.items()]
        norms = norms_of([*copies.values(), *changes])
        self._row.updates.append((list(copies), DeferredNumbers(norms)))

    def _listen(self) -> None:
        """Have the attention of the step that begins looked at, if it is due."""
        if self._attention is not None and self._attention.is_due(self.step):
            self._attention.start()

    @torch.no_grad()
    def _take_update_rms(self, watched: _Watched) -> None:
        names = {id(p): name for name, p in watched.named.items()}
        found, norms, sizes = second_moment_norms(watched.optimizer, names)
        self._row.update_rms.append((found, sizes, DeferredNumbers(norms)))

    def _end_row(self) -> None:
        if self._attention is not None and self._attention.is_due(self.step):
            self._row.attention = self._attention.take()
        if self._is_due:
            self._row.given = {**self._given, **self._row.given}
            self._row.skipped, self._skipped = self._skipped, 0
            if len(self._waiting) >= self._patience:
                self._write()
            self._waiting.append(self._row)
        self._given = {}
        self._has_gradients = False
        self.step += 1
        self._row = _Row(self.step)
        for watched in self._watched:
            watched.has_stepped = False
        self._listen()

    def _write(self) -> None:
        """Read the numbers of the rows that wait, and keep them."""
        waiting, self._waiting = self._waiting, []
        for row in waiting:
            self._keep(row.step, *row.read())

    def _keep(self, step: int, names: Names, numbers: list[float]) -> None:
        self._history.extend(step, names, numbers)
        if self._rows is not None:
            self._rows.add(step, dict(zip(names, numbers, strict=True)))
            if len(self._history) >= 2 * KEPT_ROWS:
                self._history = self._history.tail(KEPT_ROWS)


_OPEN: "weakref.WeakSet[Watcher]" = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for watcher in list(_OPEN):
        watcher.close()

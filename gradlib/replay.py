"""Run the recorded last steps of a training again, and find where it died."""

import contextlib
import math
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from gradlib.checks import check_function, check_model, check_positive
from gradlib.clip import Clip, as_clipper
from gradlib.diagnosis.diagnose import diagnose
from gradlib.diagnosis.examination import SECONDS
from gradlib.diagnosis.report import Report
from gradlib.measure.nonfinite import NonFinite, first_nonfinite
from gradlib.measure.tensors import DeferredNorms, dense_of, kind_of
from gradlib.plain_values import restored
from gradlib.recorder import FORMAT, Entry
from gradlib.state import (
    bare_optimizer,
    cache_used,
    kept_modes,
    loss_in,
    parameters_of,
    plain_name,
    random_state,
    set_random_state,
    uncompiled,
)
from gradlib.training_state import TrainingState

__all__ = ["Replay", "replay"]

MOST_BATCHES = 100
"""Batches that `diagnose` looks at."""


@dataclass(frozen=True, repr=False)
class Replay:
    """What `replay` found; print it to read it.

    Args:
        step: Number of the step at which the first number was not finite; of the last
            step, where all were finite.
        born: What was the first, as by `gradlib.first_nonfinite`; ``where`` is
            ``"update"`` where the optimizer's step broke a parameter. None where all
            were finite.
        losses: Loss of each step, the sum over its micro-batches as they were weighted.
        norms: Joint norm of the gradients of each step before clipping; under a loss
            scaler, with its scale.
        differs_at: First step whose gradients are not those of the record, bit for bit;
            None where all are.
        batch: The last micro-batch that was run.
        report: What `gradlib.diagnose` says of these steps; None if it was not asked.
    """

    step: int
    born: NonFinite | None
    losses: tuple[float, ...]
    norms: tuple[float, ...]
    differs_at: int | None
    batch: Any
    report: Report | None

    def __repr__(self) -> str:
        first = self.step - len(self.losses) + 1
        same = "bit for bit as recorded"
        if self.differs_at is not None:
            same = (
                f"other than recorded from step {self.differs_at} on: give loss=, "
                "clip= and autocast= as they were in the training"
            )
        told = f"Steps {first} to {self.step} ran again, {same}."
        if self.born is None:
            told += "\nAll numbers were finite."
        else:
            born = self.born
            place = f"{born.name} ({born.where})"
            told += f"\nThe first {born.kind} is at step {self.step}: {place}."
            if born.where == "update":
                told += (
                    "\nThe optimizer's step made it, from weights and gradients that "
                    "are finite: print that tensor's gradient and state, the rate, "
                    "and what the step divides by."
                )
        return told if self.report is None else f"{told}\n\n{self.report}"


def replay(
    path: str | PathLike[str],
    model: nn.Module,
    *,
    loss: Callable[[nn.Module, Any], Any] | None = None,
    optimizer: Optimizer | None = None,
    clip: Clip | None = None,
    autocast: torch.dtype | None = None,
    seconds: float | None = SECONDS,
) -> Replay:
    """Run the steps that a `FlightRecorder` wrote again, to the death.

    Each micro-batch begins with the random numbers with which it began, so dropout
    drops the same units; each step has the rates that it had. On the same machine and
    with the same versions all numbers are the same, bit for bit; a compiled model is
    run as written, and equals the record to rounding.

    Afterwards the model holds the weights with which the fatal step began; random
    numbers and modes are as before.

    Args:
        path: The file; read with ``weights_only=True``, so that no code of it runs.
        model: The same model; its weights are overwritten.
        loss: Called as ``loss(model, batch)``; gives what the training called
            ``backward()`` on, alone, first, or under the name ``loss``. ``batch`` is
            what `FlightRecorder.batch` was given, objects as plain ones with their
            attributes; else what the model was called with: its one argument, a tuple
            of several, a dictionary where they had names. By default the loss is what
            the model returns, weighted as it was.
        optimizer: The optimizer of the model, where it is none of torch's own.
        clip: A norm, or a clipper; by default the norm that the recorder was given.
        autocast: The type of the loop's autocast; by default as recorded.
        seconds: Processor time for `gradlib.diagnose`; None to leave it out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no record, or that of another model.
        TypeError: there is no scalar loss, or an argument is of the wrong kind.

    Example:
        >>> import tempfile, warnings
        >>> from gradlib import FlightRecorder
        >>> path = Path(tempfile.mkdtemp()) / "black_box.pt"
        >>> model = nn.Linear(2, 1)
        >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> recorder = FlightRecorder(model, sgd, path=path)
        >>> batches = [torch.ones(3, 2), torch.full((3, 2), math.nan)]
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")
        ...     for x in map(recorder.batch, batches):
        ...         sgd.zero_grad()
        ...         model(x).square().mean().backward()
        ...         sgd.step()
        >>> found = replay(path, model, loss=lambda m, x: m(x).square().mean())
        >>> found.step, found.born, found.differs_at, found.report.cause
        (1, NonFinite(name='Linear', where='input', kind='nan'), None, 'bad_data')
    """
    check_model(model)
    if loss is not None:
        check_function(loss, "loss")
    if autocast is not None and not isinstance(autocast, torch.dtype):
        raise TypeError(f"autocast: expected a type of torch, got {autocast!r}")
    if seconds is not None:
        check_positive(seconds, "seconds")
    content = _read(path)
    if loss is None and not content["steps"][0]["batches"][0]["is_call"]:
        raise TypeError(
            "loss: expected a function loss(model, batch), got None. The file holds "
            "batches that were handed over, and not what the model was called with."
        )
    before = random_state()
    try:
        used = content.get("use_cache")
        with uncompiled(), kept_modes(model), cache_used(model, used):
            if clip is None:
                clip = content["clip"]
            as_clipper(clip)
            dtype = autocast or content["autocast"]
            optimizer = _optimizer_for(model, content, optimizer)
            run = _Run(model, optimizer, content, loss, clip, dtype)
            return run.to_the_death(seconds)
    finally:
        set_random_state(before)


class _Run:
    """The steps of a record, with a model and an optimizer to run them."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        content: dict[str, Any],
        loss: Callable[[nn.Module, Any], Any] | None,
        clip: Clip | None,
        autocast: torch.dtype | None,
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._parameters = parameters_of(optimizer)
        self._steps: list[Entry] = content["steps"]
        self._loss = loss
        self._clip = clip
        self._clipper = as_clipper(clip, nonfinite="pass")
        self._autocast = autocast
        self._state = restored(content["state"])
        self._device = self._parameters[0].device.type
        self._scaler = None
        if self._state["scaler"] is not None:
            self._scaler = GradScaler(self._device)
            self._scaler.load_state_dict(self._state["scaler"])
            self._scaler.scale(torch.zeros(1, device=self._parameters[0].device))
        self._training = TrainingState(model, optimizer, None, self._scaler)
        self._modules: list[str] = content["modules"]

    def to_the_death(self, seconds: float | None) -> Replay:
        self._training.restore(self._state)
        losses: list[float] = []
        totals: list[float] = []
        differs_at = None
        born = None
        for record in self._steps:
            start = self._training.copy()
            total, norms = self._gradients(record)
            losses.append(total)
            totals.append(math.hypot(*norms))
            if differs_at is None and not _same(norms, record["norms"]):
                differs_at = record["step"]
            broken = not all(map(math.isfinite, (total, *norms)))
            if broken and (self._scaler is None or record is self._steps[-1]):
                self._training.restore(start)
                born = self._origin(record) or self._broken("backward")
                break
            self._update()
            if born := self._broken("update"):
                break
        self._training.restore(start)
        batch = self._batch(record["batches"][-1])
        report = None
        if seconds is not None:
            report = self._diagnosed(seconds)
            self._training.restore(start)
        self._optimizer.zero_grad()
        return Replay(
            record["step"],
            born,
            tuple(losses),
            tuple(totals),
            differs_at,
            batch,
            report,
        )

    def _gradients(self, record: Entry) -> tuple[float, list[float]]:
        """Loss of a step, and the norms of its gradients."""
        for group, options in zip(
            self._optimizer.param_groups, restored(record["options"]), strict=True
        ):
            group.update(options)
        self._model.zero_grad()
        total = 0.0
        for entry in record["batches"]:
            total += float(self._backward(entry).detach())
        grads = [g for p in self._parameters if (g := p.grad) is not None]
        norms = DeferredNorms(dense_of(grads))
        norms.send()
        return total, norms.read()

    def _backward(self, entry: Entry) -> Tensor:
        """Run a micro-batch forward and backward; gives its weighted loss."""
        modes = dict(zip(self._modules, entry["modes"], strict=True))
        for name, module in self._model.named_modules():
            module.training = modes.get(plain_name(name), modes[""])
        set_random_state(restored(entry["random"]))
        with self._casting():
            loss = self._loss_of(self._batch(entry), entry["is_call"])
        factor = entry["factor"] if self._loss is None else None
        if factor is not None:
            factor = factor.to(loss.device).reshape(loss.shape)
            loss.backward(factor)  # type: ignore[no-untyped-call]
            return loss * (factor if self._scaler is None else 1.0)
        scaled = loss if self._scaler is None else self._scaler.scale(loss)
        scaled.backward()  # type: ignore[no-untyped-call]
        return loss

    @contextlib.contextmanager
    def _casting(self) -> Iterator[None]:
        if self._autocast is None:
            yield
            return
        with torch.autocast(self._device, self._autocast):
            yield

    def _batch(self, entry: Entry) -> Any:
        batch = restored(entry["batch"])
        if not entry["is_call"]:
            return batch
        args, kwargs = batch["args"], batch["kwargs"]
        if self._loss is None:
            return args, kwargs
        if not args:
            return kwargs
        if kwargs:
            return args, kwargs
        return args[0] if len(args) == 1 else args

    def _loss_of(self, batch: Any, is_call: bool) -> Tensor:
        if self._loss is not None:
            given = self._loss(self._model, batch)
        else:
            given = self._model(*batch[0], **batch[1])
        loss = loss_in(given)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss)
            raise TypeError(
                f"loss: expected one number, got {shape}. Give loss=, a function "
                "of the model and the batch; where targets do not pass through the "
                "model, record whole batches with FlightRecorder.batch."
            )
        return loss

    def _update(self) -> None:
        if self._scaler is not None:
            self._scaler.unscale_(self._optimizer)
        if self._clipper is not None:
            self._clipper(list(self._model.parameters()))
        if self._scaler is None:
            self._optimizer.step()
            return
        self._scaler.step(self._optimizer)
        self._scaler.update()

    def _origin(self, record: Entry) -> NonFinite | None:
        for entry in record["batches"]:
            run = partial(self._backward, entry)
            if born := first_nonfinite(self._model, run):
                return born
        return None

    def _broken(self, where: str) -> NonFinite | None:
        """The first parameter that is not finite, or its gradient."""
        for name, p in self._model.named_parameters():
            tensor = p.grad if where == "backward" else p.detach()
            if tensor is not None and (kind := kind_of(tensor)):
                return NonFinite(name, where, kind)
        return None

    def _diagnosed(self, seconds: float) -> Report:
        """What `diagnose` says, from the recorded state on the recorded batches."""
        self._training.restore(self._state)
        entries = [entry for record in self._steps for entry in record["batches"]]
        entries = entries[-MOST_BATCHES:]
        calls = [entry["is_call"] for entry in entries]

        def loss(model: nn.Module, batch: Any) -> Tensor:
            with self._casting():
                return self._loss_of(batch, calls[0])

        self._optimizer.zero_grad()
        return diagnose(
            self._model,
            self._optimizer,
            [self._batch(entry) for entry in entries],
            loss=loss,
            clip=self._clip,
            max_steps=len(entries),
            seconds=seconds,
        )


def _read(path: str | PathLike[str]) -> dict[str, Any]:
    if not isinstance(path, (str, PathLike)):
        raise TypeError(f"path: expected a path, got {type(path).__name__}")
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a record, found no file")
    device = None if torch.cuda.is_available() else "cpu"
    content: Any = None
    if zipfile.is_zipfile(path):
        with contextlib.suppress(UnpicklingError, RuntimeError, ValueError):
            content = torch.load(path, map_location=device, weights_only=True)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(
            f"path: expected a file that a FlightRecorder wrote, got {path} with "
            "something else"
        )
    return content


def _optimizer_for(
    model: nn.Module, content: dict[str, Any], given: Optimizer | None
) -> Optimizer:
    """The optimizer given, or one of torch like that of the record."""
    named = {plain_name(name): p for name, p in model.named_parameters()}
    held = {name: t.shape for name, t in content["state"]["model"].items()}
    buffers = {plain_name(name): buffer.shape for name, buffer in model.named_buffers()}
    shapes = {name: p.shape for name, p in named.items()} | buffers
    if shapes != held:
        other = sorted(held.keys() ^ shapes.keys()) or ["other shapes"]
        raise ValueError(
            f"model: expected the model that was recorded, got another: {other[0]}. "
            "Build it as the training did."
        )
    if given is not None:
        optimizer = bare_optimizer(given)
        names = {id(p): name for name, p in named.items()}
        if [names.get(id(p)) for p in parameters_of(optimizer)] != content["names"]:
            raise ValueError(
                "optimizer: expected the recorded parameters in the same order, got "
                "others. Make it from this model, as the training did."
            )
        return optimizer
    kind = content["optimizer"].rsplit(".", 1)[-1]
    own = getattr(torch.optim, kind, None)
    if own is None or f"{own.__module__}.{own.__qualname__}" != content["optimizer"]:
        raise ValueError(
            f"optimizer: expected one of torch's own, got {content['optimizer']}. Give "
            "optimizer=, made from this model as the training did."
        )
    names = iter(content["names"])
    groups = [
        {"params": [named[next(names)] for _ in range(size)], **restored(options)}
        for size, options in zip(
            content["sizes"], content["state"]["groups"], strict=True
        )
    ]
    made: Optimizer = own(groups, lr=groups[0]["lr"])
    return made


def _same(a: list[float], b: list[float]) -> bool:
    """Equal number for number, NaN included; what was not recorded is no difference."""
    if not b:
        return True
    pairs = zip(a, b, strict=False)
    return len(a) == len(b) and all(x == y or (x != x and y != y) for x, y in pairs)

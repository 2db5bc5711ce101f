"""Callbacks for the Trainer of transformers."""

import weakref
from typing import Any, Self

import torch
from transformers import TrainerCallback

from gradlib.recorder import FlightRecorder
from gradlib.watcher import Watcher, watch

__all__ = ["RecorderCallback", "WatchCallback"]


class WatchCallback(TrainerCallback):  # type: ignore[misc]
    """Watch a training of ``Trainer``.

    The norms are those before ``max_grad_norm`` clips; the Trainer's own hooks come
    after. With float16 its scaler is found, and norms are those of the unscaled
    gradients. The logged loss joins the row of the step at which it is logged.

    A Trainer that is interrupted tells its callbacks nothing. The watcher is then
    closed when the Trainer trains again, when the callback is deleted, or at the end of
    a ``with`` in which the callback is used.

    Args:
        **options: As for `gradlib.watch`: ``file``, ``every``, ``updates_every``, ...

    Attributes:
        watcher: The `Watcher` of the last training, or None before it begins.

    Example:
        ``with WatchCallback(file="run.jsonl") as watch:
        Trainer(model, args, train_dataset=data, callbacks=[watch]).train()``
    """

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.watcher: Watcher | None = None

    def on_train_begin(
        self, args: Any, state: Any, control: Any, **training: Any
    ) -> None:
        self.close()  # a training before this one may have been interrupted
        optimizer = training["optimizer"]
        options = {
            "first_step": state.global_step,
            "scaler": getattr(optimizer, "scaler", None),
            **self.options,
        }
        self.watcher = watch(training["model"], optimizer, **options)
        weakref.finalize(self, self.watcher.close)

    def on_log(
        self,
        args: Any,
        state: Any,
        control: Any,
        logs: dict[str, float] | None = None,
        **training: Any,
    ) -> None:
        if self.watcher is not None and logs and "loss" in logs:
            self.watcher.log_last(loss=logs["loss"])

    def on_train_end(
        self, args: Any, state: Any, control: Any, **training: Any
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop watching, if it still goes on."""
        if self.watcher is not None:
            self.watcher.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()


class RecorderCallback(TrainerCallback):  # type: ignore[misc]
    """Keep a black box of a training of ``Trainer``; `gradlib.replay` runs it again.

    The norm at which it clips, the type of its autocast and its scaler are found.
    ``replay(path, model)`` then needs no ``loss=``, unless the Trainer computes the
    loss outside the model.

    Args:
        **options: As for `gradlib.FlightRecorder`: ``path``, ``every``, ...

    Attributes:
        recorder: The `FlightRecorder` of the last training, or None before it begins.

    Example:
        ``Trainer(model, args, train_dataset=data,
        callbacks=[RecorderCallback(path="black_box.pt")])``
    """

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.recorder: FlightRecorder | None = None

    def on_train_begin(
        self, args: Any, state: Any, control: Any, **training: Any
    ) -> None:
        if self.recorder is not None:
            self.recorder.close()  # a training before this one was interrupted
        optimizer = training["optimizer"]
        dtype = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None
        options = {
            "first_step": state.global_step,
            "scheduler": training.get("lr_scheduler"),
            "scaler": getattr(optimizer, "scaler", None),
            "clip": args.max_grad_norm or None,
            "autocast": dtype,
            **self.options,
        }
        self.recorder = FlightRecorder(training["model"], optimizer, **options)

    def on_train_end(
        self, args: Any, state: Any, control: Any, **training: Any
    ) -> None:
        if self.recorder is not None:
            self.recorder.close()

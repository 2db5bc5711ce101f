"""A callback for the Trainer of transformers."""

from typing import Any

from transformers import TrainerCallback

from gradlib.watcher import Watcher, watch

__all__ = ["WatchCallback"]


class WatchCallback(TrainerCallback):  # type: ignore[misc]
    """Watch a training of ``Trainer``.

    The norms are those before ``max_grad_norm`` clips; the Trainer's own hooks come
    after. With float16 its scaler is found, and norms are those of the unscaled
    gradients. The logged loss joins the row of the step at which it is logged.

    Args:
        **options: As for `gradlib.watch`: ``file``, ``every``, ``updates_every``, ...

    Attributes:
        watcher: The `Watcher` of the last training, or None before it begins.

    Example:
        ``Trainer(model, args, train_dataset=data,
        callbacks=[WatchCallback(file="run.jsonl")])``
    """

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.watcher: Watcher | None = None

    def on_train_begin(
        self, args: Any, state: Any, control: Any, **training: Any
    ) -> None:
        if self.watcher is not None:
            self.watcher.close()  # a training before this one was interrupted
        optimizer = training["optimizer"]
        options = {
            "first_step": state.global_step,
            "scaler": getattr(optimizer, "scaler", None),
            **self.options,
        }
        self.watcher = watch(training["model"], optimizer, **options)

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
        if self.watcher is not None:
            self.watcher.close()

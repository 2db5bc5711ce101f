"""A callback for the Trainer of Lightning."""

from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from gradlib.watcher import Watcher, watch

__all__ = ["WatchCallback"]


class WatchCallback(Callback):  # type: ignore[misc]
    """Watch a training of Lightning.

    The norms are those before ``gradient_clip_val`` clips. With ``16-mixed`` the scaler
    is found, and norms are those of the unscaled gradients. The loss of a row is the
    mean over the micro-batches of its step.

    Args:
        **options: As for `gradlib.watch`: ``file``, ``every``, ``updates_every``, ...

    Attributes:
        watcher: The `Watcher` of the last training, or None before it begins.

    Example:
        ``Trainer(callbacks=[WatchCallback(file="run.jsonl")])``
    """

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.watcher: Watcher | None = None
        self._losses: list[Tensor] = []
        self._step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        options = {"first_step": trainer.global_step, "scaler": scaler, **self.options}
        self.watcher = watch(pl_module, trainer.optimizers, **options)
        self._step = self.watcher.step
        self._losses.clear()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if isinstance(loss, Tensor):
            self._losses.append(loss.detach())
        if self.watcher is None or self.watcher.step == self._step:
            return
        if self._losses:
            self.watcher.log_last(loss=sum(self._losses) / len(self._losses))
        self._step = self.watcher.step
        self._losses.clear()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.watcher is not None:
            self.watcher.close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self.on_train_end(trainer, pl_module)

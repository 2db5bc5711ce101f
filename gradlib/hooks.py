"""Hooks on modules, tensors and optimizers, which all go away together."""

from contextlib import ExitStack
from typing import Protocol


class Handle(Protocol):
    """What torch returns for a hook."""

    def remove(self) -> None:
        """Take the hook away."""


class Hooks(ExitStack):
    """Handles of hooks; leaving the ``with``, or `close`, removes them all.

    Example:
        >>> import torch
        >>> layer = torch.nn.Linear(2, 2)
        >>> with Hooks() as hooks:
        ...     hooks.keep(layer.register_forward_hook(lambda *_: print("ran")))
        ...     _ = layer(torch.ones(2))
        ran
        >>> _ = layer(torch.ones(2))
    """

    def keep(self, *handles: Handle) -> None:
        """Take care of further hooks."""
        for handle in handles:
            self.callback(handle.remove)

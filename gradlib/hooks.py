"""Hooks on modules, tensors and optimizers, which all go away together."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Protocol

from torch.autograd import Variable


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


class OpenedOnce:
    """The state of a monitor that serves one run: new, then open, then closed."""

    _state = "new"

    @property
    def is_open(self) -> bool:
        """Whether the monitor is inside its ``with``."""
        return self._state == "open"

    def _open(self) -> None:
        if self._state != "new":
            raise RuntimeError(
                f"expected a new monitor, got one that is {self._state}. Make another "
                f"{type(self).__name__} for another run."
            )
        self._state = "open"


def at_the_end(callback: Callable[[], None]) -> None:
    """Have a function called when the backward pass that runs now has ended.

    Example:
        >>> import torch
        >>> x = torch.ones(1, requires_grad=True)
        >>> _ = x.register_hook(lambda _: at_the_end(lambda: print(x.grad)))
        >>> (2 * x).backward()
        tensor([2.])
    """
    engine: Any = Variable._execution_engine
    engine.queue_callback(callback)

"""What gradlib raises about a training run, and notes on errors that it meets.

What happens to a run has its own classes, so that a caller can catch it and go on.
Wrong arguments raise ``ValueError`` or ``TypeError`` (see `gradlib.checks`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["DivergenceError", "NonFiniteGradientError", "RankError"]


class DivergenceError(RuntimeError):
    """The loss of a training run became too large or not a number.

    Args:
        step: Step at which it was seen, counted from 0.
        loss: The loss at that step.
        reason: What made the loss count as diverged.

    Attributes:
        history: The `gradlib.History` up to that step, if there is one.

    Example:
        >>> raise DivergenceError(step=7, loss=float("nan"))
        Traceback (most recent call last):
        ...
        gradlib.errors.DivergenceError: training diverged at step 7: loss is nan...
    """

    def __init__(self, step: int, loss: float, reason: str = "") -> None:
        self.step = step
        self.loss = loss
        self.reason = reason
        self.history: object = None
        because = f" ({reason})" if reason else ""
        super().__init__(
            f"training diverged at step {step}: loss is {loss:.4g}{because}. "
            "Lower the learning rate, clip gradients, or ask gradlib.diagnose "
            "for the cause."
        )


class NonFiniteGradientError(RuntimeError):
    """A gradient holds NaN or infinity.

    Args:
        name: Name of the first parameter whose gradient is not finite, or its
            position if the caller gave parameters without names.
        kind: ``"nan"`` or ``"inf"``.
    """

    def __init__(self, name: str, kind: str = "nan") -> None:
        self.name = name
        self.kind = kind
        super().__init__(
            f"expected finite gradients, got {kind} in the gradient of {name}. "
            "Find the operation with gradlib.first_nonfinite. To skip such steps, clip "
            "with nonfinite='skip'; under a GradScaler, which skips them itself, with "
            "nonfinite='pass'."
        )


class RankError(RuntimeError):
    """A function failed in one of the processes of `gradlib.ranks.Ranks`.

    Args:
        rank: The process in which it failed first.
        name: What was called.
        told: Its traceback, or how its process ended.
    """

    def __init__(self, rank: int, name: str, told: str) -> None:
        self.rank = rank
        self.name = name
        self.told = told
        super().__init__(f"rank {rank} failed in {name}:\n{told}")


@contextmanager
def explained(name: str, **given: Any) -> Iterator[None]:
    """Add to an error that is raised inside what the model or loss was given.

    The error stays as it is, since it may come from code of any kind.

    Example:
        >>> import torch
        >>> try:
        ...     with explained("model", inputs=torch.ones(2, 5)):
        ...         torch.nn.Linear(4, 3)(torch.ones(2, 5))
        ... except RuntimeError as error:
        ...     print(*error.__notes__)
        model: got inputs of shape (2, 5) and torch.float32. Check the shape, type
        and order of what the batches hold; labels of classes are torch.int64.
    """
    try:
        yield
    except Exception as error:
        told = " and ".join(f"{what} {_look(value)}" for what, value in given.items())
        error.add_note(
            f"{name}: got {told}. Check the shape, type and order of what the batches "
            "hold; labels of classes are torch.int64."
        )
        raise


def _look(value: Any) -> str:
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"of shape {tuple(value.shape)} and {value.dtype}"
    return f"of type {type(value).__name__}"

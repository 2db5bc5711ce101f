"""Run a model and its loss; an error in them says what they were given."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from gradlib.errors import check_function, check_type

LossFunction = Callable[[Any, Any], Tensor]


def loss_of(
    model: Callable[[Any], Any], loss_fn: LossFunction, inputs: Any, targets: Any
) -> Tensor:
    """The mean loss of one batch, a scalar.

    Raises:
        TypeError: ``loss_fn`` is not a function, or returns no tensor.
        ValueError: the loss is not a scalar.

    Example:
        >>> loss_of(torch.nn.Identity(), torch.dot, torch.ones(2), torch.ones(2))
        tensor(2.)
    """
    check_function(loss_fn, "loss_fn")
    with explained("model", inputs=inputs):
        outputs = model(inputs)
    with explained("loss_fn", outputs=outputs, targets=targets):
        loss = loss_fn(outputs, targets)
    check_type(Tensor, loss_fn=loss)
    if loss.dim() > 0:
        raise ValueError(
            f"loss_fn: expected a mean loss, a scalar, got shape {tuple(loss.shape)}. "
            "Use reduction='mean'."
        )
    return loss


def check_attached(loss: Tensor) -> None:
    """Refuse a loss that no gradient can be taken of.

    Raises:
        ValueError: the loss is not part of a graph.

    Example:
        >>> check_attached(torch.ones(()))
        Traceback (most recent call last):
        ...
        ValueError: loss_fn: expected a loss with a gradient, got one without. Compute
        it from the outputs of the model, without detach() or item().
    """
    if not loss.requires_grad:
        raise ValueError(
            "loss_fn: expected a loss with a gradient, got one without. Compute it "
            "from the outputs of the model, without detach() or item()."
        )


def check_autocast(dtype: Any) -> None:
    """Refuse what ``torch.autocast`` does not compute in.

    Raises:
        TypeError: ``dtype`` is neither None nor a data type of torch.
        ValueError: it is not a half precision.

    Example:
        >>> check_autocast(torch.float32)
        Traceback (most recent call last):
        ...
        ValueError: autocast: expected torch.bfloat16, torch.float16 or None, got
        torch.float32
    """
    check_type(torch.dtype | None, autocast=dtype)
    if dtype not in (torch.bfloat16, torch.float16, None):
        raise ValueError(
            f"autocast: expected torch.bfloat16, torch.float16 or None, got {dtype}"
        )


@contextmanager
def explained(name: str, **given: Any) -> Iterator[None]:
    """Add to an error that is raised inside what the model or loss was given.

    The error stays as it is, since it may come from code of any kind.

    Example:
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
    if isinstance(value, Tensor):
        return f"of shape {tuple(value.shape)} and {value.dtype}"
    return f"of type {type(value).__name__}"

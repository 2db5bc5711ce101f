"""The loss in what a model, a loss function or a whole step returns."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def loss_in(result: Any) -> Any:
    """The loss, which comes alone, first, or under the name ``loss``.

    Example:
        >>> loss_in({"logits": (1.0, 2.0), "loss": 0.5}), loss_in((0.5, "rest"))
        (0.5, 0.5)
    """
    if isinstance(result, Tensor):
        return result
    if isinstance(result, Mapping) and "loss" in result:
        return result["loss"]
    if isinstance(result, (tuple, list)) and result:
        return result[0]
    return getattr(result, "loss", result)

"""Measure how well a model does."""

import torch
from torch import Tensor, nn

from gradlib.checks import check_count, check_model, check_type
from gradlib.errors import explained
from gradlib.state import kept_modes


def accuracy(
    model: nn.Module, x: Tensor, y: Tensor, *, batch_size: int = 1000
) -> float:
    """Share of inputs whose largest output is at the target.

    The model is in evaluation mode meanwhile, without gradients.

    Args:
        model: Gives scores of shape (n, classes).
        x: Inputs, n of them along the first axis.
        y: Targets: whole numbers, shape (n,).
        batch_size: Inputs at a time.

    Returns:
        A number between 0 and 1.

    Raises:
        ValueError: there are no inputs, or not one target for each answer.

    Example:
        >>> scores = torch.tensor([[0.0, 1.0], [2.0, 1.0]])
        >>> accuracy(nn.Identity(), scores, torch.tensor([1, 1]))
        0.5
    """
    check_count(batch_size, "batch_size")
    check_model(model)
    check_type(Tensor, x=x, y=y)
    if len(x) != len(y) or len(x) == 0:
        raise ValueError(
            f"x, y: expected as many inputs as targets, one or more, got {len(x)} "
            f"and {len(y)}"
        )
    device = next((p.device for p in model.parameters()), x.device)
    right = torch.zeros((), dtype=torch.int64, device=device)
    with kept_modes(model), torch.no_grad():
        model.eval()
        for start in range(0, len(x), batch_size):
            part = slice(start, start + batch_size)
            given, wanted = x[part].to(device), y[part].to(device)
            with explained("model", inputs=given):
                found = model(given).argmax(dim=-1)
            if found.shape != wanted.shape:
                raise ValueError(
                    f"y: expected one class an answer, shape {tuple(found.shape)}, "
                    f"got {tuple(wanted.shape)}. Of one-hot targets take argmax(1)."
                )
            right += (found == wanted).sum()
    return right.item() / len(x)

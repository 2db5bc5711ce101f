"""Read what a history holds: columns that may be missing, the first NaN."""

import math

from gradlib.diagnosis.patient import layer_of
from gradlib.history import History


def recorded(history: History, column: str) -> tuple[list[int], list[float]]:
    """Steps and values of a column; empty if it was not recorded."""
    return history.recorded(column) if column in history else ([], [])


def entry(history: History) -> str:
    """Name of the first module whose outputs were recorded."""
    return next(iter(history.layers("activation_mean")), "")


def first_nonfinite(history: History) -> tuple[int | None, str, str]:
    """Step, name and pass (forward, loss, backward) of the first NaN or infinity."""
    outputs = [f"activation_mean/{n}" for n in history.layers("activation_mean")]
    gradients = [f"gradient_norm/{n}" for n in history.layers("gradient_norm")]
    passes = [
        *((column, "forward") for column in outputs),
        ("loss", "loss"),
        *((column, "backward") for column in reversed(gradients)),
        ("gradient_norm", "backward"),
    ]
    first: tuple[int | None, str, str] = (None, "", "")
    for column, where in passes:
        steps, values = recorded(history, column)
        bad = (s for s, v in zip(steps, values, strict=True) if not math.isfinite(v))
        step = next(bad, None)
        if step is not None and (first[0] is None or step < first[0]):
            name = column.partition("/")[2] or "loss"
            first = (step, name if where == "forward" else layer_of(name), where)
    return first

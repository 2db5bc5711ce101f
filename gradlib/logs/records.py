"""Numbers of one dictionary of a trainer, under the names of the history."""

import math
import re
from collections.abc import Mapping

from gradlib.logs.names import column_of
from gradlib.logs.numbers import NUMBER, to_number

_NUMBER = re.compile(NUMBER)
_STEPS = {"_step": "step"}


def columns_of(record: Mapping[str, object]) -> tuple[int | None, dict[str, float]]:
    """Step (None where there is none) and columns of a dictionary.

    Example:
        >>> columns_of({"loss": "2.5", "lr": 0.1, "step": 7, "name": "a"})
        (7, {'loss': 2.5, 'learning_rate': 0.1})
    """
    columns: dict[str, float] = {}
    for key, value in record.items():
        column = _STEPS.get(key) or column_of(key)
        number = as_number(value) if column else None
        if number is not None and (column not in columns or key == column):
            columns[column] = number
    step = whole(columns.pop("step", -1.0))
    return (step if step >= 0 else None), columns


def as_number(value: object) -> float | None:
    """A number, or a text that is one; None for all else.

    Example:
        >>> as_number(3), as_number("nan"), as_number("a"), as_number(True)
        (3.0, nan, None, None)
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        text = value.strip()
        return to_number(text) if _NUMBER.fullmatch(text) else None
    if not hasattr(value, "__float__"):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf
    except (TypeError, ValueError, RuntimeError):
        return None


def whole(number: float) -> int:
    """A count, or -1 where the number is none.

    Example:
        >>> whole(3.0), whole(2.5), whole(float("nan"))
        (3, -1, -1)
    """
    is_count = math.isfinite(number) and 0 <= number < 1e15 and number == int(number)
    return int(number) if is_count else -1

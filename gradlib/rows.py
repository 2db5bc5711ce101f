"""Numbers by step and column, packed: names are kept once for all steps."""

from array import array
from collections.abc import Sequence
from typing import SupportsFloat, cast

from gradlib.errors import check_count

_Block = tuple[dict[str, int], Sequence[float]]


class Rows:
    """One row a step; a row holds what was added at its step, block by block.

    Attributes:
        steps: The steps, in rising order.

    Example:
        >>> rows = Rows()
        >>> rows.add(0, ("loss", "norm"), [2.5, 1.0])
        >>> rows.add(0, ("rate",), [0.1])
        >>> rows.add(1, ("loss", "norm"), [2.0, 0.5])
        >>> rows.names(), rows.values("rate")
        (['loss', 'norm', 'rate'], [0.1, None])
    """

    def __init__(self) -> None:
        self.steps: list[int] = []
        self._rows: list[list[_Block]] = []
        self._places: dict[tuple[str, ...], dict[str, int]] = {}

    def add(
        self, step: int, names: tuple[str, ...], values: list[SupportsFloat]
    ) -> None:
        """Add a row, or at the last step again a block to its row.

        Raises:
            TypeError: a value is not a number.
            ValueError: the step is smaller than the last one, or there are more or
                fewer values than names.
        """
        last = self.steps[-1] if self.steps else -1
        if type(step) is not int or step < last or step < 0:
            step = _step(step, max(last, 0))
        if len(values) != len(names):
            raise ValueError(
                f"values: expected as many as names, {len(names)}, got {len(values)}"
            )
        try:
            block = array("d", cast(list[float], values))
        except (TypeError, ValueError, RuntimeError):
            block = array("d", map(_number, values, names))
        places = self._places.get(names)
        if places is None:
            places = self._places[names] = {name: k for k, name in enumerate(names)}
        if step == last:
            self._rows[-1].append((places, block))
        else:
            self.steps.append(step)
            self._rows.append([(places, block)])

    def names(self) -> list[str]:
        """Names of all columns, as they came."""
        return list({name: None for names in self._places for name in names})

    def values(self, column: str) -> list[float | None]:
        """One value a step: the last one added, or None where there is none."""
        return [_last(row, column) for row in self._rows]


def _last(row: list[_Block], column: str) -> float | None:
    for places, values in reversed(row):
        if column in places:
            return values[places[column]]
    return None


def _step(step: int, least: int) -> int:
    step = check_count(step, "step", least=0)
    if step < least:
        raise ValueError(
            f"step: expected {least} or more, after the last row, got {step}"
        )
    return step


def _number(value: SupportsFloat, name: str) -> float:
    if not hasattr(value, "__float__"):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    try:
        return float(value)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{name}: expected one number, got {value}") from error

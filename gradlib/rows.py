"""Numbers by step and column, packed: 8 bytes a number, 16 more a row."""

from array import array
from typing import SupportsFloat, cast

from gradlib.errors import check_count


class Rows:
    """One row a step; a row holds what was added at its step, block by block.

    Names of columns are kept once for all blocks that have the same ones.

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
        self.steps = array("q")
        self._numbers = array("d")
        self._block_rows = array("I")
        self._block_kinds = array("I")
        self._kinds: dict[tuple[str, ...], int] = {}

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
        if step != last:
            self.steps.append(step)
        self._numbers.extend(block)
        self._block_rows.append(len(self.steps) - 1)
        self._block_kinds.append(self._kinds.setdefault(names, len(self._kinds)))

    def names(self) -> list[str]:
        """Names of all columns, as they came."""
        return list({name: None for names in self._kinds for name in names})

    def values(self, column: str) -> list[float | None]:
        """One value a step: the last one added, or None where there is none."""
        found: list[float | None] = [None] * len(self.steps)
        for row, value in zip(*self.packed(column), strict=True):
            found[row] = value
        return found

    def packed(self, column: str) -> tuple["array[int]", "array[float]"]:
        """Indices of the rows that have the column, and its values there.

        Example:
            >>> rows = Rows()
            >>> rows.add(5, ("loss",), [2.5])
            >>> rows.packed("loss")
            (array('I', [0]), array('d', [2.5]))
        """
        if len(self._kinds) == 1 and len(self.steps) == len(self._block_rows):
            (names,) = self._kinds
            if column not in names:
                return array("I"), array("d")
            last = len(names) - 1 - names[::-1].index(column)
            return self._block_rows, self._numbers[last :: len(names)]
        places = [
            {name: place for place, name in enumerate(names)}.get(column)
            for names in self._kinds
        ]
        widths = [len(names) for names in self._kinds]
        rows, values = array("I"), array("d")
        start = 0
        for row, kind in zip(self._block_rows, self._block_kinds, strict=True):
            place = places[kind]
            if place is not None:
                if rows and rows[-1] == row:
                    values[-1] = self._numbers[start + place]
                else:
                    rows.append(row)
                    values.append(self._numbers[start + place])
            start += widths[kind]
        return rows, values


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

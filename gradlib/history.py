"""The record of a training run: one row a step, named columns of numbers."""

import difflib
import json
import math
from os import PathLike
from pathlib import Path
from typing import Any, SupportsFloat

from gradlib.errors import check_count

_FORMAT = "gradlib.History/1"


class History:
    """What was measured at each step of a run.

    A column is a list with one number a step. The columns of `gradlib.fit` are
    ``loss``, ``gradient_norm`` (before clipping), ``learning_rate`` and
    ``clipped`` (0 or 1). A column of one layer is named after it, for example
    ``gradient_norm/layers.0.weight``. A step may lack a column: the list then
    holds NaN there, and `recorded` leaves the step out.

    Attributes:
        diverged_at: The step at which the run diverged, or None.

    Example:
        >>> history = History()
        >>> history.append(0, loss=2.3, gradient_norm=1.5)
        >>> history.append(1, loss=1.9, gradient_norm=1.25)
        >>> history["loss"]
        [2.3, 1.9]
        >>> history
        step  loss  gradient_norm
           0   2.3            1.5
           1   1.9           1.25
    """

    def __init__(self, diverged_at: int | None = None) -> None:
        self.diverged_at = diverged_at
        self._steps: list[int] = []
        self._rows: list[dict[str, float]] = []

    def append(self, step: int, **columns: SupportsFloat) -> None:
        """Add a row; at the last step again, add columns to its row.

        Args:
            step: Number of the step; never smaller than the last one.
            **columns: Numbers (or tensors of one number) by column name. Names
                that are no Python words go in by ``**{"loss/valid": 0.5}``.

        Raises:
            TypeError: a value is not a number.
            ValueError: the step is smaller than the last one.

        Example:
            >>> history = History()
            >>> history.append(4, loss=2.3)
            >>> history.append(3, loss=1.9)
            Traceback (most recent call last):
            ...
            ValueError: step: expected 4 or more, after the last row, got 3
        """
        last = self._steps[-1] if self._steps else 0
        if type(step) is not int or step < last:
            step = check_count(step, "step", least=0)
            if step < last:
                raise ValueError(
                    f"step: expected {last} or more, after the last row, got {step}"
                )
        row: dict[str, Any] = columns
        for name, value in columns.items():
            if type(value) is not float:
                row[name] = _number(value, name)
        if self._steps and step == last:
            self._rows[-1].update(row)
        else:
            self._steps.append(step)
            self._rows.append(row)

    @property
    def columns(self) -> list[str]:
        """Names of all columns, ``step`` first, the others as they came."""
        names = {name: None for row in self._rows for name in row}
        return ["step", *names]

    def __len__(self) -> int:
        return len(self._steps)

    def __contains__(self, column: object) -> bool:
        return column in self.columns

    def __getitem__(self, column: str) -> list[float]:
        if column == "step":
            return list(self._steps)
        values = [row.get(column) for row in self._rows]
        if all(value is None for value in values):
            raise KeyError(_unknown(column, self.columns))
        return [math.nan if value is None else value for value in values]

    def recorded(self, column: str) -> tuple[list[int], list[float]]:
        """Steps that have the column, and its values there.

        Example:
            >>> history = History()
            >>> history.append(0, loss=2.3, accuracy=0.1)
            >>> history.append(1, loss=1.9)
            >>> history.recorded("accuracy")
            ([0], [0.1])
        """
        pairs = zip(self._steps, self[column], self._rows, strict=True)
        kept = [(step, value) for step, value, row in pairs if column in row]
        return [step for step, _ in kept], [value for _, value in kept]

    def layers(self, quantity: str) -> dict[str, list[float]]:
        """Recorded values of the columns ``quantity/<layer>``, by the layer's name.

        Steps without a value are left out; `recorded` gives the steps too.

        Example:
            >>> history = History()
            >>> history.append(0, **{"gradient_norm/0.weight": 0.5})
            >>> history.layers("gradient_norm")
            {'0.weight': [0.5]}
        """
        start = f"{quantity}/"
        return {
            name.removeprefix(start): self.recorded(name)[1]
            for name in self.columns
            if name.startswith(start)
        }

    def to_dict(self) -> dict[str, list[float]]:
        """All columns by name; NaN where a step lacks one."""
        return {name: self[name] for name in self.columns}

    def save(self, path: str | PathLike[str]) -> None:
        """Write the history to a JSON file, which `load` reads exactly."""
        content = {
            "format": _FORMAT,
            "diverged_at": self.diverged_at,
            "steps": self._steps,
            "columns": {
                name: [_to_json(row.get(name)) for row in self._rows]
                for name in self.columns[1:]
            },
        }
        Path(path).write_text(json.dumps(content, allow_nan=False), encoding="utf-8")

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "History":
        """Read a history that `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file holds something else.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if content["format"] != _FORMAT:
                raise ValueError(content["format"])
            history = cls(diverged_at=content["diverged_at"])
            for index, step in enumerate(content["steps"]):
                values = {n: v[index] for n, v in content["columns"].items()}
                history.append(
                    step, **{n: float(v) for n, v in values.items() if v is not None}
                )
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path}: expected a file written by History.save ({_FORMAT}), "
                f"got something else ({error})"
            ) from error
        return history

    def __repr__(self) -> str:
        return self.table()

    def table(self, rows: int = 10) -> str:
        """The first and the last steps as text, without the columns of layers.

        Args:
            rows: Steps to show, half of them from the end; >= 2.
        """
        check_count(rows, "rows", least=2)
        if not self._steps:
            return "History without steps"
        names = [name for name in self.columns if "/" not in name]
        cells = [[f"{v:.4g}" for v in self[name]] for name in names[1:]]
        lines = [list(map(str, self._steps)), *cells]
        widths = [max(map(len, [n, *c])) for n, c in zip(names, lines, strict=True)]
        shown = [
            "  ".join(t.rjust(w) for t, w in zip(texts, widths, strict=True))
            for texts in [names, *zip(*lines, strict=True)]
        ]
        if len(self) > rows:
            tail = rows // 2
            head = rows - tail
            shown = [*shown[: head + 1], "...".rjust(widths[0]), *shown[-tail:]]
        hidden = len(self.columns) - len(names)
        if hidden:
            shown.append(f"and {hidden} columns of layers")
        if self.diverged_at is not None:
            shown.append(f"diverged at step {self.diverged_at}")
        return "\n".join(shown)


def _number(value: SupportsFloat, name: str) -> float:
    if not hasattr(value, "__float__"):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    try:
        return float(value)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{name}: expected one number, got {value}") from error


def _to_json(value: float | None) -> float | str | None:
    """JSON has no NaN and no infinity; ``float`` reads their names."""
    return value if value is None or math.isfinite(value) else str(value)


def _unknown(column: str, known: list[str]) -> str:
    near = difflib.get_close_matches(str(column), known, n=3) or known[:8]
    return f"no column {column!r} in this history; it has {', '.join(near)}"

"""The record of a training run: one row a step, named columns of numbers."""

import difflib
import json
import math
import operator
from array import array
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsFloat, cast

from gradlib.checks import check_count
from gradlib.tables import html_table, text_table

if TYPE_CHECKING:
    import pandas

__all__ = ["History"]

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
        self._rows = _Rows()

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
        self.extend(step, columns, columns.values())

    def extend(
        self, step: int, names: Iterable[str], values: Iterable[SupportsFloat]
    ) -> None:
        """The same as `append`, for many columns whose names come again each step.

        Names are kept once for all steps: a step takes 8 bytes a column, and 16
        more.

        Args:
            step: As for `append`.
            names: Names of the columns.
            values: As many numbers.

        Raises:
            TypeError: a value is not a number.
            ValueError: the step is smaller than the last one, or there are more or
                fewer values than names.

        Example:
            >>> history = History()
            >>> history.extend(0, ["norm/0.weight", "norm/0.bias"], [0.5, 0.1])
            >>> history["norm/0.bias"]
            [0.1]
        """
        self._rows.add(step, tuple(names), list(values))

    def extend_rows(
        self, steps: Sequence[int], names: Iterable[str], values: Iterable[float]
    ) -> None:
        """The same as `extend`, for many steps at once, each after the one before.

        Args:
            steps: Numbers of the steps, rising, the first after the last row.
            names: Names of the columns that all these steps have.
            values: The numbers of the first step, then those of the second, and so on.

        Raises:
            TypeError: a value is not a number.
            ValueError: the steps do not rise, or there are more or fewer values than
                steps times names.

        Example:
            >>> history = History()
            >>> history.extend_rows([0, 1], ["loss", "rate"], [2.5, 0.1, 2.25, 0.1])
            >>> history["loss"]
            [2.5, 2.25]
        """
        self._rows.add_rows(array("q", steps), tuple(names), array("d", values))

    @property
    def columns(self) -> list[str]:
        """Names of all columns, ``step`` first, the others as they came."""
        return ["step", *self._rows.names()]

    def __len__(self) -> int:
        return len(self._rows.steps)

    def __contains__(self, column: object) -> bool:
        return column in self.columns

    def __getitem__(self, column: str) -> list[float]:
        values = self._values(column)
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
        steps, values = self.packed(column)
        return steps.tolist(), values.tolist()

    def packed(self, column: str) -> tuple["array[int]", "array[float]"]:
        """The same as `recorded`, in arrays of 8 bytes a number; read them only.

        Raises:
            KeyError: no step has the column.

        Example:
            >>> history = History()
            >>> history.append(3, loss=2.5)
            >>> history.packed("loss")
            (array('q', [3]), array('d', [2.5]))
        """
        steps = self._rows.steps
        if column == "step":
            return steps, array("d", steps)
        rows, values = self._rows.packed(column)
        if not rows:
            raise KeyError(_unknown(column, self.columns))
        if len(rows) == len(steps):
            return steps, values
        return array("q", [steps[row] for row in rows]), values

    def renumber(self, steps: Iterable[int]) -> None:
        """Give the rows other steps, for a record that learns them at its end.

        Args:
            steps: One a row, each greater than the one before.

        Raises:
            ValueError: more or fewer steps than rows, or they do not rise.

        Example:
            >>> history = History()
            >>> history.append(0, loss=2.5)
            >>> history.renumber([100])
            >>> history["step"]
            [100]
        """
        numbers = array("q", steps)
        if len(numbers) != len(self):
            raise ValueError(
                f"steps: expected as many as rows, {len(self)}, got {len(numbers)}"
            )
        if _falls(numbers):
            raise ValueError("steps: expected each greater than the one before")
        self._rows.steps = numbers

    def tail(self, rows: int) -> "History":
        """A history of the last rows alone.

        Example:
            >>> history = History()
            >>> history.extend_rows([0, 1, 2], ["loss"], [2.5, 2.25, 2.0])
            >>> history.tail(2)["step"]
            [1, 2]
        """
        check_count(rows, "rows", least=0)
        tail = History(self.diverged_at)
        tail._rows = self._rows.tail(rows)
        return tail

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
            "steps": self._rows.steps.tolist(),
            "columns": {
                name: list(map(_to_json, self._values(name)))
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

    @classmethod
    def read(cls, path: str | PathLike[str]) -> "History":
        """Read the numbers of any training program's log, or of what `save` wrote.

        Args:
            path: A log in one of the formats of `gradlib.read_log`, which also gives
                events and the format; a TensorBoard event file; a CSV file of W&B,
                MLflow or TensorBoard; or a file of `save`.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: no number of a training in it.

        Example:
            >>> import tempfile
            >>> path = Path(tempfile.mkdtemp()) / "train.log"
            >>> _ = path.write_text("step 1 loss 2.5\\nstep 2 loss 2.25\\n")
            >>> History.read(path)["loss"]
            [2.5, 2.25]
        """
        with Path(path).open("rb") as file:
            is_own = file.read(64).startswith(f'{{"format": "{_FORMAT}"'.encode())
        if is_own:
            return cls.load(path)
        # Reading logs stands on histories, so it is looked up when it is asked for.
        import gradlib

        log: gradlib.Log = gradlib.read_log(Path(path))
        return log.history

    @classmethod
    def from_records(cls, records: Iterable[Mapping[str, object]]) -> "History":
        """A history of dictionaries, such as ``trainer.state.log_history``.

        Names are those of the history: ``grad_norm`` becomes ``gradient_norm``, ``lr``
        ``learning_rate``, and so on. What is no number is left out.

        Args:
            records: Dictionaries with ``step`` (or ``_step``, ``global_step``, ...);
                without it, records are counted.

        Raises:
            ValueError: the steps fall.

        Example:
            >>> log_history = [{"loss": 2.5, "grad_norm": 1.5, "step": 10}]
            >>> History.from_records(log_history)
            step  loss  gradient_norm
              10   2.5            1.5
        """
        import gradlib

        history = cls()
        for place, record in enumerate(records):
            step, columns = gradlib.logs.records.columns_of(record)
            if columns:
                history.extend(
                    place if step is None else step, columns, columns.values()
                )
        return history

    def to_pandas(self) -> "pandas.DataFrame":
        """All columns as a table of pandas, with the step as its index.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError(
                "History.to_pandas needs pandas; install gradlib[logs]"
            ) from error
        columns = {name: self[name] for name in self.columns[1:]}
        index = pandas.Index(self["step"], name="step")
        return pandas.DataFrame(columns, index=index)

    def to_tensorboard(self, writer: Any) -> None:
        """Write all columns as scalars.

        Args:
            writer: A ``torch.utils.tensorboard.SummaryWriter``, or anything with
                ``add_scalar(name, value, step)``.
        """
        for name in self.columns[1:]:
            for step, value in zip(*self.packed(name), strict=True):
                writer.add_scalar(name, value, step)

    def _values(self, column: str) -> list[float | None]:
        """One value a step, None where the step lacks the column."""
        if column == "step":
            return [*self._rows.steps]
        values = self._rows.values(column)
        if all(value is None for value in values):
            raise KeyError(_unknown(column, self.columns))
        return values

    def __repr__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        header, rows = self._shown(10)
        return html_table(header, rows)

    def table(self, rows: int = 10) -> str:
        """The first and the last steps as text, without the columns of layers.

        Args:
            rows: Steps to show, half of them from the end; >= 2.
        """
        check_count(rows, "rows", least=2)
        if not self._rows.steps:
            return "History without steps"
        names, lines = self._shown(rows)
        shown = [text_table(names, lines)]
        hidden = len(self.columns) - len(names)
        if hidden:
            shown.append(f"and {hidden} columns of layers")
        if self.diverged_at is not None:
            shown.append(f"diverged at step {self.diverged_at}")
        return "\n".join(shown)

    def _shown(self, most: int) -> tuple[list[str], list[list[str]]]:
        """Names without those of layers, and the first and the last rows as texts."""
        names = [name for name in self.columns if "/" not in name]
        columns = [self[name] for name in names]
        places = list(range(len(self)))
        tail = most // 2
        cut = places[: most - tail] + places[-tail:] if len(places) > most else places
        rows = [
            [
                f"{column[k]:.4g}" if j else str(column[k])
                for j, column in enumerate(columns)
            ]
            for k in cut
        ]
        if len(places) > most:
            rows.insert(most - tail, ["...", *[""] * (len(names) - 1)])
        return names, rows


def _to_json(value: float | None) -> float | str | None:
    """JSON has no NaN and no infinity; ``float`` reads their names."""
    return value if value is None or math.isfinite(value) else str(value)


def _unknown(column: str, known: list[str]) -> str:
    near = difflib.get_close_matches(str(column), known, n=3) or known[:8]
    return f"no column {column!r} in this history; it has {', '.join(near)}"


class _Rows:
    """One row a step; a row holds what was added at its step, block by block.

    Names of columns are kept once for all blocks that have the same ones.

    Attributes:
        steps: The steps, in rising order.

    Example:
        >>> rows = _Rows()
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

    def add_rows(
        self, steps: "array[int]", names: tuple[str, ...], values: "array[float]"
    ) -> None:
        """Add rows that have the same columns.

        Raises:
            ValueError: the steps do not rise, or there are more or fewer values than
                steps times names.
        """
        if len(values) != len(steps) * len(names):
            raise ValueError(
                f"values: expected {len(steps)} steps times {len(names)} names, got "
                f"{len(values)}"
            )
        last = self.steps[-1] if self.steps else -1
        if steps and (steps[0] <= last or _falls(steps)):
            raise ValueError(
                f"steps: expected each greater than the one before, from {last + 1} on"
            )
        first = len(self.steps)
        self.steps.extend(steps)
        self._numbers.extend(values)
        self._block_rows.extend(range(first, len(self.steps)))
        kind = self._kinds.setdefault(names, len(self._kinds))
        self._block_kinds.extend([kind] * len(steps))

    def tail(self, rows: int) -> "_Rows":
        """The last rows alone."""
        tail = _Rows()
        first = len(self.steps) - rows
        start = 0
        kinds = list(self._kinds)
        for row, kind in zip(self._block_rows, self._block_kinds, strict=True):
            names = kinds[kind]
            if row >= first:
                block = self._numbers[start : start + len(names)]
                tail.add(self.steps[row], names, [*block])
            start += len(names)
        return tail

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
            >>> rows = _Rows()
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


def _falls(steps: "array[int]") -> bool:
    return any(map(operator.ge, steps, memoryview(steps)[1:]))


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

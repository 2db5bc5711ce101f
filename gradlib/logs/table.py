"""Records of one format as they come, and their steps once all are there."""

import math
from array import array
from itertools import pairwise

from gradlib.history import History

KNOWN = 0.8
"""Share of records with a step from which the log counts steps; below it, many
records came without a progress bar before them, and lines are counted instead. One
record may always lack its step: the first comes before the first bar."""

LARGEST = 10**15
"""Counts from which on a number is none of steps, batches or epochs."""

BUFFERED = 8_192
"""Numbers that are kept before they go into the history; one by one takes longer."""


class Table:
    """Records of one format; those of one step are one row.

    Args:
        format: Name of the format.
    """

    def __init__(self, format: str) -> None:  # noqa: A002
        self.format = format
        self.history = History()
        self.shown = array("q")
        self.lines = array("q")
        self.batches_end_epochs: bool | None = None
        self._epoch_length: int | None = None
        self._first_epoch = 0
        self._pending: dict[str, float] = {}
        self._names: tuple[str, ...] = ()
        self._values: list[float] = []
        self._step = -1
        self._line = 0

    def __len__(self) -> int:
        return len(self.lines)

    def add(self, columns: dict[str, float], line: int, step: int = -1) -> None:
        """Add a record; ``step`` is -1 where the line counts none."""
        if step >= 0 and step == self._step:
            self.join(columns)
            return
        self.flush()
        self._pending, self._step, self._line = columns, step, line

    def batch(self, epoch: int, number: int, length: int, first_epoch: int) -> int:
        """The step of a batch that is counted in epochs of this length."""
        if self._epoch_length is None:
            self._epoch_length, self._first_epoch = length, first_epoch
        elif self._epoch_length != length:
            self._epoch_length = 0
        step = max(0, epoch - first_epoch) * length + number
        return step if step < LARGEST else -1

    def join(self, columns: dict[str, float]) -> None:
        """Add columns to the last record; a number that is not finite stays."""
        for name, value in columns.items():
            if math.isfinite(self._pending.get(name, 0.0)):
                self._pending[name] = value

    def overlaps(self, columns: dict[str, float]) -> bool:
        """Whether the last record has one of these columns already."""
        return bool(self._pending.keys() & columns.keys() - {"epoch"})

    def is_at(self, step: int) -> bool:
        """Whether the last record is of this step."""
        return step == self._step

    def belongs(self, columns: dict[str, float]) -> bool:
        """Whether a line without a step goes on with the last record: that has a step,
        or is of the same epoch."""
        epoch = columns.get("epoch", math.nan)
        same = self._step >= 0 or epoch == self._pending.get("epoch")
        return same and not self.overlaps(columns)

    def put(
        self, names: tuple[str, ...], values: list[float], line: int, step: int
    ) -> None:
        """Add a record that no other line adds to."""
        if self._pending:
            self.flush()
        if names is not self._names or len(self._values) > BUFFERED:
            self._store()
            self._names = names
        self._values += values
        self.lines.append(line)
        self.shown.append(step)

    def _store(self) -> None:
        """Move what is buffered into the history."""
        values, self._values = self._values, []
        if not values:
            return
        rows = range(len(self.history), len(self.lines))
        try:
            self.history.extend_rows(rows, self._names, values)
        except OverflowError:
            self.history.extend_rows(rows, self._names, map(_clip, values))

    def flush(self) -> None:
        """End the last record."""
        pending, self._pending = self._pending, {}
        if pending:
            self.put(tuple(pending), list(pending.values()), self._line, self._step)
        self._step = -1

    def end(self) -> None:
        """End the last record, and make the history whole."""
        self.flush()
        self._store()

    def unit(self) -> str:
        """What counts the records: ``"step"``, ``"epoch"`` or ``"line"``."""
        known = len(self.shown) - self.shown.count(-1)
        epochs = self._epochs()
        if known and len(self.shown) - known <= max(1, (1 - KNOWN) * len(self.shown)):
            ends = self.batches_end_epochs and len(set(epochs)) == len(self.shown)
            return "epoch" if ends or epochs == self.shown.tolist() else "step"
        return "epoch" if _rises(epochs) else "line"

    def steps(
        self, unit: str, first_bar: int = -1
    ) -> tuple["array[int]", list[tuple[int, int]]]:
        """Steps that never fall, and what is added to those that the log shows.

        Args:
            unit: What counts the records.
            first_bar: What the first progress bar showed, which may come after the
                first record.

        Returns:
            A step a record, and pairs (first step, amount) where counting restarts.
        """
        if unit == "line":
            return self.lines, []
        shown = array("q", self._epochs()) if unit == "epoch" else self._printed()
        steps, offsets = array("q"), []
        offset = 0
        first = next((n for n in shown if n >= 0), 0) - 1
        last = max(0, min(first, first_bar) if first_bar >= 0 else first) - 1
        for number in shown:
            if number < 0:
                number = last - offset + 1
            if number + offset <= last:
                offset = last + 1 - number
                offsets.append((last + 1, offset))
            last = number + offset
            steps.append(last)
        return steps, offsets

    def begins_epoch(self, row: int) -> bool:
        """Whether the epoch of a record is a later one than that of the record before.

        Steps that start again there are counted in epochs; the run goes on.
        """
        epochs = self._epochs()
        return bool(epochs) and row > 0 and epochs[row - 1] < epochs[row]

    def _printed(self) -> "array[int]":
        """Steps as the log shows them.

        Batches are counted in epochs, unless their numbers go on where an epoch ends.
        """
        length, epochs = self._epoch_length, self._epochs()
        if not length or not epochs:
            return self.shown
        numbers = [
            step - max(0, epoch - self._first_epoch) * length
            for step, epoch in zip(self.shown, epochs, strict=True)
        ]
        if min(numbers) < 0:
            return self.shown
        turns = [
            after > before
            for (epoch, before), (next_epoch, after) in pairwise(
                zip(epochs, numbers, strict=True)
            )
            if next_epoch > epoch
        ]
        return array("q", numbers) if turns and all(turns) else self.shown

    def _epochs(self) -> list[int]:
        if "epoch" not in self.history:
            return []
        rows, values = self.history.packed("epoch")
        if len(rows) != len(self.lines) or not all(map(float.is_integer, values)):
            return []
        if max(map(abs, values), default=0.0) >= LARGEST:
            return []
        return [int(value) for value in values]


def _clip(value: float) -> float:
    """A whole number beyond the range of floats is infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _rises(numbers: list[int]) -> bool:
    return bool(numbers) and all(a < b for a, b in pairwise(numbers))

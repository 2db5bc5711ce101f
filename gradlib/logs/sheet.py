"""What was read so far: a table for each format, and where the log is."""

from gradlib.logs.places import BAR
from gradlib.logs.table import Table


class Sheet:
    """Tables by format, which all ways to read a line add to.

    Attributes:
        tables: Name of the format -> its records.
        number: Number of the line, from 1.
        clock: The last step shown, or -1.
        bar: What a progress bar has counted for the next record, or -1.
        first_bar: What the first progress bar has counted, or -1.
    """

    def __init__(self) -> None:
        self.tables: dict[str, Table] = {}
        self.number = 0
        self.clock = -1
        self.bar = -1
        self.first_bar = -1
        self._bars = 0

    def get(self, format: str) -> Table:  # noqa: A002
        """The table of a format."""
        if format not in self.tables:
            self.tables[format] = Table(format)
        return self.tables[format]

    def add(self, table: Table, columns: dict[str, float], step: int) -> None:
        """Add a record of this line; ``step`` is -1 where the line counts none."""
        table.add(columns, self.number, step)
        if step >= 0:
            self.clock = step

    def tick(self, text: str) -> bool:
        """A progress bar without numbers of its own counts the next record."""
        bar = BAR.search(text)
        if not bar:
            return False
        done, total = int(bar[1][:15]), int(bar[2][:15])
        if self.first_bar < 0:
            self.first_bar = done
        if total >= self._bars:
            self._bars, self.bar, self.clock = total, done, done
        return True

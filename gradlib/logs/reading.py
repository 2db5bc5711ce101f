"""Read the log of any training program, line by line."""

import bisect
import copy
import re
from array import array
from os import PathLike

from gradlib.logs.dictionaries import OBJECT, Dictionaries
from gradlib.logs.events import Event, find_event, speaks_of_half
from gradlib.logs.lines import is_text, read_lines
from gradlib.logs.log import Log
from gradlib.logs.names import is_quantity
from gradlib.logs.numbers import NUMBER
from gradlib.logs.places import AT
from gradlib.logs.printed_lines import PrintedLines
from gradlib.logs.sheet import Sheet
from gradlib.logs.table import Table
from gradlib.logs.text_tables import TextTables

UNREAD = 100

LONG = 1 << 16

_NUMBER = re.compile(NUMBER)


def read_log(path_or_text: str | PathLike[str]) -> Log:
    """Read the log of a training, whatever program wrote it.

    More than thirty formats are known (`gradlib.logs.GRAMMARS`), and anything with
    ``loss: 2.5``, ``Loss = 2.5`` or ``loss 2.5`` is read too. Prefixes, colors,
    curly quotes, progress bars, lines of several ranks, gzip files and lines cut in
    the middle are no obstacle. The file is read once, line by line.

    Args:
        path_or_text: A path, or the log itself: text that holds a line break.

    Returns:
        A history with the events, the format and the lines that could not be read.

    Raises:
        TypeError: neither a path nor text.
        FileNotFoundError: there is no such file.
        ValueError: a folder or a binary file, or no number of a training in it.
        ImportError: a TensorBoard event file, and tensorboard is not installed.

    Example:
        >>> log = read_log("iter 1: loss 3.5, time 9ms\\niter 2: loss nan, time 9ms\\n")
        >>> log.format, log.history["loss"]
        ('nanogpt', [3.5, nan])
    """
    if not isinstance(path_or_text, (str, PathLike)):
        raise TypeError(
            "path_or_text: expected a path, or text that holds a line break, got "
            f"{type(path_or_text).__name__}"
        )
    source = "text" if is_text(path_or_text) else str(path_or_text)
    if source != "text":
        from gradlib.logs.tensorboard import is_event_file, read_event_file

        if is_event_file(path_or_text):
            return read_event_file(path_or_text)
    reader = Reader(source)
    for line in read_lines(path_or_text):
        reader.read(line)
    return reader.close()


class Reader:
    """Reads a log line by line; `log` gives what was read so far.

    Example:
        >>> reader = Reader()
        >>> reader.read("step 1 loss 2.5")
        >>> reader.read("step 2 loss 2.25")
        >>> reader.log().history["loss"]
        [2.5, 2.25]
    """

    def __init__(self, source: str = "text") -> None:
        self._source = source
        self._sheet = Sheet()
        self._dictionaries = Dictionaries(self._sheet)
        self._text_tables = TextTables(self._sheet, source)
        self._lines = PrintedLines(self._sheet)
        self._events: list[tuple[str, int, int, float | None, float | None]] = []
        self._unread: list[str] = []
        self._half = False

    def read(self, line: str) -> None:
        """Read one line."""
        self._sheet.number += 1
        if line[:1] == "{" and self._dictionaries.record(line):
            return
        if len(line) > LONG:
            found = [self._dictionaries.record(text) for text in OBJECT.findall(line)]
            if not any(found):
                self._miss(line)
            return
        text = line.strip()
        if not text:
            return
        known = self._known(text)
        event = find_event(text)
        if event:
            self._half = self._half or speaks_of_half(text)
            at = AT.search(text) if event[0] == "stopped" else None
            clock = int(at[1]) - 1 if at else self._sheet.clock
            self._events.append((event[0], self._sheet.number, clock, *event[1:]))
        elif not known:
            self._half = self._half or speaks_of_half(text)
            self._miss(text)

    def _known(self, text: str) -> bool:
        """Whether one of the ways to read a line does; the strictest come first."""
        return (
            self._dictionaries.read(text)
            or self._text_tables.read(text)
            or self._lines.known(text)
            or self._text_tables.box(text)
            or self._sheet.tick(text)
            or self._lines.pairs(text)
        )

    def _miss(self, text: str) -> None:
        if (
            "loss" in text.lower()
            and len(self._unread) < UNREAD
            and _NUMBER.search(text)
        ):
            self._unread.append(text[:200])

    def log(self) -> Log:
        """What was read so far; more lines may follow.

        Raises:
            ValueError: no number of a training, and no event.
        """
        return copy.deepcopy(self).close()

    def close(self) -> Log:
        """The log, once all lines are read.

        Raises:
            ValueError: no number of a training, and no event.
        """
        self._text_tables.end()
        sheet = self._sheet
        for table in sheet.tables.values():
            table.end()
        table = max(sheet.tables.values(), key=_worth, default=Table("plain_pairs"))
        if not len(table) and not self._events:
            raise ValueError(
                f"{self._source}: expected a training log, found no number of a "
                f"training in {sheet.number} lines; a line should hold a name and a "
                "number, such as loss: 2.5 or grad_norm=1.5"
            )
        unit = table.unit() if len(table) else "step" if sheet.clock >= 0 else "line"
        steps, offsets = table.steps(unit, sheet.first_bar)
        history = table.history
        history.renumber(steps)
        events = [
            Event(
                kind, line, _step_of(line, clock, unit, table, offsets, steps), *scales
            )
            for kind, line, clock, *scales in self._events
        ]
        events += [
            Event("restarted", 0, start)
            for start, _ in offsets
            if not table.begins_epoch(bisect.bisect_left(steps, start))
        ]
        averages = {
            name for name in table.history.columns if name.startswith("average_")
        }
        running = self._lines.running.get(table.format, set()) | averages
        if "average_loss" in averages:
            running -= {"loss"}
        return Log(
            history,
            tuple(sorted(events, key=lambda event: event.step)),
            table.format,
            unit,
            tuple(name for name in table.history.columns if name in running),
            tuple(self._unread),
            self._sheet.number,
            self._half,
            self._source,
            tuple(offsets),
        )


def _step_of(
    line: int,
    clock: int,
    unit: str,
    table: Table,
    offsets: list[tuple[int, int]],
    steps: "array[int]",
) -> int:
    """The step during which something happened: the one after the last shown."""
    if unit == "line":
        return line
    before = bisect.bisect_right(table.lines, line)
    if clock < 0 or unit == "epoch":
        return steps[before - 1] + 1 if before else steps[0]
    last = steps[before - 1] if before else clock
    return clock + 1 + max((add for start, add in offsets if start <= last), default=0)


def _worth(table: Table) -> tuple[int, int, bool]:
    losses = [name for name in table.history.columns if is_quantity(name)]
    records = max((len(table.history.packed(n)[0]) for n in losses), default=0)
    return records, len(table), table.format != "plain_pairs"

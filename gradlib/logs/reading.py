"""Read the log of any training program, line by line.

Longer than other files, because it is one decision: which of the ways to read a line is
tried first, and what the lines before it have said about it.
"""

import bisect
import copy
import csv
import json
import math
import re
from array import array
from collections.abc import Container
from os import PathLike
from pathlib import Path

from gradlib.logs.events import Event, find_event, speaks_of_half
from gradlib.logs.grammars import DICTIONARIES, GRAMMARS, Grammar
from gradlib.logs.lines import is_text, read_lines
from gradlib.logs.log import Log
from gradlib.logs.names import PIPES, column_of, is_loss, is_quantity, is_validation
from gradlib.logs.numbers import NUMBER, find_pairs, to_number
from gradlib.logs.records import as_number, columns_of, whole
from gradlib.logs.table import Table

UNREAD = 100
"""Lines that are kept of those that could not be read."""

LONG = 1 << 16
"""Characters above which a line is read as JSON or not at all."""

PATIENCE = 6
"""Lines without a row after which the header of a table is forgotten; between two
rows of Ultralytics are three lines of validation."""

PLANS = 1_000
"""Kinds of dictionaries that are remembered; programs write ten, garbage any number."""

_Columns = dict[str, float]

_KEY = re.compile(rf"[\"']([^\"'\n]{{1,120}})[\"']\s*:\s*[\"']?({NUMBER})")
_FRACTION = re.compile(r"[\"']global_step/max_steps[\"']\s*:\s*[\"'](\d+)/")
_OBJECT = re.compile(r"\{[^{}]*\}?")
_OPENS = re.compile(r"\{\s*u?[\"']")
_BAR = re.compile(r"\|\s*(\d+)/(\d+) \[")
_BATCH = re.compile(
    r"(?i)\b(?:iter|iteration|step|batch|it)s?\W{0,4}(\d{1,12})\s*(?:/|of)\s*(\d{1,12})"
)
_STEP = re.compile(
    r"(?i)\b(?:(?:global.?step|iteration|iter|step)\W{1,3}(\d{1,12})\b"
    r"|(\d{1,12}) (?:iter|iteration|step)s?[,:;])"
)
_AT = re.compile(r"(?i)\b(?:iteration|iter|step|update)s?\W{1,3}(\d{1,12})\b")
_EPOCH = re.compile(r"(?i)\bepochs?\W{0,4}(\d{1,9})\b")
_HEADING = re.compile(
    r"(?i)(?:^|\s)(?:iteration|iter|step|update)\W{1,3}(\d{1,12})(?:\s?/\s?\d+)?\W*$"
)
_VALIDATION = re.compile(r"(?i)\W*(?:val|valid|validation|eval|evaluation|test|dev)\b")
_TENSOR = re.compile(rf"tensor\(({NUMBER})[^()]*\)")
_BOX = re.compile(rf"^\s*[|│]\s*([A-Za-z][\w/ .\-()]*?)\s*[|│]\s*({NUMBER})\s*[|│]\s*$")
_RULE = re.compile(r"^\s*[-=+|─━┄╌┬┴┼:\s]{4,}$")
_HEADER = re.compile(r"(?i)loss|gpu_mem|perplexity")
_CELLS = re.compile(r"\s{2,}|\t|\s*[|│]\s*")
_NUMBER = re.compile(NUMBER)
_VALUED = re.compile(rf"(?:^|[\s=:])[\"'\[(]?{NUMBER}")
_METRIC = re.compile(rf"\d{{13}} +({NUMBER}) +(\d{{1,15}})")
_LOSSES = re.compile(r"(?i)\bloss(?:es)?\W*$")
_UNICODE = re.compile(r"(?<=[{,\s])u(?=[\"'])")
_RANK = re.compile(r"^\[?(?:rank|default|gpu|worker)?\s?\d{1,4}\]?:", re.IGNORECASE)
_YOLO_HEADINGS = {
    "box": "box_loss",
    "obj": "obj_loss",
    "cls": "cls_loss",
    "total": "loss",
}
_HEADINGS = {"#": "step", "E": "epoch", "Training Loss": "loss"}


def read_log(path_or_text: str | PathLike[str]) -> Log:
    """Read the log of a training, whatever program wrote it.

    Some fifty formats are known (`gradlib.logs.GRAMMARS`), and anything with
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
        self._tables: dict[str, Table] = {}
        self._grammar: Grammar | None = None
        self._number = 0
        self._clock = -1
        self._bars = 0
        self._bar = -1
        self._first_bar = -1
        self._events: list[tuple[str, int, int, float | None, float | None]] = []
        self._running: dict[str, set[str]] = {}
        self._unread: list[str] = []
        self._half = False
        self._block: _Columns | None = None
        self._block_line = 0
        self._box: _Columns = {}
        self._header: list[str] = []
        self._blanks = 0
        self._csv: list[str] = []
        self._context: dict[str, int] = {}
        self._plans: dict[tuple[str, ...], tuple[str, tuple[str, ...], list[int]]] = {}
        self._before = self._content = self._dictionaries = ""

    def read(self, line: str) -> None:
        """Read one line."""
        self._number += 1
        if line[:1] == "{" and self._record(line):
            return
        if len(line) > LONG:
            found = [self._record(text) for text in _OBJECT.findall(line)]
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
            at = _AT.search(text) if event[0] == "stopped" else None
            clock = int(at[1]) - 1 if at else self._clock
            self._events.append((event[0], self._number, clock, *event[1:]))
        elif not known:
            self._half = self._half or speaks_of_half(text)
            self._miss(text)

    def _known(self, text: str) -> bool:
        return (
            self._dictionary(text)
            or self._metric(text)
            or self._csv_row(text)
            or self._column_row(text)
            or self._grammatical(text)
            or self._box_row(text)
            or self._tick(text)
            or self._pairs(text)
            or self._heading(text)
        )

    def _miss(self, text: str) -> None:
        if (
            "loss" in text.lower()
            and len(self._unread) < UNREAD
            and _NUMBER.search(text)
        ):
            self._unread.append(text[:200])

    def _get(self, format: str) -> Table:  # noqa: A002
        if format not in self._tables:
            self._tables[format] = Table(format)
        return self._tables[format]

    def _add(self, table: Table, columns: _Columns, step: int) -> None:
        table.add(columns, self._number, step)
        if step >= 0:
            self._clock = step

    # One dictionary a line, or over several lines.

    def _record(self, text: str) -> bool:
        """A dictionary of a trainer: JSON or Python, whole or cut."""
        if "u'" in text or 'u"' in text:
            text = _UNICODE.sub("", text)
        try:
            content, _ = _decode(text.replace("'", '"'))
        except ValueError:
            content = None
        except RecursionError:
            return False
        if type(content) is not dict:
            return self._broken_record(text)
        keys = tuple(content)
        plan = self._plans.get(keys)
        if plan is None:
            plan = self._plan(keys)
        format_, names, places = plan
        if not names:
            return False
        values = list(content.values())
        numbers = [values[place] for place in places]
        if format_ == "":
            return self._plain_record(keys, values)
        try:
            sum(numbers)
        except (TypeError, OverflowError):
            return self._plain_record(keys, values)
        self._get(format_).put(names, numbers, self._number, self._bar)
        self._bar = -1
        return True

    def _plan(self, keys: tuple[str, ...]) -> tuple[str, tuple[str, ...], list[int]]:
        """Format, columns and their places, for all dictionaries with these keys.

        The format is empty where a record needs more care than its numbers.
        """
        named: dict[str, int] = {}
        are_losses = PIPES.issuperset(keys)
        for place, key in enumerate(keys):
            column = column_of(f"loss_{key}" if are_losses else key)
            if column and (column not in named or key == column):
                named[column] = place
        quantities = [name for name in named if is_quantity(name)]
        if not quantities or _is_summary(keys):
            plan: tuple[str, tuple[str, ...], list[int]] = ("", (), [])
        elif "step" in named or "global_step/max_steps" in keys:
            plan = ("", tuple(named), list(named.values()))
        else:
            plan = (self._format_of(keys), tuple(named), list(named.values()))
        if len(self._plans) >= PLANS:
            self._plans.clear()
        self._plans[keys] = plan
        return plan

    def _format_of(self, keys: tuple[str, ...]) -> str:
        """The format with one of these keys; else that of the dictionaries before."""
        found = next(name for name, key in DICTIONARIES if not key or key in keys)
        if found == "dictionary":
            return self._dictionaries or found
        self._dictionaries = self._dictionaries or found
        return self._dictionaries

    def _plain_record(self, keys: tuple[str, ...], values: list[object]) -> bool:
        found = {
            key: number
            for key, value in zip(keys, values, strict=True)
            if (number := as_number(value)) is not None
        }
        fraction = (
            values[keys.index("global_step/max_steps")]
            if "global_step/max_steps" in keys
            else ""
        )
        step = str(fraction).split("/")[0]
        counted = int(step) if step.isdigit() and len(step) < 16 else -1
        return self._found(found, counted, self._format_of(keys))

    def _broken_record(self, text: str) -> bool:
        pairs = _KEY.findall(text)
        if not pairs:
            return False
        fraction = _FRACTION.search(text)
        step = int(fraction[1][:15]) if fraction else -1
        found = {key: to_number(value) for key, value in pairs}
        keys = (*found, "global_step/max_steps") if fraction else tuple(found)
        return self._found(found, step, self._format_of(keys))

    def _found(self, found: _Columns, step: int, format_: str) -> bool:
        if PIPES.issuperset(found):
            found = {f"loss_{key}": value for key, value in found.items()}
        counted, columns = columns_of(found)
        if _is_summary(found) or not any(map(is_quantity, columns)):
            return False
        if step < 0:
            step = self._bar if counted is None else counted
        self._bar = -1
        self._add(self._get(format_), columns, step)
        return True

    def _dictionary(self, text: str) -> bool:
        if self._block is not None:
            return self._block_row(text, self._block)
        if text in ("{", "[{"):
            self._block, self._block_line = {}, self._number
            return True
        if "{" not in text:
            return False
        start = _OPENS.search(text)
        if not start:
            return False
        before, content = text[: start.start()], text[start.start() :]
        self._tick(before)
        if content == self._content and before and before != self._before:
            return True
        self._before, self._content = before, content
        if _LOSSES.search(before):
            return self._losses(before, content)
        found = [self._record(part) for part in _OBJECT.findall(content)]
        return any(found)

    def _losses(self, before: str, content: str) -> bool:
        """A dictionary that the line calls losses, whatever its keys are."""
        columns = {
            key if is_loss(key) else f"loss_{key}": to_number(value)
            for key, value in _KEY.findall(content)
        }
        count = _AT.search(before)
        self._add(self._get("dictionary"), columns, int(count[1]) if count else -1)
        return bool(columns)

    def _block_row(self, text: str, block: _Columns) -> bool:
        if text == "{" or text.endswith((": {", ": [", "[{")):
            self._block, self._block_line = {}, self._number
            return True
        if text[0] == "}":
            self._block = {} if text.endswith("{") else None
            number, self._number = self._number, self._block_line
            self._found(block, -1, self._format_of(tuple(block)))
            self._number = self._block_line = number
            return True
        pair = _KEY.match(text)
        if pair:
            block[pair[1]] = to_number(pair[2])
            return True
        if text[0] in "\"'" or text[0] in "[]":
            return True
        self._block = None
        return False

    # Tables: csv, columns under a header, boxes of two columns.

    def _csv_row(self, text: str) -> bool:
        if "," not in text:
            return False
        cells = _cells(text)
        if self._csv and len(cells) == len(self._csv):
            found = dict(zip(self._csv, cells, strict=True))
            if "metric" in found and "value" in found:
                found[column_of(found["metric"])] = found.pop("value")
            columns = {
                name: to_number(cell)
                for name, cell in found.items()
                if name and _NUMBER.fullmatch(cell)
            }
            step = whole(columns.pop("step", -1.0))
            if columns:
                self._add(self._get("csv"), columns, step)
                return True
        self._csv = []
        if len(cells) < 2 or any(map(_VALUED.search, cells)) > text.startswith('"'):
            return False
        if any(map(_NUMBER.fullmatch, cells)):
            return False
        names = [self._csv_column(cell) for cell in cells]
        if not any(name == "metric" or is_quantity(name) for name in names):
            return False
        self._csv = ["" if name in names[:k] else name for k, name in enumerate(names)]
        return True

    def _csv_column(self, cell: str) -> str:
        if cell.endswith(("__MIN", "__MAX")):
            return ""
        if cell in ("metric", "key", "value"):
            return "metric" if cell == "key" else cell
        if cell == "Value":
            name = column_of(re.sub(r"^.*(?:tag|run)[-_]", "", Path(self._source).stem))
            return name if is_quantity(name) else "loss"
        return column_of(cell.rsplit(" - ", 1)[-1])

    def _metric(self, text: str) -> bool:
        """Time, value and step, as in the files of MLflow; the file has the name."""
        found = _METRIC.fullmatch(text)
        if not found:
            return False
        name = column_of(Path(self._source).name)
        column = name if is_quantity(name) else "loss"
        table, value = self._get("mlflow"), to_number(found[1])
        self._add(table, {column: value}, int(found[2]))
        return True

    def _column_row(self, text: str) -> bool:
        if self._header:
            tokens = text.strip("|│ ").replace("|", " ").split()
            if tokens and tokens[0][:1].isdigit() and self._columns(tokens):
                self._blanks = 0
                return True
            self._blanks += 1
            if self._blanks > PATIENCE:
                self._header = []
        if _HEADER.search(text) and not re.search(r"[:={}\[\],]|\d[.\d]", text):
            names = [cell for cell in _CELLS.split(text.strip("|│ \t")) if cell]
            if len(names) < 3:
                names = text.split()
            if len(names) >= 3 and not any(map(_NUMBER.fullmatch, names)):
                headings = _YOLO_HEADINGS if "gpu_mem" in text.lower() else _HEADINGS
                named = [headings.get(n) or column_of(n) for n in names]
                if named.count("loss") > 1:
                    named = [
                        column_of(n.replace(" ", "_")) if name == "loss" else name
                        for n, name in zip(names, named, strict=True)
                    ]
                if any(n in ("step", "epoch") for n in named):
                    self._header, self._blanks = named, 0
                    return True
        return False

    def _columns(self, tokens: list[str]) -> bool:
        if len(tokens) < len(self._header):
            return False
        columns: _Columns = {}
        for name, token in zip(self._header, tokens, strict=False):
            first = token.split("/")[0].rstrip(":")
            if name and name not in columns and _NUMBER.fullmatch(first):
                columns[name] = to_number(first)
        step = whole(columns.pop("step", columns.get("epoch", -1.0)))
        if step < 0 or not any(map(is_quantity, columns)):
            return False
        format_ = "ultralytics" if "box_loss" in columns else "columns"
        self._add(self._get(format_), columns, step)
        return True

    def _box_row(self, text: str) -> bool:
        row = _BOX.match(text)
        if row:
            name, value = column_of(row[1]), to_number(row[2])
            if name in self._box:
                self._end_box()
            if name:
                self._box[name] = value
            return True
        if _RULE.match(text):
            self._end_box()
            return True
        return text[:1] == "|" and text[-1:] == "|" and bool(self._box)

    def _end_box(self) -> None:
        box, self._box = self._box, {}
        if len(box) < 2:
            return
        step = whole(box.pop("step", -1.0))
        if step < 0:
            step = whole(box.get("epoch", -1.0))
        self._add(self._get("box"), box, step)

    # One line, one record.

    def _grammatical(self, text: str) -> bool:
        if self._grammar and self._apply(self._grammar, text):
            return True
        for grammar, sign in _SIGNED_GRAMMARS:
            if sign in text and self._apply(grammar, text):
                if not grammar.continues:
                    self._grammar = grammar
                return True
        return False

    def _apply(self, grammar: Grammar, text: str) -> bool:
        match = grammar.pattern.search(text)
        if not match:
            return False
        counts: dict[str, int] = {}
        columns: _Columns = {}
        for name, value in match.groupdict().items():
            if name in ("step", "epoch", "batch", "batches"):
                counts[name] = int(value)
            elif name not in ("steps", "epochs", "last"):
                columns[name] = to_number(value)
        if grammar.pairs:
            for name, number in self._named(text, grammar).items():
                columns.setdefault(name, number)
        counted = whole(columns.pop("step", -1.0))
        step = counts.get("step", counted)
        if "epoch" in counts:
            columns["epoch"] = float(counts["epoch"])
        elif grammar.format == "keras":
            counts["epoch"] = self._context.get("epoch", 1)
            columns["epoch"] = float(counts["epoch"])
        table = self._get(grammar.format)
        if step < 0 and "batch" in counts:
            batches = counts.get("batches", 0)
            step = table.batch(
                counts.get("epoch", 0), counts["batch"], batches, grammar.first_epoch
            )
            ends = counts["batch"] == batches
            table.batches_end_epochs = ends and table.batches_end_epochs is not False
        if grammar.format in ("tqdm_pairs", "lightning"):
            if not any(map(is_quantity, columns)) and _HEADER.search(text):
                columns = {**_blank_columns(text[match.end() :]), **columns}
            if not any(map(is_quantity, columns)):
                return False
        if grammar.prefix:
            columns = {
                n if is_validation(n) or n == "epoch" else grammar.prefix + n: v
                for n, v in columns.items()
            }
        if grammar.running:
            self._running.setdefault(grammar.format, set()).update(grammar.running)
        if grammar.continues:
            table.join(columns)
            return True
        if step >= 0 and self._clock - 2 <= step < self._clock and _RANK.match(text):
            return True
        self._add(table, columns, step)
        return True

    def _named(self, text: str, grammar: Grammar | None = None) -> _Columns:
        rename = grammar.rename if grammar else {}
        columns: _Columns = {}
        for name, value, average in find_pairs(
            text, blank=grammar is not None and grammar.pairs == " "
        ):
            column = rename.get(name.strip()) or column_of(name)
            if not column:
                continue
            if column == "loss" in columns and grammar and "loss" in grammar.running:
                both = (columns["loss"], to_number(value))
                columns["loss"], columns["average_loss"] = (
                    both if name == "loss" else both[::-1]
                )
            elif column not in columns or name == column:
                columns[column] = to_number(value)
            if average and (is_loss(column) or column == "gradient_norm"):
                columns.setdefault(f"average_{column}", to_number(average))
        if "g" in columns and "d" in columns:
            columns["loss_g"], columns["loss_d"] = columns.pop("g"), columns.pop("d")
        return columns

    def _tick(self, text: str) -> bool:
        """A progress bar without numbers of its own counts the next record."""
        bar = _BAR.search(text)
        if not bar:
            return False
        done, total = int(bar[1][:15]), int(bar[2][:15])
        if self._first_bar < 0:
            self._first_bar = done
        if total >= self._bars:
            self._bars, self._bar, self._clock = total, done, done
        return True

    def _pairs(self, text: str) -> bool:
        """The rest: names and numbers, a sign between, or after ``loss`` a blank."""
        columns = self._named(text)
        if tensor := _TENSOR.fullmatch(text):
            columns = {"loss": to_number(tensor[1])}
        if not any(map(is_quantity, columns)) and _HEADER.search(text):
            columns = _blank_columns(text)
        if not any(map(is_quantity, columns)):
            counts = {n: whole(v) for n, v in columns.items() if n in ("step", "epoch")}
            if epoch := _EPOCH.search(text):
                counts.setdefault("epoch", int(epoch[1]))
            self._context.update({n: c for n, c in counts.items() if c >= 0})
            return bool(counts)
        if _VALIDATION.match(text):
            columns = {
                f"val_{name}" if is_loss(name) and not is_validation(name) else name: x
                for name, x in columns.items()
            }
        table = self._get("plain_pairs")
        step = whole(columns.pop("step", -1.0))
        epoch = _EPOCH.search(text)
        if "epoch" not in columns and (epoch or "epoch" in self._context):
            columns["epoch"] = float(epoch[1] if epoch else self._context["epoch"])
        batch = _BATCH.search(text)
        if step < 0 and not batch and (count := _STEP.search(text)):
            step = int(count[1] or count[2])
        if batch:
            step, length = int(batch[1]), int(batch[2])
            if step <= length and math.isfinite(columns.get("epoch", math.nan)):
                step = table.batch(int(columns["epoch"]), step, length, 1)
        if step < 0 and "step" in self._context:
            step = self._context["step"]
            if table.is_at(step) and table.overlaps(columns):
                del self._context["step"]
                step = -1
        if step < 0 and table.belongs(columns):
            table.join(columns)
        else:
            self._add(table, columns, step)
        return True

    def _heading(self, text: str) -> bool:
        """A line that counts an epoch or a step for the lines below it."""
        counted = {"epoch": _EPOCH.search(text), "step": _HEADING.search(text)}
        found = {name: int(match[1]) for name, match in counted.items() if match}
        self._context.update(found)
        return bool(found)

    # The end.

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
        self._end_box()
        for table in self._tables.values():
            table.end()
        table = max(self._tables.values(), key=_worth, default=Table("plain_pairs"))
        if not len(table) and not self._events:
            raise ValueError(
                f"{self._source}: expected a training log, found no number of a "
                f"training in {self._number} lines; a line should hold a name and a "
                "number, such as loss: 2.5 or grad_norm=1.5"
            )
        unit = table.unit() if len(table) else "step" if self._clock >= 0 else "line"
        steps, offsets = table.steps(unit, self._first_bar)
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
        running = self._running.get(table.format, set()) | averages
        if "average_loss" in averages:
            running -= {"loss"}
        return Log(
            history,
            tuple(sorted(events, key=lambda event: event.step)),
            table.format,
            unit,
            tuple(name for name in table.history.columns if name in running),
            tuple(self._unread),
            self._number,
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


def _is_summary(keys: Container[str]) -> bool:
    """Whether these are the keys of the line that ends a run of the Trainer."""
    return "train_runtime" in keys and "loss" not in keys


def _worth(table: Table) -> tuple[int, int, bool]:
    losses = [name for name in table.history.columns if is_quantity(name)]
    records = max((len(table.history.packed(n)[0]) for n in losses), default=0)
    return records, len(table), table.format != "plain_pairs"


def _cells(text: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([text]), [])]
    except csv.Error:
        return []


def _blank_columns(text: str) -> _Columns:
    columns: _Columns = {}
    for name, value, _ in find_pairs(text, blank=True):
        column = column_of(name.split(" ")[-1])
        if column:
            columns.setdefault(column, to_number(value))
    return columns


_decode = json.JSONDecoder().raw_decode
_SIGNED_GRAMMARS = tuple((grammar, grammar.sign) for grammar in GRAMMARS)

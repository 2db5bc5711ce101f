"""Lines that a program prints: by its grammar, or as names with numbers."""

import math
import re

from gradlib.logs.grammars import GRAMMARS, Grammar
from gradlib.logs.names import (
    column_of,
    is_loss,
    is_quantity,
    is_validation,
    speaks_of_loss,
)
from gradlib.logs.numbers import NUMBER, find_pairs, to_number
from gradlib.logs.places import BATCH, EPOCH, HEADING, STEP
from gradlib.logs.records import whole
from gradlib.logs.sheet import Sheet

_Columns = dict[str, float]

_DISCRIMINATOR = re.compile(r"d(?:_?(?:r|f|real|fake))?")
_VALIDATION = re.compile(r"(?i)\W*(?:val|valid|validation|eval|evaluation|test|dev)\b")
_TENSOR = re.compile(rf"tensor\(({NUMBER})[^()]*\)")
_RANK = re.compile(r"^\[?(?:rank|default|gpu|worker)?\s?\d{1,4}\]?:", re.IGNORECASE)


class PrintedLines:
    """Reads lines into a sheet, each a record or a part of one.

    Attributes:
        running: Format -> columns that are means over the epoch so far.
    """

    def __init__(self, sheet: Sheet) -> None:
        self._sheet = sheet
        self.running: dict[str, set[str]] = {}
        self._grammar: Grammar | None = None
        self._context: dict[str, int] = {}

    def known(self, text: str) -> bool:
        """A line that a grammar describes."""
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
        table = self._sheet.get(grammar.format)
        if step < 0 and "batch" in counts:
            batches = counts.get("batches", 0)
            step = table.batch(
                counts.get("epoch", 0), counts["batch"], batches, grammar.first_epoch
            )
            ends = counts["batch"] == batches
            table.batches_end_epochs = ends and table.batches_end_epochs is not False
        if grammar.format in ("tqdm_pairs", "lightning"):
            if not any(map(is_quantity, columns)) and speaks_of_loss(text):
                columns = {**_blank_columns(text[match.end() :]), **columns}
            if not any(map(is_quantity, columns)):
                return False
        if grammar.prefix:
            columns = {
                n if is_validation(n) or n == "epoch" else grammar.prefix + n: v
                for n, v in columns.items()
            }
        if grammar.running:
            self.running.setdefault(grammar.format, set()).update(grammar.running)
        if grammar.continues:
            table.join(columns)
            return True
        late = 0 < self._sheet.clock - step <= 2
        if step >= 0 and late and _RANK.match(text):
            return True
        self._sheet.add(table, columns, step)
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
        rivals = [name for name in columns if _DISCRIMINATOR.fullmatch(name)]
        for name in ["g", *rivals] if "g" in columns and rivals else []:
            columns[f"loss_{name}"] = columns.pop(name)
        return columns

    def pairs(self, text: str) -> bool:
        """The rest: names and numbers, a sign between, or after ``loss`` a blank."""
        columns = self._named(text)
        if tensor := _TENSOR.fullmatch(text):
            columns = {"loss": to_number(tensor[1])}
        if not any(map(is_quantity, columns)) and speaks_of_loss(text):
            columns = _blank_columns(text)
        if not any(map(is_quantity, columns)):
            heads = self._heading(text)
            counts = {n: whole(v) for n, v in columns.items() if n in ("step", "epoch")}
            self._context.update({n: c for n, c in counts.items() if c >= 0})
            return heads or bool(counts)
        if _VALIDATION.match(text):
            columns = {
                f"val_{name}" if is_loss(name) and not is_validation(name) else name: x
                for name, x in columns.items()
            }
        table = self._sheet.get("plain_pairs")
        step = whole(columns.pop("step", -1.0))
        epoch = EPOCH.search(text)
        if "epoch" not in columns and (epoch or "epoch" in self._context):
            columns["epoch"] = float(epoch[1] if epoch else self._context["epoch"])
        batch = BATCH.search(text)
        if step < 0 and not batch and (count := STEP.search(text)):
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
            self._sheet.add(table, columns, step)
        return True

    def _heading(self, text: str) -> bool:
        """A line that counts an epoch or a step for the lines below it."""
        epoch = EPOCH.search(text)
        step = STEP.search(text) if epoch else HEADING.search(text)
        counted = {"epoch": epoch, "step": step}
        found = {n: int(m[m.lastindex or 1]) for n, m in counted.items() if m}
        self._context.update(found)
        return bool(found)


def _blank_columns(text: str) -> _Columns:
    columns: _Columns = {}
    for name, value, _ in find_pairs(text, blank=True):
        column = column_of(name.split(" ")[-1])
        if column:
            columns.setdefault(column, to_number(value))
    return columns


_SIGNED_GRAMMARS = tuple((grammar, grammar.sign) for grammar in GRAMMARS)

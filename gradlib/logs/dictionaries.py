"""Dictionaries that trainers print: JSON or Python, whole or cut, in a line or more."""

import json
import re
from collections.abc import Container

from gradlib.logs.grammars import DICTIONARIES
from gradlib.logs.names import PIPES, column_of, is_loss, is_quantity
from gradlib.logs.numbers import NUMBER, to_number
from gradlib.logs.places import AT
from gradlib.logs.records import as_number, columns_of
from gradlib.logs.sheet import Sheet

PLANS = 1_000

_Columns = dict[str, float]

_KEY = re.compile(rf"[\"']([^\"'\n]{{1,120}})[\"']\s*:\s*[\"']?({NUMBER})")
_FRACTION = re.compile(r"[\"']global_step/max_steps[\"']\s*:\s*[\"'](\d+)/")
OBJECT = re.compile(r"\{[^{}]*\}?")
_OPENS = re.compile(r"\{\s*u?[\"']")
_LOSSES = re.compile(r"(?i)\bloss(?:es)?\W*$")
_UNICODE = re.compile(r"(?<=[{,\s])u(?=[\"'])")


class Dictionaries:
    """Reads dictionaries into a sheet."""

    def __init__(self, sheet: Sheet) -> None:
        self._sheet = sheet
        self._block: _Columns | None = None
        self._block_line = 0
        self._plans: dict[tuple[str, ...], tuple[str, tuple[str, ...], list[int]]] = {}
        self._before = self._content = self._format = ""

    def record(self, text: str) -> bool:
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
        sheet = self._sheet
        sheet.get(format_).put(names, numbers, sheet.number, sheet.bar)
        sheet.bar = -1
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
            return self._format or found
        self._format = self._format or found
        return self._format

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
            step = self._sheet.bar if counted is None else counted
        self._sheet.bar = -1
        self._sheet.add(self._sheet.get(format_), columns, step)
        return True

    def read(self, text: str) -> bool:
        """A line with a dictionary, or one of several lines of it."""
        if self._block is not None:
            return self._block_row(text, self._block)
        if text in ("{", "[{"):
            self._block, self._block_line = {}, self._sheet.number
            return True
        if "{" not in text:
            return False
        start = _OPENS.search(text)
        if not start:
            return False
        before, content = text[: start.start()], text[start.start() :]
        self._sheet.tick(before)
        if content == self._content and before and before != self._before:
            return True
        self._before, self._content = before, content
        if _LOSSES.search(before):
            return self._losses(before, content)
        found = [self.record(part) for part in OBJECT.findall(content)]
        return any(found)

    def _losses(self, before: str, content: str) -> bool:
        """A dictionary that the line calls losses, whatever its keys are."""
        columns = {
            key if is_loss(key) else f"loss_{key}": to_number(value)
            for key, value in _KEY.findall(content)
        }
        count = AT.search(before)
        step = int(count[1]) if count else -1
        self._sheet.add(self._sheet.get("dictionary"), columns, step)
        return bool(columns)

    def _block_row(self, text: str, block: _Columns) -> bool:
        if text == "{" or text.endswith((": {", ": [", "[{")):
            self._block, self._block_line = {}, self._sheet.number
            return True
        if text[0] == "}":
            self._block = {} if text.endswith("{") else None
            number, self._sheet.number = self._sheet.number, self._block_line
            self._found(block, -1, self._format_of(tuple(block)))
            self._sheet.number = self._block_line = number
            return True
        pair = _KEY.match(text)
        if pair:
            block[pair[1]] = to_number(pair[2])
            return True
        if text[0] in "\"'" or text[0] in "[]":
            return True
        self._block = None
        return False


def _is_summary(keys: Container[str]) -> bool:
    """Whether these are the keys of the line that ends a run of the Trainer."""
    return "train_runtime" in keys and "loss" not in keys


_decode = json.JSONDecoder().raw_decode

"""Tables in a log: CSV, columns under a header, boxes, metric files."""

import csv
import re
from pathlib import Path

from gradlib.logs.names import column_of, is_quantity, speaks_of_loss
from gradlib.logs.numbers import NUMBER, to_number
from gradlib.logs.records import whole
from gradlib.logs.sheet import Sheet

PATIENCE = 6

_Columns = dict[str, float]

_BOX = re.compile(rf"^\s*[|│]\s*([A-Za-z][\w/ .\-()]*?)\s*[|│]\s*({NUMBER})\s*[|│]\s*$")
_RULE = re.compile(r"^\s*[-=+|─━┄╌┬┴┼:\s]{4,}$")
_CELLS = re.compile(r"\s{2,}|\t|\s*[|│]\s*")
_NUMBER = re.compile(NUMBER)
_VALUED = re.compile(rf"(?:^|[\s=:])[\"'\[(]?{NUMBER}")
_METRIC = re.compile(rf"\d{{13}} +({NUMBER}) +(\d{{1,15}})")
_YOLO_HEADINGS = {
    "box": "box_loss",
    "obj": "obj_loss",
    "cls": "cls_loss",
    "total": "loss",
}
_HEADINGS = {"#": "step", "E": "epoch", "Training Loss": "loss"}


class TextTables:
    """Reads tables into a sheet.

    Args:
        sheet: Takes the records.
        source: Name of the file, which may be that of the metric.
    """

    def __init__(self, sheet: Sheet, source: str) -> None:
        self._sheet = sheet
        self._source = source
        self._box: _Columns = {}
        self._header: list[str] = []
        self._blanks = 0
        self._csv: list[str] = []

    def read(self, text: str) -> bool:
        """A row of a metric file, of CSV, or of columns under a header."""
        return self._metric(text) or self._csv_row(text) or self._column_row(text)

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
                self._sheet.add(self._sheet.get("csv"), columns, step)
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
        table, value = self._sheet.get("mlflow"), to_number(found[1])
        self._sheet.add(table, {column: value}, int(found[2]))
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
        if speaks_of_loss(text) and not re.search(r"[:={}\[\],]|\d[.\d]", text):
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
        self._sheet.add(self._sheet.get(format_), columns, step)
        return True

    def box(self, text: str) -> bool:
        """A row of a box: a name and a number between bars."""
        row = _BOX.match(text)
        if row:
            name, value = column_of(row[1]), to_number(row[2])
            if name in self._box:
                self.end()
            if name:
                self._box[name] = value
            return True
        if _RULE.match(text):
            self.end()
            return True
        return text[:1] == "|" and text[-1:] == "|" and bool(self._box)

    def end(self) -> None:
        """Add the last box."""
        box, self._box = self._box, {}
        if len(box) < 2:
            return
        step = whole(box.pop("step", -1.0))
        if step < 0:
            step = whole(box.get("epoch", -1.0))
        self._sheet.add(self._sheet.get("box"), box, step)


def _cells(text: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([text]), [])]
    except csv.Error:
        return []

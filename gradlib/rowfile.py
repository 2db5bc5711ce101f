"""Rows of a run in a file of JSON lines, which a run that is killed leaves behind."""

import json
import time
import warnings
from collections.abc import Mapping
from pathlib import Path

__all__ = ["RowFile"]

_TAIL = 1 << 20
# Characters that wait for the disk at most.
_WAITING = 1 << 20
_DIGITS = ".7g"


class RowFile:
    """Appends rows to a file, one JSON object a line.

    Rows are written out every ``seconds``, and once a megabyte waits, so a run that is
    killed loses the rows of at most that time. A line that was cut in its middle stays
    as it is; the next row begins a line of its own. Where the disk refuses, the
    training goes on: there is one warning, and no further try.

    Args:
        path: The file; a folder that is missing is made.
        seconds: Between two writes; 0 writes each row.

    Attributes:
        next_step: One more than the step of the last row that the file has, else 0.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "run.jsonl"
        >>> rows = RowFile(path, seconds=10)
        >>> rows.add(0, {"loss": 2.5})
        >>> rows.flush()
        >>> path.read_text()
        '{"step": 0, "loss": 2.5}\\n'
        >>> RowFile(path, seconds=10).next_step
        1
    """

    def __init__(self, path: Path, seconds: float) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._seconds = seconds
        self._lines: list[str] = []
        self._waiting = 0
        self._written = time.monotonic()
        self._works = True
        tail = _tail_of(path)
        self._start = "\n" if tail and not tail.endswith("\n") else ""
        self.next_step = _last_step(tail) + 1

    def add(self, step: int, columns: Mapping[str, float]) -> None:
        """Add a row; numbers are kept to seven digits."""
        row = {name: float(format(value, _DIGITS)) for name, value in columns.items()}
        line = json.dumps({"step": step, **row}) + "\n"
        self._lines.append(line)
        self._waiting += len(line)
        late = time.monotonic() - self._written >= self._seconds
        if late or self._waiting >= _WAITING:
            self.flush()

    def flush(self) -> None:
        """Write what was added since the last time."""
        self._written = time.monotonic()
        text = "".join(self._lines)
        self._lines.clear()
        self._waiting = 0
        if not (text and self._works):
            return
        try:
            with self.path.open("a", encoding="utf8") as file:
                file.write(self._start + text)
            self._start = ""
        except OSError as error:
            self._works = False
            warnings.warn(
                f"{self.path}: expected to append rows, got {error}. The training goes "
                "on, and further rows are not written.",
                stacklevel=2,
            )


def _tail_of(path: Path) -> str:
    """The end of a file, or nothing where there is none."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        return file.read().decode("utf8", errors="replace")


def _last_step(text: str) -> int:
    """The step of the last whole row; -1 where there is none."""
    for line in reversed(text.splitlines()):
        try:
            return int(json.loads(line)["step"])
        except (ValueError, LookupError, TypeError):
            continue
    return -1

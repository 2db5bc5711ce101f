"""Lines of a log, from a path or text: any encoding, gzip, of any length."""

import codecs
import contextlib
import gzip
import io
import re
import zlib
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import BinaryIO, TextIO

CHUNK = 1 << 20
"""Characters read at once."""

LONGEST = 1 << 24
"""Characters of a line that are kept: a whole log_history in one line fits, a dump
of weights does not fill the memory."""

SAMPLE = 1 << 13
"""Bytes that tell an encoding, and text from binary."""

BINARY = 0.1
"""Share of control bytes above which a file is no text; logs with colors and
progress bars have 0.05 at most, compressed files and checkpoints 0.1 to 0.3."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_GZIP = b"\x1f\x8b"
_CONTROL = bytes(set(range(32)) - set(b"\t\n\r\x1b\x08\x0c")) + b"\x7f"
_CUT = re.compile(r"[-+]?\d[\d.eE+-]*$")
_ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?")
_QUOTES = str.maketrans("‘’‚‛′“”„‟″\u00a0", "'''''\"\"\"\"\" ")


def is_text(source: str | PathLike[str]) -> bool:
    """Whether this is the log itself and no path: text with a line break.

    Example:
        >>> is_text("step 1 loss 2.5\\nstep 2 loss 2.4"), is_text("train.log")
        (True, False)
    """
    return isinstance(source, str) and ("\n" in source or "\r" in source)


def read_lines(source: str | PathLike[str]) -> Iterator[str]:
    """Lines of a file, or of the text itself, without colors and curly quotes.

    A line ends at a line feed or a carriage return, so each refresh of a progress
    bar is a line of its own.

    Args:
        source: A path, or text that holds a line break.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is a folder, or no text.

    Example:
        >>> list(read_lines("loss: 2.5\\rloss: 2.4\\n\\x1b[31mloss: nan\\x1b[0m"))
        ['loss: 2.5', 'loss: 2.4', 'loss: nan']
    """
    if is_text(source):
        yield from clean_lines(split_lines(io.StringIO(str(source), newline=None)))
        return
    with open_text(source) as text:
        yield from clean_lines(split_lines(text))


def open_text(path: str | PathLike[str]) -> TextIO:
    """Open a log file for reading; unpack gzip, find the encoding.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is a folder, or no text.
    """
    path = Path(path)
    try:
        is_folder = path.is_dir()
        missing = not path.exists()
    except (OSError, ValueError) as error:
        raise ValueError(f"path: expected the name of a file, got {error}") from error
    if is_folder:
        raise ValueError(f"{path}: expected a file, got a folder; name the log in it")
    if missing:
        raise FileNotFoundError(
            f"{path}: expected a file, found none; to read text instead of a file, "
            "pass text that holds a line break"
        )
    with contextlib.ExitStack() as opened:
        stream: BinaryIO = opened.enter_context(path.open("rb"))
        is_packed = stream.read(2) == _GZIP
        stream.seek(0)
        if is_packed:
            stream = io.BufferedReader(_Unpacked(stream))
        text = as_text(stream, str(path))
        opened.pop_all()
    return text


def as_text(stream: BinaryIO, name: str) -> TextIO:
    """The bytes of a log as text.

    Raises:
        ValueError: the bytes are no text.
    """
    buffered = io.BufferedReader(stream, SAMPLE)  # type: ignore[type-var]
    sample = buffered.peek(SAMPLE)[:SAMPLE]
    encoding = next((name for mark, name in _MARKS if sample.startswith(mark)), None)
    if encoding is None and len(sample) > 1 and sample[1::2].count(0) > len(sample) / 4:
        encoding = "utf-16-le"
    if encoding is None:
        control = len(sample) - len(sample.translate(None, _CONTROL))
        if control > BINARY * len(sample):
            raise ValueError(
                f"{name}: expected text, got a binary file ({control} of its first "
                f"{len(sample)} bytes are control characters); a log is read here, "
                "gradlib checkpoint reads weights"
            )
        encoding = "utf-8"
    return io.TextIOWrapper(buffered, encoding, errors="replace", newline=None)


class _Unpacked(io.RawIOBase):
    """A gzip file that ends where it is cut, instead of raising."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._file = gzip.GzipFile(fileobj=stream)

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._stream.close()
        super().close()

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        try:
            content = self._file.read1(len(buffer))
        except (EOFError, OSError, zlib.error):
            return 0
        buffer[: len(content)] = content
        return len(content)


def clean_lines(lines: Iterable[str]) -> Iterator[str]:
    """Lines without colors, and with straight quotes."""
    for line in lines:
        if "\x1b" in line:
            line = _ESCAPE.sub("", line)
        yield line if line.isascii() else line.translate(_QUOTES)


def split_lines(text: TextIO) -> Iterator[str]:
    """Lines of a text, cut where they are longer than `LONGEST`.

    A number at the very end of a text that ends in the middle of a line is left out,
    where the line is shorter than the one before: its last digits may be missing.
    """
    rest, skipping, before = "", False, 0
    while chunk := text.read(CHUNK):
        parts = chunk.split("\n")
        if skipping and len(parts) == 1:
            continue
        parts[0] = "" if skipping else rest + parts[0]
        skipping = False
        rest = parts.pop()
        yield from parts
        before = len(parts[-1]) if parts else before
        if len(rest) > LONGEST:
            yield rest[:LONGEST]
            rest, skipping = "", True
    if rest:
        yield _CUT.sub("", rest) if len(rest) < before else rest

"""TensorBoard event files."""

from os import PathLike
from pathlib import Path

from gradlib.logs.log import Log


def is_event_file(path: str | PathLike[str]) -> bool:
    """Whether the name is that of a TensorBoard event file."""
    return ".tfevents." in Path(path).name


def read_event_file(path: str | PathLike[str]) -> Log:
    raise ImportError

"""TensorBoard event files, read through TensorBoard's own package."""

from os import PathLike
from pathlib import Path

from gradlib.history import History
from gradlib.logs.log import Log
from gradlib.logs.names import column_of


def is_event_file(path: str | PathLike[str]) -> bool:
    """Whether a file has the name of TensorBoard's event files.

    Example:
        >>> is_event_file("runs/events.out.tfevents.17.host"), is_event_file("a.log")
        (True, False)
    """
    return ".tfevents." in Path(path).name


def read_event_file(path: str | PathLike[str]) -> Log:
    """Scalars of an event file, under the names of the history.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: tensorboard is not installed.
        ValueError: the file holds no scalars.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected an event file, found none")
    try:
        from tensorboard.backend.event_processing import event_accumulator
    except ImportError as error:
        raise ImportError(
            f"{path}: reading an event file needs tensorboard; install gradlib[logs]"
        ) from error
    events = event_accumulator.EventAccumulator(str(path), {"scalars": 0, "tensors": 0})
    events.Reload()
    columns: dict[str, dict[int, float]] = {}
    for tag in events.Tags()["scalars"]:
        for event in events.Scalars(tag):
            columns.setdefault(column_of(tag), {})[event.step] = event.value
    columns.pop("", None)
    if not columns:
        raise ValueError(f"{path}: expected scalars of a training, found no number")
    history = History()
    for step in sorted({step for column in columns.values() for step in column}):
        row = {name: column[step] for name, column in columns.items() if step in column}
        history.extend(step, row, row.values())
    return Log(history, format="tensorboard", source=str(path))

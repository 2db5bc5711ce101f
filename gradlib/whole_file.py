"""A file that is written wholly or not at all."""

import contextlib
import os
from pathlib import Path
from typing import Any

import torch


def save_whole(content: Any, path: Path) -> None:
    """Write with ``torch.save`` beside the file, then put it in its place.

    Whenever the disk is full or the process is killed, there is the file as it was
    before, or the whole new one.

    Args:
        content: What ``torch.save`` takes.
        path: The file; a folder that is missing is made.

    Raises:
        OSError: it could not be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "numbers.pt"
        >>> save_whole({"x": torch.ones(1)}, path)
        >>> torch.load(path, weights_only=True), len(list(path.parent.iterdir()))
        ({'x': tensor([1.])}, 1)
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        if isinstance(error, RuntimeError):  # torch's writer hides the system's error
            raise OSError(str(error).splitlines()[0]) from error
        raise

"""Keep a chapter from writing anywhere but to temporary folders.

The kernel calls ``watch`` before a chapter's first cell. From then on, Python asks
before a file is opened for writing, removed, renamed or made. A watch cannot be taken
back: reading this module, as doctest does, must not start one. It does not reach into
processes that a chapter starts, such as those of `gradlib.ranks`.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# audit event: positions of the paths it changes, position of a folder's descriptor
CHANGES = {
    "os.mkdir": ((0,), 2),
    "os.remove": ((0,), 1),
    "os.rename": ((0, 1), 2),
    "os.rmdir": ((0,), 1),
    "os.symlink": ((1,), 2),
    "os.link": ((1,), 3),
    "os.truncate": ((0,), None),
}


def folders() -> list[Path]:
    """Where a chapter may write; the two variables belong to the build."""
    own = [os.environ.get(name) for name in ("IPYTHONDIR", "MPLCONFIGDIR")]
    claims = os.environ.get("GRADLIB_CLAIMS")
    names = [tempfile.gettempdir(), "/dev", *own, claims]
    return [Path(name).resolve() for name in names if name]


ALLOWED = folders()


def changed(event: str, arguments: tuple[Any, ...]) -> list[Any]:
    """Paths that an audit event is about to change."""
    if event == "open":
        path, _, flags = arguments
        return [path] if flags & WRITES else []
    if event not in CHANGES:
        return []
    positions, descriptor = CHANGES[event]
    if descriptor is not None and arguments[descriptor] != -1:
        return []  # relative to an open folder: part of a tree that is removed
    return [arguments[k] for k in positions]


def refuse(event: str, arguments: tuple[Any, ...]) -> None:
    for name in changed(event, arguments):
        if isinstance(name, int):
            continue
        path = Path(os.fsdecode(name)).resolve()
        inside = any(path.is_relative_to(folder) for folder in ALLOWED)
        if not inside and "__pycache__" not in path.parts:
            raise PermissionError(
                f"expected chapters to write only temporary files, got {path} "
                f"({event}). Write to tempfile.TemporaryDirectory() instead."
            )


def watch() -> None:
    """Refuse, for the rest of this process, what a chapter may not write."""
    sys.addaudithook(refuse)

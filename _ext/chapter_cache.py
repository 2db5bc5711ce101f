"""The outputs of chapters that ran: kept whole, or not at all, under a key.

The folder of the cache is named by `execution_key`, a hash of everything outside a
notebook that its outputs depend on; inside, a notebook is found by its code cells.

``jupyter_cache`` writes the record of a notebook before its outputs. A build that is
killed between the two, or that meets a full disk, leaves a record without outputs.
Here an entry counts only if its outputs can be read and belong to the notebook.
"""

import hashlib
import platform
import re
import shutil
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Self

from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from nbformat import NotebookNode
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sqlalchemy.exc import SQLAlchemyError

logger = logging.getLogger(__name__)

# jupyter_cache raises RuntimeError where its database cannot be used
UNUSABLE = (OSError, RuntimeError, SQLAlchemyError)


ALSO_USED = ("torchvision", "ipython", "ipykernel", "matplotlib-inline")


def execution_key(package: Path, versions: dict[str, str], seed: str) -> str:
    """Hash of everything outside a notebook that its outputs depend on."""
    digest = hashlib.sha256(repr((sorted(versions.items()), seed)).encode())
    for path in sorted(package.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(path.relative_to(package).as_posix().encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def installed_versions(package: str) -> dict[str, str]:
    """Versions of Python, of what ``package`` needs, and of what shows figures."""
    needs = [need for need in requires(package) or [] if "extra ==" not in need]
    names = [re.split(r"[^\w.-]", need)[0] for need in needs]
    found = {"python": platform.python_version()}
    for name in (*names, *ALSO_USED):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


class ChapterCache:
    """Finds and keeps executed notebooks in a folder; to be closed after use.

    Raises:
        ExtensionError: nothing can be written to the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.open()
        except UNUSABLE:
            logger.info("the chapters' cache is damaged: starting afresh")
            shutil.rmtree(folder, ignore_errors=True)
            try:
                self.open()
            except UNUSABLE as error:
                raise self.cannot_write("the chapters' cache", error) from error

    def open(self) -> None:
        self.cache = get_cache(self.folder)
        try:
            self.cache.list_cache_records()
        except UNUSABLE:
            self.close()
            raise

    def close(self) -> None:
        """Close the database's connections."""
        with suppress(*UNUSABLE):
            self.cache.db.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def seconds(self, notebook: NotebookNode) -> float | None:
        """Running time of a notebook whose outputs are kept, else None."""
        try:
            record = self.cache.match_cache_notebook(notebook)
            kept = self.cache.get_cache_bundle(record.pk).nb
        except (KeyError, ValueError):  # no record, no outputs, or half of them
            return None
        if self.entry(kept) != self.entry(notebook):
            return None
        return float(record.data.get("execution_seconds", 0.0))

    def keep(self, path: Path, notebook: NotebookNode, seconds: float) -> None:
        """Keep an executed notebook, in place of an earlier entry.

        Raises:
            ExtensionError: it cannot be written; nothing of it is left.
        """
        entry = self.entry(notebook)
        shutil.rmtree(entry, ignore_errors=True)
        bundle = CacheBundleIn(notebook, str(path), data={"execution_seconds": seconds})
        try:
            self.cache.cache_notebook_bundle(
                bundle, check_validity=False, overwrite=True
            )
        except UNUSABLE as error:
            shutil.rmtree(entry, ignore_errors=True)
            raise self.cannot_write(path.stem, error) from error

    def entry(self, notebook: NotebookNode) -> Path:
        """Folder of a notebook, named by a hash of its code and kernel."""
        _, key = self.cache.create_hashed_notebook(notebook)
        return self.folder / "executed" / key

    def cannot_write(self, what: str, error: Exception) -> ExtensionError:
        reason = str(error.__cause__ or error).splitlines()[0]
        return ExtensionError(
            f"{what}: cannot be written to {self.folder}: {reason}. Free some space "
            "there and build again: chapters that were kept will not run again."
        )

"""One build at a time in a folder, and nothing stale after one that was cut short.

Two builds would write the same pages. The second waits for the first.

Sphinx stores what it has read before it writes the pages. A build that is killed
between the two leaves old pages that Sphinx takes for new. So a file marks a build
that has not finished; where the next build finds it, Sphinx reads all pages again.
Chapters that ran stay in their cache. A build with warnings that count as errors
leaves the mark too, so that repeating the command repeats the warnings.
"""

from pathlib import Path

from filelock import FileLock, Timeout
from finishing_order import priority
from sphinx.application import ENV_PICKLE_FILENAME, Sphinx
from sphinx.config import Config
from sphinx.util import logging

logger = logging.getLogger(__name__)

LOCK = ".lock"
MARK = ".unfinished"


def begin(app: Sphinx, config: Config) -> None:
    """Wait for any other build, then forget what an unfinished one had read."""
    folder = Path(app.outdir).resolve().parent
    app.build_lock = FileLock(folder / LOCK)
    try:
        app.build_lock.acquire(timeout=0)
    except Timeout:
        logger.info("another build writes to %s: waiting until it ends", folder)
        app.build_lock.acquire()
    mark = folder / MARK
    if mark.exists():
        logger.info("the last build did not finish: reading every page again")
        (Path(app.doctreedir) / ENV_PICKLE_FILENAME).unlink(missing_ok=True)
    mark.touch()


def end(app: Sphinx, exception: Exception | None) -> None:
    warned = app.warningiserror and app._warncount
    if exception is None and not warned:
        (Path(app.build_lock.lock_file).parent / MARK).unlink()
    app.build_lock.release()


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("config-inited", begin, priority=100)
    app.connect("build-finished", end, priority=priority(__name__))
    return {"parallel_read_safe": True, "parallel_write_safe": True}

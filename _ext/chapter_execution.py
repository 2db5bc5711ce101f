"""Run chapters two at a time into a cache that knows what they depend on.

MyST-NB keys its cache by the code cells of a notebook, so an edit in ``gradlib`` or a
new torch would leave stale figures in the book. Here the cache's folder is named by a
hash of ``gradlib``, of the versions of what it needs, and of the base seed. A changed
hash also makes Sphinx read every page again.

Chapters that are not in the cache run before Sphinx reads the first page, two at a
time with one thread each. MyST-NB then finds all of them in the cache. Their kernels
take no settings from the reader's home folder, and write nothing there.
"""

import os
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import nbformat
from chapter_cache import ChapterCache, execution_key, installed_versions
from finishing_order import priority
from jupyter_cache.executors.utils import ExecutionResult, single_nb_execution
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.util import logging

logger = logging.getLogger(__name__)

PACKAGE = "gradlib"
GUARD = Path(__file__).with_name("chapter_guard.py")
HOMES = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "MPLCONFIGDIR")
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"
)


@dataclass(frozen=True)
class Chapter:
    """A notebook of the book."""

    name: str
    path: Path


def name_cache(app: Sphinx, config: Config) -> None:
    """Point MyST-NB at the cache folder that belongs to the present state."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ExtensionError(
            f"expected {PACKAGE} to be installed, found nothing to import. "
            "Run 'make book', or 'pip install .[book]' first."
        )
    seed = os.environ.get("GRADLIB_SEED", "0")
    folder = Path(spec.origin).parent
    key = execution_key(folder, installed_versions(PACKAGE), seed)
    root = Path(app.outdir).resolve().parent / ".jupyter_cache"
    config.nb_execution_cache_path = str(root / key)


def read(path: Path) -> NotebookNode:
    """The notebook as MyST-NB reads it, so that both see the same cache key."""
    return nbformat.reads(path.read_text("utf8"), as_version=4)


def run(chapter: Chapter, notebook: NotebookNode, timeout: int) -> ExecutionResult:
    guard = f'__import__("runpy").run_path({str(GUARD)!r})["watch"]()'
    try:
        return single_nb_execution(
            notebook,
            cwd=str(chapter.path.parent),
            timeout=timeout,
            allow_errors=False,
            meta_override=False,
            extra_arguments=[
                f"--IPKernelApp.exec_lines={guard}",
                "--IPKernelApp.log_level=ERROR",
            ],
        )
    except DeadKernelError as error:
        return ExecutionResult(notebook, "", 0.0, error, str(error))


def chapters_at_once() -> int:
    """How many chapters run side by side: ``CHAPTERS_AT_ONCE``, else two.

    Raises:
        ExtensionError: the variable is not a whole number above 0.
    """
    text = os.environ.get("CHAPTERS_AT_ONCE", "2")
    if not text.isdecimal() or int(text) < 1:
        raise ExtensionError(
            f"CHAPTERS_AT_ONCE: expected a whole number above 0, got {text!r}. "
            "Unset it to run two at a time."
        )
    return int(text)


def prepare_kernels(folder: Path) -> None:
    """Give kernels one thread each, and folders of their own for settings."""
    os.environ.update(ONE_THREAD)
    os.environ.pop("MPLBACKEND", None)
    for name in HOMES:
        home = folder / name.lower()
        home.mkdir(parents=True, exist_ok=True)
        os.environ[name] = str(home)


def fill_cache(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    """Run the notebooks that are to be read and are not in the cache."""
    if app.config.nb_execution_mode != "cache":
        return
    prepare_kernels(Path(app.outdir).resolve().parent / ".kernels")
    waiting: list[tuple[Chapter, NotebookNode]] = []
    with open_cache(app) as cache:
        for name in docnames:
            path = Path(env.doc2path(name))
            if path.suffix != ".ipynb":
                continue
            notebook = read(path)
            if cache.seconds(notebook) is None:
                waiting.append((Chapter(name, path), notebook))
        if waiting:
            at_once = chapters_at_once()
            logger.info("running %d chapter(s), %d at a time", len(waiting), at_once)
            failed = run_all(app, cache, waiting, at_once)
            if failed:
                raise ExtensionError(f"chapter(s) failed: {', '.join(sorted(failed))}")


def open_cache(app: Sphinx) -> ChapterCache:
    return ChapterCache(Path(app.config.nb_execution_cache_path))


def run_all(
    app: Sphinx,
    cache: ChapterCache,
    waiting: list[tuple[Chapter, NotebookNode]],
    at_once: int,
) -> list[str]:
    """Run notebooks side by side; cache those that succeed, name those that fail."""
    failed: list[str] = []
    timeout = app.config.nb_execution_timeout
    pool = ThreadPoolExecutor(at_once)
    futures: dict[Future[ExecutionResult], Chapter] = {
        pool.submit(run, chapter, notebook, timeout): chapter
        for chapter, notebook in waiting
    }
    try:
        for number, future in enumerate(as_completed(futures), start=1):
            chapter, result = futures[future], future.result()
            count = f"[{number}/{len(futures)}]"
            if result.err is not None:
                failed.append(chapter.name)
                logger.error(
                    "%s %s failed after %.1f s\n%s",
                    count,
                    chapter.name,
                    result.time,
                    result.exc_string,
                )
                continue
            cache.keep(chapter.path, result.nb, result.time)
            app.chapters_run.add(chapter.name)
            logger.info("%s %s ran in %.1f s", count, chapter.name, result.time)
    finally:
        pool.shutdown(cancel_futures=True)
    return failed


def report(app: Sphinx, exception: Exception | None) -> None:
    """Print each chapter's running time and where the book is."""
    if exception or app.builder.name != "html":
        return
    logger.info("")
    with open_cache(app) as cache:
        for name in sorted(app.env.found_docs):
            path = Path(app.env.doc2path(name))
            if path.suffix != ".ipynb":
                continue
            seconds = cache.seconds(read(path)) or 0.0
            origin = "ran now" if name in app.chapters_run else "from the cache"
            logger.info("%-32s %6.1f s  %s", name, seconds, origin)
    logger.info("The book: %s", Path(app.outdir) / "index.html")


def setup(app: Sphinx) -> dict[str, bool]:
    app.chapters_run = set()
    app.connect("config-inited", name_cache)
    app.connect("env-before-read-docs", fill_cache)
    app.connect("build-finished", report, priority=priority(__name__))
    return {"parallel_read_safe": True, "parallel_write_safe": True}

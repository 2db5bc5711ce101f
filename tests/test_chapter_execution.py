"""The book runs what has changed, all of it, and nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "_ext"))

from chapter_execution import execution_key, installed_versions  # noqa: E402

CONFIG = """
title: A small book
only_build_toc_files: true
exclude_patterns: [lib]
execute: {execute_notebooks: cache, raise_on_error: true, timeout: 20}
sphinx:
  local_extensions: {chapter_execution: EXT}
"""
TOC = """
format: jb-book
root: intro
chapters: [{file: one}, {file: two}]
"""
TRACE = """\
import os, time
from pathlib import Path
start = time.time()
time.sleep(1.5)
with Path(os.environ["TRACE"]).open("a") as file:
    print(NAME, start, time.time(), os.environ["OMP_NUM_THREADS"], file=file)
"""


class SmallBook:
    """Two chapters and a stand-in for gradlib, built by the real command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trace = folder / "trace.txt"
        self.package = folder / "lib" / "gradlib"
        self.package.mkdir(parents=True)
        (self.package / "__init__.py").write_text("FACTOR = 1\n")
        config = CONFIG.replace("EXT", str(ROOT / "_ext"))
        (folder / "_config.yml").write_text(config)
        (folder / "_toc.yml").write_text(TOC)
        (folder / "intro.md").write_text("# A small book\n\nTwo chapters.\n")
        self.write("one")
        self.write("two")

    def write(self, name: str, code: str = "", prose: str = "Some prose.") -> None:
        cells = [
            new_markdown_cell(f"# Chapter {name}\n\n{prose}"),
            new_code_cell(f"NAME = '{name}'\n{TRACE}"),
            new_code_cell(code),
        ]
        notebook = new_notebook(cells=cells)
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
        nbformat.write(notebook, self.folder / f"{name}.ipynb")

    def build(self, **environment: str) -> subprocess.CompletedProcess[str]:
        self.trace.unlink(missing_ok=True)
        command = [str(Path(sys.executable).parent / "jupyter-book"), "build", "."]
        return subprocess.run(
            command,
            cwd=self.folder,
            capture_output=True,
            text=True,
            env=os.environ
            | {"PYTHONPATH": str(self.folder / "lib"), "TRACE": str(self.trace)}
            | environment,
            timeout=200,
        )

    def ran(self) -> list[str]:
        return sorted(line.split()[0] for line in self.lines())

    def lines(self) -> list[str]:
        return self.trace.read_text().splitlines() if self.trace.exists() else []


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> SmallBook:
    return SmallBook(tmp_path_factory.mktemp("a book with spaces"))


def test_first_build_runs_both_side_by_side_with_one_thread(book: SmallBook) -> None:
    done = book.build()
    assert done.returncode == 0, done.stderr
    assert book.ran() == ["one", "two"]
    spans = [line.split()[1:] for line in book.lines()]
    starts, ends, threads = zip(*spans, strict=True)
    assert max(map(float, starts)) < min(map(float, ends)), "one after the other"
    assert set(threads) == {"1"}
    assert "[2/2]" in done.stdout
    assert "ran now" in done.stdout
    assert str(book.folder / "_build/html/index.html") in done.stdout


def test_unchanged_book_runs_nothing(book: SmallBook) -> None:
    done = book.build()
    assert done.returncode == 0, done.stderr
    assert book.ran() == []
    assert "from the cache" in done.stdout


def test_edited_chapter_runs_alone_and_prose_runs_nothing(book: SmallBook) -> None:
    book.write("two", code="x = 2")
    book.write("one", prose="Other prose.")
    assert book.build().returncode == 0
    assert book.ran() == ["two"]
    assert "Other prose." in (book.folder / "_build/html/one.html").read_text("utf8")


def test_edited_library_or_seed_runs_all(book: SmallBook) -> None:
    (book.package / "__init__.py").write_text("FACTOR = 2\n")
    assert book.build().returncode == 0
    assert book.ran() == ["one", "two"]
    assert book.build(GRADLIB_SEED="1").returncode == 0
    assert book.ran() == ["one", "two"]


def test_raising_chapter_fails_the_build_and_is_named(book: SmallBook) -> None:
    book.write("one", code="1/0")
    done = book.build()
    assert done.returncode != 0
    assert "chapter(s) failed: one" in done.stdout + done.stderr
    assert "ZeroDivisionError" in done.stdout + done.stderr


def test_hanging_chapter_is_named(book: SmallBook) -> None:
    config = (book.folder / "_config.yml").read_text()
    (book.folder / "_config.yml").write_text(
        config.replace("timeout: 20", "timeout: 4")
    )
    book.write("one")
    book.write("two", code="time.sleep(60)")
    done = book.build()
    assert done.returncode != 0
    assert "chapter(s) failed: two" in done.stdout + done.stderr


def test_key_sees_content_versions_and_seed(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1")
    key = execution_key(tmp_path, {"torch": "2"}, "0")
    assert key == execution_key(tmp_path, {"torch": "2"}, "0")
    assert key != execution_key(tmp_path, {"torch": "3"}, "0")
    assert key != execution_key(tmp_path, {"torch": "2"}, "1")
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    renamed = execution_key(tmp_path, {"torch": "2"}, "0")
    assert renamed != key
    (tmp_path / "b.py").write_text("x = 2")
    assert execution_key(tmp_path, {"torch": "2"}, "0") != renamed


def test_versions_cover_what_figures_depend_on() -> None:
    assert {"python", "torch", "numpy", "matplotlib"} <= set(
        installed_versions("gradlib")
    )

"""A book of two short chapters, to be built by the real command."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
from book import ROOT
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

CONFIG = """
title: A small book
only_build_toc_files: true
exclude_patterns: [lib]
execute: {execute_notebooks: cache, raise_on_error: true, timeout: 20}
sphinx:
  local_extensions: {one_build: EXT, chapter_execution: EXT}
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
time.sleep(PAUSE)
with Path(os.environ["TRACE"]).open("a", encoding="utf8") as file:
    print(NAME, start, time.time(), os.environ["OMP_NUM_THREADS"], file=file)
"""


class SmallBook:
    """Two chapters and a stand-in for gradlib, built by the real command."""

    def __init__(self, folder: Path, pause: float = 0.0) -> None:
        self.folder = folder
        self.pause = pause
        self.trace = folder / "trace.txt"
        self.pages = folder / "_build" / "html"
        self.package = folder / "lib" / "gradlib"
        self.package.mkdir(parents=True)
        (self.package / "__init__.py").write_text("FACTOR = 1\n", "utf8")
        config = CONFIG.replace("EXT", str(ROOT / "_ext"))
        (folder / "_config.yml").write_text(config, "utf8")
        (folder / "_toc.yml").write_text(TOC, "utf8")
        (folder / "intro.md").write_text("# A small book\n\nTwo chapters.\n", "utf8")
        self.write("one")
        self.write("two")

    def write(self, name: str, code: str = "", prose: str = "Some prose.") -> None:
        cells = [
            new_markdown_cell(f"# Chapter {name}\n\n{prose}"),
            new_code_cell(f"NAME, PAUSE = '{name}', {self.pause}\n{TRACE}"),
            new_code_cell(code),
        ]
        notebook = new_notebook(cells=cells)
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
        nbformat.write(notebook, self.folder / f"{name}.ipynb")

    def start(
        self, *options: str, under: tuple[str, ...] = (), **environment: str
    ) -> subprocess.Popen[str]:
        """Begin a build, in a process group of its own."""
        self.trace.unlink(missing_ok=True)
        command = [str(Path(sys.executable).parent / "jupyter-book"), "build", "."]
        return subprocess.Popen(
            [*under, *command, *options],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf8",
            errors="replace",
            start_new_session=True,
            env=os.environ
            | {"PYTHONPATH": str(self.folder / "lib"), "TRACE": str(self.trace)}
            | environment,
        )

    def build(
        self, *options: str, under: tuple[str, ...] = (), **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return ended(self.start(*options, under=under, **environment))

    def ran(self) -> list[str]:
        return sorted(line.split()[0] for line in self.lines())

    def lines(self) -> list[str]:
        if not self.trace.exists():
            return []
        return self.trace.read_text("utf8").splitlines()


def ended(build: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """Wait for a build and collect what it said."""
    out, err = build.communicate(timeout=200)
    return subprocess.CompletedProcess(build.args, build.returncode, out, err)

"""The page that reads a pasted log: the library's own Python, in the reader's browser.

The directive ``log-box`` puts a text area on a page. With the reader's first log the
page loads Pyodide, which is CPython as WebAssembly, and the files of gradlib; nothing
is sent anywhere. Python runs in a worker, so the page stays usable while it reads. The
worker is made from a blob, so the page's policy holds there too.

Where Pyodide is not installed (``make runtime``), the box says to use the command.

Two ways to run Python were tried on 64 logs, with one slow core and much other load:

============================  ======================  ================================
what                          Pyodide 314.0.7 (npm)   Brython 3.14.3 (npm)
============================  ======================  ================================
reports as from CPython       64 of 64                0 of 64: no itertools.pairwise,
                                                      no JSONDecoder.raw_decode; some
                                                      raw f-strings are syntax errors
size, and as it travels       13.5 MB, 6.3 MB         6.1 MB, 1.8 MB
start, imports (CPU time)     5.4 s, 0.8 s            over 8 s up to the first failure
5 MB of a Trainer's log       1.2 s (CPython 0.4 s)   -
5 MB of plain lines           11 s (CPython 6 s)      -
what the policy must allow    wasm-unsafe-eval        unsafe-eval
============================  ======================  ================================
"""

import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from string import Template

from docutils import nodes
from finishing_order import priority
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

import gradlib

logger = logging.getLogger(__name__)

FILES = Path(__file__).with_name("log_box_files")
RUNTIME = Path(sys.prefix) / "share" / "pyodide"
FETCHED = ("pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json")
IMPORTED = ("pyodide.mjs", "pyodide.asm.mjs")
VENDORED = "_static/vendor/log_box"

EXAMPLES = {
    "climb.txt": "a loss that climbs",
    "loss_of_zero.txt": "a loss of exactly zero",
    "loss_scale.txt": "a loss scale that falls",
}
"""Logs that runs of the field guide wrote -> how the page calls them."""

LACKING = (
    "This copy of the book was built without the Python that runs in a browser, so "
    "this page cannot read logs. The command below does the same."
)


def installed() -> bool:
    """Whether all files of Pyodide are there."""
    return all((RUNTIME / name).is_file() for name in (*FETCHED, *IMPORTED))


class LogBox(SphinxDirective):
    """A text area for a log, and the answer below it."""

    def run(self) -> list[nodes.Node]:
        if not self.config.log_box_runtime:
            return [nodes.paragraph("", LACKING)]
        up = "../" * self.env.docname.count("/")
        return [nodes.raw("", box(f"{up}{VENDORED}"), format="html")]


def box(files: str) -> str:
    """The HTML of the box, with ``files`` as the address of what it loads."""
    total = sum((RUNTIME / name).stat().st_size for name in (*FETCHED, *IMPORTED))
    counted = sum((RUNTIME / name).stat().st_size for name in FETCHED)
    examples = [
        f'<button type="button" data-example="{name}">{title}</button>'
        for name, title in EXAMPLES.items()
    ]
    return Template((FILES / "box.html").read_text("utf8")).substitute(
        files=files,
        bytes=counted,
        megabytes=f"{total / 1e6:.1f}",
        examples=f"{', '.join(examples[:-1])} or {examples[-1]}",
    )


def sources() -> Iterator[tuple[Path, str]]:
    """Pairs of a Python file that the box needs and its place in the archive."""
    folder = Path(str(gradlib.__file__)).parent
    for path in sorted(folder.rglob("*.py*")):
        if path.suffix in (".py", ".pyi"):
            yield path, f"{folder.name}/{path.relative_to(folder).as_posix()}"
    yield FILES / "answer.py", "answer.py"


def note_runtime(app: Sphinx, config: Config) -> None:
    """Have Sphinx read the page again once Pyodide comes or goes."""
    config.log_box_runtime = installed()


def finish(app: Sphinx, exception: Exception | None) -> None:
    """Copy what the box loads beside the pages."""
    if exception or app.builder.name != "html":
        return
    if not app.config.log_box_runtime:
        logger.info(
            "the page that reads logs shows the command instead: 'make runtime' "
            "installs what runs Python in a browser (needs npm)"
        )
        return
    out = Path(app.outdir) / VENDORED
    for name in ("pyodide", "examples"):
        (out / name).mkdir(parents=True, exist_ok=True)
    for name in (*FETCHED, *IMPORTED):
        if not (out / "pyodide" / name).exists():
            shutil.copyfile(RUNTIME / name, out / "pyodide" / name)
    examples = [f"examples/{name}" for name in EXAMPLES]
    for name in ("box.css", "box.js", "worker.js", *examples):
        shutil.copyfile(FILES / name, out / name)
    with zipfile.ZipFile(out / "gradlib.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path, name in sources():
            archive.writestr(zipfile.ZipInfo(name), path.read_bytes(), 8)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_config_value("log_box_runtime", False, "env", types=[bool])
    app.add_directive("log-box", LogBox)
    app.connect("config-inited", note_runtime)
    app.connect("build-finished", finish, priority=priority(__name__))
    return {"parallel_read_safe": True, "parallel_write_safe": True}

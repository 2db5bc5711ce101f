"""Where the parts of the book are: what extensions, commands and tests share."""

import ast
import hashlib
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
import yaml
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_build" / "html"
BASE = yaml.safe_load((ROOT / "_config.yml").read_text("utf8"))["html"]["baseurl"]
PREFIX = urlsplit(BASE).path


class NotReadyError(Exception):
    """What a command needs is not there; the message says what to do."""


def pages_in_order(root: Path = ROOT) -> list[str]:
    """Names of a book's pages, in the order of ``_toc.yml``."""
    toc = yaml.safe_load((root / "_toc.yml").read_text("utf8"))
    parts = [toc, *toc.get("parts", [])]
    entries = [entry for part in parts for entry in part.get("chapters", [])]
    return [toc["root"], *(entry["file"] for entry in entries)]


def chapter_files(root: Path = ROOT) -> list[str]:
    """Notebooks of a book, in the order of ``_toc.yml``."""
    names = (name.removesuffix(".ipynb") for name in pages_in_order(root))
    return [f"{name}.ipynb" for name in names if (root / f"{name}.ipynb").exists()]


PAGES = pages_in_order()
CHAPTERS = [name.removesuffix(".ipynb") for name in chapter_files()]
NOTEBOOKS = sorted((ROOT / "chapters").glob("*.ipynb"))  # the template too


def read_notebook(path: Path) -> NotebookNode:
    """A notebook, not validated."""
    return nbformat.v4.reads(path.read_text("utf8"))


def cells_of(path: Path, kind: str) -> list[NotebookNode]:
    """Cells of a notebook that are ``"code"`` or ``"markdown"``."""
    return [cell for cell in read_notebook(path).cells if cell.cell_type == kind]


def prose_of(path: Path) -> str:
    """All Markdown of a notebook."""
    return "\n\n".join(cell.source for cell in cells_of(path, "markdown"))


def code_hash(path: Path) -> str:
    """Changes with a notebook's code, not with its prose or its import lines."""
    code = [_without_imports(cell.source) for cell in cells_of(path, "code")]
    return hashlib.sha256("\0".join(code).encode()).hexdigest()[:16]


def _without_imports(source: str) -> str:
    try:
        statements = ast.parse(source).body
    except SyntaxError:  # a line magic of the set-up cell
        return source
    imports = [s for s in statements if isinstance(s, (ast.Import, ast.ImportFrom))]
    gone = {k for s in imports for k in range(s.lineno, (s.end_lineno or 0) + 1)}
    lines = source.splitlines()
    return "\n".join(x for k, x in enumerate(lines, 1) if k not in gone).strip()

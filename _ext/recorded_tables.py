"""Tables of what was measured by commands that run longer than a build.

``make seeds``, ``make bench`` and ``make matrix`` keep tables in ``recorded/*.json``.
At each build the marker ``<!-- recorded: name -->`` in a page is replaced by the tables
of ``recorded/name.json``, each with its date and the command that repeats it. A table
of a chapter whose code has changed since says so.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from readings import read_chapter
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from book import chapter_files, code_hash
from markdown_text import table

FOLDER = "recorded"
MARKER = re.compile(r"<!-- recorded: (\w+) -->")


def render(records: dict[str, Any], root: Path) -> str:
    """All tables: those of chapters in the book's order, then the others."""
    chapters = {Path(file).stem: file for file in chapter_files(root)}
    known = [name for name in chapters if name in records]
    parts = []
    for name in [*known, *(name for name in records if name not in chapters)]:
        found = records[name]
        title = name
        using = f" ({found['using']})" if found["using"] else ""
        note = f"Recorded on {found['date']} by `{found['command']}`{using}."
        if name in chapters:
            title = read_chapter(root, chapters[name]).link
            if code_hash(root / chapters[name]) != found["code"]:
                note += " **The chapter's code has changed since.**"
        parts += [f"## {title}", note, table(found["columns"], found["rows"])]
    return "\n\n".join(parts)


def insert(app: Sphinx, page: str, source: list[str]) -> None:
    """Replace the markers of a page by tables."""
    root = Path(app.srcdir)

    def tables(marker: re.Match[str]) -> str:
        path = root / FOLDER / f"{marker[1]}.json"
        if not path.exists():
            raise ExtensionError(f"{page}: expected {path}, named by a marker")
        app.env.note_dependency(str(path))
        return render(json.loads(path.read_text("utf8")), root)

    source[0] = MARKER.sub(tables, source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", insert)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

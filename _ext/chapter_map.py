"""The map of the chapters: parts, titles, times, and what each one builds on.

In a page, the marker ``<!-- chapters -->`` is replaced by a table. All of it comes from
``_toc.yml`` and from the beginning of each chapter: its title, the links after **You
need**, and what follows **Time**.
"""

import re
import sys
from pathlib import Path

import yaml
from readings import read_chapter
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from gradlib.tables import markdown_table

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from book import chapter_files, prose_of

MARKER = "<!-- chapters -->"
NEED = re.compile(r"\*\*You need\*\*(.*?)\*\*Time\*\*:\s*(.*?), (?:about|a few)", re.S)
LINK = re.compile(r"\]\((\w+)\.ipynb\)")


def needs(prose: str) -> tuple[list[str], str]:
    """Chapters that another builds on, and the time that it takes to read.

    Example:
        >>> needs("**You need** [one](one.ipynb). **Time**: 5 minutes, about 2 seconds")
        (['one'], '5 minutes')
        >>> needs("no such line")
        Traceback (most recent call last):
        ...
        ValueError: expected "**You need** ... **Time**: ..., about ..." in the prose
    """
    found = NEED.search(prose)
    if not found:
        raise ValueError(
            'expected "**You need** ... **Time**: ..., about ..." in the prose'
        )
    return LINK.findall(found[1]), " ".join(found[2].split())


def render(root: Path) -> str:
    """The table: under each part of the book its chapters, numbered through."""
    files = chapter_files(root)
    numbers = {Path(file).stem: number for number, file in enumerate(files, 1)}
    toc = yaml.safe_load((root / "_toc.yml").read_text("utf8"))
    rows = []
    for part in toc["parts"]:
        inside = {f"{entry['file']}.ipynb" for entry in part["chapters"]}
        chapters = [file for file in files if file in inside]
        if chapters:
            rows.append([f"**{part['caption']}**", "", ""])
        for file in chapters:
            try:
                before, time = needs(prose_of(root / file))
            except ValueError as error:
                raise ExtensionError(f"{file}: {error}") from error
            title = f"{numbers[Path(file).stem]}. {read_chapter(root, file).link}"
            after = ", ".join(str(numbers[name]) for name in before)
            rows.append([title, time.removesuffix(" to read"), after])
    return markdown_table(["chapter", "time to read", "builds on"], rows)


def insert(app: Sphinx, page: str, source: list[str]) -> None:
    if MARKER not in source[0]:
        return
    root = Path(app.srcdir)
    source[0] = source[0].replace(MARKER, render(root))
    for file in ["_toc.yml", *chapter_files(root)]:
        app.env.note_dependency(str(root / file))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", insert)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""The map of the chapters says what the chapters say."""

import nbformat
import pytest
from chapter_map import render
from sphinx.errors import ExtensionError

TOC = """
format: jb-book
root: intro
parts:
  - {caption: Understand, chapters: [{file: chapters/one}, {file: chapters/two}]}
  - {caption: Look up, chapters: [{file: reference/words}]}
  - {caption: Cure, chapters: [{file: chapters/three}]}
"""
ONE = "**You need** Python. **Time**: 5 minutes to read, a few seconds to run."
TWO = "**You need** [it](one.ipynb).\n**Time**: 10\nminutes to read, about 3 seconds."
THREE = (
    "**You need** [x](two.ipynb), [y](one.ipynb). "
    "**Time**: five for the path, 9 for all, about 3 seconds."
)


def write(folder, **chapters):
    (folder / "_toc.yml").write_text(TOC)
    (folder / "chapters").mkdir()
    for name, head in chapters.items():
        cells = [nbformat.v4.new_markdown_cell(f"# Title of {name}\n\n{head}")]
        notebook = nbformat.v4.new_notebook(cells=cells)
        nbformat.write(notebook, folder / "chapters" / f"{name}.ipynb")


def test_map(tmp_path):
    write(tmp_path, one=ONE, two=TWO, three=THREE)
    assert render(tmp_path).splitlines()[2:] == [
        "| **Understand** |  |  |",
        "| 1. [Title of one](/chapters/one.ipynb) | 5 minutes |  |",
        "| 2. [Title of two](/chapters/two.ipynb) | 10 minutes | 1 |",
        "| **Cure** |  |  |",
        "| 3. [Title of three](/chapters/three.ipynb) "
        "| five for the path, 9 for all | 2, 1 |",
    ]


def test_a_chapter_without_times_is_named(tmp_path):
    write(tmp_path, one=ONE, two="No times.", three=THREE)
    with pytest.raises(ExtensionError, match=r"chapters/two.ipynb: expected .*Time"):
        render(tmp_path)

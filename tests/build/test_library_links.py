"""Links from a chapter's imports to the library's page, in a small book."""

import nbformat
from sphinx.testing.util import SphinxTestApp

LIBRARY = """# The library

```{eval-rst}
.. module:: gradlib.clip
.. function:: clip_norm_(p)
.. module:: gradlib.sweep
.. function:: sweep(p)
.. module:: gradlib.theory
```
"""

INDEX = """# Book

```{toctree}
reference/library
chapters/one
```
"""


def test_each_name_is_linked_below_the_cell_that_imports_it_first(tmp_path):
    cells = [
        nbformat.v4.new_markdown_cell("# Chapter"),
        nbformat.v4.new_code_cell(
            "import math\nfrom gradlib import clip_norm_, History, theory"
        ),
        nbformat.v4.new_code_cell("from gradlib.clip import clip_norm_"),
        nbformat.v4.new_code_cell("from gradlib.sweep import sweep"),
        nbformat.v4.new_code_cell("%gradlib is no Python"),
    ]
    for name in ("chapters", "reference"):
        (tmp_path / name).mkdir()
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbformat.write(notebook, tmp_path / "chapters" / "one.ipynb")
    (tmp_path / "reference" / "library.md").write_text(LIBRARY)
    (tmp_path / "index.md").write_text(INDEX)
    (tmp_path / "conf.py").write_text(
        "extensions = ['myst_nb', 'library_links']\nnb_execution_mode = 'off'\n"
    )
    app = SphinxTestApp("html", srcdir=tmp_path)
    try:
        app.build()
    finally:
        app.cleanup()
    page = (tmp_path / "_build" / "html" / "chapters" / "one.html").read_text()
    assert page.count("In the library") == 2
    assert page.count('href="../reference/library.html#gradlib.clip.clip_norm_"') == 1
    assert page.count('href="../reference/library.html#module-gradlib.theory"') == 1
    assert page.count('href="../reference/library.html#gradlib.sweep.sweep"') == 1

"""Claims that hold are one mark on a page, in a small book."""

import nbformat
import pytest
from bs4 import BeautifulSoup
from sphinx.testing.util import SphinxTestApp

CLAIMS = """\
holds: it grows (3, above 1)
holds: a < b (1, below 2)
step 5
holds: it shrinks (0.5, below 1)
"""


@pytest.fixture
def page(tmp_path):
    def stream(text):
        return nbformat.v4.new_output("stream", name="stdout", text=text)

    cells = [
        nbformat.v4.new_markdown_cell("# Chapter"),
        nbformat.v4.new_code_cell("measure()", outputs=[stream(CLAIMS)]),
        nbformat.v4.new_code_cell("print()", outputs=[stream("what holds: all\n")]),
        nbformat.v4.new_code_cell("'holds: code'"),
    ]
    language = {"language_info": {"name": "python", "pygments_lexer": "ipython3"}}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=language)
    nbformat.write(notebook, tmp_path / "index.ipynb")
    (tmp_path / "conf.py").write_text(
        "extensions = ['myst_nb', 'claim_marks']\nnb_execution_mode = 'off'\n"
    )
    app = SphinxTestApp("html", srcdir=tmp_path)
    try:
        app.build()
        assert not app.warning.getvalue()
    finally:
        app.cleanup()
    html = (tmp_path / "_build" / "html" / "index.html").read_text()
    return BeautifulSoup(html, "html.parser")


def test_claims_that_follow_each_other_are_one_mark(page):
    marks = page.select("details.claims")
    assert [m.summary.text for m in marks] == ["2 claims hold", "1 claim holds"]
    assert [li.text for li in marks[0].select("li")] == [
        "it grows (3, above 1)",
        "a < b (1, below 2)",
    ]
    assert not any(m.has_attr("open") for m in marks)


def test_other_output_and_code_stay(page):
    kept = [pre.text.strip() for pre in page.select(".cell_output pre")]
    assert kept == ["step 5", "what holds: all"]
    assert "'holds: code'" in page.select(".cell_input pre")[-1].text

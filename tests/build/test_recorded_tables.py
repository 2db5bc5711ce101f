"""Records of long commands become tables, and say when they are out of date."""

import json
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import recorded_tables
from book import ROOT, chapter_files, code_hash
from recording import record
from sphinx.errors import ExtensionError

PAGES = sorted((ROOT / "reference").glob("*.md"))
RECORDS = sorted((ROOT / "recorded").glob("*.json"))


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A book of one chapter with a record of it and another one."""
    v4 = nbformat.v4
    cells = [v4.new_markdown_cell("# A chapter"), v4.new_code_cell("1 + 1")]
    chapter = tmp_path / "one.ipynb"
    nbformat.write(v4.new_notebook(cells=cells), chapter)
    (tmp_path / "_toc.yml").write_text("root: intro\nchapters: [{file: one}]\n")
    path = tmp_path / "recorded" / "seeds.json"
    record(path, "speed", "make it", ["what", "ratio"], [["a|b", "2"]])
    code = code_hash(chapter)
    record(path, "one", "make it", ["claim"], [["it_holds"]], code)
    return tmp_path


def page(book: Path, text: str) -> str:
    env = SimpleNamespace(note_dependency=lambda path: None)
    source = [text]
    recorded_tables.insert(SimpleNamespace(srcdir=str(book), env=env), "page", source)
    return source[0]


def test_chapters_come_first_with_their_titles(book: Path) -> None:
    text = page(book, "Before\n\n<!-- recorded: seeds -->\n")
    assert text.startswith("Before\n\n## [A chapter](/one.ipynb)\n\nRecorded on 20")
    assert text.index("A chapter") < text.index("## speed")
    assert "by `make it` (Python 3" in text
    assert "| it\\_holds |" in text
    assert "| a\\|b | 2 |" in text
    assert "has changed" not in text


def test_says_when_the_code_has_changed_and_not_the_prose(book: Path) -> None:
    path = book / "one.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].source = "# Another title"
    nbformat.write(notebook, path)
    assert "has changed" not in page(book, "<!-- recorded: seeds -->")
    notebook.cells[1].source = "1 + 2"
    nbformat.write(notebook, path)
    assert "has changed since" in page(book, "<!-- recorded: seeds -->")


def test_missing_record_is_named(book: Path) -> None:
    with pytest.raises(ExtensionError, match=r"page: expected .*none\.json"):
        page(book, "<!-- recorded: none -->")


def test_record_replaces_its_own_table_only(book: Path) -> None:
    path = book / "recorded" / "seeds.json"
    record(path, "speed", "make it", ["what"], [["new"]])
    found = json.loads(path.read_text("utf8"))
    assert found["speed"]["rows"] == [["new"]]
    assert found["one"]["rows"] == [["it_holds"]]


def test_record_refuses_rows_of_another_length(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected 2 values a row"):
        record(tmp_path / "x.json", "speed", "make it", ["a", "b"], [["1"]])


def test_every_record_is_on_a_page() -> None:
    text = "".join(path.read_text("utf8") for path in PAGES)
    assert RECORDS
    assert set(recorded_tables.MARKER.findall(text)) == {path.stem for path in RECORDS}


def test_every_claim_of_every_chapter_held_under_ten_seeds() -> None:
    found = json.loads((ROOT / "recorded" / "claims.json").read_text("utf8"))
    chapters = {Path(file).stem for file in chapter_files()}
    assert set(found) == chapters
    for name, table in found.items():
        for cells in table["rows"]:
            row = dict(zip(table["columns"], cells, strict=True))
            times, runs = map(int, row["held"].split("/"))
            assert times == runs >= 10, f"{name}, {row}"

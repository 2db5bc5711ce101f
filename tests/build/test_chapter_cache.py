"""An entry of the chapters' cache is whole, or it does not count."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
from chapter_cache import ChapterCache
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook, output_from_msg
from sphinx.errors import ExtensionError
from sqlalchemy.exc import OperationalError

CHAPTER = Path("chapters/one.ipynb")


def executed(code: str = "print(1)") -> NotebookNode:
    cell = new_code_cell(code)
    content = {"name": "stdout", "text": "1\n"}
    cell.outputs = [
        output_from_msg({"header": {"msg_type": "stream"}, "content": content})
    ]
    notebook = new_notebook(cells=[cell])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    return notebook


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[ChapterCache]:
    with ChapterCache(tmp_path / "cache") as cache:
        cache.keep(CHAPTER, executed(), 1.5)
        yield cache


def outputs(cache: ChapterCache) -> Path:
    return cache.entry(executed()) / "base.ipynb"


def test_a_kept_notebook_is_found_by_its_code(cache: ChapterCache) -> None:
    assert cache.seconds(executed()) == 1.5
    assert cache.seconds(executed("print(2)")) is None
    with ChapterCache(cache.folder) as again:
        assert again.seconds(executed()) == 1.5


@pytest.mark.parametrize("part", [0, 0.5, 0.99])
def test_half_an_entry_does_not_count(cache: ChapterCache, part: float) -> None:
    whole = outputs(cache).read_bytes()
    outputs(cache).write_bytes(whole[: int(part * len(whole))])
    assert cache.seconds(executed()) is None
    cache.keep(CHAPTER, executed(), 2.5)
    assert cache.seconds(executed()) == 2.5


def test_an_entry_without_outputs_does_not_count(cache: ChapterCache) -> None:
    outputs(cache).unlink()  # killed between the folder and the file
    assert cache.seconds(executed()) is None
    cache.keep(CHAPTER, executed(), 2.5)
    assert cache.seconds(executed()) == 2.5


def test_outputs_of_another_notebook_do_not_count(cache: ChapterCache) -> None:
    cache.keep(CHAPTER, executed("print(2)"), 1.0)
    other = cache.entry(executed("print(2)")) / "base.ipynb"
    outputs(cache).write_bytes(other.read_bytes())
    assert cache.seconds(executed()) is None


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0half"])
def test_a_damaged_database_starts_afresh(cache: ChapterCache, content: bytes) -> None:
    (cache.folder / "global.db").write_bytes(content)
    with ChapterCache(cache.folder) as again:
        assert again.seconds(executed()) is None
        again.keep(CHAPTER, executed(), 2.5)
        assert again.seconds(executed()) == 2.5


def test_a_full_disk_leaves_nothing_half_written(
    cache: ChapterCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_text

    def write_half(path: Path, text: str, *args: object, **kwargs: object) -> int:
        write(path, text[: len(text) // 2], "utf8")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", write_half)
        with pytest.raises(ExtensionError, match=r"one: .*No space left.*Free some"):
            cache.keep(CHAPTER, executed("print(2)"), 1.0)
    assert not cache.entry(executed("print(2)")).exists()
    assert cache.seconds(executed("print(2)")) is None
    assert cache.seconds(executed()) == 1.5, "the other entry is lost"
    cache.keep(CHAPTER, executed("print(2)"), 1.0)
    assert cache.seconds(executed("print(2)")) == 1.0


def test_a_full_disk_for_the_database_is_told(
    cache: ChapterCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OperationalError("INSERT", {}, Exception("database or disk is full"))

    monkeypatch.setattr(cache.cache, "cache_notebook_bundle", full)
    with pytest.raises(ExtensionError, match="disk is full"):
        cache.keep(CHAPTER, executed("print(2)"), 1.0)


def test_a_cache_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder", "utf8")
    with pytest.raises(ExtensionError, match="cannot be written to"):
        ChapterCache(tmp_path / "file" / "cache")

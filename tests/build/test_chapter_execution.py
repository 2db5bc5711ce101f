"""The book runs what has changed, all of it, and nothing else."""

from pathlib import Path

import pytest
from chapter_cache import execution_key, installed_versions
from chapter_execution import (
    chapters_at_once,
)
from small_book import SmallBook
from sphinx.errors import ExtensionError


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> SmallBook:
    return SmallBook(tmp_path_factory.mktemp("ein Buch 梯度"), pause=3.0)


def test_first_build_runs_both_side_by_side_with_one_thread(book: SmallBook) -> None:
    done = book.build()
    assert done.returncode == 0, done.stderr
    assert book.ran() == ["one", "two"]
    spans = [line.split()[1:] for line in book.lines()]
    starts, ends, threads = zip(*spans, strict=True)
    assert max(map(float, starts)) < min(map(float, ends)), "one after the other"
    assert set(threads) == {"1"}
    assert "[2/2]" in done.stdout
    assert "ran now" in done.stdout
    assert "IPKernelApp" not in done.stderr
    assert str(book.pages / "index.html") in done.stdout


def test_chapters_run_one_at_a_time_if_asked(tmp_path: Path) -> None:
    book = SmallBook(tmp_path / "book", pause=0.2)
    assert book.build(CHAPTERS_AT_ONCE="1").returncode == 0
    (_, _, end, _), (_, start, _, _) = (line.split() for line in book.lines())
    assert float(end) <= float(start)


@pytest.mark.parametrize("text", ["0", "two", "-1", ""])
def test_number_at_once_is_checked(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAPTERS_AT_ONCE", text)
    with pytest.raises(ExtensionError, match=f"above 0, got '{text}'"):
        chapters_at_once()


def test_unchanged_book_runs_nothing(book: SmallBook) -> None:
    done = book.build()
    assert done.returncode == 0, done.stderr
    assert book.ran() == []
    assert "from the cache" in done.stdout


def test_edited_chapter_runs_alone_and_prose_runs_nothing(book: SmallBook) -> None:
    book.write("two", code="x = 2")
    book.write("one", prose="Other prose.")
    assert book.build().returncode == 0
    assert book.ran() == ["two"]
    assert "Other prose." in (book.pages / "one.html").read_text("utf8")


def test_edited_library_or_seed_runs_all(book: SmallBook) -> None:
    (book.package / "__init__.py").write_text("FACTOR = 2\n", "utf8")
    assert book.build().returncode == 0
    assert book.ran() == ["one", "two"]
    assert book.build(GRADLIB_SEED="1").returncode == 0
    assert book.ran() == ["one", "two"]


def test_raising_chapter_fails_the_build_and_is_named(book: SmallBook) -> None:
    book.write("one", code="1/0")
    done = book.build()
    assert done.returncode != 0
    assert "chapter(s) failed: one" in done.stdout + done.stderr
    assert "ZeroDivisionError" in done.stdout + done.stderr


def test_key_sees_content_versions_and_seed(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1", "utf8")
    key = execution_key(tmp_path, {"torch": "2"}, "0")
    assert key == execution_key(tmp_path, {"torch": "2"}, "0")
    assert key != execution_key(tmp_path, {"torch": "3"}, "0")
    assert key != execution_key(tmp_path, {"torch": "2"}, "1")
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    renamed = execution_key(tmp_path, {"torch": "2"}, "0")
    assert renamed != key
    (tmp_path / "b.py").write_text("x = 2", "utf8")
    assert execution_key(tmp_path, {"torch": "2"}, "0") != renamed


def test_versions_cover_what_figures_depend_on() -> None:
    assert {"python", "torch", "numpy", "matplotlib"} <= set(
        installed_versions("gradlib")
    )

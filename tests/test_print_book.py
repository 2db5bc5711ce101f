"""The PDF's pages, and what is said where the book or a browser is missing."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import print_book  # noqa: E402


def refused(capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit, match="2"):
        print_book.main()
    return capsys.readouterr().err


def test_pages_are_in_the_order_of_the_contents() -> None:
    names = print_book.pages(ROOT)
    assert names[:2] == ["intro.html", "chapters/concepts.html"]
    assert names.index("glossary.html") > names.index("chapters/field_guide.html")


def test_a_missing_book_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["print_book.py", "--site", str(tmp_path)])
    assert "found no intro.html: run 'make book'" in refused(capsys)


def test_a_missing_browser_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in print_book.pages(ROOT):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setattr(sys, "argv", ["print_book.py", "--site", str(tmp_path)])
    monkeypatch.setattr(print_book, "browser_path", lambda: None)
    assert "expected Chromium on the path or in CHROMIUM" in refused(capsys)

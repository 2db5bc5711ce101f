"""What is said where the book or a browser is missing."""

import sys
from pathlib import Path

import chromium
import print_book
import pytest
import serve_book


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of the built book; a file for the print."""
    monkeypatch.setattr(serve_book, "SITE", tmp_path)
    output = str(tmp_path / "book.pdf")
    monkeypatch.setattr(sys, "argv", ["print_book.py", "--output", output])
    return tmp_path


def test_a_missing_book_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_book.main() == 1
    assert "found none: run 'make book'" in capsys.readouterr().err


def test_a_missing_browser_is_named(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "404.html").touch()
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setattr(chromium.shutil, "which", lambda name: None)
    assert print_book.main() == 1
    assert "expected Chromium on the path or in CHROMIUM" in capsys.readouterr().err

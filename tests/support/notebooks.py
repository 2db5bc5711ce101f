"""Chapters and pages as tests read them."""

import re
from pathlib import Path

import pytest
from book import NOTEBOOKS, prose_of

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def headings(path: Path) -> list[str]:
    """Headings of a page or a notebook, outside code."""
    text = prose_of(path) if path.suffix == ".ipynb" else path.read_text("utf8")
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"^#+ (.+?)\s*$", text, re.MULTILINE)

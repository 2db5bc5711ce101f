"""What the build ran: every cell of every chapter, in order, without an error.

``make check`` builds the book from nothing, so that nbval need not run it again there.
"""

from functools import cache

import pytest
from book import CHAPTERS, ROOT, cells_of
from nbformat import NotebookNode

KEPT = ROOT / "_build" / ".jupyter_cache"


def sources(cells: list[NotebookNode]) -> tuple[str, ...]:
    return tuple(cell.source for cell in cells)


@cache
def executed() -> dict[tuple[str, ...], list[NotebookNode]]:
    """Cells of the chapters that were run last, by their code."""
    paths = sorted(
        KEPT.glob("*/executed/*/base.ipynb"), key=lambda p: p.stat().st_mtime
    )
    return {sources(cells): cells for cells in (cells_of(p, "code") for p in paths)}


@pytest.mark.parametrize("name", CHAPTERS)
def test_every_cell_ran_in_order_without_an_error(name: str) -> None:
    cells = executed().get(sources(cells_of(ROOT / f"{name}.ipynb", "code")))
    assert cells, f"{name}: has changed since the book was built"
    counts = [cell.execution_count for cell in cells]
    assert counts == list(range(1, len(cells) + 1))
    failed = [
        cell.source
        for cell in cells
        for output in cell.outputs
        if output.output_type == "error"
    ]
    assert failed == []

"""Rows as a table: aligned text for a terminal, Markdown or HTML for a page."""

from collections.abc import Collection, Iterable, Sequence
from html import escape


def text_table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    left: Collection[int] = (),
    most: int | None = None,
    total: Sequence[str] | None = None,
) -> str:
    """Columns two spaces apart, numbers to the right.

    Args:
        header: Column titles.
        rows: As many texts each.
        left: Columns that start at the left, by position.
        most: Rows to show, half of them from the end; by default all.
        total: A last row that is always shown.

    Example:
        >>> print(text_table(["step", "loss"], [["0", "2.3"], ["1", "1.25"]]))
        step  loss
           0   2.3
           1  1.25
    """
    lines = [list(row) for row in rows]
    if most is not None and len(lines) > most:
        tail = most // 2
        dots = ["...", *[""] * (len(header) - 1)]
        lines = [*lines[: most - tail], dots, *lines[len(lines) - tail :]]
    lines = [list(header), *lines, *([list(total)] if total else [])]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if k in left else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown; values are shown by ``str``.

    Raises:
        ValueError: a row is longer or shorter than the header.

    Example:
        >>> print(markdown_table(["seed", "loss"], [[0, 2.3]]))
        | seed | loss |
        | --- | --- |
        | 0 | 2.3 |
    """
    lines = [list(header), ["---"] * len(header)]
    for row in rows:
        if len(row) != len(header):
            raise ValueError(
                f"table: expected {len(header)} values a row, got {len(row)}: {row}"
            )
        lines.append([str(value) for value in row])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def html_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in HTML, for a notebook; values are shown by ``str``, escaped.

    Example:
        >>> html_table(["seed", "loss"], [[0, 2.3]])
        '<table><tr><th>seed</th><th>loss</th></tr><tr><td>0</td><td>2.3</td></tr></table>'
    """
    lines = [f"<tr>{_cells('th', header)}</tr>"]
    lines += [f"<tr>{_cells('td', row)}</tr>" for row in rows]
    return f"<table>{''.join(lines)}</table>"


def _cells(tag: str, values: Sequence[object]) -> str:
    return "".join(f"<{tag}>{escape(str(value))}</{tag}>" for value in values)

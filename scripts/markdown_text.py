"""Markdown, as extensions and commands write it and tests read it."""

import re
from collections.abc import Iterable, Sequence

from gradlib.tables import markdown_table


def escape(text: str) -> str:
    """Plain text as Markdown that reads the same, also in a table.

    Example:
        >>> print(escape("a_b|c"))
        a\\_b\\|c
    """
    return re.sub(r"([\\`*_\[\]<>$|])", r"\\\1", text)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of plain texts."""
    return markdown_table(columns, (list(map(escape, row)) for row in rows))


def anchor(heading: str) -> str:
    """The address of a heading, as GitHub and the book make it.

    Example:
        >>> anchor("Is it?")
        'is-it'
    """
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")

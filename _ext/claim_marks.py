"""One quiet mark where claims hold, which opens to show them.

``chapter.claim`` prints a line for each claim. On a page such lines would read like a
log of tests; here those that follow each other become one mark with their number.
"""

from html import escape
from itertools import groupby

from docutils import nodes
from sphinx.application import Sphinx

HOLDS = "holds: "


def mark(claims: list[str]) -> str:
    """HTML of claims that hold.

    Example:
        >>> print(mark(["it grows (3, above 1)"]))
        <details class="claims"><summary>1 claim holds</summary>
        <ul><li>it grows (3, above 1)</li></ul></details>
    """
    many = len(claims) > 1
    title = f"{len(claims)} claims hold" if many else "1 claim holds"
    items = "".join(f"<li>{escape(claim)}</li>" for claim in claims)
    summary = f"<summary>{title}</summary>\n"
    return f'<details class="claims">{summary}<ul>{items}</ul></details>'


def fold(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Replace printed claims by their mark; what else was printed stays."""
    for block in list(doctree.findall(nodes.literal_block)):
        lines = block.astext().splitlines()
        is_output = "output" in block["classes"] and "stream" in block["classes"]
        if not is_output or not any(line.startswith(HOLDS) for line in lines):
            continue
        parts: list[nodes.Node] = []
        for claims, group in groupby(lines, lambda line: line.startswith(HOLDS)):
            if claims:
                html = mark([line.removeprefix(HOLDS) for line in group])
                parts.append(nodes.raw("", html, format="html"))
            else:
                rest = block.deepcopy()
                text = "\n".join(group) + "\n"
                rest.rawsource, rest.children = text, []
                rest += nodes.Text(text)
                parts.append(rest)
        block.replace_self(parts)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-resolved", fold)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

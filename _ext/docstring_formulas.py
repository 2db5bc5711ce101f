"""Let docstrings hold formulas in plain text.

In reStructuredText ``|x|`` is a substitution and ``fit_`` a link. In our docstrings
they are a norm and a function that works in place, so both are escaped, except in
examples and in literals.
"""

import re

from sphinx.application import Sphinx

LITERAL = re.compile(r"(``.*?``|`[^`]+`)")


def escape_formulas(text: str) -> str:
    """Escape bars and trailing underscores outside of literals.

    Example:
        >>> print(escape_formulas("|g| by ``clip_norm_`` or clip_norm_(p)"))
        \\|g\\| by ``clip_norm_`` or clip_norm\\_(p)
    """
    parts = LITERAL.split(text)
    parts[::2] = [
        re.sub(r"(?<=\w)_(?!\w)", r"\\_", part).replace("|", r"\|")
        for part in parts[::2]
    ]
    return "".join(parts)


def escape_docstring(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    example = False
    for number, line in enumerate(lines):
        if line.lstrip().startswith(">>>"):
            example = True
        elif not line.strip():
            example = False
        if not example:
            lines[number] = escape_formulas(line)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", escape_docstring, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

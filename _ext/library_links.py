"""Under a chapter's imports, link what comes from gradlib to its page.

A cell that imports from gradlib gets a line below it, with one link for each name that
the API page documents and that no earlier cell of the chapter imported.
sphinx-codeautolink 0.20 finds the same names inside the code, but links each mention,
1,015 in the ten chapters where 139 stand here, all of them stops for the keyboard that
nothing shows to the eye, and its reader of notebook cells makes Sphinx warn.
"""

import ast
from importlib import import_module
from types import ModuleType

from docutils import nodes
from sphinx.application import Sphinx


def imported(code: str) -> list[tuple[str, list[str]]]:
    """Each name that a cell imports from gradlib, and where it may be documented.

    Example:
        >>> imported("import math\\nfrom gradlib import fit, theory")
        ... # doctest: +NORMALIZE_WHITESPACE
        [('fit', ['gradlib.training.fit.fit', 'gradlib.training.fit', 'gradlib.fit']),
         ('theory', ['gradlib.theory'])]
        >>> imported("%matplotlib inline")
        []
    """
    try:
        statements = ast.parse(code).body
    except SyntaxError:
        return []
    return [
        (alias.name, _places(statement.module, alias.name))
        for statement in statements
        if isinstance(statement, ast.ImportFrom)
        and (statement.module or "").split(".")[0] == "gradlib"
        for alias in statement.names
    ]


def _places(module: str, name: str) -> list[str]:
    """Where an object is defined, and the packages above that may show it."""
    found = getattr(import_module(module), name, None)
    submodule = f"{module}.{name}"
    if found is None or isinstance(found, ModuleType):
        return [submodule]
    home = getattr(found, "__module__", module).split(".")
    return [".".join([*home[:k], name]) for k in range(len(home), 0, -1)]


def add_links(app: Sphinx, doctree: nodes.document, page: str) -> None:
    objects = app.env.get_domain("py").objects
    seen: set[str] = set()
    for cell in list(doctree.findall(_is_cell)):
        code = "\n".join(block.astext() for block in cell.findall(nodes.literal_block))
        if "gradlib" not in code:
            continue
        links = []
        for name, places in imported(code):
            place = next((p for p in places if p in objects), None)
            if place is not None and place not in seen:
                seen.add(place)
                there = objects[place]
                uri = app.builder.get_relative_uri(page, there.docname)
                links += [nodes.Text(", "), _link(name, f"{uri}#{there.node_id}")]
        if links:
            line = nodes.paragraph("", "In the library: ", *links[1:])
            line["classes"] = ["library-links"]
            cell.parent.insert(cell.parent.index(cell) + 1, line)


def _link(name: str, uri: str) -> nodes.reference:
    return nodes.reference("", "", nodes.literal("", name), internal=True, refuri=uri)


def _is_cell(node: nodes.Node) -> bool:
    return isinstance(node, nodes.container) and "cell" in node["classes"]


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-resolved", add_links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""Every chapter keeps the book's rules, so that it reads well in all three places.

A chapter is read in the book, in Colab and on GitHub: its Markdown is portable, its
order is the same everywhere, and each claim in it is asserted.
"""

import ast
import re
from functools import cache
from pathlib import Path
from typing import TypeGuard

import nbformat
from book import NOTEBOOKS, ROOT, cells_of, chapter_files, prose_of, read_notebook
from nbformat import NotebookNode
from notebooks import each_notebook

TEMPLATE = ROOT / "chapters" / "template.ipynb"
URL = r"https?://[^\s)>\"']+"
PAPER_HOSTS = (
    "arxiv.org", "doi.org", "openreview.net", "proceedings.mlr.press",
    "papers.nips.cc", "proceedings.neurips.cc", "aclanthology.org", "jmlr.org",
)  # fmt: skip

BOOK_ORDER = [Path(file).stem for file in chapter_files()]
read, cells, prose = map(cache, (read_notebook, cells_of, prose_of))


def tags(cell: NotebookNode) -> list[str]:
    return list(cell.metadata.get("tags", []))


def without_code(markdown: str) -> str:
    markdown = re.sub(r"```.*?```", "", markdown, flags=re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", markdown)


def sections(path: Path) -> list[str]:
    """Texts below each second-level heading, heading first."""
    return re.split(r"^## ", without_code(prose(path)), flags=re.MULTILINE)[1:]


def test_there_are_chapters() -> None:
    assert TEMPLATE in NOTEBOOKS
    assert len(NOTEBOOKS) > 1


def test_every_chapter_but_the_template_is_in_the_book() -> None:
    assert sorted([*BOOK_ORDER, "template"]) == [path.stem for path in NOTEBOOKS]


@each_notebook
def test_is_valid_and_stripped(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in cells(path, "code"):
        assert not cell.outputs, f"{path.name}: outputs in cell {cell.id}"
        assert cell.execution_count is None


@each_notebook
def test_markdown_is_portable(path: Path) -> None:
    text = without_code(prose(path))
    for pattern, what in [
        (r"^:::", "a colon fence"),
        (r"\{[a-z:-]+\}`", "a MyST role"),
        (r"^\([\w-]+\)=$", "a MyST target"),
        (r"<(?!/?(br|sub|sup|kbd)\b)/?[a-z]+[ >]", "raw HTML"),
    ]:
        found = re.search(pattern, text, re.MULTILINE)
        assert not found, f"{path.name}: {what}: {found and found.group()!r}"
    assert "```{" not in prose(path), f"{path.name}: a MyST directive"
    alerts = re.findall(r"^> \[!(\w+)\]", text, re.MULTILINE)
    assert set(alerts) <= {"NOTE", "TIP", "IMPORTANT", "WARNING", "CAUTION"}


@each_notebook
def test_opens_with_title_goals_and_setup(path: Path) -> None:
    first, second, setup, imports = read(path).cells[:4]
    assert re.match(r"# \S", first.source)
    assert len(re.findall(r"^# ", without_code(prose(path)), re.MULTILINE)) == 1
    assert len(first.source.split("\n\n", 1)[1].split()) > 25, "no opening paragraph"
    for word in ("**You will be able to**", "**You need**", "**Time**"):
        assert word in second.source
    assert 3 <= len(re.findall(r"^- ", second.source, re.MULTILINE)) <= 6
    assert tags(setup) == ["remove-cell"]
    assert setup.source == read(TEMPLATE).cells[2].source, "set-up cell differs"
    assert "SEED = chapter.begin()" in imports.source


@each_notebook
def test_sections_ask_questions(path: Path) -> None:
    *units, recipe, exercises, reading = sections(path)
    assert recipe.startswith("Recipe\n")
    assert exercises.startswith("Exercises\n")
    assert reading.startswith("Further reading\n")
    for unit in units:
        heading, _, body = unit.partition("\n")
        bold = re.match(r"\s*\*\*[^*]+\?\*\*", body)
        assert bold, f"{path.name}: no bold question opens '{heading}'"
    assert any("not work" in u.partition("\n")[0] for u in units), "no negative result"
    assert any("trap" in u.partition("\n")[0].lower() for u in units), "no trap"
    assert sum("*Prediction.*" in unit for unit in units) >= 2


@each_notebook
def test_recipe_has_steps_and_a_table(path: Path) -> None:
    recipe = next(s for s in sections(path) if s.startswith("Recipe\n"))
    assert len(re.findall(r"^\d\. ", recipe, re.MULTILINE)) == 5
    assert re.search(r"\| *symptom .*\|.*cause.*\|.*fix.*\|", recipe)


@each_notebook
def test_has_an_interactive_figure(path: Path) -> None:
    assert any("SliderFigure(" in cell.source for cell in cells(path, "code"))


@each_notebook
def test_claims_are_asserted(path: Path) -> None:
    claims = [cell for cell in cells(path, "code") if "claims" in tags(cell)]
    assert len(claims) >= 3
    for cell in claims:
        assert "hide-input" in tags(cell)
        assert re.search(r"^\s*assert |\bclaim\(", cell.source, re.MULTILINE)


def table_headings(path: Path) -> list[str]:
    """Headings of columns, of tables in the prose and of ``chapter.table``."""
    lines = re.findall(r"^\|(.+)\|\n\|[-:| ]+\|$", prose(path), re.MULTILINE)
    found = [heading.strip() for line in lines for heading in line.split("|")]
    for cell in cells(path, "code"):
        if "chapter.table(" not in cell.source:
            continue
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "chapter.table":
                constants = filter(is_text, ast.walk(node.args[0]))
                found += [str(constant.value) for constant in constants]
    return found


def is_text(node: ast.AST) -> TypeGuard[ast.Constant]:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


@each_notebook
def test_headings_of_tables_have_words(path: Path) -> None:
    """A screen reader finds nothing to say in a heading that is only a formula."""
    silent = [h for h in table_headings(path) if re.fullmatch(r"\$[^$]*\$", h)]
    assert not silent, f"{path.name}: write a word beside {silent}"


def claims_of(code: str) -> list[set[str]]:
    """The keywords of each ``chapter.claim(...)`` in a cell."""
    return [
        {str(keyword.arg) for keyword in node.keywords}
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "chapter.claim"
    ]


@each_notebook
def test_most_claims_name_a_rival_that_must_fail(path: Path) -> None:
    codes = [c.source for c in cells(path, "code") if "chapter.claim(" in c.source]
    claims = [keywords for code in codes for keywords in claims_of(code)]
    with_rival = [keywords for keywords in claims if "rival" in keywords]
    assert len(with_rival) >= 0.8 * len(claims)


def test_a_claim_without_a_rival_is_noticed() -> None:
    code = (
        "chapter.claim('a', x, above=1, rival={'b': y})\nchapter.claim('c', x, below=2)"
    )
    assert ["rival" in keywords for keywords in claims_of(code)] == [True, False]


@each_notebook
def test_exercises_have_executed_solutions(path: Path) -> None:
    stem = path.stem
    number = BOOK_ORDER.index(stem) + 1 if stem != "template" else 0
    asked = re.findall(r"^### Exercise (\S+)", prose(path), re.MULTILINE)
    assert asked == [f"{number}.{k + 1}" for k in range(len(asked))]
    assert 5 <= len(asked) <= 8
    solved = []
    for cell in cells(path, "code"):
        title = re.match(r"#\s?@title Solution (\S+)\n", cell.source)
        if title:
            solved.append(title.group(1))
            assert "hide-cell" in tags(cell), f"Solution {title.group(1)} is not hidden"
            assert cell.metadata.get("cellView") == "form"
    assert sorted(set(solved)) == asked


@each_notebook
def test_further_reading_has_links(path: Path) -> None:
    reading = sections(path)[-1]
    assert 5 <= len(re.findall(rf"^- \[[^\]]+\]\({URL}\)", reading, re.MULTILINE)) <= 8


@each_notebook
def test_code_cells_are_short(path: Path) -> None:
    for cell in cells(path, "code"):
        lines = cell.source.splitlines()
        if "chapter.begin()" in cell.source:
            continue
        assert len(lines) <= 20, f"{path.name}: {len(lines)} lines in cell {cell.id}"
        assert max(map(len, lines), default=0) <= 100


@each_notebook
def test_there_is_more_prose_than_code(path: Path) -> None:
    lines = sum(
        len(cell.source.splitlines())
        for cell in cells(path, "code")
        if not {"hide-cell", "hide-input", "remove-cell"} & set(tags(cell))
    )
    words = len(without_code(prose(path)).split())
    assert words >= 5 * lines, f"{path.name}: {words} words for {lines} lines of code"


@each_notebook
def test_figures_have_alt_text(path: Path) -> None:
    for cell in cells(path, "code"):
        if "plt.show()" in cell.source:
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            assert len(alt) > 30, f"{path.name}: no alt text in cell {cell.id}"
        elif re.search(r"plotting\.\w+\(|\bax\.plot\(", cell.source):
            shown = re.search(r"SliderFigure|^def ", cell.source, re.MULTILINE)
            assert shown, f"{path.name}: cell {cell.id} draws without plt.show()"


@each_notebook
def test_links_between_chapters_resolve(path: Path) -> None:
    links = re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", without_code(prose(path)))
    for link in links:
        target = link.partition("#")[0]
        if target:
            assert (path.parent / target).exists(), f"{path.name}: dead link {link}"


@each_notebook
def test_cited_papers_are_in_the_bibliography(path: Path) -> None:
    bibliography = (ROOT / "reference/references.bib").read_text("utf8")
    for url in re.findall(rf"\]\(({URL})\)", prose(path)):
        if any(host in url for host in PAPER_HOSTS):
            assert url in bibliography, f"{path.name}: {url} is not in references.bib"


@each_notebook
def test_holds_no_path_or_secret(path: Path) -> None:
    text = path.read_text("utf8")
    for pattern in (r"/(home|Users)/\w", r"/[r]oot/", r"[A-Z]:\\\\", r"hf_\w{20}"):
        assert not re.search(pattern, text), f"{path.name}: {pattern}"

"""Terms and symbols are listed once, in order, and used as the lists say."""

import ast
import re
from pathlib import Path

import pytest
from book import ROOT, chapter_files, prose_of
from markdown_text import anchor

PAGE = "../reference/glossary.md"  # as chapters link it
GLOSSARY = (ROOT / "reference/glossary.md").read_text("utf8")
NOTATION = (ROOT / "reference/notation.md").read_text("utf8")
TERMS = re.findall(r"^### (.+)$", GLOSSARY, re.MULTILINE)
CHAPTERS = chapter_files()
SOURCES = sorted((ROOT / "gradlib").rglob("*.py"))
GREEK = {
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota",
    "kappa", "lambda", "mu", "nu", "xi", "pi", "rho", "sigma", "tau", "upsilon",
    "phi", "chi", "psi", "omega",
}  # fmt: skip
NUMBERS = {"pi"}

each_chapter = pytest.mark.parametrize("file", CHAPTERS)


def prose(file: str) -> str:
    """Paragraphs of a chapter: no headings, code or formulas."""
    text = prose_of(ROOT / file)
    for pattern in (r"```.*?```", r"\$\$.*?\$\$", r"`[^`]*`", r"\$[^$]*\$"):
        text = re.sub(pattern, "", text, flags=re.DOTALL)
    return re.sub(r"^#.*$", "", text, flags=re.MULTILINE)


def glossary_links(text: str) -> list[re.Match[str]]:
    return list(
        re.finditer(r"\[([^\]]+)\]\(\.\./reference/glossary\.md#([^)]*)\)", text)
    )


def rows() -> list[list[str]]:
    """Cells of the table of symbols."""
    lines = re.findall(r"^\| (\$.+)\|$", NOTATION, re.MULTILINE)
    return [[cell.strip() for cell in line.split("|")] for line in lines]


def greek_commands(text: str) -> set[str]:
    commands = set(re.findall(r"\\(?:var)?([A-Za-z]+)", text))
    return {command for command in commands if command.lower() in GREEK} - NUMBERS


def listed() -> set[str]:
    """Greek letters in the column of symbols."""
    return greek_commands(" ".join(row[0] for row in rows()))


def docstrings(path: Path) -> str:
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef
    nodes = [
        n for n in ast.walk(ast.parse(path.read_text("utf8"))) if isinstance(n, kinds)
    ]
    return "\n".join(ast.get_docstring(node) or "" for node in nodes)


def test_terms_are_sorted_below_their_letters() -> None:
    assert [term.lower() for term in TERMS] == sorted(term.lower() for term in TERMS)
    for section in re.split(r"^## ", GLOSSARY, flags=re.MULTILINE)[1:]:
        letter, _, body = section.partition("\n")
        terms = re.findall(r"^### (.+)$", body, re.MULTILINE)
        assert terms
        assert {term[0] for term in terms} == {letter}


def test_terms_have_their_own_anchor_and_a_definition() -> None:
    assert len({anchor(term) for term in TERMS}) == len(TERMS) >= 50
    for entry in re.split(r"^#{2,3} ", GLOSSARY, flags=re.MULTILINE)[1:]:
        term, _, definition = entry.partition("\n")
        assert len(term) == 1 or 1 <= definition.count(".") <= 4, term


def test_links_inside_the_glossary_resolve() -> None:
    links = re.findall(r"\]\(#([^)]+)\)", GLOSSARY)
    assert links
    assert set(links) <= {anchor(term) for term in TERMS}


@each_chapter
def test_a_chapter_links_its_terms(file: str) -> None:
    links = [match[2] for match in glossary_links(prose(file))]
    known = {anchor(term) for term in TERMS}
    assert set(links) <= known, f"{file}: no such term {sorted(set(links) - known)}"


def first_use(term: str, text: str) -> re.Match[str] | None:
    """Where a term or its plural stands first, addresses of links aside."""
    words = r"\s+".join(map(re.escape, term.split()))
    return re.search(rf"(?<![\w-]){words}s?(?![\w-])", text, re.IGNORECASE)


def unlinked(text: str) -> list[str]:
    """Terms that a text uses without a link to them, unless inside another link."""
    linked = {match[2] for match in glossary_links(text)}
    text = re.sub(r"\]\([^)]*\)", "]", text)
    inside = [match.span() for match in re.finditer(r"\[[^\]]+\]", text)]
    return [
        term
        for term in TERMS
        if anchor(term) not in linked
        and (use := first_use(term, text))
        and not any(start < use.start() < end for start, end in inside)
    ]


@each_chapter
def test_every_term_of_a_chapter_is_linked(file: str) -> None:
    missing = unlinked(prose(file))
    assert not missing, f"{file}: link the first use to {PAGE}: {missing}"


def test_an_unlinked_term_is_noticed() -> None:
    link = "the [gradient norm](../reference/glossary.md#gradient-norm)"
    assert unlinked("Seeds and a spectral\nnorm.") == ["Seed", "Spectral norm"]
    assert unlinked(f"{link} of the gradient") == []
    assert (
        unlinked("[Warm-up](causes.ipynb) bounds warm-up, not a learning-rate.") == []
    )


@each_chapter
def test_a_term_is_linked_on_first_use(file: str) -> None:
    text = prose(file)
    seen: set[str] = set()
    for match in glossary_links(text):
        words, target = match[1].replace("\n", " "), match[2]
        assert target not in seen, f"{file}: '{words}' is linked a second time"
        seen.add(target)
        pattern = r"\s+".join(map(re.escape, words.split()))
        earlier = re.search(rf"\b{pattern}\b", text[: match.start()], re.IGNORECASE)
        assert not earlier, f"{file}: '{words}' is used before its link"


def test_symbols_are_listed_once() -> None:
    symbols = [row[0] for row in rows()]
    assert len(symbols) >= 40
    assert len(set(symbols)) == len(symbols)
    assert {len(row) for row in rows()} == {4}
    assert all(meaning for _, _, meaning, _ in rows())


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_the_code_has_the_name(row: list[str]) -> None:
    for name in re.findall(r"`(\w+)`", row[1]):
        found = [p for p in SOURCES if re.search(rf"\b{name}\b", p.read_text("utf8"))]
        assert found, f"notation.md: nothing in gradlib is called {name}"


@each_chapter
def test_greek_symbols_of_a_chapter_are_listed(file: str) -> None:
    text = prose_of(ROOT / file)
    formulas = " ".join(re.findall(r"\$[^$]+\$", text.replace("$$", "$")))
    missing = greek_commands(formulas) - listed()
    assert not missing, f"{file}: notation.md does not list {sorted(missing)}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_greek_symbols_of_docstrings_are_listed(path: Path) -> None:
    known = listed() | NUMBERS
    names = {
        word for name in re.findall(r"`(\w+)`", NOTATION) for word in name.split("_")
    }
    text = re.sub(r"``.*?``|>>>.*", "", docstrings(path))
    used = {
        word for word in re.findall(r"\b([A-Za-z]+)\b", text) if word.lower() in GREEK
    }
    missing = used - known - names
    assert not missing, f"{path.name}: notation.md does not list {sorted(missing)}"

"""The path of the field guide leads to every cause that a report can name."""

from book import ROOT, prose_of
from markdown_text import anchor

from gradlib.diagnosis.causes import CAUSES

PAGE = ROOT / "chapters" / "field_guide.ipynb"


def rows() -> list[tuple[str, str]]:
    """Anchor of its section and text, of each row of the path."""
    path, _ = prose_of(PAGE).split("### What this page holds")
    found, section = [], ""
    for line in path.splitlines():
        if line.startswith("### "):
            section = anchor(line.removeprefix("### "))
        elif line.startswith("|"):
            found.append((section, line))
    return found


def test_every_cause_has_a_row() -> None:
    path = "\n".join(line for _, line in rows())
    missing = [name for name in CAUSES if f"`{name}`" not in path]
    assert missing == ["healthy"], f"a row of the path names each: {missing}"


def test_the_row_of_a_cause_leads_to_its_chapter() -> None:
    without = []
    for name, cause in CAUSES.items():
        page, _, section = cause.chapter.partition("#")
        if page == "field_guide":
            leads = any(f"`{name}`" in line for at, line in rows() if at == section)
        else:
            link = f"({page}.ipynb#{section})"
            leads = any(f"`{name}`" in line and link in line for _, line in rows())
        if not leads:
            without.append(f"{name}: {cause.chapter}")
    assert without == ["healthy: field_guide#let-the-library-ask-the-questions"]

"""The path of the field guide leads to every cause that a report can name."""

from book import ROOT, prose_of

from gradlib.diagnosis.causes import CAUSES

PAGE = ROOT / "chapters" / "field_guide.ipynb"


def test_every_cause_has_a_row() -> None:
    path, _ = prose_of(PAGE).split("### What this page holds")
    rows = "\n".join(line for line in path.splitlines() if line.startswith("|"))
    missing = [name for name in CAUSES if f"`{name}`" not in rows]
    assert set(missing) <= {"healthy"}, f"a row of the path names each: {missing}"

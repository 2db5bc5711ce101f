"""The page that reads a log: what it loads, and what it says."""

import json
import subprocess
import sys
import zipfile
from html import escape
from pathlib import Path

import log_box
import pytest
from answer import answer, short, ticks
from sphinx.testing.util import SphinxTestApp

from gradlib.diagnosis import diagnose_log
from gradlib.diagnosis.causes import page_of

INDEX = "# Book\n\n```{toctree}\nreference/box\nother\n```\n"
EXAMPLES = [log_box.FILES / "examples" / name for name in log_box.EXAMPLES]


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for Pyodide."""
    folder = tmp_path / "pyodide"
    folder.mkdir()
    for name in (*log_box.FETCHED, *log_box.IMPORTED):
        (folder / name).write_bytes(b"x" * 1000)
    monkeypatch.setattr(log_box, "RUNTIME", folder)
    return folder


def built(tmp_path: Path) -> tuple[Path, str]:
    """A small book with the page, and what the build said."""
    folder = tmp_path / "book"
    (folder / "reference").mkdir(parents=True)
    (folder / "conf.py").write_text(
        "extensions = ['myst_nb', 'log_box']\nnb_execution_mode = 'off'\n"
    )
    (folder / "index.md").write_text(INDEX)
    (folder / "other.md").write_text("# Other\n\nText.\n")
    (folder / "reference" / "box.md").write_text("# Log\n\n```{log-box}\n```\n")
    app = SphinxTestApp("html", srcdir=folder)
    try:
        app.build()
        return Path(app.outdir), app.status.getvalue()
    finally:
        app.cleanup()


def test_only_the_page_loads_the_box(tmp_path: Path, runtime: Path) -> None:
    out, told = built(tmp_path)
    html = (out / "reference" / "box.html").read_text("utf8")
    assert 'data-needs="wasm"' in html
    assert 'data-bytes="3000"' in html
    for name in ("box.js", "box.css"):
        assert f'="../{log_box.VENDORED}/{name}"' in html
    for name in ("index", "other"):
        assert "log_box" not in (out / f"{name}.html").read_text("utf8")
    vendored = out / log_box.VENDORED
    for name in ("worker.js", *(f"examples/{name}" for name in log_box.EXAMPLES)):
        assert (vendored / name).is_file()
    assert (vendored / "pyodide" / "pyodide.mjs").read_bytes() == b"x" * 1000
    assert "shows the command instead" not in told


def test_without_python_the_page_names_the_command(
    tmp_path: Path, runtime: Path
) -> None:
    (runtime / "pyodide.mjs").unlink()
    out, told = built(tmp_path)
    html = (out / "reference" / "box.html").read_text("utf8")
    assert log_box.LACKING in html
    assert "<textarea" not in html
    assert not (out / log_box.VENDORED).exists()
    assert told.count("shows the command instead: 'make runtime'") == 1


def test_the_archive_holds_all_that_an_answer_needs(
    tmp_path: Path, runtime: Path
) -> None:
    """Python without any installed package gives the same report as here."""
    out, _ = built(tmp_path)
    with zipfile.ZipFile(out / log_box.VENDORED / "gradlib.zip") as archive:
        archive.extractall(tmp_path / "gradlib")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from answer import answer; "
        "print(answer(sys.argv[2])); assert 'torch' not in sys.modules"
    )
    log = EXAMPLES[0]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, tmp_path / "gradlib", log],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["text"].endswith(str(diagnose_log(log)))


@pytest.mark.parametrize("log", EXAMPLES, ids=lambda path: path.stem)
def test_answer_is_the_report(log: Path) -> None:
    found = json.loads(answer(str(log)))
    report = diagnose_log(log)
    assert found["verdict"] == report.verdict
    assert found["text"] == f"{report.verdict.upper()}\n{report}"
    for finding in report.findings:
        assert escape(finding.fix) in found["html"]
        assert f'href="../chapters/{page_of(finding.chapter)}"' in found["html"]
    for remark in report.remarks:
        assert escape(remark) in found["html"]
    assert escape(report.next_test) in found["html"]


def test_examples_show_each_kind_of_answer() -> None:
    verdicts = [diagnose_log(log).verdict for log in EXAMPLES]
    assert set(verdicts) == {"broken", "healthy"}


def test_plot_marks_the_first_bad_step_and_what_is_not_finite() -> None:
    html = json.loads(answer(str(EXAMPLES[0])))["html"]
    report = diagnose_log(EXAMPLES[0])
    assert f"first bad step: {report.first_bad_step}</text>" in html
    assert html.count('class="log-name"') == 2  # loss and gradient norm
    assert 'class="log-cross"' in html
    assert "nan" not in html[html.index("<svg") : html.index("</svg>")]


def test_what_comes_from_the_log_is_escaped(tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    lines = [f"step {k} <img/src=x>_loss: {9 - k}.5 loss <b>{k}" for k in range(9)]
    unread = "loss <script>alert(1)</script> is not a number"
    path.write_text("\n".join([*lines, unread]))
    html = json.loads(answer(str(path)))["html"]
    for tag in ("<img", "<b>", "<script"):
        assert tag not in html


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "found no number of a training"),
        (b"hello\nworld\n", "found no number of a training"),
        (bytes(range(32)) * 99, "expected text, got a binary file"),
    ],
)
def test_what_cannot_be_read_is_an_error(
    tmp_path: Path, content: bytes, told: str
) -> None:
    path = tmp_path / "train.log"
    path.write_bytes(content)
    assert told in json.loads(answer(str(path)))["error"]


def test_reading_says_how_far_it_is(tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    path.write_text("".join(f"step {k} loss 2.5\n" for k in range(5_000)))
    told: list[int] = []
    answer(str(path), 640, told.append)
    assert len(told) == 2
    assert 0 < told[0] < told[1] < path.stat().st_size


@pytest.mark.parametrize(
    "ends", [(0.0, 1.0), (-3.2, 7.9), (1e-9, 2e-9), (5e7, 9e7), (99.5, 100.5)]
)
def test_ticks_are_few_and_inside(ends: tuple[float, float]) -> None:
    found = ticks(*ends, False)
    assert 2 <= len(found) <= 6
    assert all(ends[0] - 1e-12 <= tick <= ends[1] + 1e-12 for tick in found)
    assert len({short(tick) for tick in found}) == len(found)

"""Chapters run in Colab from top to bottom, with their own set-up cell.

Colab brings torch, torchvision, numpy, matplotlib and tqdm; the set-up cell installs
gradlib by pip and git from the repository's address, and must touch nothing else. Here
a bare environment stands for Colab, and git answers that address with this working
tree. Run by ``make colab``.
"""

import json
import re
import shutil
from pathlib import Path

import pytest
from book import ROOT, read_notebook
from conftest import Colab, address, git
from nbclient import NotebookClient
from nbformat import NotebookNode
from notebooks import each_notebook

RAW = re.compile(r"^:::|^```\{|\{[a-z:-]+\}`", re.MULTILINE)


def run_in_colab(notebook: NotebookNode, kernel: str, folder: Path) -> None:
    place = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=600, kernel_name=kernel, resources=place).execute()


def outputs(notebook: NotebookNode) -> list[NotebookNode]:
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [output for cell in cells for output in cell.outputs]


def shown(notebook: NotebookNode, kind: str) -> list[str]:
    found = (output.get("data", {}).get(kind) for output in outputs(notebook))
    return [text for text in found if text]


@each_notebook
def test_chapter_runs(
    path: Path, colab: Colab, kernel: str, repository: Path, tmp_path: Path
) -> None:
    before = colab.files()
    notebook = read_notebook(path)
    run_in_colab(notebook, kernel, tmp_path)

    assert [o for o in outputs(notebook) if o.output_type == "error"] == []
    assert any('class="gl-fig' in html for html in shown(notebook, "text/html"))
    assert shown(notebook, "image/svg+xml") or shown(notebook, "image/png")
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    for text in [*prose, *shown(notebook, "text/markdown")]:
        assert not RAW.search(text), text

    assert colab.files() == before, "the set-up cell touched other packages"
    (record,) = colab.packages.glob("gradlib-*.dist-info/direct_url.json")
    origin = json.loads(record.read_text("utf8"))
    assert origin["url"] == address()
    head = git("rev-parse", "HEAD", folder=repository)
    assert origin["vcs_info"]["commit_id"] == head


def test_bare_environment_holds_no_gradlib(colab: Colab, kernel: str) -> None:
    absent = "import importlib.util as u; print(u.find_spec('gradlib'))"
    assert colab.call("-c", absent) == "None"
    listed = json.loads(colab.call("-m", "pip", "list", "--format=json"))
    names = {package["name"].lower() for package in listed}
    assert {"torch", "numpy", "matplotlib", "tqdm", "ipykernel"} <= names
    assert not names & {"jupyter-book", "nbformat", "pytest", "timm", "scipy"}


def test_a_missing_git_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(pytest.fail.Exception, match="expected git, found none"):
        git("status", folder=ROOT)

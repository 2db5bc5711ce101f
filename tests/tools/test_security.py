"""Nothing here runs what a file or an argument says."""

import ast
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from book import ROOT, read_notebook
from IPython.core.inputtransformer2 import TransformerManager
from notebooks import each_notebook

FOLDERS = ("gradlib", "_ext", "scripts", "benchmarks")

UNPICKLE = {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve", "marshal"}
SHELL = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
RUN_TEXT = {"eval", "exec", "compile", "__import__"}
# Chapters do not need other programs, nor the network.
NOT_IN_CHAPTERS = {"subprocess", "socket", "urllib", "requests", "http", "ctypes"}
# Two exceptions: `Ranks` sends what its caller wrote to processes of its own, through
# pipes that nobody else can reach; and a chapter starts the script that it has written.
ALLOWED = {
    "ranks.py": {"import of pickle", "exec", "compile"},
    "rescue.ipynb": {"import of subprocess"},
}
SAFE = {
    ("torch", "load"): ("weights_only", True),
    ("np", "load"): ("allow_pickle", False),
    ("numpy", "load"): ("allow_pickle", False),
    ("yaml", "load"): ("Loader", None),
}


def code_of(path: Path) -> str:
    """Python source; of a notebook all code cells, with magics made Python."""
    if path.suffix == ".py":
        return path.read_text("utf8")
    cells = read_notebook(path).cells
    source = [cell.source for cell in cells if cell.cell_type == "code"]
    return "\n".join(TransformerManager().transform_cell(text) for text in source)


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def imported(node: ast.AST) -> set[str]:
    """Top-level modules that a statement imports."""
    if isinstance(node, ast.Import):
        return {alias.name.partition(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        if all(alias.name.endswith("Error") for alias in node.names):
            return set()  # an exception runs nothing
        return {node.module.partition(".")[0]}
    return set()


def dangers(source: str, chapter: bool = False) -> Iterator[str]:
    """What in some Python source could run foreign code."""
    for node in ast.walk(ast.parse(source)):
        refused = UNPICKLE | (NOT_IN_CHAPTERS if chapter else set())
        for module in sorted(imported(node) & refused):
            yield f"line {node.lineno}: import of {module}"
        if not isinstance(node, ast.Call):
            continue
        name, line = dotted(node.func), f"line {node.lineno}"
        settings = {word.arg: word.value for word in node.keywords}
        if name in RUN_TEXT or name in SHELL:
            yield f"{line}: {name}"
        shell = settings.get("shell")
        if shell is not None and not is_constant(shell, False):
            yield f"{line}: {name} with a shell"
        module, _, function = name.rpartition(".")
        if (module, function) in SAFE:
            word, value = SAFE[module, function]
            if word not in settings or value is None:
                yield f"{line}: {name} without {word}"
            elif not is_constant(settings[word], value):
                yield f"{line}: {name} needs {word}={value}"
        if chapter and name.endswith(("_magic", "system", "getoutput")):
            magic = node.args[0] if node.args else None
            if not is_constant(magic, "pip"):
                yield f"{line}: {name}"


def unexpected(path: Path, chapter: bool = False) -> list[str]:
    """Dangers of a file beyond those that are its subject."""
    allowed = ALLOWED.get(path.name, set())
    found = dangers(code_of(path), chapter)
    return [danger for danger in found if danger.partition(": ")[2] not in allowed]


def is_constant(node: ast.AST | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and repr(node.value) == repr(value)


SOURCES = sorted(p for folder in FOLDERS for p in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.stem)
def test_code_runs_nothing_foreign(path: Path) -> None:
    assert unexpected(path) == []


@each_notebook
def test_chapters_run_nothing_foreign(path: Path) -> None:
    assert unexpected(path, chapter=True) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, Loader=yaml.Loader)",
        "os.system(command)",
        "subprocess.run(command, shell=True)",
        "subprocess.run(command, shell=asked)",
        "eval(text)",
        "exec(text)",
    ],
)
def test_dangers_are_found(source: str) -> None:
    assert len(list(dangers(source))) == 1


@pytest.mark.parametrize(
    "source",
    ["!ls", "%cd /", "%%bash\nls", "import subprocess", "import urllib.request"],
)
def test_dangers_of_chapters_are_found(source: str) -> None:
    python = TransformerManager().transform_cell(source)
    assert len(list(dangers(python, chapter=True))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path, weights_only=True)",
        "np.load(path, allow_pickle=False)",
        "yaml.safe_load(text)",
        "subprocess.run([command])",
        "model.eval()",
        "re.compile(text)",
    ],
)
def test_what_is_safe_passes(source: str) -> None:
    assert list(dangers(source)) == []


SECRETS = {
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "a token of GitHub": r"\bgh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,}",
    "a token of Hugging Face": r"\bhf_[A-Za-z0-9]{20,}",
    "a key of AWS": r"\bAKIA[0-9A-Z]{16}\b",
    "a key of an API": r"\bsk-[A-Za-z0-9_-]{20,}",
    "a token of PyPI": r"\bpypi-[A-Za-z0-9_-]{40,}",
    "a password": r"(?i)(password|passwd|secret|api_?key)\s*[=:]\s*[\"'][^\"']{6,}",
    "a login in an address": r"https?://[^\s/@:\"']+:[^\s/@\"']+@",
    "a path of a machine": r"(?<![\w.])/(?:home|Users|root|tmp|work|mnt|media)/\w",
    "a path of Windows": r"\b[A-Z]:\\{1,2}(?:Users|Documents)",
    "an e-mail address": r"\b[\w.+-]+@(?!example\.)[\w-]+\.(?:com|org|net|de|edu)\b",
}


def secrets(text: str) -> list[str]:
    return [what for what, pattern in SECRETS.items() if re.search(pattern, text)]


def tracked() -> list[Path]:
    """Text files of the repository; tests hold examples of what they refuse."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z"]
    listed = subprocess.run(command, capture_output=True, encoding="utf8", check=True)
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    other = (".png", ".npz", ".svg")
    return [p for p in paths if p.is_file() and p.suffix not in other]


def test_no_file_holds_a_secret_or_a_path_of_a_machine() -> None:
    for path in tracked():
        if (ROOT / "tests") not in path.parents and path.name != "CONTRIBUTING.md":
            assert secrets(path.read_text("utf8")) == [], path.relative_to(ROOT)


@each_notebook
def test_chapters_hold_no_secret_and_no_path(path: Path) -> None:
    notebook = read_notebook(path)
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    assert secrets(json.dumps(notebook, ensure_ascii=False)) == []


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN RSA PRIVATE KEY-----",
        "ghp_" + 36 * "a",
        "hf_" + 34 * "a",
        "AKIA" + 16 * "A",
        "sk-" + 40 * "a",
        "pypi-" + 60 * "a",
        'api_key = "0123456789"',
        "https://name:word@example.org",
        "open('/home/someone/data')",
        r"C:\\Users\\someone",
        "someone@somewhere.org",
    ],
)
def test_secrets_are_found(text: str) -> None:
    assert len(secrets(text)) == 1

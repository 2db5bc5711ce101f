"""Rules of the project as a whole."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from stamp_repository import canonical, owner_and_name, stamp  # noqa: E402

LEVELS = [
    {"errors", "forward", "nonfinite", "sparse"},
    {"curvature", "gradients", "history", "loop", "precision", "quadrature", "rows",
     "seeding", "stability", "tasks", "vision"},
    {"activations", "adaptive_clip", "data", "measure", "probes", "range_test",
     "recurrent", "regularization"},
    {"clip", "criticality", "evaluation", "growth", "monitor", "schemes", "spectrum",
     "transformer"},
    {"models", "theory"},
    {"propagation", "training"},
    {"auditing"},
    {"initialization"},
    {"sweep"},
    {"diagnosis"},
    {"plotting"},
    {"figures", "chapter"},
]  # fmt: skip
LEVEL = {name: k for k, names in enumerate(LEVELS) for name in names}


def module_of(path: Path) -> str:
    return path.relative_to(ROOT / "gradlib").parts[0].removesuffix(".py")


def imported_modules(path: Path) -> set[str]:
    """Modules of gradlib that a file imports, at any depth of nesting."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            parts = node.module.split(".")
            if parts[0] == "gradlib":
                found |= {parts[1]} if parts[1:] else {a.name for a in node.names}
        elif isinstance(node, ast.Import):
            names = [a.name.split(".") for a in node.names]
            found |= {n[1] for n in names if n[0] == "gradlib" and n[1:]}
    return found


SOURCES = [p for p in (ROOT / "gradlib").rglob("*.py") if p.name != "__init__.py"]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.stem)
def test_imports_point_one_way(path: Path) -> None:
    module = module_of(path)
    assert module in LEVEL, f"give {module} a level in {Path(__file__).name}"
    for other in imported_modules(path) - {module}:
        assert LEVEL[other] <= LEVEL[module], f"{module} imports {other} above it"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.stem)
def test_modules_are_small(path: Path) -> None:
    assert len(path.read_text("utf8").splitlines()) <= 250


def test_no_import_cycles() -> None:
    needs: dict[str, set[str]] = {}
    for path in SOURCES:
        module = module_of(path)
        needs.setdefault(module, set()).update(imported_modules(path) - {module})

    def walk(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail, module))
        for other in needs.get(module, ()):
            walk(other, (*trail, module))

    for module in needs:
        walk(module, ())


def test_import_brings_neither_matplotlib_nor_torchvision() -> None:
    code = (
        "import sys, gradlib; "
        "print({'matplotlib', 'torchvision', 'IPython'} & set(sys.modules))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "set()"


def text_files(root: Path) -> list[Path]:
    """Files that git tracks or would, without binary ones."""
    command = ["git", "grep", "-lzI", "--untracked", "-e", ""]
    listed = subprocess.run(command, cwd=root, check=True, capture_output=True).stdout
    return [root / name for name in listed.decode().split("\0") if name]


def owners(text: str, name: str) -> set[str]:
    """Owners in all addresses of a repository or of its pages in a text."""
    repository = rf"github(?:\.com|usercontent\.com)?/([\w.-]+)/{name}(?![\w-])"
    pages = rf"([\w.-]+)\.github\.io/{name}(?![\w-])"
    return {*re.findall(repository, text), *re.findall(pages, text)}


@pytest.mark.parametrize(
    "address",
    [
        "https://github.com/else/book",
        "git+https://github.com/else/book.git",
        "https://raw.githubusercontent.com/else/book/main/x.png",
        "https://colab.research.google.com/github/else/book/blob/main/x.ipynb",
        "https://else.github.io/book/intro.html",
    ],
)
def test_every_kind_of_address_is_seen(address: str) -> None:
    assert owners(f"see <{address}>", "book") == {"else"}
    assert owners(f"see <{address}>", "boo") == set()


def test_one_repository_address() -> None:
    owner, name = canonical(ROOT)
    for path in text_files(ROOT):
        assert owners(path.read_text("utf8"), name) <= {owner}, path
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf8"))
    pages = f"https://{owner}.github.io/{name}/"
    assert config["html"]["baseurl"] == pages
    assert config["sphinx"]["config"]["ogp_site_url"] == pages
    assert config["sphinx"]["config"]["notfound_urls_prefix"] == f"/{name}/"


def test_stamp_moves_every_copy(tmp_path: Path) -> None:
    for path in text_files(ROOT):
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    _, name = canonical(ROOT)
    assert stamp(tmp_path, "somebody", "gradients") > 5
    assert canonical(tmp_path) == ("somebody", "gradients")
    config = (tmp_path / "_config.yml").read_text("utf8")
    assert "notfound_urls_prefix: /gradients/" in config
    for path in text_files(tmp_path):
        text = path.read_text("utf8")
        assert owners(text, name) == set(), path
        assert owners(text, "gradients") <= {"somebody"}, path


@pytest.mark.parametrize("address", ["owner", "a/b/c", "own er/name", "-x/name", ""])
def test_a_wrong_address_is_refused(address: str) -> None:
    with pytest.raises(SystemExit, match="expected owner/name, got"):
        owner_and_name(address)


def test_constraints_name_no_address_and_fit_the_lower_bounds() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf8").splitlines()
    assert all(re.match(r"^[\w.-]+==[\w.]+( ; .+)?$", line) for line in lines)
    pinned = {line.split("==")[0] for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]
    extras = project["optional-dependencies"].values()
    for need in [*project["dependencies"], *(n for extra in extras for n in extra)]:
        name = re.split(r"[<>=!~ ]", need)[0].lower()
        assert name in pinned, f"{name} is not in constraints.txt"
        if name != "jupyter-book":
            assert re.fullmatch(r"[\w.-]+>=[\w.]+", need), f"more than a bound: {need}"


def test_everything_the_library_reads_is_packaged() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))
    listed = set(project["tool"]["setuptools"]["package-data"]["gradlib"])
    files = {p.name for p in (ROOT / "gradlib").iterdir() if p.is_file()}
    assert {name for name in files if not name.endswith(".py")} == listed


def test_config_keys_are_known_to_jupyter_book() -> None:
    import jupyter_book

    folder = Path(jupyter_book.__file__).parent
    default = yaml.safe_load((folder / "default_config.yml").read_text("utf8"))
    source = (folder / "config.py").read_text("utf8")
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf8"))
    assert set(config) <= set(default)
    for part, known in default.items():
        if isinstance(known, dict) and part != "sphinx":
            for key in set(config.get(part) or {}) - set(known):
                assert f'"{key}"' in source, f"{part}: {key}"


@pytest.mark.skipif(os.name == "nt", reason="make and sh")
def test_ci_runs_what_the_readme_names() -> None:
    assert "make check" in (ROOT / ".ci" / "run").read_text("utf8")
    readme = (ROOT / "README.md").read_text("utf8")
    for target in ("make book", "make test", "make check"):
        assert target in readme

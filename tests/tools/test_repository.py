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
from book import ROOT
from stamp_repository import canonical, owner_and_name, stamp

LEVELS = [
    {"errors", "checks", "hooks", "tables", "face"},
    {"plain_values", "ranks", "whole_file"},
    {
        "state",
        "history",
        "rowfile",
        "activations",
        "quadrature",
        "checkpoint",
    },
    {"logs"},
    {"measure"},
    {"attention", "clip", "monitor", "watcher"}
    | {"regularization", "theory", "data", "models"},
    {"training_state"},
    {"guard", "recorder"},
    {"integrations"},
    {"initialization", "training"},
    {"sweep"},
    {"diagnosis"},
    {"replay"},
    {"plotting"},
    {"figures", "chapter", "__main__"},
]
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


WITHOUT_TORCH = """
import gradlib.history, gradlib.errors, gradlib.tables
from gradlib import History, diagnose_history
from gradlib.diagnosis import CAUSES, Finding, Report
from gradlib.diagnosis.rules.history import HISTORY_RULES
history = History()
for step in range(20):
    history.append(step, loss=10.0**step, gradient_norm=10.0**step)
assert diagnose_history(history).cause == "lr_too_high"
import gradlib.__main__
from gradlib import diagnose_log, read_log
text = "step 1 loss 2.5\\nstep 2 loss nan\\n"
assert diagnose_log(text).first_bad_step == 2
"""


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import gradlib", {"torch", "numpy", "matplotlib", "torchvision", "IPython"}),
        (WITHOUT_TORCH, {"torch", "matplotlib"}),
        ("from gradlib import *", {"matplotlib", "torchvision", "IPython"}),
    ],
)
def test_an_import_brings_only_what_it_needs(code: str, absent: set[str]) -> None:
    asked = f"{code}\nimport sys; print(sorted({absent} & set(sys.modules)))"
    said = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "[]"


def test_the_import_takes_a_tenth_of_a_second() -> None:
    code = (
        "import time; start = time.process_time(); import gradlib; "
        "print(time.process_time() - start)"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(3)
    ]
    assert min(map(float, said)) < 0.1


def test_a_function_that_shares_its_name_with_a_folder_stays_a_function() -> None:
    code = (
        "from gradlib.sweep import build; import gradlib.diagnosis.examination; "
        "import gradlib; from gradlib import sweep; from gradlib.diagnosis import "
        "diagnose; print(callable(sweep), callable(gradlib.sweep), callable(diagnose))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert said.stdout.split() == ["True"] * 3


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


@pytest.mark.parametrize(
    "page",
    ["README.md", "CONTRIBUTING.md", "LICENSE-prose.md", "tests/book/article.md"],
)
def test_links_between_files_lead_somewhere(page: str) -> None:
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)", path.read_text("utf8")):
        assert "://" in target or (path.parent / target).exists(), target


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
    listed = project["tool"]["setuptools"]["package-data"]
    packaged = {
        path
        for package, patterns in listed.items()
        for pattern in patterns
        for path in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    files = {p for p in (ROOT / "gradlib").rglob("*") if p.is_file()}
    assert {p for p in files if p.suffix not in {".py", ".pyc"}} == packaged


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

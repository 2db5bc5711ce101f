"""A bare environment that looks like Colab, and this repository at its own address."""

import functools
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from book import ROOT

PACKAGES = ("torch", "torchvision", "numpy", "matplotlib", "tqdm", "ipykernel", "pip")
UV = [sys.executable, "-m", "uv", "--quiet"]
LIKE_COLAB = (
    "import sys; from google import colab; "
    "from ipykernel.kernelapp import launch_new_instance; launch_new_instance()"
)


@dataclass(frozen=True)
class Colab:
    """The environment, its package folder, and what its programs see."""

    python: Path
    packages: Path
    variables: dict[str, str]

    def call(self, *arguments: str) -> str:
        command = [str(self.python), *arguments]
        return run(command, env=self.variables, cwd=self.packages)

    def files(self) -> dict[str, tuple[int, int]]:
        """Size and time of every file that is not gradlib's."""
        return {
            name: (path.stat().st_size, path.stat().st_mtime_ns)
            for path in self.packages.rglob("*")
            if path.is_file() and path.suffix != ".pyc"
            for name in [path.relative_to(self.packages).as_posix()]
            if not name.startswith("gradlib")
        }


def run(command: list[str], **options: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode:
        pytest.fail(f"{' '.join(command)}\n{done.stdout}{done.stderr}", pytrace=False)
    return done.stdout.strip()


def git(*arguments: str, folder: Path) -> str:
    if shutil.which("git") is None:
        pytest.fail(
            "expected git, found none: Colab installs gradlib through it. "
            "Install the package git.",
            pytrace=False,
        )
    author = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    return run(["git", *author, *arguments], cwd=folder)


@functools.cache
def address() -> str:
    """The repository's canonical address."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf8"))
    return str(config["repository"]["url"])


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of the working tree: its branch main is what lies here now."""
    folder = tmp_path_factory.mktemp("served")
    kinds = ("--cached", "--others", "--exclude-standard")
    for name in git("ls-files", "-z", *kinds, folder=ROOT).split("\0"):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    git("init", "--quiet", "--initial-branch=main", folder=folder)
    git("add", "--all", "--force", folder=folder)
    git("commit", "--quiet", "--message=Working tree", folder=folder)
    return folder


def torch_backend() -> list[str]:
    """Asks for the build of torch that is installed here, such as +cpu."""
    _, _, build = version("torch").partition("+")
    return [f"--torch-backend={build}"] if build else []


@pytest.fixture(scope="session")
def colab(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Colab:
    """What Colab brings and gradlib needs, and nothing else."""
    folder = tmp_path_factory.mktemp("colab")
    run([*UV, "venv", "--python", sys.executable, str(folder / "venv")])
    python = folder / "venv" / "bin" / "python"
    install = [*UV, "pip", "install", "--python", str(python)]
    chosen = ["--constraint", str(ROOT / "constraints.txt"), *torch_backend()]
    run([*install, *chosen, *PACKAGES])
    packages = Path(
        run([str(python), "-c", "import sysconfig as s; print(s.get_path('purelib'))"])
    )
    (packages / "google" / "colab").mkdir(parents=True)
    (packages / "google" / "colab" / "__init__.py").touch()
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GRADLIB_", "PYTEST_", "MPLBACKEND"))
    }
    return Colab(
        python,
        packages,
        inherited
        | {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.{repository.as_uri()}.insteadOf",
            "GIT_CONFIG_VALUE_0": address(),
            "OMP_NUM_THREADS": "1",
        },
    )


@pytest.fixture
def kernel(colab: Colab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a kernel in that environment, before gradlib has arrived."""
    spec = {
        "argv": [str(colab.python), "-c", LIKE_COLAB, "-f", "{connection_file}"],
        "display_name": "Colab",
        "language": "python",
        "env": colab.variables,
    }
    folder = tmp_path / "jupyter" / "kernels" / "colab"
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(json.dumps(spec), "utf8")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    colab.call("-m", "pip", "uninstall", "--quiet", "--yes", "gradlib")
    return "colab"

#!/usr/bin/env python3
"""Run the tests and the chapters with other versions of torch, numpy and matplotlib.

    python scripts/run_matrix.py [oldest] [newest] [cpu]

``oldest`` takes the lower bounds of ``pyproject.toml``, ``newest`` the newest that the
registry serves, ``cpu`` a torch without CUDA and no torchvision. The tools that build
and test stay at ``constraints.txt``. Each environment is made in ``_build/matrix``; its
logs lie there too. The table is printed and kept in ``recorded/``, for a page of the
book, with the last rows of environments that were not asked for. The exit code is 1 if
anything failed.
"""

import argparse
import datetime
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import markdown_text
from book import ROOT
from recording import RECORDS, read_records, record

FOLDER = ROOT / "_build" / "matrix"
RECORD, TITLE = RECORDS / "tested_versions.json", "Environments"
UV = [sys.executable, "-m", "uv"]
SETTING = os.environ | {"OMP_NUM_THREADS": "1"}
SHOWN = ("torch", "torchvision", "numpy", "matplotlib")
CPU_TORCH = "torch==2.13.0"
OLD_WARN = ["-W", "ignore::DeprecationWarning"]  # old packages warn of new neighbours
NEED_TORCHVISION = ("torchvision", "timm")
EXTRAS = ("mnist", "book", "test", "dev")
CELL_TIMEOUT = "--nbval-cell-timeout=600"
SUITES = {
    "library": ["tests", "gradlib"],
    "chapters": ["chapters", "--nbval-lax", "--nbval-current-env", CELL_TIMEOUT],
}
COLUMNS = ("environment", "Python", *SHOWN, *SUITES, "seconds", "date")


@dataclass(frozen=True)
class Environment:
    """Which Python and which versions of gradlib's own dependencies to take."""

    python: str
    resolution: str = "highest"
    torchvision: bool = True


ENVIRONMENTS = {
    "oldest": Environment("3.11", "lowest-direct"),
    "newest": Environment("3.13"),
    "cpu": Environment("3.11", torchvision=False),
}


def distribution(requirement: str) -> str:
    """Name of the package that a requirement or a constraint asks for."""
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower()


def requirements(project: dict, torchvision: bool) -> list[str]:
    """All that the project and its extras need, with or without torchvision."""
    extras = (project["optional-dependencies"][extra] for extra in EXTRAS)
    needs = [*project["dependencies"], *(need for extra in extras for need in extra)]
    without = () if torchvision else NEED_TORCHVISION
    return sorted({need for need in needs if distribution(need) not in without})


def merged(pins: list[str], constraints: list[str]) -> list[str]:
    """The pins, and the constraints of every other package."""
    pinned = {distribution(pin) for pin in pins}
    return [*pins, *(line for line in constraints if distribution(line) not in pinned)]


def make(name: str, environment: Environment) -> Path:
    """Make the environment; return its Python."""
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    python = folder / "venv" / "bin" / "python"
    log = folder / "install.log"
    must(
        log, "env", f"PYENV_VERSION={environment.python}",
        *UV, "venv", "--python", environment.python, folder / "venv",
    )  # fmt: skip
    if environment.torchvision:
        pins = resolve(environment, folder / "pins.txt", log)
    else:
        pins = install_cpu_torch(python, log)
    constraints = (ROOT / "constraints.txt").read_text("utf8").splitlines()
    chosen = folder / "constraints.txt"
    chosen.write_text("\n".join(merged(pins, constraints)) + "\n", "utf8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]
    install = [*UV, "pip", "install", "--python", python, "--constraint", chosen]
    must(log, *install, *requirements(project, environment.torchvision))
    must(log, *install, "--no-deps", "--editable", ROOT, "timm")
    return python


def resolve(environment: Environment, pins: Path, log: Path) -> list[str]:
    """Versions of gradlib's own dependencies, torchvision among them."""
    must(
        log, *UV, "pip", "compile", ROOT / "pyproject.toml", "--extra", "mnist",
        "--resolution", environment.resolution, "--no-header", "--no-annotate",
        "--python-version", environment.python, "--output-file", pins,
    )  # fmt: skip
    return pins.read_text("utf8").splitlines()


def install_cpu_torch(python: Path, log: Path) -> list[str]:
    """Install a torch without CUDA: from its own index, else the one pip finds."""
    uv_pip = [*UV, "pip", "install", "--python", python]
    if not call(log, *uv_pip, "--torch-backend=cpu", CPU_TORCH):
        must(log, *uv_pip, "pip")
        must(log, python, "-m", "pip", "install", CPU_TORCH)
    cuda = output(python, "-c", "import torch; print(torch.version.cuda)")
    if cuda != "None":
        raise SystemExit(
            f"cpu: expected a {CPU_TORCH} without CUDA, got one for CUDA {cuda}. The "
            "index of CPU builds cannot be reached; put a wheel where PIP_FIND_LINKS "
            "points."
        )
    return output(*UV, "pip", "freeze", "--python", python).splitlines()


def call(log: Path, *command: object) -> bool:
    """Run a command, keep what it says, and return whether it succeeded."""
    with log.open("a", encoding="utf8") as file:
        return not subprocess.run(
            list(map(str, command)), cwd=ROOT, stdout=file, stderr=file, env=SETTING
        ).returncode


def must(log: Path, *command: object) -> None:
    """Run a command; stop with its last words if it fails."""
    if not call(log, *command):
        last = "\n".join(log.read_text("utf8").splitlines()[-5:])
        raise SystemExit(f"{log} ends with\n{last}")


def output(*command: object) -> str:
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=True
    ).stdout.strip()


@dataclass(frozen=True)
class Row:
    """What one environment holds and how it fared."""

    name: str
    versions: list[str]
    told: list[str]
    seconds: float
    day: datetime.date
    passed: bool

    def texts(self) -> list[str]:
        last = (f"{self.seconds:.0f}", str(self.day))
        return [self.name, *self.versions, *self.told, *last]


def run(name: str, workers: int) -> Row:
    """Make one environment and run every suite in it."""
    print(f"{name}: see {FOLDER / name}", flush=True)
    python = make(name, ENVIRONMENTS[name])
    start = time.monotonic()
    results = [run_suite(name, suite, python, workers) for suite in SUITES]
    return Row(
        name,
        versions(python),
        [told for told, _ in results],
        time.monotonic() - start,
        datetime.date.today(),
        all(passed for _, passed in results),
    )


def run_suite(name: str, suite: str, python: Path, workers: int) -> tuple[str, bool]:
    """Run one suite; return what its report counts, and whether all passed."""
    report, log = (FOLDER / name / f"{suite}.{kind}" for kind in ("xml", "log"))
    pytest = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    if ENVIRONMENTS[name].resolution == "lowest-direct":
        pytest += OLD_WARN
    spread = ["-n", workers, "--dist", "loadfile", f"--junitxml={report}"]
    passed = call(log, *pytest, *SUITES[suite], *spread)
    return counts(
        report.read_text("utf8")
    ) if report.exists() else "did not run", passed


def counts(report: str) -> str:
    """What a JUnit report counts, in words."""
    suite = next(ElementTree.fromstring(report).iter("testsuite"))
    total, skipped = int(suite.attrib["tests"]), int(suite.attrib["skipped"])
    failed = int(suite.attrib["failures"]) + int(suite.attrib["errors"])
    told = f"{total - failed - skipped} passed"
    told += f", {failed} failed" if failed else ""
    return told + (f", {skipped} skipped" if skipped else "")


def versions(python: Path) -> list[str]:
    """Versions of Python and of what gradlib stands on."""
    code = (
        "import platform, importlib.metadata as m; print(platform.python_version()); "
        f"found = {{d.name: d.version for d in m.distributions()}}; "
        f"[print(found.get(name, 'none')) for name in {SHOWN}]"
    )
    return output(python, "-c", code).splitlines()


def merged_rows(rows: list[Row], before: list[list[str]]) -> list[list[str]]:
    """The new rows, and those of other environments from ``before``."""
    texts = {row[0]: row for row in [*before, *(row.texts() for row in rows)]}
    return [texts[name] for name in ENVIRONMENTS if name in texts]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="environment")
    parser.add_argument("--workers", type=int, default=2, help="tests side by side")
    options = parser.parse_args()
    names = options.names or list(ENVIRONMENTS)
    unknown = set(names) - set(ENVIRONMENTS)
    if unknown:
        parser.error(
            f"unknown environment {sorted(unknown)}; expected {list(ENVIRONMENTS)}"
        )
    rows = []
    for name in names:
        rows.append(run(name, options.workers))
        before = read_records(RECORD).get(TITLE, {}).get("rows", [])
        found = merged_rows(rows, before)
        record(RECORD, TITLE, "make matrix", COLUMNS, found, using="")
    print(markdown_text.table(COLUMNS, found))
    return not all(row.passed for row in rows)


if __name__ == "__main__":
    sys.exit(main())

"""Run the tests and the chapters with other versions of torch, numpy and matplotlib.

    nox --noxfile scripts/noxfile.py [--session oldest newest cpu]

``oldest`` takes the lower bounds of ``pyproject.toml``, ``newest`` the newest that the
registry serves, ``cpu`` a torch without CUDA and no torchvision. The tools that build
and test stay at ``constraints.txt``. ``frameworks`` tests what the library does under
the newest frameworks; it runs only when it is named. Environments and what the tests
said lie in ``_build/matrix``. Each session keeps its row in ``recorded/``, for a page
of the book; rows of sessions that did not run stay.
"""

import datetime
import os
import re
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from subprocess import DEVNULL

import nox
from nox.command import CommandFailed

sys.path.insert(0, str(Path(__file__).resolve().parent))

from book import ROOT
from recording import RECORDS, read_records, record

FOLDER = ROOT / "_build" / "matrix"
RECORD, TITLE = RECORDS / "tested_versions.json", "Environments"
NAMES = ("oldest", "newest", "cpu")
SHOWN = ("torch", "torchvision", "numpy", "matplotlib")
SUITES = {
    "library": ["tests", "gradlib"],
    "chapters": [
        "chapters", "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=600",
    ],
}  # fmt: skip
FRAMEWORKS = ROOT / "tests" / "frameworks"
PACKAGES = {"ignite": "pytorch-ignite"}
COLUMNS = ("environment", "Python", *SHOWN, *SUITES, "seconds", "date")
OLD_WARN = ["-W", "ignore::DeprecationWarning"]  # old packages warn of new neighbours
# Behind constraints.txt: of this version a wheel without CUDA can also be had where the
# index of such builds cannot be reached. The registry's torchvision needs CUDA.
CPU_TORCH = "torch==2.13.0"

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "uv"
nox.options.envdir = str(FOLDER)
nox.options.sessions = NAMES
nox.options.error_on_missing_interpreters = True
os.environ["PYENV_VERSION"] = "3.11:3.13"  # pyenv finds only versions that are named


@nox.session(python="3.11")
def oldest(session: nox.Session) -> None:
    """The lower bounds of ``pyproject.toml``."""
    session.install("--resolution", "lowest-direct", "--editable", f"{ROOT}[mnist]")
    install_tools(session, unpinned=("pandas",))  # ours needs a newer numpy
    run_suites(session, *OLD_WARN)


@nox.session(python="3.13")
def newest(session: nox.Session) -> None:
    """The newest that the registry serves."""
    session.install("--editable", f"{ROOT}[mnist]")
    install_tools(session)
    run_suites(session)


@nox.session(python="3.11")
def cpu(session: nox.Session) -> None:
    """A torch without CUDA, and no torchvision."""
    try:
        session.install("--torch-backend=cpu", CPU_TORCH)
    except CommandFailed:
        session.install("pip")
        session.run("python", "-m", "pip", "install", CPU_TORCH)
    cuda = said(session, "python", "-c", "import torch; print(torch.version.cuda)")
    if cuda != "None":
        session.error(
            f"expected a {CPU_TORCH} without CUDA, got one for CUDA {cuda}. The index "
            "of CPU builds cannot be reached; put a wheel where PIP_FIND_LINKS points."
        )
    install_tools(session, without=("torchvision",))
    run_suites(session)


@nox.session(python="3.11")
def frameworks(session: nox.Session) -> None:
    """The library under the real frameworks, the newest that the registry serves."""
    session.install("--editable", f"{ROOT}[test,test-frameworks]")
    rows, failed = [], []
    for tests in sorted(FRAMEWORKS.glob("test_*.py")):
        name = tests.stem.removeprefix("test_")
        told, passed = run_suite(session, name, "-W", "default", str(tests))
        package = PACKAGES.get(name, name)
        code = f"from importlib.metadata import version as v; print(v({package!r}))"
        found = said(session, "python", "-c", code)
        rows += [[name, found, *row] for row in outcomes(report_of(session, name))]
        failed += [] if passed else [f"{name}: {told}"]
    columns = ["framework", "version", "tool", "outcome", "tests"]
    record(RECORD, "Frameworks", "make frameworks", columns, rows)
    if failed:
        session.error(", ".join(failed))


def install_tools(
    session: nox.Session, without: tuple[str, ...] = (), unpinned: tuple[str, ...] = ()
) -> None:
    """Install gradlib's extras at ``constraints.txt`` beside what is there."""
    here = Path(session.create_tmp())
    constraints, excluded = here / "constraints.txt", here / "excluded.txt"
    pins = said(session, "uv", "pip", "freeze", "--exclude-editable").splitlines()
    listed = [
        line
        for line in (ROOT / "constraints.txt").read_text("utf8").splitlines()
        if distribution(line) not in unpinned
    ]
    constraints.write_text("\n".join(merged(pins, listed)) + "\n", "utf8")
    excluded.write_text("\n".join(without) + "\n", "utf8")
    session.install(
        "--constraint", constraints, "--excludes", excluded,
        "--editable", f"{ROOT}[mnist,book,test,dev]",
    )  # fmt: skip


def said(session: nox.Session, *command: str) -> str:
    """What a command prints, without its warnings."""
    return str(session.run(*command, silent=True, stderr=DEVNULL)).strip()


def distribution(requirement: str) -> str:
    """Name of the package that a requirement or a constraint asks for."""
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower()


def merged(pins: list[str], constraints: list[str]) -> list[str]:
    """The pins, and the constraints of every other package."""
    pinned = {distribution(pin) for pin in pins}
    return [*pins, *(line for line in constraints if distribution(line) not in pinned)]


def run_suites(session: nox.Session, *options: str) -> None:
    """Run the suites, and write down versions and results."""
    start = time.monotonic()
    options = (*options, "-n", "2", "--dist", "loadfile")
    results = [run_suite(session, s, *options, *SUITES[s]) for s in SUITES]
    seconds = f"{time.monotonic() - start:.0f}"
    told, day = [text for text, _ in results], str(datetime.date.today())
    cells = [session.name, *versions(session), *told, seconds, day]
    before = read_records(RECORD).get(TITLE, {}).get("rows", [])
    rows = merged_rows(cells, before)
    record(RECORD, TITLE, "make matrix", COLUMNS, rows, using="")
    if not all(passed for _, passed in results):
        session.error(", ".join(told))


def run_suite(session: nox.Session, suite: str, *arguments: str) -> tuple[str, bool]:
    """Run tests; return what their report counts, and whether all passed."""
    report = report_of(session, suite)
    report.unlink(missing_ok=True)
    passed = True
    with session.chdir(ROOT):
        try:
            session.run(
                "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments,
                f"--junitxml={report}", env={"OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        except CommandFailed:
            passed = False
    told = counts(report.read_text("utf8")) if report.exists() else "did not run"
    return told, passed


def report_of(session: nox.Session, suite: str) -> Path:
    """Where the tests of a suite tell how they ended."""
    return FOLDER / f"{session.name}-{suite}.xml"


def outcomes(report: Path) -> list[list[str]]:
    """Tool, outcome and count of tests, for each outcome that a report tells of.

    An outcome holds only if all of its tests have passed.
    """
    if not report.exists():
        return [["all", "did not run", "0"]]
    found: dict[tuple[str, str], list[bool]] = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        known = {p.attrib["name"]: p.attrib["value"] for p in case.iter("property")}
        key = known.get("tool", "all"), known.get("outcome", "collected")
        bad = any(case.find(name) is not None for name in ("failure", "error"))
        found.setdefault(key, []).append(not bad and case.find("skipped") is None)
    return [
        [tool, outcome if all(passed) else f"failed: {outcome}", str(len(passed))]
        for (tool, outcome), passed in found.items()
    ]


def counts(report: str) -> str:
    """What a JUnit report counts, in words."""
    suite = next(ElementTree.fromstring(report).iter("testsuite"))
    total, skipped = int(suite.attrib["tests"]), int(suite.attrib["skipped"])
    failed = int(suite.attrib["failures"]) + int(suite.attrib["errors"])
    told = f"{total - failed - skipped} passed"
    told += f", {failed} failed" if failed else ""
    return told + (f", {skipped} skipped" if skipped else "")


def versions(session: nox.Session) -> list[str]:
    """Versions of Python and of what gradlib stands on."""
    code = (
        "import platform, importlib.metadata as m; print(platform.python_version()); "
        f"found = {{d.name: d.version for d in m.distributions()}}; "
        f"[print(found.get(name, 'none')) for name in {SHOWN}]"
    )
    return said(session, "python", "-c", code).splitlines()


def merged_rows(cells: list[str], before: list[list[str]]) -> list[list[str]]:
    """The new row, and those of other sessions from ``before``."""
    rows = {row[0]: row for row in [*before, cells]}
    return [rows[name] for name in NAMES if name in rows]

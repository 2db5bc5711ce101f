"""Workflows have the least permissions and run only what is pinned."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from book import ROOT

PATHS = sorted((ROOT / ".github" / "workflows").glob("*.y*ml"))
PINNED = re.compile(r"^\s*(?:- )?uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")
READ = {"contents": "read"}
DEPLOY = {"pages": "write", "id-token": "write"}

each_workflow = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text("utf8"))


def triggers(workflow: dict[str, Any]) -> dict[str, Any]:
    """What stands below ``on:``, which YAML 1.1 reads as True."""
    return workflow[True]


def jobs(path: Path) -> list[dict[str, Any]]:
    return list(read(path)["jobs"].values())


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in jobs(path) for step in job["steps"]]


def uses(step: dict[str, Any], action: str) -> bool:
    return step.get("uses", "").startswith(f"actions/{action}@")


def test_there_are_workflows() -> None:
    assert [path.stem for path in PATHS] == ["publish", "scheduled"]


@each_workflow
def test_permissions_are_minimal(path: Path) -> None:
    assert read(path)["permissions"] == {}
    for job in jobs(path):
        deploys = any(uses(step, "deploy-pages") for step in job["steps"])
        assert job["permissions"] == (DEPLOY if deploys else READ)
        assert job["timeout-minutes"] <= 90


@each_workflow
def test_actions_are_pinned_by_commit(path: Path) -> None:
    lines = [line for line in path.read_text("utf8").splitlines() if "uses:" in line]
    assert lines
    for line in lines:
        assert PINNED.match(line), f"{path.name}: {line.strip()}"


@each_workflow
def test_the_token_is_not_left_behind(path: Path) -> None:
    for step in steps(path):
        if uses(step, "checkout"):
            assert step["with"]["persist-credentials"] is False


@each_workflow
def test_nothing_outside_reaches_a_shell_or_a_secret(path: Path) -> None:
    text = path.read_text("utf8")
    assert "secrets." not in text
    assert "github.token" not in text
    assert "pull_request_target" not in triggers(read(path))
    for step in steps(path):
        assert "${{" not in step.get("run", ""), step


def test_only_main_is_published() -> None:
    check, deploy = (read(PATHS[0])["jobs"][name] for name in ("check", "deploy"))
    assert deploy["needs"] == "check"
    main = "github.ref == 'refs/heads/main'"
    assert deploy["if"] == main
    (upload,) = [s for s in check["steps"] if uses(s, "upload-pages-artifact")]
    assert (upload["if"], upload["with"]["path"]) == (main, "_build/html")
    assert [s["run"] for s in check["steps"] if "run" in s] == ["bash .ci/run"]


def test_shots_are_kept_when_a_check_fails() -> None:
    (upload,) = [step for step in steps(PATHS[0]) if uses(step, "upload-artifact")]
    assert (upload["if"], upload["with"]["path"]) == ("always()", "_build/shots")


def test_what_changes_by_itself_is_checked_each_week() -> None:
    workflow = read(PATHS[1])
    assert triggers(workflow)["schedule"]
    commands = [step["run"] for step in steps(PATHS[1]) if "run" in step]
    *checks, seeded = commands
    assert checks == [
        "make links",
        "make audit",
        "make test CONSTRAINTS=/dev/null",
        "make frameworks",
    ]
    assert "make book" in seeded.splitlines()


def test_the_seed_of_the_week_is_told() -> None:
    seeded = [step["run"] for step in steps(PATHS[1]) if "run" in step][-1]
    lines = seeded.replace("make book", 'echo "built under $GRADLIB_SEED"')
    told, built = subprocess.run(
        ["bash", "-c", lines], capture_output=True, check=True, text=True
    ).stdout.splitlines()
    seed = told.removeprefix("base seed ")
    assert built == f"built under {seed}"
    assert seed.isdecimal()

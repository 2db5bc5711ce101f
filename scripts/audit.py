#!/usr/bin/env python3
"""Ask for known vulnerabilities of every version in constraints.txt.

    python scripts/audit.py

Runs pip-audit in an environment of its own. The exit code is 1 if a version has a
known vulnerability, and 2 if some could not be looked up, because the registry has no
such service or cannot be reached: then nothing is known about them.
"""

import json
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
UV = Path(sysconfig.get_path("scripts")) / "uv"
PIP_AUDIT = "pip-audit==2.10.1"
OPTIONS = (
    *("--requirement", str(ROOT / "constraints.txt"), "--no-deps", "--disable-pip"),
    *("--format", "json", "--progress-spinner", "off"),
)


def verdict(dependencies: list[dict[str, Any]]) -> tuple[int, str]:
    """Exit code and message for what pip-audit said of each dependency."""
    lines = [
        f"{entry['name']} {entry['version']}: {found['id']}, "
        f"fixed in {', '.join(found['fix_versions']) or 'no version yet'}"
        for entry in dependencies
        for found in entry.get("vulns", [])
    ]
    unknown = [entry["name"] for entry in dependencies if "skip_reason" in entry]
    asked = len(dependencies) - len(unknown)
    if unknown:
        lines.append(
            f"{len(unknown)} of {len(dependencies)} versions could not be looked up "
            f"({', '.join(unknown[:3])}...). pip-audit needs a registry with a service "
            "for vulnerabilities, which a mirror of packages may lack."
        )
    lines.append(f"{asked} versions looked up")
    vulnerable = any(entry.get("vulns") for entry in dependencies)
    return (1 if vulnerable else 2 if unknown else 0), "\n".join(lines)


def main() -> int:
    command = [str(UV), "tool", "run", "--from", PIP_AUDIT, "pip-audit", *OPTIONS]
    done = subprocess.run(command, capture_output=True, encoding="utf8")
    if not done.stdout.startswith("{"):
        told = done.stderr.strip().splitlines() or ["nothing was said"]
        print(f"pip-audit could not ask anyone: {told[-1]}", file=sys.stderr)
        return 2
    code, message = verdict(json.loads(done.stdout)["dependencies"])
    print(message)
    return code


if __name__ == "__main__":
    sys.exit(main())

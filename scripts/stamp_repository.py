#!/usr/bin/env python3
"""Keep one repository address in the whole project.

The canonical address is ``repository: url:`` in ``_config.yml``. Notebooks cannot read
a configuration file in Colab, so copies of it stand in other files.

    python scripts/stamp_repository.py                 # check; exit 1 if one differs
    python scripts/stamp_repository.py owner/name      # move the project there
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"


def canonical(root: Path) -> tuple[str, str]:
    """Owner and name of the repository that ``_config.yml`` names."""
    config = yaml.safe_load((root / "_config.yml").read_text("utf8"))
    url = config["repository"]["url"]
    match = re.fullmatch(rf"https://github\.com/({NAME})/({NAME})", url)
    if not match:
        raise SystemExit(
            f"_config.yml: expected repository.url as https://github.com/owner/name, "
            f"got {url!r}"
        )
    return match.group(1), match.group(2)


def copies(name: str) -> re.Pattern[str]:
    """Every way in which the address of a repository called ``name`` is written."""
    return re.compile(
        rf"github\.com/(?P<owner>{NAME})/{name}(?![\w-])"
        rf"|(?P<host>{NAME})\.github\.io/{name}(?![\w-])"
        rf"|githubusercontent\.com/(?P<raw>{NAME})/{name}(?![\w-])"
        rf"|colab\.research\.google\.com/github/(?P<colab>{NAME})/{name}(?![\w-])"
    )


def text_files(root: Path) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    paths = [root / name for name in listed.split("\0") if name]
    binary = {".npz", ".png", ".ico", ".woff", ".gz"}
    return [p for p in paths if p.is_file() and p.suffix not in binary]


def differing(root: Path) -> list[str]:
    """Places whose address is not the canonical one."""
    owner, name = canonical(root)
    found = []
    for path in text_files(root):
        lines = path.read_text("utf8").splitlines()
        for number, line in enumerate(lines, start=1):
            for match in copies(name).finditer(line):
                said = next(group for group in match.groups() if group)
                if said != owner:
                    place = path.relative_to(root).as_posix()
                    found.append(f"{place}:{number}: {match.group()}")
    return found


def stamp(root: Path, owner: str, name: str) -> int:
    """Write ``owner/name`` everywhere; return how many files changed."""
    old_owner, old_name = canonical(root)
    pattern = copies(old_name)
    changed = 0

    def renamed(match: re.Match[str]) -> str:
        text = match.group()
        said = next(group for group in match.groups() if group)
        at = text.rindex(said)
        return text[:at] + text[at:].replace(said, owner, 1).replace(old_name, name)

    for path in text_files(root):
        before = path.read_text("utf8")
        after = pattern.sub(renamed, before)
        if path.name == "_config.yml":
            after = after.replace(
                f"notfound_urls_prefix: /{old_name}/", f"notfound_urls_prefix: /{name}/"
            )
        if after != before:
            path.write_text(after, "utf8")
            changed += 1
    return changed


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("repository", nargs="?", help="owner/name to move to")
    wanted = parser.parse_args().repository
    if wanted is None:
        found = differing(ROOT)
        print(
            "\n".join(found) or "one address everywhere: " + "/".join(canonical(ROOT))
        )
        return bool(found)
    if not re.fullmatch(rf"{NAME}/{NAME}", wanted):
        parser.error(f"expected owner/name, got {wanted!r}")
    print(f"{stamp(ROOT, *wanted.split('/'))} files changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())

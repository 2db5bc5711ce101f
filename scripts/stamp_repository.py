#!/usr/bin/env python3
"""Move the project to another repository.

    python scripts/stamp_repository.py owner/name

The canonical address is ``repository: url:`` in ``_config.yml``. Notebooks cannot read
a configuration file in Colab, so copies of it stand in other files. A test holds that
all agree.
"""

import argparse
import re
import subprocess
from pathlib import Path

import yaml
from book import ROOT

ADDRESS = r"(?:https://github\.com/)?([A-Za-z0-9][\w.-]*)/([A-Za-z0-9][\w.-]*)"


def owner_and_name(address: str) -> tuple[str, str]:
    match = re.fullmatch(ADDRESS, address, re.ASCII)
    if not match:
        raise SystemExit(f"repository: expected owner/name, got {address!r}")
    return match[1], match[2]


def canonical(root: Path) -> tuple[str, str]:
    """Owner and name of the repository that ``_config.yml`` names."""
    config = yaml.safe_load((root / "_config.yml").read_text("utf8"))
    return owner_and_name(config["repository"]["url"])


def stamp(root: Path, owner: str, name: str) -> int:
    """Write ``owner/name`` everywhere; return how many files changed."""
    forms = ("{}/{}", "{}.github.io/{}", "notfound_urls_prefix: /{1}/")
    old, new = canonical(root), (owner, name)
    copies = {form.format(*old): form.format(*new) for form in forms}
    patterns = [word for copy in copies for word in ("-e", copy)]
    listed = subprocess.run(
        ["git", "grep", "-lzIF", "--untracked", *patterns],
        cwd=root, check=True, capture_output=True, encoding="utf8",
    ).stdout  # fmt: skip
    paths = [root / found for found in listed.split("\0") if found]
    for path in paths:
        text = path.read_text("utf8")
        for before, after in copies.items():
            text = text.replace(before, after)
        path.write_text(text, "utf8")
    return len(paths)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("repository", help="owner/name to move to")
    wanted = owner_and_name(parser.parse_args().repository)
    print(f"{stamp(ROOT, *wanted)} files changed")


if __name__ == "__main__":
    main()

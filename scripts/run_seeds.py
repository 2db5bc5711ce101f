#!/usr/bin/env python3
"""Run every chapter under several base seeds and print how each claim fared.

    python scripts/run_seeds.py --seeds 5 [chapter ...]

Two chapters run at a time, with one thread each. The exit code is 1 if a chapter
raised or a claim failed under any seed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = ROOT / "chapters"
RUN = (
    "import sys, nbformat, nbclient; path = sys.argv[1]; "
    "nbclient.NotebookClient(nbformat.read(path, 4), timeout=300, "
    "resources={'metadata': {'path': sys.argv[2]}}).execute()"
)


def run(name: str, seed: int) -> tuple[str, int, list[dict], str]:
    """Run one chapter; return its name, seed, logged claims, and error if any."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "claims.jsonl"
        environment = os.environ | {
            "GRADLIB_SEED": str(seed),
            "GRADLIB_CLAIMS": str(log),
            "OMP_NUM_THREADS": "1",
        }
        environment.pop("MPLBACKEND", None)
        done = subprocess.run(
            [sys.executable, "-c", RUN, str(CHAPTERS / f"{name}.ipynb"), str(CHAPTERS)],
            env=environment,
            capture_output=True,
            text=True,
        )
        lines = log.read_text("utf8").splitlines() if log.exists() else []
    error = done.stderr if done.returncode else ""
    return name, seed, [json.loads(line) for line in lines], error


def margin(record: dict) -> float:
    """Distance to the nearest bound, over the size of that bound (or of 1)."""
    bounds = [b for b in (record["above"], record["below"]) if abs(b) != float("inf")]
    signs = {record["above"]: 1, record["below"]: -1}
    return min(signs[b] * (record["value"] - b) / max(abs(b), 1e-12) for b in bounds)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5, help="base seeds 0 to N-1")
    parser.add_argument("chapters", nargs="*", help="names; by default all of them")
    options = parser.parse_args()
    known = sorted(path.stem for path in CHAPTERS.glob("*.ipynb"))
    names = options.chapters or known
    unknown = set(names) - set(known)
    if unknown:
        parser.error(f"unknown chapter {sorted(unknown)}; expected {known}")
    jobs = [(name, seed) for name in names for seed in range(options.seeds)]
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda job: run(*job), jobs))

    claims: dict[tuple[str, str], list[dict]] = defaultdict(list)
    broken = 0
    for name, seed, records, error in results:
        for record in records:
            claims[name, record["claim"]].append(record)
        if error:
            broken += 1
            print(f"{name}, seed {seed}: {error.strip().splitlines()[-1]}")
    print(f"{'chapter':18} {'claim':52} {'held':>7} {'smallest margin':>16}")
    for (name, claim), records in claims.items():
        held = sum(record["holds"] for record in records)
        least = min(map(margin, records))
        share = f"{held}/{len(records)}"
        print(f"{name:18} {claim[:52]:52} {share:>7} {least:>15.1%}")
    print(f"{len(jobs) - broken} of {len(jobs)} runs held every claim")
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())

"""What a page weighs, how still it stands, and what Lighthouse says of it.

    python benchmarks/pages.py

Opens the built book, as it is, in Chromium. Each chapter is visited twice on a slow
line, first on a desk, then on a phone with the first visit's files still there.
Lighthouse, installed by npm below ``_build``, looks at every page as on a phone.
"""

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from goals import Row, at_least, at_most, show
from playwright.sync_api import Browser

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

import chromium
from book import CHAPTERS, PAGES, ROOT, SITE, NotReadyError
from serve_book import served

FIRST_VISIT = 1_200_000
SECOND_VISIT = 150_000
FIGURE = 150_000
SHIFT = 0.1
WIDTHS = (1280, 390)
PATIENCE = 120_000  # milliseconds; what is weighed is not the time
SLOW = dict(latency=40, downloadThroughput=1e6, uploadThroughput=1e6, offline=False)
SUM_SHIFTS = """window.shift = 0;
new PerformanceObserver(list => list.getEntries().forEach(entry => {
    if (!entry.hadRecentInput) window.shift += entry.value;
})).observe({type: "layout-shift", buffered: true});"""

LIGHTHOUSE = "12.2.3"  # the last that Node.js 20 runs and npm installs
INSTALLED = ROOT / "_build" / "lighthouse"
CATEGORIES = ("accessibility", "best-practices", "seo")


@dataclass(frozen=True)
class Visits:
    """Bytes of a page's first and second visit, and the larger of their shifts."""

    first: float
    second: float
    shift: float


def weigh(browser: Browser, url: str) -> Visits:
    context = browser.new_context()
    context.add_init_script(SUM_SHIFTS)
    weights, shifts = [], []
    for width in WIDTHS:
        page = context.new_page()
        page.set_viewport_size({"width": width, "height": 900})
        network = context.new_cdp_session(page)
        sizes: list[float] = []
        network.on(
            "Network.loadingFinished",
            lambda event, sizes=sizes: sizes.append(event["encodedDataLength"]),
        )
        network.send("Network.enable")
        network.send("Network.emulateNetworkConditions", SLOW)
        page.goto(url, wait_until="load", timeout=PATIENCE)
        page.wait_for_function("window.MathJax?.startup?.promise?.then(() => true)")
        page.wait_for_timeout(200)
        weights.append(sum(sizes))
        shifts.append(page.evaluate("window.shift"))
        page.close()
    context.close()
    return Visits(*weights, max(shifts))


def figure_sizes(html: str) -> list[int]:
    """Bytes of each interactive figure of a page after gzip."""
    figures = re.findall(r'<figure class="gl-fig.*?</figure>', html, re.DOTALL)
    return [len(gzip.compress(figure.encode())) for figure in figures]


def lighthouse_program() -> Path:
    """The pinned Lighthouse, installed by npm if it is not there yet.

    Raises:
        NotReadyError: npm is not there, or does not install it.
    """
    for name in ("node", "npm"):
        if shutil.which(name) is None:
            raise NotReadyError(
                f"expected {name} on the path, for Lighthouse, found none: "
                "install Node.js 18 or newer, with npm"
            )
    program = INSTALLED / LIGHTHOUSE / "node_modules" / ".bin" / "lighthouse"
    if not program.exists():
        command = ["npm", "install", "--no-save", "--ignore-scripts", "--no-audit"]
        command += ["--no-fund", f"--prefix={INSTALLED / LIGHTHOUSE}"]
        done = subprocess.run(
            [*command, f"lighthouse@{LIGHTHOUSE}"], capture_output=True, text=True
        )
        if done.returncode:
            raise NotReadyError(
                f"expected npm to install lighthouse@{LIGHTHOUSE}, got:\n{done.stderr}"
                "\nCheck the network and npm's registry."
            )
    return program


def report(program: Path, url: str) -> dict[str, Any]:
    """What Lighthouse says of a page."""
    flags = " ".join(["--headless=new", *chromium.FLAGS])
    command = [str(program), url, "--output=json", "--quiet"]
    command += [f"--only-categories={','.join(CATEGORIES)}", f"--chrome-flags={flags}"]
    done = subprocess.run(
        command,
        env=os.environ | {"CHROME_PATH": chromium.program()},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"Lighthouse failed at {url}:\n{done.stderr}")
    return json.loads(done.stdout)


def score(report: dict[str, Any], category: str) -> float:
    """From 0 to 100.

    Raises:
        RuntimeError: Lighthouse gives none.
    """
    found = report["categories"][category]["score"]
    if found is None:
        raise RuntimeError(f"no score of {category} for {report['requestedUrl']}")
    return 100 * found


def shortcomings(report: dict[str, Any]) -> Iterator[str]:
    """The audits that cost a page something."""
    for category in report["categories"].values():
        for part in category["auditRefs"]:
            audit = report["audits"][part["id"]]
            if part["weight"] and audit["score"] is not None and audit["score"] < 1:
                yield f"{report['requestedUrl']}: {audit['id']}: {audit['title']}"


def rows() -> list[Row]:
    program = lighthouse_program()
    with served() as address:
        with chromium.opened() as browser:
            visits = [weigh(browser, f"{address}{name}.html") for name in CHAPTERS]
        with ThreadPoolExecutor(2) as pool:
            urls = [f"{address}{name}.html" for name in PAGES]
            reports = list(pool.map(partial(report, program), urls))
    for line in (line for found in reports for line in shortcomings(found)):
        print(line, file=sys.stderr)
    figures = [
        size
        for name in CHAPTERS
        for size in figure_sizes((SITE / f"{name}.html").read_text("utf8"))
    ]
    weights = {
        "first visit": (max(v.first for v in visits), FIRST_VISIT),
        "second visit": (max(v.second for v in visits), SECOND_VISIT),
        "interactive figure": (max(figures), FIGURE),
    }
    return [
        *(
            at_most(f"heaviest {what}, kB", measured / 1000, bound / 1000)
            for what, (measured, bound) in weights.items()
        ),
        at_most("largest shift of layout", max(v.shift for v in visits), SHIFT),
        *(
            at_least(
                f"lowest Lighthouse score, {category}",
                min(score(found, category) for found in reports),
                100,
            )
            for category in CATEGORIES
        ),
    ]


if __name__ == "__main__":
    show(rows())

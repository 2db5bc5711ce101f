#!/usr/bin/env python3
"""Print the built book as one PDF, with contents and links between pages.

    python scripts/print_book.py [--site _build/html] [--output _build/FILE.pdf]

Chromium opens the first page, takes in the others in the order of ``_toc.yml``, and
prints the whole. Sliders show their first frame and solutions are open. CHROMIUM names
the browser; by default it is looked for on the path.
"""

import argparse
import functools
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
JOIN = Path(__file__).with_suffix(".js")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
MARGIN = {"top": "18mm", "bottom": "20mm", "left": "18mm", "right": "18mm"}
FOOTER = (
    '<div style="font: 8px system-ui; width: 100%; text-align: center; color: #555">'
    '<span class="pageNumber"></span></div>'
)
MINUTES = 5 * 60 * 1000  # most time for a step, in milliseconds


def pages(root: Path) -> list[str]:
    """Addresses of the pages below the site, in the book's order."""
    toc = yaml.safe_load((root / "_toc.yml").read_text("utf8"))
    files = [entry["file"] for part in toc["parts"] for entry in part["chapters"]]
    return [f"{file}.html" for file in (toc["root"], *files)]


def browser_path() -> str | None:
    return os.environ.get("CHROMIUM") or next(
        filter(None, map(shutil.which, BROWSERS)), None
    )


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def served(site: Path) -> Iterator[str]:
    """Address of the site, served on this machine on a free port."""
    handler = functools.partial(Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def print_book(site: Path, names: list[str], browser: str, output: Path) -> None:
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf8"))
    with served(site) as address, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser)
        page = chromium.new_page(color_scheme="light")
        page.set_default_timeout(MINUTES)
        page.goto(address + names[0], wait_until="networkidle")
        page.add_script_tag(path=JOIN)
        home = config["html"]["baseurl"]
        options = {"names": names, "home": home}
        page.evaluate("options => joinPages(options)", options)
        page.pdf(
            path=output, format="A4", margin=MARGIN, tagged=True,
            print_background=True, display_header_footer=True,
            header_template="<span></span>", footer_template=FOOTER,
        )  # fmt: skip
        chromium.close()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--site", type=Path, default=ROOT / "_build" / "html")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "_build" / "exploding-gradients.pdf"
    )
    options = parser.parse_args()
    names = pages(ROOT)
    missing = [name for name in names if not (options.site / name).is_file()]
    if missing:
        parser.error(
            f"expected a built book at {options.site}, found no {missing[0]}: "
            "run 'make book'"
        )
    browser = browser_path()
    if browser is None:
        parser.error(
            "expected Chromium on the path or in CHROMIUM, found none: "
            "install the package chromium"
        )
    print_book(options.site, names, browser, options.output)
    print(f"{options.output}: {options.output.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())

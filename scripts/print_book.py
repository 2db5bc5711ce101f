#!/usr/bin/env python3
"""Print the built book as one PDF, with contents and links between pages.

    python scripts/print_book.py [--output _build/FILE.pdf]

Chromium opens a page, takes in all in the order of ``_toc.yml``, and prints the whole.
Sliders show their first frame, solutions are open, and code that the pages fold away is
left out. Jupyter Book's builder ``pdfhtml`` leaves solutions folded and links between
chapters pointing at files, prints no outline and no page numbers, writes over the built
site, and opens only a browser that playwright has downloaded.
"""

import argparse
import sys
from pathlib import Path

import chromium
from book import BASE, CHAPTERS, PAGES, ROOT, NotReadyError
from playwright.sync_api import Browser, Page
from serve_book import served

JOIN = Path(__file__).with_suffix(".js")
MARGIN = {"top": "18mm", "bottom": "20mm", "left": "18mm", "right": "18mm"}
FOOTER = (
    '<div style="font: 8px system-ui; width: 100%; text-align: center; color: #555">'
    '<span class="pageNumber"></span></div>'
)
MINUTES = 10 * 60 * 1000  # most time for a step, in milliseconds


def join(page: Page, address: str) -> None:
    """Make one page of all."""
    page.set_default_timeout(MINUTES)
    page.goto(f"{address}{CHAPTERS[0]}.html")  # brings MathJax
    page.add_script_tag(path=JOIN)
    names = [f"{name}.html" for name in PAGES]
    options = {"names": names, "address": address, "home": BASE}
    page.evaluate("options => joinPages(options)", options)


def print_book(browser: Browser, address: str, output: Path) -> None:
    page = browser.new_page(color_scheme="light", bypass_csp=True)
    join(page, address)
    page.pdf(
        path=output, format="A4", margin=MARGIN, outline=True, tagged=True,
        print_background=True, display_header_footer=True,
        header_template="<span></span>", footer_template=FOOTER,
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--output", type=Path, default=ROOT / "_build" / "exploding-gradients.pdf"
    )
    output = parser.parse_args().output
    try:
        with served() as address, chromium.opened() as browser:
            print_book(browser, address, output)
    except NotReadyError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())

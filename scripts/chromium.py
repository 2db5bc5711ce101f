"""Chromium, as the tests, the benchmarks and the PDF open it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from book import NotReadyError
from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
if os.geteuid() == 0:
    FLAGS.append("--no-sandbox")  # Chromium's sandbox does not start as root


def program() -> str:
    """Path of the browser: ``CHROMIUM``, or what is found.

    Raises:
        NotReadyError: there is none.
    """
    found = [os.environ.get("CHROMIUM"), *map(shutil.which, NAMES)]
    path = next(filter(None, found), None)
    if path is None:
        raise NotReadyError(
            "expected Chromium on the path or in CHROMIUM, found none: "
            "install the package chromium"
        )
    return path


@contextmanager
def opened() -> Iterator[Browser]:
    """The browser, closed at the end."""
    path = program()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()

"""The book as one document: in order, formulas set, no link that leads nowhere."""

from pathlib import Path

import print_book
import pytest
from book import BASE, CHAPTERS
from playwright.sync_api import Browser

FOLLOWED = """() => [...document.querySelectorAll("a[href]")]
    .filter(a => a.getAttribute("href").startsWith("#") && !a.matches("[href='#']"))
    .map(a => [a.getAttribute("href"),
        Boolean(document.getElementById(decodeURIComponent(a.hash.slice(1))))])"""
UNSET = "span.math:not(:has(mjx-container)), div.math:not(:has(mjx-container))"


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        print_book, "PAGES", ["intro", CHAPTERS[0], "reference/glossary"]
    )


def test_pages_become_one_in_order(browser: Browser, address: str) -> None:
    page = browser.new_page(bypass_csp=True)
    print_book.join(page, address)
    titles = page.locator("article h1").all_inner_texts()
    assert titles[0] == "Exploding Gradients"
    assert titles[1].startswith("1. ")
    assert titles[2] == "Glossary"
    followed = page.evaluate(FOLLOWED)
    assert len(followed) > 20
    assert [link for link, found in followed if not found] == []
    elsewhere = page.locator(f"a[href^='{BASE}chapters/field_guide.html']")
    assert elsewhere.count() > 0
    assert page.locator(f"a[href^='{address}']").count() == 0
    assert page.locator("mjx-container").count() > 20
    assert page.locator(UNSET).count() == 0
    assert page.locator("figure.gl-fig .gl-frame").count() >= 1
    assert page.locator("details:not([open])").count() == 0
    page.close()


def test_they_are_printed(browser: Browser, address: str, tmp_path: Path) -> None:
    output = tmp_path / "new" / "book.pdf"
    print_book.print_book(browser, address, output)
    assert output.read_bytes().startswith(b"%PDF")
    assert output.stat().st_size > 300_000

"""The book is served as it is published; a busy port or a missing book is named."""

import gzip
import http.client
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import serve_book
from book import PREFIX, ROOT, NotReadyError
from serve_book import served


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A book of two pages, in place of the real one."""
    folder = tmp_path.resolve() / "html"
    folder.mkdir()
    (folder / "index.html").write_text("first page")
    (folder / "404.html").write_text("not found")
    (folder.parent / "secret.html").write_text("secret")
    monkeypatch.setattr(serve_book, "SITE", folder)
    return folder


@pytest.fixture
def connection(site: Path) -> Iterator[http.client.HTTPConnection]:
    with served() as address:
        found = http.client.HTTPConnection(urlsplit(address).netloc, timeout=10)
        yield found
        found.close()


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        (PREFIX, 200, "first page"),
        (f"{PREFIX}index.html?highlight=x", 200, "first page"),
        (f"{PREFIX}none.html", 404, "not found"),
        ("/index.html", 404, "not found"),
        (f"{PREFIX}../secret.html", 404, "not found"),
        (f"{PREFIX}%2e%2e/secret.html", 404, "not found"),
    ],
)
def test_pages_stand_below_the_name_of_the_book(
    connection: http.client.HTTPConnection, path: str, status: int, text: str
) -> None:
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.status == status
    assert gzip.decompress(answer.read()).decode() == text


def test_the_root_leads_to_the_book(connection: http.client.HTTPConnection) -> None:
    connection.request("GET", "/")
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("Location")) == (302, PREFIX)


def test_a_head_is_answered_without_the_page(
    connection: http.client.HTTPConnection,
) -> None:
    for method in ("HEAD", "GET"):
        connection.request(method, PREFIX)
        answer = connection.getresponse()
        assert answer.getheader("Content-Type") == "text/html"
        assert bool(answer.read()) == (method == "GET")


def test_a_changed_page_is_sent_anew(
    connection: http.client.HTTPConnection, site: Path
) -> None:
    for text in ("first", "second and longer"):
        (site / "index.html").write_text(text)
        connection.request("GET", PREFIX)
        assert gzip.decompress(connection.getresponse().read()).decode() == text


def test_a_busy_port_is_named(site: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        remedy = rf"expected port {port} to be free, got: .*PORT={port + 1} make serve"
        with pytest.raises(NotReadyError, match=remedy), served(port):
            pass


def test_a_missing_book_is_named(site: Path) -> None:
    (site / "404.html").unlink()
    with pytest.raises(NotReadyError, match="run 'make book'"), served():
        pass


@pytest.mark.parametrize("port", ["eight", "0", "65536", "-1"])
def test_a_wrong_port_is_named(port: str) -> None:
    command = [sys.executable, ROOT / "scripts" / "serve_book.py", f"--port={port}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"expected 1 to 65535, got '{port}'" in done.stderr

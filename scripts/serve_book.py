#!/usr/bin/env python3
"""Serve the built book on this machine as GitHub Pages does.

    python scripts/serve_book.py [--port 8000]

It stands below its name, compressed, and its own page answers for what is not found.
"""

import argparse
import gzip
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from book import PREFIX, SITE, NotReadyError

COMPRESSED = {".css", ".html", ".js", ".mjs", ".json", ".svg", ".xml"}


def body(path: Path) -> bytes:
    """What travels of a file."""
    return _body(path, path.stat().st_mtime_ns)


@cache
def _body(path: Path, changed: int) -> bytes:
    data = path.read_bytes()
    return gzip.compress(data, 6) if path.suffix in COMPRESSED else data


class Pages(SimpleHTTPRequestHandler):
    """The book below its name: compressed, to be cached, with its page for errors."""

    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments: Any, cached: str) -> None:
        self.cached = cached
        super().__init__(*arguments, directory=SITE)

    def handle(self) -> None:
        with suppress(ConnectionError):  # a browser that left
            super().handle()

    def send_head(self) -> BytesIO:
        asked = urlsplit(self.path).path
        if asked in ("/", PREFIX.rstrip("/")):
            return self.answer(302, b"", {"Location": PREFIX})
        below = asked.removeprefix(PREFIX) or "index.html"
        path = Path(self.translate_path(f"/{below}"))
        found = asked.startswith(PREFIX) and path.is_file()
        path = path if found else SITE / "404.html"
        told = {"Content-Type": self.guess_type(path), "Cache-Control": self.cached}
        if path.suffix in COMPRESSED:
            told["Content-Encoding"] = "gzip"
        return self.answer(200 if found else 404, body(path), told)

    def answer(self, status: int, data: bytes, headers: dict[str, str]) -> BytesIO:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        return BytesIO(data)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def served(port: int = 0, cached: str = "max-age=600") -> Iterator[str]:
    """Address of the book, served on this machine; port 0 is any free one.

    ``cached`` tells browsers how long to keep a page: "no-store" is not at all.

    Raises:
        NotReadyError: the book is not built, or the port cannot be had.
    """
    if not (SITE / "404.html").exists():
        raise NotReadyError(
            f"expected a built book at {SITE}, found none: run 'make book'"
        )
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), partial(Pages, cached=cached))
    except OSError as error:
        raise NotReadyError(
            f"expected port {port} to be free, got: {error.strerror}. Stop what uses "
            f"it, or choose another: PORT={port + 1} make serve"
        ) from error
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}{PREFIX}"
        finally:
            server.shutdown()


def port_number(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"expected 1 to 65535, got {text!r}")
    return int(text)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=port_number, default=8000)
    port = parser.parse_args().port
    try:
        with served(port, cached="no-store") as address:
            print(f"The book: {address} (Ctrl+C ends it)", flush=True)
            threading.Event().wait()
    except NotReadyError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())

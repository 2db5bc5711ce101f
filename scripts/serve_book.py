#!/usr/bin/env python3
"""Serve the built book on this machine as GitHub Pages does.

    python scripts/serve_book.py [--port 8000]

It stands below its name, compressed, and its own page answers for what is not found.
"""

import argparse
import gzip
import mimetypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from book import PREFIX, SITE, NotReadyError

COMPRESSED = {".css", ".html", ".js", ".mjs", ".json", ".svg", ".xml"}


def body(path: Path) -> bytes:
    """What travels of a file."""
    return _body(path, path.stat().st_mtime_ns)


@cache
def _body(path: Path, changed: int) -> bytes:
    data = path.read_bytes()
    return gzip.compress(data, 6) if path.suffix in COMPRESSED else data


class Pages(BaseHTTPRequestHandler):
    """The book below its name: compressed, to be cached, with its page for errors."""

    protocol_version = "HTTP/1.1"
    cached = "max-age=600"

    def handle(self) -> None:
        with suppress(ConnectionError):  # a browser that left
            super().handle()

    def do_GET(self) -> None:
        asked = unquote(urlsplit(self.path).path)
        if asked in ("/", PREFIX.rstrip("/")):
            self.send_response(302)
            self.send_header("Location", PREFIX)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path = (SITE / (asked.removeprefix(PREFIX) or "index.html")).resolve()
        found = asked.startswith(PREFIX) and path.is_file()
        if not (found and path.is_relative_to(SITE)):
            found, path = False, SITE / "404.html"
        data = body(path)
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", mimetypes.guess_type(path.name)[0] or "")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", self.cached)
        if path.suffix in COMPRESSED:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


class FreshPages(Pages):
    """Asked for anew at each visit, for a book that is being written."""

    cached = "no-store"


@contextmanager
def served(port: int = 0, handler: type[Pages] = Pages) -> Iterator[str]:
    """Address of the book, served on this machine; port 0 is any free one.

    Raises:
        NotReadyError: the book is not built, or the port cannot be had.
    """
    if not (SITE / "404.html").exists():
        raise NotReadyError(
            f"expected a built book at {SITE}, found none: run 'make book'"
        )
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), handler)
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
        with served(port, FreshPages) as address:
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

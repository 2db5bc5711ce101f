"""What can go wrong around a build does not spoil the book, and is told."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from book import ROOT
from small_book import SmallBook, ended

WAIT_FOR_GO = """\
while not Path(os.environ["GO"]).exists():
    time.sleep(0.1)
"""
WRITE_PID = """\
import tempfile
Path(os.environ["PID"]).write_text(str(os.getpid()), "utf8")
"""
NO_NETWORK = """\
import sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.sendto"):
        host = str(arguments[1][0])
        if not host.startswith("127."):
            raise OSError(f"no network: {host}")
    if event == "socket.getaddrinfo" and arguments[0] not in ("localhost", "127.0.0.1"):
        raise OSError(f"no network: {arguments[0]}")

sys.addaudithook(refuse)
"""
READ_GUARD_THEN_WATCH = """\
import sys
from pathlib import Path
import chapter_guard
Path(sys.argv[1]).touch()
chapter_guard.watch()
Path(sys.argv[2]).touch()
"""
FIGURE = """\
import matplotlib.pyplot as plt
plt.plot([1, 2])
plt.title("梯度, Größe")
plt.show()
"""
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def until(holds: Callable[[], bool], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.1)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text("utf8").rpartition(")")[2]
    except FileNotFoundError:
        return False
    return state.split()[0] != "Z"


@pytest.fixture
def book(tmp_path: Path) -> SmallBook:
    return SmallBook(tmp_path / "a book")


@linux
def test_a_killed_build_goes_on_where_it_was(book: SmallBook, tmp_path: Path) -> None:
    go, pid = tmp_path / "go", tmp_path / "pid"
    surroundings = {"GO": str(go), "PID": str(pid)}
    book.write("two", code=WRITE_PID + WAIT_FOR_GO)
    first = book.start(**surroundings)
    entries = book.folder / "_build" / ".jupyter_cache"
    until(pid.exists, "chapter two to start")
    until(lambda: any(entries.rglob("base.ipynb")), "chapter one to be kept")
    os.killpg(first.pid, signal.SIGKILL)
    assert ended(first).returncode == -signal.SIGKILL
    kernel = int(pid.read_text("utf8"))
    until(lambda: not is_alive(kernel), "the kernel to end", seconds=10)

    go.touch()
    second = book.build(**surroundings)
    assert second.returncode == 0, second.stderr
    assert book.ran() == ["two"]
    assert "the last build did not finish" in second.stdout

    # a kill while pages are written: new records, an old page
    (book.folder / "_build" / ".unfinished").touch()
    (book.pages / "one.html").write_text("an old page", "utf8")
    third = book.build(**surroundings)
    assert third.returncode == 0, third.stderr
    assert book.ran() == []
    assert "Chapter one" in (book.pages / "one.html").read_text("utf8")


def test_two_builds_take_turns(book: SmallBook) -> None:
    book.pause = 1.5
    book.write("one")
    builds = [book.start(), book.start()]
    done = [ended(build) for build in builds]
    assert [build.returncode for build in done] == [0, 0], done
    assert book.ran() == ["one", "two"], "a chapter ran twice"
    assert sum("another build writes to" in build.stdout for build in done) == 1


def test_a_chapter_that_writes_or_dies_is_named(
    book: SmallBook, tmp_path: Path
) -> None:
    outside = tmp_path / "left behind.txt"
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    inside = "import tempfile\nwith tempfile.TemporaryDirectory() as folder:\n"
    inside += "    (Path(folder) / 'a').write_text('kept to itself', 'utf8')\n"
    book.write("one", code=f"{inside}Path({str(outside)!r}).touch()")
    book.write("two", code="os._exit(3)")
    done = book.build(TMPDIR=str(temporary), TRACE=str(temporary / "trace"))
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "chapter(s) failed: one, two" in said
    assert f"expected chapters to write only temporary files, got {outside}" in said
    assert "Kernel died" in said
    assert not outside.exists()
    assert not list(temporary.glob("tmp*")), "the temporary folder is still there"


def test_only_a_chapter_is_watched_not_who_reads_the_guard(tmp_path: Path) -> None:
    """Doctest imports every module: a watch would hold for all other tests too."""
    read, watched = tmp_path / "read", tmp_path / "watched"
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", READ_GUARD_THEN_WATCH, str(read), str(watched)],
        cwd=ROOT / "_ext",
        env=os.environ | {"TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
    )
    assert read.exists(), done.stderr
    assert f"temporary files, got {watched} (open)" in done.stderr
    assert not watched.exists()


@linux
def test_a_hanging_chapter_is_named_and_ended(book: SmallBook, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    config = book.folder / "_config.yml"
    text = config.read_text("utf8")
    config.write_text(text.replace("timeout: 20", "timeout: 4"), "utf8")
    book.write("two", code=WRITE_PID + "time.sleep(60)")
    done = book.build(PID=str(pid))
    assert done.returncode != 0
    assert "chapter(s) failed: two" in done.stdout + done.stderr
    assert "Timeout" in done.stdout + done.stderr
    assert not is_alive(int(pid.read_text("utf8")))


@pytest.fixture
def read_only_home(tmp_path: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """A home folder, and what makes even root unable to write to it."""
    home = tmp_path / "home"
    home.mkdir(mode=0o500)
    under: tuple[str, ...] = ()
    if os.access(home, os.W_OK):
        if not shutil.which("setpriv"):
            pytest.skip("root without setpriv writes anywhere")
        under = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
    yield home, under
    home.chmod(0o700)


def test_builds_offline_with_a_read_only_home(
    book: SmallBook, read_only_home: tuple[Path, tuple[str, ...]]
) -> None:
    home, under = read_only_home
    (book.folder / "lib" / "sitecustomize.py").write_text(NO_NETWORK, "utf8")
    book.write("one", code=FIGURE)
    done = book.build("-W", "--keep-going", under=under, HOME=str(home))
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(home.iterdir())
    assert "<img" in (book.pages / "one.html").read_text("utf8")


def with_windows_line_ends(folder: Path) -> None:
    for path in [*folder.glob("*.md"), *folder.glob("*.yml"), *folder.glob("*.ipynb")]:
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


def test_builds_in_another_locale_zone_and_line_ends(book: SmallBook) -> None:
    """Python's defaults are ASCII here: every file is read with its own encoding."""
    book.write("one", code="print('梯度, Größe')", prose="Gradient heißt 梯度.")
    with_windows_line_ends(book.folder)
    nbformat.read(book.folder / "one.ipynb", as_version=4)
    done = book.build(
        "-W", "--keep-going", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0",
        TZ="Pacific/Kiritimati",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    page = (book.pages / "one.html").read_text("utf8")
    assert "梯度, Größe" in page
    assert "Gradient heißt 梯度." in page

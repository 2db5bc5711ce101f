"""Builds in one folder take turns, and know when the last one did not finish."""

from pathlib import Path
from types import SimpleNamespace

import one_build
import pytest
from filelock import FileLock


@pytest.fixture
def app(tmp_path: Path) -> SimpleNamespace:
    for name in ("html", ".doctrees"):
        (tmp_path / name).mkdir()
    (tmp_path / ".doctrees" / "environment.pickle").write_bytes(b"what was read")
    return SimpleNamespace(
        outdir=str(tmp_path / "html"),
        doctreedir=str(tmp_path / ".doctrees"),
        warningiserror=True,
        _warncount=0,
    )


def remembers(app: SimpleNamespace) -> bool:
    return (Path(app.doctreedir) / "environment.pickle").exists()


def is_held(app: SimpleNamespace) -> bool:
    lock = FileLock(app.build_lock.lock_file)
    try:
        lock.acquire(timeout=0)
    except TimeoutError:
        return True
    lock.release()
    return False


def test_a_build_holds_the_folder_and_gives_it_back(app: SimpleNamespace) -> None:
    one_build.begin(app, None)
    assert is_held(app)
    one_build.end(app, None)
    assert not is_held(app)


@pytest.mark.parametrize(
    ("exception", "warnings", "kept"),
    [(None, 0, True), (None, 1, False), (ValueError(), 0, False)],
)
def test_only_a_good_build_is_remembered(
    app: SimpleNamespace, exception: Exception | None, warnings: int, kept: bool
) -> None:
    one_build.begin(app, None)
    app._warncount = warnings
    one_build.end(app, exception)
    one_build.begin(app, None)
    assert remembers(app) is kept
    app._warncount = 0
    one_build.end(app, None)


def test_warnings_count_only_as_errors(app: SimpleNamespace) -> None:
    app.warningiserror, app._warncount = False, 3
    one_build.begin(app, None)
    one_build.end(app, None)
    one_build.begin(app, None)
    assert remembers(app)
    one_build.end(app, None)


def test_a_killed_build_is_not_remembered(app: SimpleNamespace) -> None:
    one_build.begin(app, None)
    app.build_lock.release()  # what the system does for a killed process
    one_build.begin(app, None)
    assert not remembers(app)
    one_build.end(app, None)

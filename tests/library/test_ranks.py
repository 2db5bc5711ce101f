"""Processes started for a chapter: they answer, fail aloud, and never stay behind."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from gradlib.errors import RankError
from gradlib.ranks import Ranks

# The bodies of these run in other processes, where torch, rank and so on are known.
# ruff: noqa: F821


def summed(x):
    total = torch.tensor(x + rank)
    distributed.all_reduce(total)
    return {"sum": total.item(), "world": world, 0: (rank, None)}


def twice(x):
    return 2 * x


def calls_another(x):
    return twice(x) + rank


def fails_in(who):
    if rank == who:
        raise ValueError("not today")
    return rank


def waits_for_the_other():
    if rank == 0:
        distributed.all_reduce(torch.zeros(1))


def fails_while_the_other_waits():
    if rank == 1:
        raise ValueError("not today")
    distributed.all_reduce(torch.zeros(1))


def leaves_while_the_other_waits():
    import os
    import signal

    if rank == 1:
        print("last words", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    distributed.all_reduce(torch.zeros(1))


def returns_a_generator():
    return (k for k in range(3))


def starts_more():
    from gradlib.ranks import Ranks

    def one(x):
        return x + rank

    with Ranks(1) as inner:
        return inner.run(one, 10 * rank)


@pytest.fixture(scope="module")
def ranks():
    with Ranks(2, timeout=120) as made:
        yield made


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def gone(pids: list[int], within: float = 30.0) -> bool:
    end = time.monotonic() + within
    while any(map(alive, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(map(alive, pids))


def test_each_rank_answers(ranks: Ranks) -> None:
    assert ranks.run(summed, 1.5) == [
        {"sum": 4.0, "world": 2, 0: (0, None)},
        {"sum": 4.0, "world": 2, 0: (1, None)},
    ]


def test_a_function_brings_those_that_it_uses(ranks: Ranks) -> None:
    assert ranks.run(calls_another, 3, uses=[twice]) == [6, 7]
    with pytest.raises(RankError, match="name 'twice' is not defined"):
        ranks.run(calls_another, 3)


def test_an_error_names_rank_and_line_and_the_others_go_on(ranks: Ranks) -> None:
    with pytest.raises(RankError) as caught:
        ranks.run(fails_in, 1)
    assert caught.value.rank == 1
    message = str(caught.value)
    assert message.startswith("rank 1 failed in fails_in:\nTraceback")
    assert '"<fails_in>", line 3, in fails_in\n    raise ValueError' in message
    assert message.endswith("ValueError: not today")
    assert "ranks.py" not in message
    assert ranks.run(twice, 1) == [2, 2]


def test_an_error_in_all_is_told_once(ranks: Ranks) -> None:
    told = r"rank \d failed too: NameError"
    with pytest.raises(RankError, match=told) as caught:
        ranks.run(calls_another, 3)
    assert str(caught.value).count("Traceback") == 1
    assert ranks.run(twice, 1) == [2, 2]


def test_an_answer_that_cannot_be_sent_is_named(ranks: Ranks) -> None:
    told = "returned generator, which cannot be sent back .* Return numbers"
    with pytest.raises(RankError, match=told):
        ranks.run(returns_a_generator)
    assert ranks.run(twice, 1) == [2, 2]


def test_what_cannot_be_sent_is_refused(ranks: Ranks) -> None:
    outer = 3

    def uses_what_is_around() -> int:
        return outer

    space: dict[str, Callable[[], int]] = {}
    exec("def unwritten(): return 1", space)
    with pytest.raises(ValueError, match="uses outer of the function around it"):
        ranks.run(uses_what_is_around)
    with pytest.raises(ValueError, match="source can be read, got unwritten"):
        ranks.run(space["unwritten"])
    with pytest.raises(ValueError, match="expected a plain def"):
        ranks.run(lambda: 1)
    with pytest.raises(TypeError, match="function: expected a function, got 3"):
        ranks.run(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="arguments: expected plain values"):
        ranks.run(twice, (k for k in range(3)))
    with pytest.raises(ValueError, match="timeout: expected"):
        ranks.run(twice, 1, timeout=-1)
    assert ranks.run(twice, 1) == [2, 2]


def test_processes_may_start_processes(ranks: Ranks) -> None:
    assert ranks.run(starts_more, timeout=170) == [[0], [10]]


def test_a_closed_set_says_so_and_leaves_nothing(ranks: Ranks) -> None:
    with Ranks(1) as other:
        assert other.run(twice, 4) == [8]
        assert ranks.run(twice, 1) == [2, 2], "two sets do not meet"
        folder = other._folder
        assert folder.exists()
    other.close()
    assert gone(other.pids)
    assert not folder.exists()
    with pytest.raises(RuntimeError, match="got none: they were closed"):
        other.run(twice, 4)


def test_a_call_that_is_not_answered_names_the_rank_and_the_line() -> None:
    with Ranks(2) as ranks:
        ranks.run(twice, 0)
        start = time.monotonic()
        with pytest.raises(TimeoutError) as caught:
            ranks.run(waits_for_the_other, timeout=1)
        assert time.monotonic() - start < 30
        told = str(caught.value)
        assert told.startswith(
            "rank 0 did not answer within 1 s in waits_for_the_other"
        )
        assert "; rank 1 did." in told
        assert "rank 0 was at line 3 in waits_for_the_other" in told
        assert gone(ranks.pids)
        with pytest.raises(RuntimeError, match="rank 0 did not answer"):
            ranks.run(twice, 1)


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (fails_while_the_other_waits, "ValueError: not today"),
        (leaves_while_the_other_waits, "last words\nits process ended with code -9"),
    ],
    ids=["raises", "killed"],
)
def test_a_rank_that_fails_alone_ends_the_one_that_waits(
    function: Callable[[], None], told: str
) -> None:
    with Ranks(2) as ranks:
        ranks.run(twice, 0)
        start = time.monotonic()
        with pytest.raises(RankError) as caught:
            ranks.run(function, timeout=60)
        assert time.monotonic() - start < 40
        message = str(caught.value)
        assert "rank 1" in message
        assert told in message
        assert "All ranks were ended" in message
        assert gone(ranks.pids)


def loses_the_other() -> None:
    """Rank 0 notices first, as a busy machine may have it, that rank 1 is lost."""
    import os
    import time

    if rank == 0:
        raise ConnectionError("closed by peer")
    time.sleep(0.5)
    os._exit(3)


def test_a_process_that_ended_is_told_before_what_the_others_met() -> None:
    with Ranks(2) as ranks:
        ranks.run(twice, 0)
        with pytest.raises(RankError) as caught:
            ranks.run(loses_the_other)
        assert caught.value.rank == 1
        message = str(caught.value)
        assert "rank 1 failed in loses_the_other" in message
        assert "rank 0 failed too: ConnectionError: closed by peer" in message


def test_a_start_that_takes_too_long_names_the_ranks() -> None:
    with Ranks(2, start_timeout=0.05) as ranks:
        with pytest.raises(
            TimeoutError, match=r"ranks 0, 1 did not answer within 0\.05"
        ):
            ranks.run(twice, 1)
        assert gone(ranks.pids)


def test_a_start_that_fails_is_told() -> None:
    with Ranks(1, imports=["no_such_module"]) as ranks:
        with pytest.raises(RankError, match="No module named 'no_such_module'"):
            ranks.run(twice, 1)
        assert gone(ranks.pids)


def test_a_file_store_that_is_taken_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "store").mkdir()
    monkeypatch.setattr(tempfile, "mkdtemp", lambda prefix: str(tmp_path))
    with Ranks(2) as ranks:
        with pytest.raises(RankError, match="Is a directory"):
            ranks.run(twice, 1)
        assert gone(ranks.pids)


def test_a_file_store_that_is_gone_is_no_longer_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "mkdtemp", lambda prefix: str(tmp_path))
    with Ranks(2) as ranks:
        assert ranks.run(summed, 0)[0]["sum"] == 1
        (tmp_path / "store").unlink()
        assert ranks.run(summed, 0)[0]["sum"] == 1


@pytest.mark.parametrize(
    ("settings", "error", "name"),
    [
        ({"world": 0}, ValueError, "world"),
        ({"world": 2.0}, TypeError, "world"),
        ({"timeout": 0}, ValueError, "timeout"),
        ({"start_timeout": float("nan")}, ValueError, "start_timeout"),
        ({"imports": "torch"}, TypeError, "imports"),
        ({"imports": [1]}, TypeError, "imports"),
    ],
)
def test_wrong_settings_start_nothing(settings, error, name) -> None:
    before = set(Path(tempfile.gettempdir()).glob("ranks_*"))
    with pytest.raises(error, match=f"^{name}: expected"):
        Ranks(**settings)
    assert set(Path(tempfile.gettempdir()).glob("ranks_*")) == before


SCRIPT = """
import sys, time
from gradlib.ranks import Ranks

def busy():
    while True:
        pass

ranks = Ranks(1)
print(*ranks.pids, ranks._folder, flush=True)
"""
ENDS = {
    "ends": "sys.exit(0)",
    "fails": "raise ValueError",
    "is killed while they load": "time.sleep(60)",
    "is killed while they work": "ranks.run(lambda_free, timeout=60)",
}


@pytest.mark.parametrize("end", ENDS)
def test_nothing_is_left_when_a_script(end: str, tmp_path: Path) -> None:
    """The file gives inspect a source; no guard of ``__main__`` is needed."""
    script = tmp_path / "script.py"
    body = ENDS[end].replace("lambda_free", "busy")
    if "work" in end:
        body = f"ranks._wait_for_start(); print('there', flush=True)\n{body}"
    script.write_text(SCRIPT + body, "utf8")
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with process:
        assert process.stdout is not None
        *pids, folder = process.stdout.readline().split()
        if "killed" in end:
            if "work" in end:
                process.stdout.readline()
                time.sleep(0.3)
            process.send_signal(signal.SIGKILL)
    assert gone([int(pid) for pid in pids])
    assert not Path(folder).exists()


CELLS = [
    "from gradlib.ranks import Ranks\n\nranks = Ranks(1)\nprint(*ranks.pids)",
    "def of_a_cell(x):\n    return x + world",
    "assert ranks.run(of_a_cell, 1) == [2]",
    "ranks.run(of_a_cell, 'text')",
]


def test_a_notebook_that_fails_leaves_nothing(tmp_path: Path) -> None:
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    notebook = nbformat.v4.new_notebook(cells=cells)
    path = os.pathsep.join(sys.path)
    client = NotebookClient(notebook, timeout=300, startup_timeout=180)
    with pytest.raises(CellExecutionError, match="can only concatenate"):
        client.execute(env=os.environ | {"PYTHONPATH": path}, cwd=str(tmp_path))
    pids = [int(pid) for pid in cells[0].outputs[0].text.split()]
    assert gone(pids)

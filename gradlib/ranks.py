"""Several processes that train together, started from a notebook, a script or a test.

A function that is typed in a cell cannot be imported by another process, and a process
that has loaded torch should not be forked. So `Ranks` starts fresh interpreters, sends
them the *source* of a function, and gets back what it returns. They are joined by torch
with the backend gloo, through a file and the loopback interface: no GPU, no port to
choose. They end with the program that started them, however it ends.
"""

import builtins
import faulthandler
import importlib
import inspect
import linecache
import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, BinaryIO, NoReturn, Self

from gradlib.checks import check_count, check_list, check_positive
from gradlib.errors import RankError

__all__ = ["Ranks"]

GRACE = 3.0
"""Seconds that the others get to answer once a rank has failed: one that waits for the
failed one never will, one that fails alike takes no time."""

TOLD = 2000
"""Characters kept of what a process printed before it ended."""

Answers = SimpleQueue[tuple[int, tuple[bool, Any] | None]]
Job = tuple[list[tuple[str, str]], bytes]


class Ranks:
    """Processes that train together, each with a rank, started once and used often.

    They begin to load as soon as this is made, so make it early; the first call waits
    until all are there. Functions are sent as source. In it stand ``torch``, ``nn``,
    ``F``, ``distributed``, ``rank`` and ``world``; everything else it imports or gets
    as an argument. What it prints is shown only if its process ends unasked: return
    what you want to see, as numbers, text, or lists and dictionaries of them.

    A call ends in one of three ways: each rank has answered; or each has, and some
    failed (`RankError`; the others go on); or one did not answer, and then all are
    ended, so that nothing is left behind and no call waits for ever.

    Args:
        world: Number of processes.
        imports: Modules to load at the start, such as ``torch.distributed.fsdp``.
        timeout: Seconds that a call may take.
        start_timeout: Seconds that the first call waits for the processes besides.

    Attributes:
        pids: The number of each process in the operating system, by rank.

    Raises:
        TypeError, ValueError: an argument cannot be right.

    Example:
        >>> def mean_rank(power):
        ...     x = torch.tensor(float(rank) ** power)
        ...     distributed.all_reduce(x)
        ...     return x.item() / world
        >>> with Ranks(2) as ranks:
        ...     ranks.run(mean_rank, 2)
        [0.5, 0.5]
    """

    def __init__(
        self,
        world: int = 2,
        *,
        imports: Iterable[str] = (),
        timeout: float = 60.0,
        start_timeout: float = 180.0,
    ) -> None:
        self.world = check_count(world, "world")
        self.timeout = check_positive(timeout, "timeout")
        self.start_timeout = check_positive(start_timeout, "start_timeout")
        modules = _names(imports)
        self._folder = Path(tempfile.mkdtemp(prefix="ranks_"))
        self._answers: Answers = SimpleQueue()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._ended = ""
        self._started = False
        self._end = weakref.finalize(
            self, _end, os.getpid(), self._processes, self._folder
        )
        for rank in range(world):
            process = _start(rank, world, self._folder, modules)
            self._processes.append(process)
            listen = threading.Thread(
                target=_listen, args=(rank, process.stdout, self._answers), daemon=True
            )
            listen.start()
        self.pids = [process.pid for process in self._processes]

    def run(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        uses: Iterable[Callable[..., Any]] = (),
        timeout: float | None = None,
    ) -> list[Any]:
        """Call a function in all processes; what each returned, by rank.

        Args:
            function: One whose source can be read, and that uses nothing of the
                function around it.
            *arguments: Plain values, the same for all.
            uses: Functions that it calls, to be sent along.
            timeout: Seconds that this call may take, by default those of ``Ranks``.

        Raises:
            RankError: the function failed in a rank, or its process ended; has the
                rank, and its traceback.
            TimeoutError: ranks did not answer in time; names them, and shows where
                they wait. All are ended.
            TypeError: what was given is not a function.
            ValueError: the source cannot be read, or an argument cannot be sent.
        """
        sources = [_source_of(f) for f in (*check_list(uses, "uses"), function)]
        seconds = check_positive(timeout or self.timeout, "timeout")
        try:
            sent = pickle.dumps(arguments)
        except Exception as error:
            raise ValueError(
                f"arguments: expected plain values, got one that cannot be sent "
                f"({error}). Make it inside the function."
            ) from error
        if self._ended:
            raise RuntimeError(
                f"expected processes, got none: {self._ended}. Make new Ranks."
            )
        try:
            self._wait_for_start()
            for process in self._processes:
                _send(process, (sources, sent))
            return self._collect(seconds, function.__name__)
        except (RankError, TimeoutError):
            raise
        except BaseException as error:  # nobody listens to the answers any more
            self._give_up(f"a call was broken off by {type(error).__name__}")
            raise

    def close(self) -> None:
        """End the processes; a second call does nothing."""
        self._give_up("they were closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.close()

    def _wait_for_start(self) -> None:
        if not self._started:
            self._collect(self.start_timeout, "the start")
            self._started = True

    def _collect(self, seconds: float, what: str) -> list[Any]:
        """An answer of each rank, in time."""
        end = time.monotonic() + seconds
        found: dict[int, Any] = {}
        failed: dict[int, str] = {}
        while len(found) + len(failed) < self.world:
            with suppress(Empty):
                left = max(0.0, end - time.monotonic())
                rank, answer = self._answers.get(timeout=left)
                if answer is None:
                    failed[rank] = self._last_words(rank)
                elif answer[0]:
                    found[rank] = pickle.loads(answer[1])
                    continue
                else:
                    failed[rank] = answer[1]
                end = min(end, time.monotonic() + GRACE)
                continue
            break
        silent = [k for k in range(self.world) if k not in found and k not in failed]
        if failed:
            self._fail(what, failed, silent)
        if silent:
            self._time_out(what, seconds, silent, sorted(found))
        return [found[rank] for rank in range(self.world)]

    def _fail(self, what: str, failed: dict[int, str], silent: list[int]) -> NoReturn:
        # a process that ended is no victim: the others lost their connection to it
        first, *others = sorted(failed, key=lambda k: self._processes[k].poll() is None)
        told = failed[first]
        for rank in others:
            last = failed[rank].splitlines()[-1]
            told += f"\nrank {rank} failed too: {last}"
        if silent or any(p.poll() is not None for p in self._processes):
            waited = f"; {_listed(silent)} waited for it" if silent else ""
            told += f"\nAll ranks were ended{waited}. Make new Ranks."
            self._give_up(f"rank {first} failed in {what}")
        raise RankError(first, what, told)

    def _time_out(
        self, what: str, seconds: float, silent: list[int], answered: list[int]
    ) -> NoReturn:
        places = "".join(f"\n{self._place(rank)}" for rank in silent)
        others = f"; {_listed(answered)} did" if answered else ""
        self._give_up(f"{_listed(silent)} did not answer in {what}")
        raise TimeoutError(
            f"{_listed(silent)} did not answer within {seconds:g} s in {what}{others}. "
            "All ranks were ended: make new Ranks. Does one rank wait in a collective "
            f"call that another never makes?{places}"
        )

    def _place(self, rank: int) -> str:
        """Where a process is, as far as it can be asked."""
        log = self._folder / f"{rank}.log"
        before = log.stat().st_size
        if hasattr(signal, "SIGUSR1"):
            with suppress(ProcessLookupError):
                os.kill(self.pids[rank], signal.SIGUSR1)
            for _ in range(60):
                time.sleep(0.05)
                if log.stat().st_size > before:
                    break
        told = log.read_text("utf8", "replace")[before:]
        inside = re.search(r'File "<(?!string|frozen)[^>]*>", (line \d+ in \S+)', told)
        return f"rank {rank} was at {inside[1] if inside else 'an unknown place'}"

    def _last_words(self, rank: int) -> str:
        """How a process ended, and what it printed before."""
        with suppress(subprocess.TimeoutExpired):
            self._processes[rank].wait(GRACE)
        code = self._processes[rank].returncode
        told = (self._folder / f"{rank}.log").read_text("utf8", "replace").strip()
        said = f"it printed:\n{told[-TOLD:]}\n" if told else ""
        return f"{said}its process ended with code {code}"

    def _give_up(self, because: str) -> None:
        self._ended = self._ended or because
        self._end()


def _names(imports: Iterable[str]) -> list[str]:
    names = check_list(imports, "imports")
    if isinstance(imports, str) or not all(isinstance(n, str) for n in names):
        raise TypeError(
            f"imports: expected names of modules, got {imports!r}. Write "
            '["torch.distributed.fsdp"].'
        )
    return names


def _listed(ranks: list[int]) -> str:
    return f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}"


def _source_of(function: Any) -> tuple[str, str]:
    """The name and source of a function that stands on its own."""
    if not inspect.isfunction(function):
        raise TypeError(f"function: expected a function, got {function!r}")
    name = function.__name__
    around = function.__code__.co_freevars
    if around:
        raise ValueError(
            f"function: expected one that stands on its own, got {name}, which uses "
            f"{', '.join(around)} of the function around it. Hand it in as an argument."
        )
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except OSError as error:
        raise ValueError(
            f"function: expected one whose source can be read, got {name}. Write it "
            "with def, in a cell or a file."
        ) from error
    if not source.startswith("def "):
        raise ValueError(
            f"function: expected a plain def, got {source.splitlines()[0]!r}"
        )
    return name, source


def _start(
    rank: int, world: int, folder: Path, modules: list[str]
) -> "subprocess.Popen[bytes]":
    """A fresh interpreter, which sees the same modules as this one."""
    program = (
        f"import sys; sys.path[:] = {sys.path!r}; from gradlib import ranks; "
        f"ranks._serve({rank}, {world}, {str(folder)!r}, {modules!r})"
    )
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    with (folder / f"{rank}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=os.environ | threads | {"CUDA_VISIBLE_DEVICES": ""} | _loopback(),
            start_new_session=True,  # an interrupt is for the one who started them
        )


def _loopback() -> dict[str, str]:
    """Keeps gloo on this machine."""
    known = {"lo", "lo0"} & {name for _, name in socket.if_nameindex()}
    return dict.fromkeys(["GLOO_SOCKET_IFNAME"], known.pop()) if known else {}


def _send(process: "subprocess.Popen[bytes]", job: Job) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # then there is no answer either
        pickle.dump(job, process.stdin)
        process.stdin.flush()


def _listen(rank: int, stream: BinaryIO, answers: Answers) -> None:
    """Pass on what a process says, and that it has ended."""
    with stream:
        while True:
            try:
                answers.put((rank, pickle.load(stream)))
            except (EOFError, pickle.UnpicklingError):
                answers.put((rank, None))
                return


def _end(owner: int, processes: "list[subprocess.Popen[bytes]]", folder: Path) -> None:
    """End the processes and remove their folder; not from a fork of their parent."""
    if os.getpid() != owner:
        return
    for process in processes:
        process.kill()
    for process in processes:
        process.wait()
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.close()
    shutil.rmtree(folder, ignore_errors=True)


def _serve(rank: int, world: int, folder: str, modules: list[str]) -> None:
    """The life of a process: load, join the others, do jobs, end with its parent."""
    jobs, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what is printed goes where the errors go
    if hasattr(signal, "SIGUSR1"):
        faulthandler.register(signal.SIGUSR1, all_threads=False)
    inbox: SimpleQueue[Job] = SimpleQueue()
    threading.Thread(target=_receive, args=(jobs, inbox, folder), daemon=True).start()
    space = _space(rank, world, folder, modules)
    _tell(answers, (True, pickle.dumps(None)))
    while True:
        try:
            answer = True, _do(*inbox.get(), dict(space))
        except BaseException as error:
            _tell(answers, (False, _traceback(error)))
        else:
            _tell(answers, answer)


def _receive(jobs: BinaryIO, inbox: SimpleQueue[Job], folder: str) -> None:
    """Take jobs; end this process, whatever it does, when its parent is gone."""
    with suppress(EOFError):
        while True:
            inbox.put(pickle.load(jobs))
    if hasattr(signal, "alarm"):  # ends it also if the main thread keeps Python's lock
        signal.alarm(1)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def _space(rank: int, world: int, folder: str, modules: list[str]) -> dict[str, Any]:
    """The names that functions see, once this process has joined the others."""
    import torch
    from torch import distributed, nn
    from torch.nn import functional

    torch.set_num_threads(1)
    for name in modules:
        importlib.import_module(name)
    path = str(Path(folder) / "store")
    store = distributed.FileStore(path, world)  # type: ignore[attr-defined, unused-ignore]
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=world)
    return {
        "__builtins__": builtins,
        "__name__": f"rank {rank}",
        "torch": torch,
        "nn": nn,
        "F": functional,
        "distributed": distributed,
        "rank": rank,
        "world": world,
    }


def _do(sources: list[tuple[str, str]], sent: bytes, space: dict[str, Any]) -> bytes:
    """Call the last of the functions; what it returned, to be sent."""
    for name, source in sources:
        place = f"<{name}>"
        linecache.cache[place] = len(source), None, source.splitlines(True), place
        exec(compile(source, place, "exec"), space)
    value = space[name](*pickle.loads(sent))
    try:
        return pickle.dumps(value)
    except Exception as error:
        raise TypeError(
            f"{name} returned {type(value).__name__}, which cannot be sent back "
            f"({error}). Return numbers, text, or lists and dictionaries of them."
        ) from None


def _traceback(error: BaseException) -> str:
    """From the function on, without the lines of this module."""
    lines = traceback.TracebackException.from_exception(error)
    mine = [frame for frame in lines.stack if frame.filename != __file__]
    lines.stack = traceback.StackSummary.from_list(mine)
    return "".join(lines.format()).rstrip()


def _tell(answers: BinaryIO, answer: tuple[bool, Any]) -> None:
    pickle.dump(answer, answers)
    answers.flush()

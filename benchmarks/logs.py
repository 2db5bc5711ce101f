"""What reading a log costs: gradlib beside runmedic, on 100 MB of Trainer lines.

    python benchmarks/logs.py [MEGABYTES]

Each command runs in a process of its own; processor seconds and the largest resident
memory are those of the process. runmedic lives in an environment of its own: install
``runmedic==0.1.1`` there and name its command in ``RUNMEDIC``, or have it on the path.
"""

import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from book import NotReadyError
from goals import Row, at_least, at_most, show

MEGABYTES = 100
RECORDS = 1_200_000


def write_log(path: Path, megabytes: float) -> int:
    """Write lines of a sound run; return their number."""
    draw, size, count = random.Random(0), 0, 0
    with path.open("w", encoding="utf-8") as file:
        while size < 1e6 * megabytes:
            loss = 0.5 + 2.5 * math.exp(-4 * count / RECORDS) + draw.gauss(0, 0.05)
            norm = round(abs(draw.gauss(1, 0.2)), 4)
            rate = 5e-5 * (1 - count / RECORDS)
            line = (
                f"{{'loss': {loss:.4f}, 'grad_norm': {norm!r}, 'learning_rate': "
                f"{rate!r}, 'epoch': {3 * count / RECORDS:.2f}}}\n"
            )
            size += file.write(line)
            count += 1
    return count


def cost(command: list[str]) -> tuple[float, float]:
    """Processor seconds and megabytes of a command.

    Raises:
        NotReadyError: the command failed.
    """
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        said = process.stderr.read() if process.stderr else b""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1, 2):
        raise NotReadyError(f"{command[0]} failed: {said.decode()[-300:]}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000


def rows(megabytes: float = MEGABYTES) -> list[Row]:
    """Speed, memory and start of the command."""
    peer = os.environ.get("RUNMEDIC") or shutil.which("runmedic")
    if peer is None:
        raise NotReadyError(
            "expected runmedic 0.1.1 on the path or in RUNMEDIC, found none; install "
            "it in an environment of its own"
        )
    own = [sys.executable, "-m", "gradlib", "log"]
    with tempfile.TemporaryDirectory() as folder:
        path, short = Path(folder) / "train.log", Path(folder) / "short.log"
        count = write_log(path, megabytes)
        write_log(short, 0.001)
        start, _ = min(cost([*own, str(short)]) for _ in range(3))
        seconds, memory = cost([*own, str(path)])
        peer_seconds, peer_memory = cost([peer, "diagnose", str(path)])
    size = f"{megabytes:g} MB of Trainer lines"
    return [
        at_least(f"{size}: times as fast as runmedic", peer_seconds / seconds, 5),
        at_most(f"{size}: memory, MB", memory, 200),
        Row(f"{size}: memory of runmedic, MB", peer_memory),
        Row(f"{size}: records a second", count / seconds),
        at_most("gradlib log: start, seconds", start, 0.3),
    ]


if __name__ == "__main__":
    show(rows(float(sys.argv[1]) if sys.argv[1:] else MEGABYTES))

"""A program run by several processes that train together, with a time limit.

Chapters use `gradlib.ranks.Ranks`, whose processes each load torch. Here one process
loads it and forks, which is safe as it does nothing else and takes half the time; and
a rank may be lost while the others go on.
"""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

PREAMBLE = """
import json, os, sys, traceback
from datetime import timedelta
import torch, torch._dynamo, torch.distributed.fsdp
from torch import distributed
torch.set_num_threads(1)
FOLDER, PROGRAM, LOST = sys.argv[1], sys.argv[2], int(sys.argv[3])

def answer(value):
    with open(f"{FOLDER}/{RANK}.json", "w") as file:
        json.dump(value, file)

def run():
    distributed.init_process_group(
        "gloo", init_method=f"file://{FOLDER}/store", rank=RANK, world_size=2,
        timeout=timedelta(seconds=60),
    )
    exec(PROGRAM, globals())
    if LOST < 0:
        distributed.destroy_process_group()

children = []
for RANK in range(2):  # torch is loaded once
    child = os.fork()
    if child == 0:
        try:
            run()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    children.append(child)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
expected = [-9 if rank == LOST else 0 for rank in range(2)]
sys.exit(codes != expected)
"""
SECONDS = 150


def run_two(program: str, folder: Path, *, lost: int = -1) -> list[Any]:
    """What two processes gave to ``answer``; fails with what they printed.

    The program is Python; it has ``RANK``, ``torch``, ``distributed`` and ``answer``.

    Args:
        program: What both run.
        folder: For what they tell each other, and for answers.
        lost: The process that ends by being killed; it has no answer.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", PREAMBLE, str(folder), program, str(lost)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed = process.communicate(timeout=SECONDS)[0]
    finally:
        end_with_children(process)
    assert process.returncode == 0, printed
    ranks = [rank for rank in range(2) if rank != lost]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in ranks]


def end_with_children(process: "subprocess.Popen[str]") -> None:
    """End a process of a session of its own, and all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()

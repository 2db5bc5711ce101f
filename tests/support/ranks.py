"""A program run by several processes that train together, with a time limit."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PREAMBLE = """
import json, sys
from datetime import timedelta
import torch
from torch import distributed
RANK, FOLDER = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
distributed.init_process_group(
    "gloo", init_method=f"file://{FOLDER}/store", rank=RANK, world_size=2,
    timeout=timedelta(seconds=30),
)
def answer(value):
    with open(f"{FOLDER}/{RANK}.json", "w") as file:
        json.dump(value, file)
"""
SECONDS = 120


def run_two(program: str, folder: Path) -> list[Any]:
    """What two processes gave to ``answer``; fails with what they printed.

    The program is Python; it has ``RANK``, ``torch``, ``distributed`` and ``answer``.
    """
    code = PREAMBLE + program + "\ndistributed.destroy_process_group()\n"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(rank), str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        printed = [process.communicate(timeout=SECONDS)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, text in zip(processes, printed, strict=True):
        assert process.returncode == 0, text
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]

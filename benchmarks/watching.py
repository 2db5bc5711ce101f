"""What `gradlib.watch` costs, beside what others take for the same or less.

    python benchmarks/watching.py

The language model has the form of GPT-2: 6 blocks, width 96, 76 parameters. The plain
networks are those of `monitor`. Networks take turns as there; the cycle is that of the
rows that `watch` reads together, and of the attention.

The peers are measured where they are installed; a folder of their own will do, which
is looked at last, so that torch stays the same:

    pip install --target peers wandb transformers lightning
    GRADLIB_PEERS=peers make bench NAMES=watching
"""

import contextlib
import importlib.util
import io
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from goals import Row, at_most, show
from monitor import FLOOR, WIDTHS, Step, norms_by_torch, prepare, take_turns, training
from timing import network
from torch import Tensor, nn
from torch.nn import functional as F

from gradlib import AttentionMonitor, watch

sys.path += filter(None, [os.environ.get("GRADLIB_PEERS")])

CYCLE = 50
ROUNDS = 4
SETS = 3
VOCAB, WIDTH, HEADS, DEPTH, CONTEXT, BATCH = 512, 96, 6, 6, 64, 8
STEPS, COLUMNS = 100_000, 400
PEERS = {
    "wandb.watch": "wandb",
    "DebugUnderflowOverflow of transformers": "transformers",
    "grad_norm of Lightning": "lightning",
}
Start = Callable[[nn.Module, torch.optim.Optimizer], Callable[[Tensor], object] | None]


class Block(nn.Module):
    """A block of GPT-2: pre-norm, queries, keys and values from one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.qkv(self.ln_1(x)).chunk(3, -1)
        q, k, v = (z.unflatten(-1, (HEADS, -1)).transpose(1, 2) for z in parts)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.ln_2(x))))


class LanguageModel(nn.Module):
    """76 parameters: two embeddings, 12 a block, the last norm; the head is tied."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCAB, WIDTH)
        self.positions = nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(DEPTH))
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions.weight
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.tokens.weight)


def plain(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Nothing watches."""


def watched(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    watch(model, optimizer)


def attended(model: nn.Module, optimizer: torch.optim.Optimizer) -> Any:
    """The attention alone, in every 50th step."""
    monitor = AttentionMonitor(model, every=CYCLE)
    monitor.__enter__()
    return lambda loss: monitor.log()


def by_wandb(model: nn.Module, optimizer: torch.optim.Optimizer) -> Any:
    import wandb

    folder = tempfile.mkdtemp()
    settings = wandb.Settings(silent=True, console="off")
    run = wandb.init(mode="offline", dir=folder, settings=settings, reinit=True)
    run.watch(model, log="gradients", log_freq=1)
    return lambda loss: run.log({"loss": loss.item()})


def by_transformers(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    from transformers.debug_utils import DebugUnderflowOverflow

    DebugUnderflowOverflow(model)


def by_lightning(model: nn.Module, optimizer: torch.optim.Optimizer) -> Any:
    from lightning.pytorch.utilities import grad_norm

    return lambda loss: {n: float(x) for n, x in grad_norm(model, 2).items()}


MAKERS: dict[str, Start] = {
    "watch": watched,
    "attention": attended,
    "wandb.watch": by_wandb,
    "DebugUnderflowOverflow of transformers": by_transformers,
    "grad_norm of Lightning": by_lightning,
}


def language_step(start: Start) -> Step:
    """A function that makes one step of the language model, watched in one way."""
    model = LanguageModel()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    log = start(model, optimizer)
    tokens = torch.randint(VOCAB, (BATCH, CONTEXT))

    def step() -> None:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())
        loss.backward()
        if log is not None:
            log(loss)
        optimizer.step()

    return step


def is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def ratios(makers: dict[str, Start], sets: int, rounds: int) -> dict[str, float]:
    """Seconds of a watched step over those of a plain one, for each way to watch."""
    found: dict[str, list[float]] = {name: [] for name in makers}
    for _ in range(sets):
        with contextlib.redirect_stdout(io.StringIO()):
            steps = [language_step(start) for start in (plain, *makers.values())]
            bare, *others = take_turns(steps, rounds, CYCLE)
        for name, seconds in zip(makers, others, strict=True):
            found[name].append(seconds / bare)
    return {name: median(values) for name, values in found.items()}


def language_rows(sets: int = SETS, rounds: int = ROUNDS) -> list[Row]:
    """`watch` on the language model beside its peers, and the attention monitor."""
    there = {n: m for n, m in MAKERS.items() if is_installed(PEERS.get(n, "gradlib"))}
    found = ratios(there, sets, rounds)
    rows = [
        at_most("watch, language model: step / plain step", found["watch"], 1.05),
        at_most(
            f"attention every {CYCLE} steps, language model: step / plain step",
            found["attention"],
            1.02,
        ),
    ]
    for name, package in PEERS.items():
        what = f"{name}, language model: step / plain step"
        if name not in found:
            missing = f"{what} ({package} is not installed: not measured)"
            rows.append(Row(missing, math.nan))
            continue
        rows.append(Row(what, found[name]))
        over = found["watch"] / found[name]
        rows.append(at_most(f"watched step / step with {name}", over, 1.0))
    return rows


def plain_network_row(width: int, sets: int = SETS, rounds: int = ROUNDS) -> Row:
    """What `watch` adds to a step of a plain network over what torch's norms add."""
    shares = []
    for _ in range(sets):
        models = [network(width) for _ in range(3)]
        steps = [
            training(models[0], None),
            training(models[1], norms_by_torch(models[1])),
        ]
        steps.append(watched_training(models[2]))
        bare, floor, ours = take_turns(steps, rounds, CYCLE)
        shares.append((ours - bare) / (floor - bare))
    what = f"watch every step, width {width}: added / added by {FLOOR}"
    return at_most(what, median(shares), 1.05)


def watched_training(model: nn.Module) -> Step:
    """A step of the plain network, with `watch` and the loss in its rows."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    watcher = watch(model, optimizer)
    x, y = torch.randn(32, 784), torch.randint(10, (32,))

    def step() -> None:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        watcher.log(loss=loss)
        optimizer.step()

    return step


def memory(steps: int = STEPS, columns: int = COLUMNS) -> float:
    """Megabytes that a long record adds to a process, from its tenth step on."""
    command = [sys.executable, __file__, "--memory", str(steps), str(columns)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def measure_memory(steps: int, columns: int) -> None:
    """Print what a training of so many steps and columns adds, with a file."""
    layer = nn.Linear(1, 1, bias=False)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.0)
    row = {f"column/{k}": k / 7 for k in range(columns - 3)}
    with tempfile.TemporaryDirectory() as folder:
        watcher = watch(layer, optimizer, file=f"{folder}/run.jsonl")
        for step in range(steps):
            layer.weight.grad = torch.ones(1, 1)
            watcher.log(**row)
            optimizer.step()
            if step == 10:
                before = resident()
        added = resident() - before
        watcher.close()
    print(added)


def resident() -> float:
    """Megabytes of memory that this process holds."""
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def rows() -> list[Row]:
    prepare()
    return [
        *language_rows(),
        *(plain_network_row(width) for width in WIDTHS),
        at_most(
            f"memory of {STEPS:,} steps of {COLUMNS} columns, with a file, MB",
            memory(),
            20,
        ),
    ]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory"]:
        measure_memory(*map(int, sys.argv[2:]))
    else:
        show(rows())

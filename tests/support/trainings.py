"""Trainings, whole and broken, as ``diagnose`` takes them."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradlib.diagnosis import Report, diagnose

Case = dict[str, Any]


def classes(
    n: int = 40, size: int = 16, features: int = 8
) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(4, features, generator=generator)
    batches = []
    for _ in range(n):
        y = torch.randint(0, 4, (size,), generator=generator)
        noise = 0.5 * torch.randn(size, features, generator=generator)
        batches.append((centers[y] + noise, y))
    return batches


def curve(n: int = 40, size: int = 16) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    batches = []
    for _ in range(n):
        x = torch.randn(size, 4, generator=generator)
        batches.append((x, torch.tanh(x.sum(1, keepdim=True))))
    return batches


def mlp(inside: int, out: int, **changes: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    layers = {
        "fc1": nn.Linear(inside, 32),
        "act1": nn.ReLU(),
        "fc2": nn.Linear(32, 32),
        "act2": nn.ReLU(),
        "fc3": nn.Linear(32, out),
    }
    model = nn.Sequential()
    for name, layer in {**layers, **changes}.items():
        model.add_module(name, layer)
    return model


def case(
    model: nn.Module,
    batches: list[Any],
    *,
    lr: float = 1e-2,
    sgd: bool = False,
    **ways: Any,
) -> Case:
    kind = torch.optim.SGD if sgd else torch.optim.Adam
    if not {"loss", "step", "loss_fn"} & set(ways):
        whole = batches[0][1].is_floating_point()
        ways["loss_fn"] = nn.MSELoss() if whole else F.cross_entropy
    optimizer = ways.pop("optimizer", None) or kind(model.parameters(), lr=lr)
    return dict(model=model, optimizer=optimizer, batches=batches, **ways)


def good() -> Case:
    return case(mlp(8, 4), classes())


def good_regression() -> Case:
    return case(mlp(4, 1), curve())


def nan_input() -> Case:
    batches = classes()
    batches[7][0][1, 2] = float("nan")
    return case(mlp(8, 4), batches)


def run(made: Case) -> Report:
    ways = {k: v for k, v in made.items() if k not in ("model", "optimizer", "batches")}
    return diagnose(made["model"], made["optimizer"], made["batches"], **ways)

"""Small networks."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def own_seed(seed: int = 0) -> Iterator[None]:
    """Draws inside are those of a seed; torch's random state is as before."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def relu_network(*extra: nn.Module) -> nn.Sequential:
    with own_seed():
        return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), *extra, nn.Linear(8, 3))


def tanh_network(*extra: nn.Module, seed: int = 0) -> nn.Sequential:
    with own_seed(seed):
        return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), *extra, nn.Linear(8, 3))


def network_with_gradients(seed: int = 0) -> nn.Sequential:
    with own_seed(seed):
        net = nn.Sequential(
            nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(inplace=True), nn.Linear(4, 2)
        )
        net(torch.randn(8, 3)).square().sum().backward()
    return net

"""Random numbers of tests, by seed."""

import torch
from torch import Tensor


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers, drawn apart from those of a generator of that seed."""
    return torch.randn(shape, generator=generator(1000 + seed))

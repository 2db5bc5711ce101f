"""Random draws from a seed that leave torch's own random state alone."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from gradlib.errors import check_count


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Let torch draw on the CPU from ``seed``, then restore its random state.

    Args:
        seed: A whole number >= 0, or None to change nothing.

    Raises:
        TypeError: ``seed`` is not a whole number.
        ValueError: ``seed`` is negative.

    Example:
        >>> with seeded(0):
        ...     first = torch.rand(2)
        >>> with seeded(0):
        ...     torch.equal(first, torch.rand(2))
        True
    """
    if seed is None:
        yield
        return
    seed = check_count(seed, "seed", least=0)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield

"""Digits that need no download, synthetic tasks, and minibatches of any tensors."""

from gradlib.data.digits import batches, mnist
from gradlib.data.tasks import (
    adding_problem,
    copy_task,
    heavy_tailed_noise,
    markov_chain,
    repeat_task,
)

__all__ = [
    "adding_problem",
    "batches",
    "copy_task",
    "heavy_tailed_noise",
    "markov_chain",
    "mnist",
    "repeat_task",
]

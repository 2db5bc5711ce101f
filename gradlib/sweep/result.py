"""What a sweep measured: loss curves by run, settings, the best one, a table."""

import math
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor

from gradlib.history import History
from gradlib.tables import text_table


class Setting(NamedTuple):
    """A scheme and a learning rate."""

    scheme: str
    lr: float


class Run(NamedTuple):
    """One run of a sweep."""

    scheme: str
    lr: float
    seed: int


@dataclass(frozen=True, repr=False)
class SweepResult:
    """What the runs of a sweep measured.

    Attributes:
        runs: All seeds of the first setting, then of the next.
        losses: Training loss before each step, float64 of shape (run, step); NaN
            after the step at which a run diverged.
        gradient_norms: L2 norm of each run's gradient before clipping, likewise.
        diverged_at: For each run the step at which it diverged, or None.
    """

    runs: tuple[Run, ...]
    losses: Tensor
    gradient_norms: Tensor
    diverged_at: tuple[int | None, ...]

    @property
    def diverged(self) -> Tensor:
        """Whether each run diverged, bool of shape (run,)."""
        return torch.tensor([step is not None for step in self.diverged_at])

    @property
    def final_losses(self) -> Tensor:
        """Mean loss over the last tenth of the steps; infinite if a run diverged."""
        last = max(1, self.losses.shape[1] // 10)
        return self.losses[:, -last:].mean(dim=1).masked_fill(self.diverged, math.inf)

    @property
    def settings(self) -> dict[Setting, list[int]]:
        """For each setting the indices of its runs, one a seed."""
        found: dict[Setting, list[int]] = {}
        for index, run in enumerate(self.runs):
            found.setdefault(Setting(run.scheme, run.lr), []).append(index)
        return found

    def best(self) -> Setting:
        """The setting with the least mean final loss over its seeds.

        Raises:
            ValueError: every setting has a seed that diverged.
        """
        final = self.final_losses.tolist()
        means = {s: fmean(final[i] for i in runs) for s, runs in self.settings.items()}
        best = min(means, key=lambda setting: means[setting])
        if not math.isfinite(means[best]):
            raise ValueError(
                "best: expected a setting at which no seed diverged, found none. "
                "Lower the learning rates, or give clip=1.0."
            )
        return best

    def history(self, run: int) -> History:
        """One run, with the columns ``loss``, ``gradient_norm``, ``learning_rate``."""
        last, rate = self.diverged_at[run], self.runs[run].lr
        end = self.losses.shape[1] if last is None else last + 1
        history = History(diverged_at=last)
        for step in range(end):
            history.append(
                step,
                loss=self.losses[run, step],
                gradient_norm=self.gradient_norms[run, step],
                learning_rate=rate,
            )
        return history

    def __repr__(self) -> str:
        """A row for each setting: final loss over the seeds that did not diverge."""
        header = ["scheme", "lr", "final loss", "least", "most", "diverged"]
        rows = []
        final = self.final_losses.tolist()
        for (scheme, lr), runs in self.settings.items():
            kept = [final[i] for i in runs if self.diverged_at[i] is None]
            numbers = [fmean(kept), min(kept), max(kept)] if kept else [math.nan] * 3
            texts = [f"{x:.4g}" if kept else "-" for x in numbers]
            diverged = f"{len(runs) - len(kept)}/{len(runs)}"
            rows.append([scheme, f"{lr:.4g}", *texts, diverged])
        return text_table(header, rows, left=(0,))

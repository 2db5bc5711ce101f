"""What a sweep measured: loss curves by run, settings, the best one, a table."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor

from gradlib.history import History


class Setting(NamedTuple):
    """A scheme and a learning rate."""

    scheme: str
    lr: float


class Member(NamedTuple):
    """One run of a sweep."""

    scheme: str
    lr: float
    seed: int


@dataclass(frozen=True, repr=False)
class SweepResult:
    """What the runs of a sweep measured.

    Attributes:
        members: The runs: all seeds of the first setting, then of the next.
        losses: Training loss before each step, float64 of shape (member, step); NaN
            after the step at which a run diverged.
        gradient_norms: L2 norm of each run's gradient before clipping, likewise.
        diverged_at: For each run the step at which it diverged, or None.
    """

    members: tuple[Member, ...]
    losses: Tensor
    gradient_norms: Tensor
    diverged_at: tuple[int | None, ...]

    @property
    def diverged(self) -> Tensor:
        """Whether each run diverged, bool of shape (member,)."""
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
        for index, member in enumerate(self.members):
            found.setdefault(Setting(member.scheme, member.lr), []).append(index)
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
                "Lower the learning rates, or give max_norm."
            )
        return best

    def history(self, member: int) -> History:
        """One run, with the columns ``loss``, ``gradient_norm``, ``learning_rate``."""
        last, rate = self.diverged_at[member], self.members[member].lr
        end = self.losses.shape[1] if last is None else last + 1
        history = History(diverged_at=last)
        for step in range(end):
            history.append(
                step,
                loss=self.losses[member, step],
                gradient_norm=self.gradient_norms[member, step],
                learning_rate=rate,
            )
        return history

    def __repr__(self) -> str:
        """A row for each setting: final loss over the seeds that did not diverge."""
        rows: list[Sequence[str]] = [
            ("scheme", "lr", "final loss", "least", "most", "diverged")
        ]
        final = self.final_losses.tolist()
        for (scheme, lr), runs in self.settings.items():
            kept = [final[i] for i in runs if self.diverged_at[i] is None]
            numbers = [fmean(kept), min(kept), max(kept)] if kept else [math.nan] * 3
            texts = [f"{x:.4g}" if kept else "-" for x in numbers]
            rows.append(
                (scheme, f"{lr:.4g}", *texts, f"{len(runs) - len(kept)}/{len(runs)}")
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
            for row in rows
        )

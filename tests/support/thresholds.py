"""Named numbers of the diagnosis, and values on either side of them."""

import ast
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

Probe = Callable[[Any], bool]


@dataclass(frozen=True)
class Bracket:
    """A threshold, and what is decided on either side of it.

    Args:
        name: Module below ``gradlib.diagnosis``, and constant.
        decides: Function of a measured value.
        no: A value where it is False, so close that a threshold moved by a factor of
            two, or half of the way to 0 or 1 for a share, lies beyond.
        yes: Another one where it is True.
        lower: Also look at a lower threshold.
    """

    name: str
    decides: Probe
    no: float
    yes: float
    lower: bool = True

    def __str__(self) -> str:
        return self.name

    @property
    def module(self) -> Any:
        return importlib.import_module(
            f"gradlib.diagnosis.{self.name.rpartition('.')[0]}"
        )

    @property
    def constant(self) -> str:
        return self.name.rpartition(".")[2]

    def holds(self) -> bool:
        return self.decides(self.yes) and not self.decides(self.no)

    def moved(self) -> list[float]:
        value = getattr(self.module, self.constant)
        if isinstance(value, int):
            return [value // 2, 2 * value] if self.lower else [2 * value]
        up = (1 + value) / 2 if 0.2 <= value < 1 else 2 * value
        return [value / 2, up] if self.lower else [up]

    def unnoticed(self) -> list[float]:
        """Moved thresholds with which it still holds."""
        found = []
        for value in self.moved():
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(self.module, self.constant, value)
                if self.holds():
                    found.append(value)
        return found


# Limits of time and memory, lengths of trials, sizes of samples, floors of divisions,
# and confidences: no verdict lies on either side of them.
OTHER_NUMBERS = {
    "diagnose.BY_LUCK",
    "diagnose_log.BEHIND",
    "examination.JUDGED_BATCHES",
    "examination.PARTS",
    "examination.ROUNDED",
    "rules.objective.HALVED",
    "rules.resumption.FIRST_LOSSES",
    "examination.SECONDS",
    "examination.BASE_SHARE",
    "evidence.base_run.FIRST_STEPS",
    "evidence.function_calls.IGNORED",
    "evidence.function_calls.MOST_ROWS",
    "evidence.function_calls.ONE_HOT",
    "rules.meaning.MOST_ROWS",
    "treatments.MASKED",
    "evidence.base_run.LONGEST_MESSAGE",
    "evidence.loss_curve.TINY",
    "evidence.loss_graph.MOST_NODES",
    "evidence.loss_graph.MOST_PASSED",
    "evidence.feature_scale.MOST_ROWS",
    "evidence.feature_scale.SHAPED_BATCHES",
    "evidence.feature_scale.CONSTANT",
    "evidence.training_log.SAMPLED",
    "rules.history.ROUNDING",
    "evidence.naive_loss.FEWEST_BATCHES",
    "evidence.naive_loss.SPREAD",
    "evidence.naive_loss.ENOUGH_SAMPLES",
    "evidence.naive_loss.MOST_BATCHES",
    "evidence.naive_loss.NEWTON_BATCHES",
    "evidence.naive_loss.DESCENT_STEPS",
    "evidence.naive_loss.DESCENT_RATE",
    "evidence.naive_loss.STRAIGHT",
    "nested.DEEPEST",
    "rules.best_change.GUESS",
    "rules.log.sign.TINY",
    "rules.normalization.ENOUGH",
    "rules.learning_rate.WARM_UP",
    "rules.learning_rate.SHORTEST_WARM_UP",
    "rules.optimizer.FEWEST_STEPS",
    "rules.resumption.FEWEST_JUMPS",
    "rules.table.WATCHED_ONLY",
    "verdict.MOST_WARNINGS",
    "saved_state.MOST_OBJECTS",
    "saved_state.LONGEST_CONTAINER",
}


def numbers() -> set[str]:
    """Constants of all modules of the diagnosis that are numbers."""
    found = set()
    package = importlib.import_module("gradlib.diagnosis")
    for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        module = importlib.import_module(info.name)
        assert module.__file__ is not None
        with open(module.__file__, encoding="utf8") as file:
            tree = ast.parse(file.read())
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                name = node.targets[0].id
                value = getattr(module, name)
                if (
                    name.isupper()
                    and name[0] != "_"
                    and isinstance(value, (int, float))
                ):
                    found.add(f"{info.name.removeprefix('gradlib.diagnosis.')}.{name}")
    return found

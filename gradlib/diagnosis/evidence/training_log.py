"""What rules look at in a log: curves of the loss, the norm, the rate and the scale."""

import math
import re
from array import array
from dataclasses import dataclass
from functools import cached_property
from statistics import median

from gradlib.history import History
from gradlib.logs.events import Event
from gradlib.logs.log import Log
from gradlib.logs.names import is_loss, is_reinforcement, is_validation

SAMPLED = 5_000
"""Values, evenly spaced, that a median of a long curve is taken of."""

ENDS = 3
"""Records whose median stands for the start and for the end of a curve."""

_SCORE = re.compile(
    r"(?:^|[/_.])(?:score|acc|accuracy|acc1|top1|map50|map|ents_f|bleu|val_acc|auc|f1)"
    r"(?:[/_.(]|$)"
)


@dataclass(frozen=True)
class Curve:
    """One column of a log.

    Args:
        name: Name of the column.
        steps: Steps that have it.
        values: Its values there.
    """

    name: str
    steps: "array[int]"
    values: "array[float]"

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def is_finite(self) -> bool:
        """Every value is a finite number."""
        return all(map(math.isfinite, self.values))

    @cached_property
    def bad(self) -> list[int]:
        """Places of the values that are not finite."""
        if self.is_finite:
            return []
        return [k for k, v in enumerate(self.values) if not math.isfinite(v)]

    @cached_property
    def finite(self) -> "Curve":
        """The same without the values that are not finite."""
        if self.is_finite:
            return self
        kept = [k for k, v in enumerate(self.values) if math.isfinite(v)]
        return Curve(
            self.name,
            array("q", [self.steps[k] for k in kept]),
            array("d", [self.values[k] for k in kept]),
        )

    @property
    def start(self) -> float:
        """Median of the first finite values; of the first one where there are few."""
        values = self.finite.values
        few = max(1, min(ENDS, len(values) // 2))
        return median(values[:few]) if values else math.nan

    @property
    def end(self) -> float:
        """Median of the last finite values; of the last one where there are few."""
        values = self.finite.values
        few = max(1, min(ENDS, len(values) // 2))
        return median(values[-few:]) if values else math.nan

    @cached_property
    def typical(self) -> float:
        """Median of the finite values."""
        values = self.finite.values
        stride = max(1, len(values) // SAMPLED)
        return median(values[::stride]) if values else math.nan

    @cached_property
    def largest(self) -> float:
        """Largest absolute finite value."""
        values = self.finite.values
        return max(max(values), -min(values)) if values else math.nan

    @cached_property
    def jump(self) -> float:
        """Usual difference of neighbours."""
        values = self.finite.values
        stride = max(1, len(values) // SAMPLED)
        jumps = [
            abs(values[k + 1] - values[k]) for k in range(0, len(values) - 1, stride)
        ]
        return median(jumps) if jumps else 0.0

    @property
    def best(self) -> float:
        """Lowest median of three finite neighbours."""
        return self._best[0]

    @property
    def after_best(self) -> "Curve":
        """The finite values from the lowest level on."""
        finite, place = self.finite, self._best[1]
        return Curve(self.name, finite.steps[place:], finite.values[place:])

    @cached_property
    def _best(self) -> tuple[float, int]:
        values = self.finite.values
        if len(values) < ENDS:
            return min(values, default=math.nan), 0
        stride = max(1, len(values) // SAMPLED)
        places = range(0, len(values) - ENDS + 1, stride)
        return min((median(values[k : k + ENDS]), k) for k in places)


class TrainingLog:
    """A log as rules see it.

    Example:
        >>> from gradlib.logs import read_log
        >>> evidence = TrainingLog(read_log("step 1 loss 2.5\\nstep 2 loss nan\\n"))
        >>> evidence.loss.name, evidence.loss.bad
        ('loss', [1])
    """

    def __init__(self, log: Log) -> None:
        self.log = log
        self.history: History = log.history

    @cached_property
    def curves(self) -> dict[str, Curve]:
        """All columns but the steps."""
        names = self.history.columns[1:]
        return {name: Curve(name, *self.history.packed(name)) for name in names}

    @cached_property
    def training_losses(self) -> list[Curve]:
        """Losses on training data, the main one first."""
        running = self.log.running if self._has_current_loss else ()
        losses = [
            curve
            for name, curve in self.curves.items()
            if is_loss(name)
            and not is_validation(name)
            and name not in running
            and not name.startswith("estimated_")
        ]
        return sorted(losses, key=lambda curve: curve.name != "loss")

    @property
    def _has_current_loss(self) -> bool:
        return "loss" in self.curves and "loss" not in self.log.running

    @cached_property
    def loss(self) -> Curve | None:
        """The loss of training; the logarithm of the perplexity, or a loss on other
        data, where there is none."""
        if self.training_losses:
            return self.training_losses[0]
        if "perplexity" in self.curves:
            curve = self.curves["perplexity"]
            logs = array(
                "d", [math.log(v) if v > 0 else math.nan for v in curve.values]
            )
            return Curve("log perplexity", curve.steps, logs)
        return next((c for n, c in self.curves.items() if is_loss(n)), None)

    @cached_property
    def norms(self) -> list[Curve]:
        """Gradient norms, the total one first."""
        norms = [
            curve
            for name, curve in self.curves.items()
            if name == "gradient_norm" or name.endswith("grad_norm")
        ]
        return sorted(norms, key=lambda curve: curve.name != "gradient_norm")

    @property
    def norm(self) -> Curve | None:
        """Norm of the gradient."""
        return self.norms[0] if self.norms else None

    @property
    def rate(self) -> Curve | None:
        """Learning rate."""
        return self.curves.get("learning_rate")

    @cached_property
    def scales(self) -> list[tuple[int, float]]:
        """Loss scale, step by step, from its column and from the overflows."""
        curve = self.curves.get("loss_scale")
        found: list[tuple[int, int, float]] = []
        if curve:
            pairs = zip(curve.steps, curve.values, strict=True)
            found += [(step, 1, value) for step, value in pairs]
        for event in self.events("overflow"):
            before = event.before
            if before is None and event.value is not None:
                before = 2 * event.value
            if before is not None:
                found.append((event.step, 0, before))
            if event.value is not None:
                found.append((event.step, 0, event.value))
        found.sort(key=lambda entry: entry[:2])
        return [(step, value) for step, _, value in found if math.isfinite(value)]

    def events(self, *kinds: str) -> list[Event]:
        """Events of these kinds, in order."""
        return [event for event in self.log.events if event.kind in kinds]

    @cached_property
    def is_reinforcement(self) -> bool:
        """Rewards are learned from, so the loss says little."""
        return any(map(is_reinforcement, self.curves))

    @cached_property
    def is_adversarial(self) -> bool:
        """Two networks play against each other, so neither loss should fall."""
        names = " ".join(self.curves)
        pair = re.search(r"\bg_?loss|loss_?g\b|gen(?:erator)?_loss", names)
        return bool(pair and re.search(r"\bd_?loss|loss_?d\b|disc\w*_loss", names))

    @cached_property
    def improves(self) -> bool:
        """Some score rose: from its start, and to near its best."""
        for name, curve in self.curves.items():
            values = curve.finite.values
            if _SCORE.search(name) and len(values) > 1:
                top = max(values)
                if (
                    top > 0
                    and values[-1] > 0.8 * top
                    and curve.end > 1.05 * curve.start
                ):
                    return True
        return False

    def at(self, step: int) -> str:
        """A step in words, as the log counts."""
        return f"{self.log.unit} {self.log.shown(step)}"


def log_of(perplexity: Curve) -> Curve:
    """The cross entropy that a perplexity comes from."""
    values = [math.log(v) if v > 0 else math.nan for v in perplexity.values]
    return Curve("log perplexity", perplexity.steps, array("d", values))

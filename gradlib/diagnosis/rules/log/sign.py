"""What a rule saw in a log, and what rules share."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gradlib.diagnosis.evidence.training_log import TrainingLog

BROKEN, NORMAL, UNCLEAR = "broken", "normal", "unclear"

TINY = 1e-12

RATE_ZERO = (
    "Run {where} again from the last checkpoint with the learning rate 0: NaN again "
    "means the data or the arithmetic, finite numbers mean the updates before it."
)

OTHER_BATCH = (
    "Run {where} again in float32: finite numbers mean half precision. If not, run it "
    "with another batch: finite numbers mean that batch, NaN the weights or the loss."
)

FLOAT32 = (
    "Run the 50 steps before {where} again from a checkpoint whose weights are finite, "
    "in float32 (or bfloat16): finite numbers mean half precision; NaN at the same "
    "batch means that batch."
)

TENTH = (
    "Run the same steps from the start with a tenth of the learning rate: if the loss "
    "falls, the rate was too high."
)


@dataclass(frozen=True)
class Sign:
    """What one rule saw in a log.

    Args:
        verdict: ``"broken"``, ``"normal"`` (odd, and as it should be) or
            ``"unclear"``.
        symptom: What was seen, in a sentence with numbers.
        causes: Causes that fit, with their confidence.
        step: First bad step, in the history.
        layer: Where: the column that was bad first.
        evidence: Name -> number.
        test: The one test that tells the causes apart.
        assures: Of a normal sign: that the run goes as it should, even where too few
            records are shown to see the loss fall.
    """

    verdict: str
    symptom: str
    causes: tuple[tuple[str, float], ...] = ()
    step: int | None = None
    layer: str = "global"
    evidence: dict[str, Any] = field(default_factory=dict)
    test: str = ""
    assures: bool = False


LogRule = Callable[[TrainingLog], Sign | None]

"""What a log says besides numbers: overflows, skipped updates, stops, resumes."""

import re
from dataclasses import dataclass

from gradlib.logs.numbers import NUMBER, to_number


@dataclass(frozen=True)
class Event:
    """Something that happened at a step.

    Args:
        kind: ``"overflow"`` (the loss scale went down, the update was skipped),
            ``"skipped"`` (an update was skipped), ``"refused"`` (a loss that the
            program did not accept), ``"stopped"`` (the program gave up because a
            number was not finite), ``"resumed"`` or ``"restarted"`` (the steps count
            from a smaller number again).
        line: Number of the line, from 1.
        step: The step, as in the history.
        before: For an overflow, the loss scale before it, or None.
        value: For an overflow, the loss scale after it; for a refused loss, the loss.
    """

    kind: str
    line: int
    step: int
    before: float | None = None
    value: float | None = None


PATTERNS: tuple[tuple[str, str], ...] = (
    ("overflow", r"Attempted loss scale: (N), (?:but|reducing to (N))"),
    ("overflow", r"overflow.{0,60}(?:reducing|setting) loss scale to:? ()(N)"),
    ("overflow", r"Gradient overflow\.\s+Skipping step"),
    ("skipped", r"(?i)grad(?:ient)? norm is (?:nan|inf).{0,40}(?:skip|not update)"),
    ("skipped", r"(?i)(?:nan|inf)\w* (?:grad|gradient|loss)\w*.{0,40}skip"),
    ("refused", r"loss \(=()(N)\) is not correct"),
    ("stopped", r"(?i)invalid loss, terminating"),
    ("stopped", r"(?i)found inf or nan (?:global|local)? ?(?:grad|gradient)? ?norm"),
    ("stopped", r"(?i)(?:minimum loss scale reached|loss scale already at minimum)"),
    ("stopped", r"(?i)nan (?:loss|value)s? during training|FloatingPointError"),
    ("stopped", r"(?i)loss is (?:nan|-?inf|infinite),? (?:stopping|terminating)"),
    ("stopped", r"(?i)detected nan loss|nan loss with "),
    ("stopped", r"(?i)loss ?tensor is (?:inf or )?nan"),
    ("stopped", r"(?i)model diverged with loss = (?:nan|inf)"),
    ("resumed", r"(?i)\b(?:resum(?:ing|ed) (?:training |model |run )?(?:from|at)\b)"),
    ("resumed", r"(?i)continuing training from checkpoint"),
)
"""Kind -> how programs say it; ``(N)`` is the loss scale before, then after."""

_SIGNS = (
    *("overflow", "skip", "not update", "not correct", "terminat", "stopping", "nan"),
    *("minimum", "resum", "continuing", "diverged", "floatingpoint"),
)
_HALF_SIGNS = ("16", "v100", "t4", "scaler")
_COMPILED = tuple((k, re.compile(p.replace("(N)", f"({NUMBER})"))) for k, p in PATTERNS)
_HALF = re.compile(
    r"(?i)\bfp16\b|\bfloat16\b|\bV100\b|\bT4\b|GTX ?16\d\d|loss_scaler|GradScaler"
)


def find_event(line: str) -> tuple[str, float | None, float | None] | None:
    """Kind of the event that a line tells of, the scale before it and after it.

    Example:
        >>> find_event("OVERFLOW! Attempted loss scale: 64, reducing to 32")
        ('overflow', 64.0, 32.0)
        >>> find_event("step 10 loss 2.5") is None
        True
    """
    small = line.lower()
    if not any(sign in small for sign in _SIGNS):
        return None
    for kind, pattern in _COMPILED:
        if found := pattern.search(line):
            numbers = [to_number(text) if text else None for text in found.groups()]
            before, after = (*numbers, None, None)[:2]
            return kind, before, after
    return None


def speaks_of_half(line: str) -> bool:
    """Whether a line names float16, or a card that has no bfloat16.

    Example:
        >>> speaks_of_half("[loss_scaler.py:183] OVERFLOW!"), speaks_of_half("bf16")
        (True, False)
    """
    small = line.lower()
    return any(sign in small for sign in _HALF_SIGNS) and bool(_HALF.search(line))

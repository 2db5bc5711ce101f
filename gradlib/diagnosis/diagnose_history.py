"""Diagnose a recorded history, where nothing can be run again."""

import math

from gradlib.diagnosis.evidence.loss_curve import LossCurve
from gradlib.diagnosis.report import Report
from gradlib.diagnosis.rules.history import HISTORY_RULES
from gradlib.history import History


def diagnose_history(history: History) -> Report:
    """Name likely causes from recorded losses, norms and activations alone.

    Nothing can be tried, so several causes fit one curve: no finding is more than
    ``"likely"``. Columns of `GradientMonitor` and `fit` are read; the more there
    are, the more it can tell (dead and saturated units need ``activations=True``).

    Args:
        history: FeatureScale ``loss``, ``gradient_norm``, and where recorded
            ``gradient_norm/<parameter>``, ``parameter_norm/<parameter>``,
            ``update_ratio/<parameter>`` and ``activation_<what>/<module>``.

    Returns:
        A report, most likely cause first.

    Raises:
        TypeError: not a history.
        ValueError: no loss was recorded.

    Example:
        >>> history = History()
        >>> for step in range(20):
        ...     history.append(step, loss=10.0**step, gradient_norm=10.0**step)
        >>> diagnose_history(history).cause
        'lr_too_high'
    """
    if not isinstance(history, History):
        raise TypeError(f"history: expected a gradlib.History, got {type(history)}")
    if "loss" not in history:
        raise ValueError(
            f"history: expected a column 'loss', got {', '.join(history.columns)}; "
            "record it with monitor.log(loss)"
        )
    _, losses = history.recorded("loss")
    finite = history.diverged_at is None and math.isfinite(losses[-1])
    curve = LossCurve(tuple(losses), finite=finite)
    found = [rule(history, curve) for rule in HISTORY_RULES]
    findings = sorted((f for f in found if f), key=lambda f: f.confidence, reverse=True)
    watched = (
        f"{len(losses)} recorded steps; the loss went from {curve.start:.4g} to "
        f"{curve.end:.4g}. Nothing could be tried, so several causes may fit."
    )
    return Report(tuple(findings), watched)

"""Diagnose a recorded history, where nothing can be run again."""

import math
from collections.abc import Iterator
from dataclasses import replace

from gradlib.diagnosis.diagnose_log import judge
from gradlib.diagnosis.evidence.loss_curve import LossCurve
from gradlib.diagnosis.report import Finding, Report
from gradlib.diagnosis.rules.history import HISTORY_RULES
from gradlib.history import History
from gradlib.logs import Log

BEHIND = 0.05
"""How far behind the rules on layers those on logs are told."""


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
    curve = LossCurve(tuple(losses), finite=finite, recorded=True)
    found = [finding for rule in HISTORY_RULES if (finding := rule(history, curve))]
    log = judge(Log(history, format="history", source="history"))
    findings = sorted(
        [*found, *_added(found, log.findings)],
        key=lambda finding: finding.confidence,
        reverse=True,
    )
    watched = (
        f"{len(losses)} recorded steps; the loss went from {curve.start:.4g} to "
        f"{curve.end:.4g}. Nothing could be tried, so several causes may fit."
    )
    broken = bool(findings)
    return Report(
        tuple(findings),
        watched,
        verdict="broken" if broken else log.verdict,
        remarks=log.remarks,
        next_test=log.next_test,
        first_bad_step=log.first_bad_step,
    )


def _added(found: list[Finding], others: tuple[Finding, ...]) -> Iterator[Finding]:
    """What the rules on logs add: causes that no rule on layers has named.

    Rules on layers see more, so what is added is told after them.
    """
    limit = min((finding.confidence for finding in found), default=1.0)
    known = {finding.cause for finding in found}
    for finding in others:
        if finding.cause not in known:
            confidence = (
                min(finding.confidence, limit - BEHIND) if found else finding.confidence
            )
            yield replace(finding, confidence=confidence)

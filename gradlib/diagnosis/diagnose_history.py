"""Diagnose a recorded history, where nothing can be run again."""

from gradlib.diagnosis.diagnose_log import judge
from gradlib.diagnosis.report import Report
from gradlib.history import History
from gradlib.logs import Log


def diagnose_history(history: History) -> Report:
    """Name likely causes from recorded losses, norms and activations alone.

    The rules are those of `diagnose_log`. Nothing can be tried, so several causes fit
    one curve: no finding is more than ``"likely"``. Columns of `GradientMonitor` and
    `fit` are read; the more there are, the more it can tell (dead and saturated units
    need ``activations=True``).

    Args:
        history: Columns ``loss``, ``gradient_norm``, and where recorded
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
    return judge(Log(history, format="history", source="history"))

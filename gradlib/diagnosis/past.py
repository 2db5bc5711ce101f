"""Diagnose a recorded history, where nothing can be run again."""

import math

from gradlib.diagnosis.course import Course
from gradlib.diagnosis.observation import median
from gradlib.diagnosis.report import Finding, Report
from gradlib.history import History

STILL = 1e-12
FAINT = 1e-4
LARGE_UPDATE = 0.1
JUMP = 100.0


def diagnose_history(history: History) -> Report:
    """Name likely causes from recorded losses and norms alone.

    Without runs to compare, several causes fit one curve: confidence stays low.

    Args:
        history: Columns ``loss``, ``gradient_norm``, and where recorded
            ``gradient_norm/<parameter>`` and ``update_ratio/<parameter>``.

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
            f"history: expected a column 'loss', got {', '.join(history.columns)}"
        )
    _, losses = history.recorded("loss")
    course = Course(tuple(losses), finite=math.isfinite(losses[-1]))
    found = [rule(history, course) for rule in HISTORY_RULES]
    findings = sorted((f for f in found if f), key=lambda f: f.confidence, reverse=True)
    watched = (
        f"{len(losses)} steps; the loss went from {course.start:.4g} to "
        f"{course.end:.4g}."
    )
    return Report(tuple(findings), watched)


def sudden_nan(history: History, course: Course) -> Finding | None:
    """The loss stops being finite although gradients were of ordinary size."""
    if math.isfinite(course.end) or "gradient_norm" not in history:
        return None
    norms = [n for n in history["gradient_norm"] if math.isfinite(n)]
    if norms and max(norms[-3:]) > JUMP * median(norms):
        return None
    return Finding(
        "loss_numerics",
        "loss",
        "The loss stops being finite without any growth of the gradient before.",
        {"last finite gradient norm": norms[-1] if norms else math.nan},
        0.5,
    )


def growing_norms(history: History, course: Course) -> Finding | None:
    """Loss or gradient norm explodes step by step."""
    if not course.blown:
        return None
    norms = history.to_dict().get("gradient_norm", [])
    finite = [n for n in norms if math.isfinite(n)]
    if finite and max(finite) < JUMP * finite[0] and not math.isfinite(course.end):
        return None
    return Finding(
        "lr_too_high",
        "global",
        "The loss rises far above its start while the gradient grows.",
        {"largest gradient norm": max(finite, default=math.nan)},
        0.6,
    )


def fading_layers(history: History, course: Course) -> Finding | None:
    """The first layers' gradients are a tiny part of the last ones'."""
    layers = {n: median(v) for n, v in history.layers("gradient_norm").items()}
    if not course.flat or len(layers) < 3:
        return None
    first, last = next(iter(layers)), next(reversed(layers))
    if not layers[first] < FAINT * layers[last]:
        return None
    return Finding(
        "vanishing",
        first.rpartition(".")[0] or first,
        f"The gradient of {first} is {layers[first] / layers[last]:.1g} of that of "
        f"{last}.",
        {"first": layers[first], "last": layers[last]},
        0.65,
    )


def still_parameters(history: History, course: Course) -> Finding | None:
    """Some parameters never move while others do."""
    ratios = {n: max(v) for n, v in history.layers("update_ratio").items()}
    still = [n for n, r in ratios.items() if r < STILL]
    if not still or len(still) == len(ratios):
        return None
    norms = history.layers("gradient_norm")
    idle = [n for n in still if n in norms and max(norms[n]) < STILL]
    cause = "detached_graph" if idle else "optimizer_misconfigured"
    name = (idle or still)[0]
    return Finding(
        cause,
        name.rpartition(".")[0] or name,
        f"{len(still)} of {len(ratios)} parameters never move.",
        {"still": len(still), "without gradient": len(idle)},
        0.5,
    )


def violent_updates(history: History, course: Course) -> Finding | None:
    """Updates are a large part of the weights they change, and nothing is learned."""
    ratios = {n: median(v) for n, v in history.layers("update_ratio").items()}
    loud = {
        n: r for n, r in ratios.items() if r > LARGE_UPDATE and n.endswith("weight")
    }
    if not loud or not (course.flat or course.blown):
        return None
    name = max(loud, key=lambda n: loud[n])
    return Finding(
        "lr_too_high",
        "global",
        f"A usual update changes {name} by {100 * loud[name]:.0f} % of its size.",
        {"update ratio": loud[name]},
        0.55,
    )


HISTORY_RULES = (
    sudden_nan,
    growing_norms,
    fading_layers,
    still_parameters,
    violent_updates,
)

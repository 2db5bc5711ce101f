"""Rules that read a recorded history: each sees one pattern, or stays silent."""

import math
from collections.abc import Callable
from itertools import pairwise

from gradlib.diagnosis.evidence.loss_curve import LossCurve, median
from gradlib.diagnosis.report import Finding, layer_of
from gradlib.history import History

# Gradient, update or output below which nothing moves.
STILL = 1e-12
# Gradient of the first layer over that of the last: deep ReLU networks have 0.01 to 1,
# five sigmoids less than 1e-5.
FADED = 1e-4
FEWEST_LAYERS = 3
# Records of an update that say that a parameter stands still: a branch that starts at
# zero has an update of zero at the first step or two.
FEWEST_RECORDS = 3
# Usual update over the weights it changes: 1e-3 to 1e-2, above 0.3 where it diverges.
LARGE_UPDATE = 0.1
# Gradient norm over the usual one, or over the first: an explosion.
JUMP = 100.0
# Share of zeros in an output: a sparse layer has up to 0.9, a dead one 1.
ALL_ZERO = 0.995
# Distance of the mean square from 1 (tanh), or from the mean (sigmoid, whose range is
# half as wide, so a quarter of it): 0 at the limits; a tanh in its middle has 0.4.
AT_THE_LIMIT = 0.04
# What rounding adds to a mean square of 1.
ROUNDING = 1e-6
# A mean as close to zero: a normalized output, whose mean square is 1 as well.
CENTERED = 0.05
# Standard deviation over that of the first layer's output: 1 to 3 where it is kept.
WIDE_OUTPUT = 30.0
# Summed gradients: while the loss stays below this many times its start, the norm rises
# at so many steps, to this many times its start, at this share of steps, by no more
# than this factor at once. Noise rises at half the steps.
NOT_RISING = 1.1
NEAR_THE_TOP = 0.9
SHORTEST_CLIMB = 5
CLIMBED = 4.0
CLIMBING_SHARE = 0.85
STEEPEST = 3.0

HistoryRule = Callable[[History, LossCurve], Finding | None]


def sudden_nan(history: History, curve: LossCurve) -> Finding | None:
    """The numbers stop being finite although gradients were of ordinary size."""
    step, name, where = first_nan_of_history(history)
    if step is None or math.isfinite(curve.end):
        return None
    pairs = zip(*recorded(history, "gradient_norm"), strict=True)
    norms = [n for s, n in pairs if s < step and math.isfinite(n)]
    if norms and max(norms[-3:]) > JUMP * median(norms):
        return None
    if step == history["step"][0] and where == "forward" and name == entry(history):
        return Finding(
            "bad_data",
            "data",
            f"Already the first layer, {name}, puts out NaN or infinity at the first "
            "step.",
            {"step": step},
            0.6,
        )
    return Finding(
        "loss_numerics",
        name if where != "loss" else "loss",
        f"At step {step} the first NaN or infinity is in the {where} pass"
        f"{' of ' + name if where != 'loss' else ''}, without any growth of the "
        "gradient before.",
        {"step": step, "gradient norm before": norms[-1] if norms else math.nan},
        0.5,
    )


def growing_norms(history: History, curve: LossCurve) -> Finding | None:
    """The loss or the gradient norm explodes step by step."""
    if not curve.exploded:
        return None
    _, norms = recorded(history, "gradient_norm")
    finite = [n for n in norms if math.isfinite(n)]
    if not finite and not math.isfinite(curve.losses[0]):
        return None
    if finite and max(finite) < JUMP * finite[0] and not math.isfinite(curve.end):
        return None
    return Finding(
        "lr_too_high",
        "global",
        "The loss rises far above its start"
        + (" while the gradient grows." if finite else "."),
        {"largest gradient norm": max(finite)} if finite else {},
        0.6 if finite else 0.5,
    )


def kept_gradients(history: History, curve: LossCurve) -> Finding | None:
    """The gradient grows steadily while the loss still falls: it is being summed."""
    steps, norms = recorded(history, "gradient_norm")
    by_step = dict(zip(*history.recorded("loss"), strict=True))
    start = next(iter(by_step.values()))
    rise = []
    for step, norm in zip(steps, norms, strict=True):
        if not (
            by_step.get(step, math.inf) <= NOT_RISING * start and math.isfinite(norm)
        ):
            break
        rise.append(norm)
    near = NEAR_THE_TOP * max(rise, default=0.0)
    top = next((i for i, norm in enumerate(rise) if norm >= near), 0)
    climb = list(pairwise(rise[: top + 1]))
    if len(climb) < SHORTEST_CLIMB or not rise[top] > CLIMBED * rise[0]:
        return None
    up = sum(b > a for a, b in climb)
    steepest = max(b / max(a, STILL) for a, b in climb)
    if up < CLIMBING_SHARE * len(climb) or steepest > STEEPEST:
        return None
    return Finding(
        "missing_zero_grad",
        "loop",
        f"Over the first {len(climb)} steps the gradient norm grows to "
        f"{rise[top] / rise[0]:.1f} times its start while the loss does not rise.",
        {"steps that rose": up, "of": len(climb), "largest norm": rise[top]},
        0.65,
    )


def wide_outputs(history: History, curve: LossCurve) -> Finding | None:
    """At the first step the layers put out values far larger than the first one's."""
    stds = {n: v[0] for n, v in history.layers("activation_std").items() if v}
    finite = {n: s for n, s in stds.items() if math.isfinite(s)}
    first = next(iter(finite.values()), math.inf)
    if not max(finite.values(), default=0.0) > WIDE_OUTPUT * max(1.0, first):
        return None
    growth = {b: finite[b] / max(finite[a], STILL) for a, b in pairwise(finite)}
    name = max(growth, key=growth.__getitem__)
    return Finding(
        "init_too_large",
        name,
        f"Before any update the standard deviation of outputs grows from "
        f"{first:.3g} to {max(finite.values()):.3g}; it grows most in {name}.",
        {"growth there": growth[name], "largest": max(finite.values())},
        0.7,
    )


def fading_layers(history: History, curve: LossCurve) -> Finding | None:
    """The first layers' gradients are a tiny part of the last ones'."""
    layers = {n: median(v) for n, v in history.layers("gradient_norm").items()}
    if not curve.flat or len(layers) < FEWEST_LAYERS:
        return None
    first, last = next(iter(layers)), next(reversed(layers))
    if not 0 < layers[first] < FADED * layers[last]:
        return None
    return Finding(
        "vanishing",
        layer_of(first),
        f"The gradient of {first} is {layers[first] / layers[last]:.1g} of that of "
        f"{last}.",
        {"first": layers[first], "last": layers[last]},
        0.65,
    )


def dead_layers(history: History, curve: LossCurve) -> Finding | None:
    """A module's outputs are all zero and the loss does not fall."""
    ends = {n: v[-1] for n, v in history.layers("activation_zeros").items() if v}
    dead = [n for n, share in ends.items() if share >= ALL_ZERO]
    if not dead or curve.learns:
        return None
    began = history.layers("activation_zeros")[dead[0]][0]
    return Finding(
        "dead_relu",
        dead[0],
        f"{ends[dead[0]]:.0%} of the outputs of {dead[0]} are zero at the end "
        f"({began:.0%} at the start).",
        {"zeros at the start": began, "zeros at the end": ends[dead[0]]},
        0.7,
    )


def layers_at_their_limits(history: History, curve: LossCurve) -> Finding | None:
    """All outputs of a module sit at -1 and 1, or at 0 and 1, from the start."""
    if not curve.flat:
        return None
    means, stds = history.layers("activation_mean"), history.layers("activation_std")
    zeros = history.layers("activation_zeros")
    for name, mean in means.items():
        square = [m * m + s * s for m, s in zip(mean, stds[name], strict=True)]
        tanh = all(abs(1 - q) < AT_THE_LIMIT for q in square)
        sigmoid = all(
            abs(m - q) < AT_THE_LIMIT / 4 * min(1.0, 4 * m) and q <= 1 + ROUNDING
            for m, q in zip(mean, square, strict=True)
        )
        normed = max(map(abs, mean)) < CENTERED
        if (tanh and not normed) or (sigmoid and max(zeros[name]) < ALL_ZERO):
            return Finding(
                "saturated_activation",
                name,
                f"The outputs of {name} are at the limits of a sigmoid or tanh at "
                "every recorded step.",
                {"mean": mean[0], "standard deviation": stds[name][0]},
                0.6,
            )
    return None


def still_parameters(history: History, curve: LossCurve) -> Finding | None:
    """Some parameters never move while others do."""
    columns = history.layers("update_ratio")
    ratios = {n: max(v) for n, v in columns.items() if len(v) >= FEWEST_RECORDS}
    still = [n for n, r in ratios.items() if r < STILL]
    if not still or len(still) == len(ratios):
        return None
    norms = history.layers("gradient_norm")
    idle = [n for n in still if n not in norms or max(norms[n]) < STILL]
    name = (idle or still)[0]
    return Finding(
        "detached_graph" if idle else "optimizer_misconfigured",
        layer_of(name),
        f"{len(still)} of {len(ratios)} parameters never move.",
        {"still": len(still), "without gradient": len(idle)},
        0.5,
    )


def violent_updates(history: History, curve: LossCurve) -> Finding | None:
    """Updates are a large part of the weights they change, and nothing is learned."""
    ratios = {n: median(v) for n, v in history.layers("update_ratio").items()}
    weights = {n: r for n, r in ratios.items() if n.endswith("weight")}
    loud = {n: r for n, r in weights.items() if r > LARGE_UPDATE}
    if not loud or not (curve.flat or curve.exploded):
        return None
    name = max(loud, key=lambda n: loud[n])
    return Finding(
        "lr_too_high",
        "global",
        f"A usual update changes {name} by {100 * loud[name]:.0f} % of its size.",
        {"update ratio": loud[name]},
        0.55,
    )


HISTORY_RULES: tuple[HistoryRule, ...] = (
    sudden_nan,
    growing_norms,
    kept_gradients,
    wide_outputs,
    fading_layers,
    dead_layers,
    layers_at_their_limits,
    still_parameters,
    violent_updates,
)


def recorded(history: History, column: str) -> tuple[list[int], list[float]]:
    """Steps and values of a column; empty if it was not recorded."""
    return history.recorded(column) if column in history else ([], [])


def entry(history: History) -> str:
    """Name of the first module whose outputs were recorded."""
    return next(iter(history.layers("activation_mean")), "")


def first_nan_of_history(history: History) -> tuple[int | None, str, str]:
    """Step, name and pass (forward, loss, backward) of the first NaN or infinity."""
    outputs = [f"activation_mean/{n}" for n in history.layers("activation_mean")]
    gradients = [f"gradient_norm/{n}" for n in history.layers("gradient_norm")]
    passes = [
        *((column, "forward") for column in outputs),
        ("loss", "loss"),
        *((column, "backward") for column in reversed(gradients)),
        ("gradient_norm", "backward"),
    ]
    first: tuple[int | None, str, str] = (None, "", "")
    for column, where in passes:
        steps, values = recorded(history, column)
        bad = (s for s, v in zip(steps, values, strict=True) if not math.isfinite(v))
        step = next(bad, None)
        if step is not None and (first[0] is None or step < first[0]):
            name = column.partition("/")[2] or "loss"
            first = (step, name if where == "forward" else layer_of(name), where)
    return first

"""Rules about the learning rate: zero, below it, too small, too large, too soon."""

import math
from itertools import pairwise

from gradlib.diagnosis.examination import Examination
from gradlib.diagnosis.report import Finding, layer_of
from gradlib.diagnosis.treatments import (
    rising_rates,
    slower,
    steady_rates,
    unscheduled,
    warmed,
)

# A rate that has fallen below this share of the largest half way through is over: warm
# restarts and cosine schedules are at 0.5 there, steps of 0.1 twice at 0.01.
VANISHED_RATE = 3e-3
# Largest relative move of a parameter over the run: 0 to 1e-5 where the rate is far too
# small, 0.05 and more where something is learned.
HARDLY_MOVED = 0.01
# A rate that falls below this share of itself at once, so many times, and rises step by
# step in between: cycles and restarts fall slowly, or begin at their top.
STARTS_ANEW = 0.3
FEWEST_STARTS = 3
# Share of the run that a warm-up takes, and its fewest steps.
WARM_UP = 0.6
SHORTEST_WARM_UP = 4


def rate_below_zero(examination: Examination) -> Finding | None:
    """The learning rate is negative, so that steps climb the loss."""
    below = [k for k, rate in enumerate(examination.base.rates) if rate < 0]
    if not below or not examination.is_ill:
        return None
    rates = examination.base.rates
    return Finding(
        "optimizer_misconfigured",
        "global",
        f"The learning rate is negative from update {below[0]} on ({rates[-1]:.2g} at "
        "the last), so each step climbs the loss.",
        {"first update": below[0], "lowest rate": min(rates)},
        0.97,
        fix="Give the schedule the length of the whole run, also after a resume, and "
        "hold it at 0: max(0.0, 1 - step / total).",
    )


def rate_of_zero(examination: Examination) -> Finding | None:
    """The learning rate is zero, or falls to nothing within the run."""
    rates = [r for r in examination.base.rates if math.isfinite(r)]
    norms = examination.base.calls.at_step if examination.base.calls else []
    if len(rates) < SHORTEST_WARM_UP or not any(norm > 0 for norm in norms):
        return None
    if max(rates) == 0:
        return Finding(
            "learning_rate_zero",
            "global",
            f"The learning rate is 0 at all {len(rates)} steps, so nothing moves.",
            {"learning rate": 0.0, "steps": len(rates)},
            0.97,
        )
    half = rates[len(rates) // 2]
    early = rates.index(max(rates)) < len(rates) // 2
    ended = early and half < VANISHED_RATE * max(rates)
    unknown = examination.naive is None
    if ended and (half == 0 or examination.worth_a_look or unknown):
        name = "the largest rate kept"
        if examination.improves(name, steady_rates):
            return Finding(
                "learning_rate_zero",
                "global",
                f"The learning rate falls from {max(rates):.2g} to {rates[-1]:.2g} "
                f"within {len(rates)} updates; with {name} the same training learns.",
                {
                    "largest rate": max(rates),
                    "rate half way": half,
                    **examination.compared(name),
                },
                0.94,
            )
    return _group_of_zero(examination)


def rate_starts_anew(examination: Examination) -> Finding | None:
    """The warm-up begins again and again, so that the rate never arrives."""
    rates = examination.base.rates
    moves = list(pairwise(rates))
    starts = sum(after < STARTS_ANEW * before for before, after in moves)
    rises = sum(after > before for before, after in moves)
    if starts < FEWEST_STARTS or starts + rises < len(moves):
        return None
    if not examination.worth_a_look and examination.naive is not None:
        return None
    trials = {
        "a warm-up that goes on": rising_rates,
        "a learning rate 100 times larger": slower(1 / 100),
    }
    name = next((n for n, t in trials.items() if examination.improves(n, t)), None)
    if name is None:
        return None
    return Finding(
        "learning_rate_zero",
        "global",
        f"Within {len(rates)} updates the learning rate rises and falls back to its "
        f"start {starts} times: the warm-up counts the steps of something shorter than "
        f"the run, such as an epoch. With {name} the same training learns.",
        {"starts": starts, "largest rate": max(rates), **examination.compared(name)},
        0.93,
        fix="Count the steps of the whole run: epoch * len(loader) + step.",
    )


def _group_of_zero(examination: Examination) -> Finding | None:
    """A group whose rate is zero at every step, though gradients arrive."""
    columns = list(zip(*examination.base.group_rates, strict=True))
    groups = examination.setup.optimizer.param_groups
    names = {id(p): n for n, p in examination.setup.model.named_parameters()}
    for group, column in zip(groups, columns, strict=False):
        mine = [names[id(p)] for p in group["params"] if id(p) in names]
        norms = examination.base.norms
        fed = [n for n in mine if norms[n] and max(norms[n]) > 0]
        if max(column) == 0 and fed and examination.is_ill:
            return Finding(
                "learning_rate_zero",
                layer_of(fed[0]),
                f"The group with {fed[0]} has learning rate 0 at all {len(column)} "
                "steps.",
                {"parameters": len(mine)},
                0.93,
            )
    return None


def tiny_steps(examination: Examination) -> Finding | None:
    """Weights hardly move, and a learning rate 100 times larger cures."""
    if not examination.is_ill or examination.curve.exploded:
        return None
    moved = [
        m for n, m in examination.base.moved.items() if n in examination.parameters
    ]
    if not moved or max(moved) > HARDLY_MOVED:
        return None
    for factor in (100.0, 1e4, 1e6):
        label = f"a learning rate {factor:g} times larger"
        if examination.cures(label, slower(1 / factor)):
            return Finding(
                "optimizer_misconfigured",
                "global",
                f"The weights moved by at most {max(moved):.2g} of their size; "
                f"with {label} the training learns.",
                {"largest relative move": max(moved), **examination.compared(label)},
                0.8,
                conclusive=False,
                fix="Raise the learning rate (and check what the scheduler sets).",
            )
    return None


def missing_warmup(examination: Examination) -> Finding | None:
    """An adaptive optimizer on a network with attention learns after a warm-up."""
    used = examination.base.graph.operations
    attention = any("Attention" in name for name in used) or (
        used["Softmax"] and used["Bmm"]
    )
    adaptive = any("betas" in g for g in examination.setup.optimizer.param_groups)
    if not attention or not adaptive:
        return None
    label = "a warm-up"
    if not examination.cured_by_gentler(
        label, warmed(max(SHORTEST_WARM_UP, int(WARM_UP * examination.setup.steps)))
    ):
        return None
    return Finding(
        "warmup_missing",
        "global",
        "At the full learning rate from the first step the training fails; with a "
        "linear warm-up to the same rate it learns.",
        {
            "learning rate": examination.base.rates[0]
            if examination.base.rates
            else math.nan,
            **examination.compared(label),
        },
        0.86,
    )


def fast_steps(examination: Examination) -> Finding | None:
    """A smaller learning rate, and nothing more special, cures."""
    rate = max(
        (r for r in examination.base.rates if math.isfinite(r)), default=math.nan
    )
    for factor in (10.0, 100.0, 1000.0):
        label = f"a learning rate {factor:g} times smaller"
        if examination.cured_by_gentler(label, slower(factor)):
            return Finding(
                "lr_too_high",
                "global",
                f"With {label} {examination.outcome(label)}.",
                {"largest learning rate": rate, **examination.compared(label)},
                0.84 if factor < 100 else 0.8,
                conclusive=False,
                fix=f"Set lr={rate / factor:.2g} instead of {rate:.2g}; or look for "
                "it with gradlib.lr_range_test.",
            )
    if examination.setup.scheduler is not None and examination.cured_by_gentler(
        "no scheduler", unscheduled
    ):
        return Finding(
            "optimizer_misconfigured",
            "global",
            "Without the scheduler the same training learns.",
            examination.compared("no scheduler"),
            0.75,
            conclusive=False,
        )
    return None

"""Thresholds of the rules on what updates do to rates, weights and parts of a loss."""

from typing import Any

import torch
from meaning_brackets import told
from thresholds import Bracket
from torch import nn

from gradlib.diagnosis.evidence.base_run import BaseRun
from gradlib.diagnosis.evidence.function_calls import Cut, SoftmaxCall
from gradlib.diagnosis.evidence.loss_curve import LossCurve
from gradlib.diagnosis.evidence.update_trace import LayerStats, UpdateTrace
from gradlib.diagnosis.rules import (
    data,
    learning_rate,
    meaning,
    normalization,
    numerics,
    objective,
    resumption,
)


def anew(falls_to: float = 0.0, starts: int = 5) -> bool:
    """Whether a rate that rises and falls back so far, so often, starts anew."""
    rates = [
        falls_to + (1 - falls_to) * i / 9 for _ in range(starts) for i in range(10)
    ]
    rates.append(falls_to)
    made = told(base=BaseRun(traces={}, losses=[1.0], rates=rates))
    return learning_rate.rate_starts_anew(made) is not None


def replaced(times: float = 100.0, worse: float = 3.0) -> bool:
    """Whether a first update that moves so much farther replaced the weights."""
    base = BaseRun(traces={}, losses=[1.0], jumps=[times, 1.0, 1.0, 1.0, 1.0])
    still = LossCurve((1.0,) + (worse,) * 30)
    made = told(base=base, run_under=lambda *_: still)
    return resumption.replaced_weights(made) is not None


def forgot(steps: int = 50, jump: float = 3.0) -> bool:
    """Whether an optimizer that has counted so many steps, and begins anew, forgot."""
    ages, losses = [*range(steps), *range(20)], [1.0] * (steps + 1) + [jump] * 19
    made = told(base=BaseRun(traces={}, losses=losses, ages=ages))
    return resumption.state_starts_anew(made) is not None


def near_zero(steps: float = 1.0, start: float = 100.0) -> bool:
    """Whether a parameter that has come so near to 0 may cross it."""
    middle = [steps + 0.5 * i for i in range(round(2 * (start - steps)), 0, -1)]
    lowest = [start, start - 1.0] + [v for v in middle if v < start - 1] + [steps]
    base = BaseRun(traces={}, losses=[1.0], bare={"w": lowest})
    return numerics.unbounded_logarithm(told(base=base)) is not None


def alike(share: float) -> bool:
    trace = UpdateTrace(nn.Identity())
    spreads = [1.0] + [share] * 9
    trace.layers = {f"l{i}": LayerStats(1, 1, s, 1) for i, s in enumerate(spreads)}
    made = told(base=BaseRun(traces={0: trace}, losses=[1.0]))
    return normalization.alike_samples(made) is not None


def filled(share: float) -> bool:
    """Sequences of which a share is fill values at the ends."""
    tokens = torch.arange(1, 401).reshape(4, 100)
    for row, more in zip(tokens, (-1, 0, 1, 0), strict=True):
        row[round(100 * (1 - share)) + more :] = 0
    made = told()
    made.setup.batches = [(tokens, torch.zeros(4))]
    return data.read_after_padding(made) is not None


def bag(change: float = 0.0, count: int = 8) -> bool:
    """Whether a loss that changes by so much with the pairs does not see them."""
    a, b = torch.randn(count, 3), torch.randn(count, 3)
    made = told(is_ill=False)
    made.setup.batches = [(a, b)]

    def loss_of(batch: Any) -> float:
        first, second = batch
        if torch.equal(second, torch.zeros_like(b)):
            return 9.0
        return 1.0 if torch.equal(first, a) and torch.equal(second, b) else 1 + change

    made.loss_of = loss_of
    return meaning.bag_of_samples(made) is not None


def cut(gain: float) -> bool:
    trace = UpdateTrace(nn.Identity())
    trace.calls.cuts.append(Cut("fc", (8, 10, 12), (8, 3, 10, 4), (1, 2)))
    base = BaseRun(traces={0: trace}, losses=[1.0])
    return meaning.cut_axis(told(base=base, gain=gain, is_ill=False)) is not None


def paid(start: float, end: float) -> bool:
    return _paid(start, end) is not None


def _paid(start: float, end: float, largest: float = 9.0) -> Any:
    trace = UpdateTrace(nn.Identity())
    trace.calls.samplings = 1
    trace.calls.softmaxes.append(SoftmaxCall("", (8, 4), 1, largest=largest))
    base = BaseRun(traces={0: trace}, losses=[1.0])
    curve = LossCurve((start,) * 20 + (end,) * 20)
    return objective.paid_without_end(told(base=base, curve=curve))


def uniform(largest: float) -> bool:
    found = _paid(0.0, -9.0, largest)
    return bool(found.cause == "loss_terms_unbalanced")


def slipped(ratio: float) -> bool:
    """Whether what an own backward pass adds outweighs the rest."""
    base = BaseRun(traces={}, losses=[1.0])
    base.graph.own.append("Slip")
    added, rest = torch.tensor([ratio, 0.0]), torch.ones(2)
    made = told(base=base, gradient_of=lambda factor: added + factor * rest)
    return objective.slipped_in(made) is not None


def cut_term(change: float) -> bool:
    """Whether a number that other weights change so much is a lost term."""
    trace, weight = UpdateTrace(nn.Identity()), nn.Parameter(torch.ones(()))
    trace.numbers = [1.0]

    def update(_: int) -> None:
        number = torch.tensor(1.0 + change * (float(weight.detach()) < 1))
        (3 * weight + number).backward()  # type: ignore[no-untyped-call]

    made = told(base=BaseRun(traces={0: trace}, losses=[1.0]), parameters={"w": weight})
    made.setup.update = update
    return objective.term_without_graph(made) is not None


def off_center(distance: float) -> bool:
    """Whether statistics that stay lie so far from what enters."""
    trace = UpdateTrace(nn.Identity())
    trace.offsets = {"norm": distance}
    base = BaseRun(
        traces={0: trace},
        losses=[1.0],
        moved={"norm.weight": 1.0},
        buffers_moved={"norm.running_mean": 0.0},
    )
    return normalization.stale_statistics(told(base=base, parameters={})) is not None


UPDATE_BRACKETS = [
    Bracket("rules.objective.SLIPPED", slipped, 2.0, 4.5),
    Bracket("rules.objective.DEPENDS", cut_term, 0.7e-4, 1.5e-4),
    Bracket("rules.normalization.OFF_CENTER", off_center, 0.7, 1.5),
    Bracket("rules.learning_rate.STARTS_ANEW", lambda x: not anew(x), 0.2, 0.4),
    Bracket("rules.learning_rate.FEWEST_STARTS", lambda n: anew(starts=n), 2, 3),
    Bracket("rules.resumption.REPLACED", replaced, 7, 15),
    Bracket("rules.resumption.OLD_ENOUGH", forgot, 3, 8),
    Bracket("rules.resumption.WORSE_WITHOUT_STATE", lambda j: forgot(jump=j), 1.3, 1.8),
    Bracket("rules.resumption.WORSE", lambda x: replaced(worse=x), 1.2, 2.0),
    Bracket("rules.numerics.STEPS_FROM_ZERO", lambda x: not near_zero(x), 3.5, 7),
    Bracket(
        "rules.numerics.CAME_NEAR", lambda x: not near_zero(2.0, 2.0 / x), 0.4, 0.6
    ),
    Bracket("rules.normalization.ALIKE", lambda x: not alike(x), 0.035, 0.07),
    Bracket("rules.data.FILLED_SHARE", filled, 0.15, 0.3),
    Bracket("rules.meaning.SAME_LOSS", lambda x: not bag(x), 0.7e-5, 1.5e-5),
    Bracket("rules.meaning.FEWEST_VIEWS", lambda n: bag(count=n), 3, 4),
    Bracket("rules.meaning.ALSO_LEARNED", cut, 0.035, 0.07),
    Bracket(
        "rules.objective.BELOW_ZERO", lambda x: paid(10 - 10 * x, -10 * x), 0.4, 0.6
    ),
    Bracket("rules.objective.MOST_SURROGATE", lambda x: paid(0.0, -x), 0.4, 0.7),
    Bracket("rules.objective.UNIFORM", lambda x: not uniform(x), 0.2, 0.4),
]

"""Thresholds of the rules on what is computed, each between two values."""

import math
from types import SimpleNamespace
from typing import Any

import torch
from thresholds import Bracket
from torch import Tensor, nn

from gradlib.diagnosis.evidence import dependence
from gradlib.diagnosis.evidence.base_run import BaseRun
from gradlib.diagnosis.evidence.call_order import CallOrder
from gradlib.diagnosis.evidence.dependence import Dependence, ModelCall
from gradlib.diagnosis.evidence.function_calls import LossCall, SoftmaxCall
from gradlib.diagnosis.evidence.loss_curve import LossCurve
from gradlib.diagnosis.evidence.nan_origin import NanOrigin
from gradlib.diagnosis.evidence.update_trace import LayerStats, UpdateTrace
from gradlib.diagnosis.examination import Examination
from gradlib.diagnosis.rules import (
    best_change,
    data,
    graph,
    learning_rate,
    meaning,
    normalization,
    numerics,
    objective,
    optimizer,
    resumption,
    training_loop,
    weights,
)


def levels(*parts: float, naive: float | None = None, noise: float = 0.0) -> LossCurve:
    """Equal stretches of a run on these levels, with jumps of a measured noise."""
    length = 40 // len(parts)
    flat = [part for part in parts for _ in range(length)]
    size = noise * math.sqrt(8) / 2
    return LossCurve(tuple(x + size * (-1) ** i for i, x in enumerate(flat)), naive)


class Told:
    """An examination as told; every treatment improves by ``gain``."""

    def __init__(self, gain: float = 1.0, **what: Any) -> None:
        self.is_ill = self.worth_a_look = True
        self.curve = levels(1.0, 1.0)
        self.naive = None
        self.scalers: list[Any] = []
        self.base = BaseRun(traces={0: UpdateTrace(nn.Identity())}, losses=[1.0])
        self.gain = gain
        self.origin = NanOrigin()
        self.loss_after = lambda treatment: 0.1 if treatment is data.shuffled else 1.0
        self.setup = SimpleNamespace(
            step=None, batches=[], model=nn.Linear(1, 1), optimizer=None, loss_fn=None
        )
        self.__dict__.update(what)

    def improves(self, name: str, treatment: Any, *, share: float = 0.1) -> bool:
        return self.gain > share

    def cures(self, *_: Any, **__: Any) -> bool:
        return True

    def run_under(self, *_: Any) -> LossCurve:
        return levels(0.1, 0.1)

    def compared(self, name: str) -> dict[str, float]:
        return {}

    def outcome(self, name: str) -> str:
        return ""

    def restore(self) -> None:
        """Nothing was changed."""


def told(**what: Any) -> Any:
    return Told(**what)


# Loss curves.


def gives_back(share: float) -> bool:
    return levels(2.0, 1.0, 1.0, 1.0 + share).rose_again


def falls_a_little(fall: float) -> bool:
    return levels(2.0, 1.0, 1.0 - fall, 1.0 - fall, naive=1.0).still_falls


def falls_in_noise(times: float) -> bool:
    fall = 0.1 * times
    made = levels(9.0, 1.0, 1.0 - fall, 1.0 - fall, naive=1.0, noise=0.1)
    return made.still_falls


def falls_steadily(times: float) -> bool:
    fall = 1e-3 * times / 3
    made = levels(1.0, 1 - fall, 1 - 2 * fall, 1 - 3 * fall, naive=1.0, noise=1e-3)
    return made.still_falls


# Examinations.


def compared(base: LossCurve, treated: LossCurve) -> bool:
    made: Examination = object.__new__(Examination)
    made.__dict__.update(curve=base, naive=1.0, _trials={"it": treated})
    return made.improves("it", lambda setup: setup)


def swings(share: float) -> bool:
    made: Examination = object.__new__(Examination)
    count = round(100 * share)
    losses = [(-1.0) ** i for i in range(count)] + [(-1.0) ** count * -1.0] * (
        100 - count
    )
    calls = SimpleNamespace(at_step=[1.0] * 100)
    made.__dict__.update(base=BaseRun(losses=losses, calls=calls))
    return made.says_nothing


class Leaky(nn.Module):
    """The outputs of a sample hold a trace of the mean of all."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        return x + self.share * (x.mean(0) - x)


def mixes(share: float) -> bool:
    x = torch.tensor([[4.0, -4.0, 4.0], [0.0, 0.0, 0.0]])
    call = ModelCall((x,))
    found: Dependence = dependence.dependence_of(Leaky(2 * share), call)
    return bool(found.on_others)


# Rules.


def spoiled(score: float) -> bool:
    """Only back to a constant: counts where the run had left it behind."""
    made = told(
        curve=levels(1.0, score, naive=1.0),
        parameters={"w": None},
        run_under=lambda *_: levels(1.0, 1.0, naive=1.0),
    )
    made.setup.batches = [(torch.zeros(2, dtype=torch.long),)]
    return best_change.best_change(made) is not None


def back_to(score: float) -> bool:
    made = told(
        curve=levels(1.0, 3.0, naive=1.0),
        parameters={"w": None},
        run_under=lambda *_: levels(score, score, naive=1.0),
    )
    made.setup.batches = [(torch.zeros(2, dtype=torch.long),)]
    return best_change.best_change(made) is not None


def sorted_batches(targets: list[Tensor]) -> bool:
    made = told()
    made.setup.batches = [(torch.zeros(len(t), 1), t) for t in targets]
    return data.sorted_samples(made) is not None


def one_class(share: float, size: int = 16) -> bool:
    alone = round(20 * share)
    mixed = torch.arange(size) % 4
    targets = [torch.full((size,), i % 4) for i in range(alone)]
    return sorted_batches([*targets, *[mixed] * (20 - alone)])


def rare_class(share: float) -> bool:
    """Batches of four hold one class, as often as this by chance: too often to say."""
    counts = (200, 100, 100) if share < 0.1 else (240, 160)
    kinds = [kind for kind, count in enumerate(counts) for _ in range(count)]
    chance = sum((count / 400) ** 4 for count in counts)
    assert abs(chance - share) < 0.01
    return not sorted_batches([torch.full((4,), k) for k in kinds])


def inside(share: float) -> bool:
    spread = math.sqrt(share)
    noise = spread * torch.tensor([-1.0, 1.0] * 8)
    rest = math.sqrt(1 - share)
    targets = [rest * (-1) ** i + noise for i in range(20)]
    return sorted_batches(targets)


def no_better_than_constant(distance: float, alone: float = 0.1) -> bool:
    curve = levels(1.0 + distance, naive=1.0)
    made = told(curve=curve, naive=1.0, run_under=lambda *_: levels(alone, alone))
    return data.nothing_to_learn(made) is not None


def collapsed(share: float = 1.0, size: float = 1.0) -> bool:
    first, last = (UpdateTrace(nn.Identity()) for _ in range(2))
    first.layers = {"": LayerStats(1.0, 1.0, 1.0, 1)}
    last.layers = {"": LayerStats(size, size, share, 1)}
    base = BaseRun(traces={0: first, 1: last}, losses=[1.0, 0.5])
    made = told(base=base, curve=levels(2.0, 0.1))
    return meaning.collapsed_outputs(made) is not None


def vanished(zeros: int = 10, before: float = 1.0) -> bool:
    losses = [2.0] * 20 + [2.0 * before] * 3 + [0.0] * zeros
    made = told(base=BaseRun(losses=losses), curve=levels(2.0, 0.0))
    return meaning.vanished_labels(made) is not None


def sinks(depth: float) -> bool:
    made = told(base=BaseRun(losses=[0.5, -depth, 0.1]), curve=levels(0.5, 0.1))
    return objective.bottomless(made) is not None


def exponentials(first: float, last: float) -> bool:
    traces = {0: UpdateTrace(nn.Identity()), 9: UpdateTrace(nn.Identity())}
    traces[0].largest_exp, traces[9].largest_exp = first, last
    made = told(base=BaseRun(traces=traces))
    return numerics.growing_exponential(made) is not None


def outweighs(factor: float, count: int = 10) -> bool:
    losses = (1.0,) * (count - 1) + (factor * count,)
    return objective.outweighing_samples(told(losses_of_parts=losses)) is not None


def parts(weights: list[float], terms: list[int]) -> bool:
    trace = UpdateTrace(nn.Identity())
    for weight, count in zip(weights, terms, strict=True):
        target = torch.zeros(count, dtype=torch.long)
        call = LossCall("cross_entropy", torch.zeros(count, 3), target, weight=weight)
        trace.calls.losses.append(call)
    made = told(base=BaseRun(traces={0: trace}, losses=[1.0]))
    return meaning.unequal_parts(made) is not None


def sequences(share: float) -> tuple[Tensor, Tensor]:
    """Tokens, and targets of which a share is filled at the ends."""
    lengths = [round(20 * (1 - share)) + d for d in (-1, 0, 1, 0)]
    target = torch.arange(1, 81).reshape(4, 20) % 17 + 1
    for row, length in zip(target, lengths, strict=True):
        row[length:] = 0
    return target.clone(), target


def padded(share: float) -> bool:
    tokens, target = sequences(share)
    trace = UpdateTrace(nn.Identity())
    reached = torch.ones(80, 20)
    call = LossCall("cross_entropy", torch.zeros(80, 20), target.flatten())
    call.reached = reached
    trace.calls.losses.append(call)
    base = BaseRun(traces={0: trace}, losses=[1.0], call=ModelCall((tokens,)))
    return meaning.padding_counted(told(base=base)) is not None


def text(again: float, rows: int = 40) -> Tensor:
    """Pairs of one context, and a token that is the same so often."""
    same = round(again * rows)
    following = [7] * same + list(range(8, 8 + rows - same))
    lines = [[1, 2, token, 3, 4, 5] for token in following]
    return torch.tensor(lines)


def read_ahead(again: float, rows: int = 40) -> bool:
    """Whether a model that reads the next token is blamed."""
    unlike = 100 + torch.arange(2 * rows).reshape(rows, 2)
    tokens = torch.cat([unlike, text(again, rows)[:, :3]], 1)
    target = tokens.roll(-1, 1)
    trace = UpdateTrace(nn.Identity())
    trace.calls.losses.append(
        LossCall("cross_entropy", torch.zeros(1), target[:, :-1].clone())
    )
    base = BaseRun(traces={0: trace}, losses=[1.0], call=ModelCall((tokens,)))
    made = told(base=base, is_ill=False, dependence=Dependence(ahead=True))
    made.setup.batches = [tokens]
    return meaning.future_seen(made) is not None


def copied(times: float) -> bool:
    """Whether copying is blamed, where order is so many times chance."""
    made = told(is_ill=False)
    tokens = torch.zeros(2, 6, dtype=torch.long)
    with_order = SimpleNamespace(shifts=[0], tokens=tokens, agreement=times)
    kept = meaning.shifts_of, meaning._tokens, meaning._agreement
    meaning.shifts_of = lambda _: with_order.shifts
    meaning._tokens = lambda _: with_order.tokens
    meaning._agreement = lambda *_: with_order.agreement
    try:
        return meaning.copied_tokens(made) is not None
    finally:
        meaning.shifts_of, meaning._tokens, meaning._agreement = kept


def repeats(count: int) -> bool:
    """Whether so many repeats of a context are enough to judge a text."""
    return meaning._agreement(text(1.0, count + 1)[:, :3], 2) > 0


def swallowed(share: float, gain: float = 1.0) -> bool:
    model = nn.Linear(1, 1)
    base = BaseRun(traces={}, losses=[1.0], swallowed={"weight": share})
    made = told(base=base, gain=gain)
    made.setup.model = model
    return numerics.swallowed_updates(made) is not None


def runs_away(values: list[float]) -> bool:
    return objective._runs_away(values)


def walk(steps: list[float]) -> list[float]:
    values = [0.0]
    for step in steps:
        values.append(values[-1] + step)
    return values


def scores(largest: float, gain: float = 1.0) -> bool:
    trace = UpdateTrace(nn.Identity())
    call = SoftmaxCall("fc", (2, 3, 4), 2, largest=largest)
    trace.calls.softmaxes.append(call)
    made = told(base=BaseRun(traces={0: trace}, losses=[1.0]), gain=gain)
    return objective.growing_scores(made) is not None


def drowned(pull: float = 1e-4, end: float = 1.0, treated: float = 0.1) -> bool:
    trace = UpdateTrace(nn.Identity())
    for _ in range(2):
        trace.calls.losses.append(LossCall("mse_loss", torch.zeros(1), torch.zeros(1)))
    base = BaseRun(traces={0: trace}, losses=[1.0])
    made = told(base=base, pulls=[math.nan, pull])
    kept = objective._terms
    objective._terms = lambda _, __, factors: (
        ([1.0, 1.0], [1.0, end]) if factors is None else ([1, 1], [1, treated])
    )
    try:
        return objective.drowned_term(made) is not None
    finally:
        objective._terms = kept


def rated(half: float) -> bool:
    rates = [1.0] * 10 + [half] * 20
    calls: CallOrder = object.__new__(CallOrder)
    calls.at_step = [1.0] * 30
    base = BaseRun(traces={}, losses=[1.0], rates=rates, calls=calls)
    made = told(base=base)
    made.setup.optimizer = SimpleNamespace(param_groups=[])
    return learning_rate.rate_of_zero(made) is not None


def evaluated(share: float) -> bool:
    off = round(20 * share)
    base = BaseRun(losses=[1.0], modes=[True] * (20 - off) + [False] * off)
    made = told(base=base)
    made.setup.model = nn.BatchNorm1d(2)
    return normalization.lost_mode(made) is not None


def resumed(start: float = 0.1, rise: float = 1.0) -> bool:
    losses = (start, start + rise, *[start] * 38)
    curve = LossCurve(losses, 1.0, untrained_losses=(start,) * 40)
    made = told(curve=curve, naive=1.0, run_under=lambda *_: levels(start))
    made.setup.optimizer = SimpleNamespace(
        param_groups=[{"betas": (0.9, 0.999)}], state={}
    )
    return resumption.lost_state(made) is not None


def remembered(share: float) -> bool:
    made = told()
    made.loss_after = lambda treatment: share if treatment is data.shuffled else 1.0
    return data._forgotten(made, 1.0)


def latest(share: float) -> bool:
    """Whether batches are forgotten, where the latest end at this share of all."""
    made = told(curve=levels(2.0, share))
    made.setup.batches = [0] * 8
    return data.forgotten_batches(made) is not None


def owed_to_rate(share: float) -> bool:
    made = told(naive=1.0, run_under=lambda *_: levels(share, share))
    return normalization._owed_to_rate(made, 0.0)


def clipped(norms: list[float]) -> bool:
    calls: CallOrder = object.__new__(CallOrder)
    calls.at_step = norms
    made = told(base=BaseRun(traces={}, losses=[1.0], calls=calls))
    return optimizer.tight_clip(made) is not None


def goes_on_falling(share: float) -> bool:
    """The last quarter falls by this share of the mean fall in a quarter."""
    last = share / (3 - share)
    return levels(2.0, 1.5, 1.0, 1.0 - last, naive=1.0).falls_to_the_end


def has_an_order(count: int) -> bool:
    made: Examination = object.__new__(Examination)
    made.__dict__.update(
        setup=SimpleNamespace(batches=[0] * count),
        naive=None,
        run_under=lambda *_: LossCurve((1.0, math.inf)),
    )
    return bool(made.unlucky_order)


def moved_by_one(score: float) -> bool:
    made = told(curve=levels(score, naive=1.0), naive=1.0)
    made.setup.batches = [(torch.zeros(8, 2), torch.zeros(8))]
    return data.misplaced_targets(made) is not None


def one_kind(share: float = 1.0, naive: float = 0.0) -> bool:
    """Whether tokens are blamed that are one and the same to a share."""
    tokens = (torch.arange(1000) >= 1000 * share).long().reshape(10, 100)
    made = told(naive=naive)
    made.setup.batches = [tokens]
    return data.one_token(made) is not None


def silent(norm: float = 0.0, steps: int = 20) -> bool:
    parameters = {name: nn.Parameter(torch.zeros(2, 2)) for name in "ab"}
    made = told(
        base=BaseRun(norms={"a": [norm] * steps, "b": [1.0] * steps}),
        parameters=parameters,
        held={id(p) for p in parameters.values()},
    )
    return graph.silent_weights(made) is not None


def stands_still(pull: float) -> bool:
    """Whether a weight that is pulled so far, and does not move, is one left out."""
    parameters = {name: nn.Parameter(torch.ones(2, 2)) for name in "ab"}
    sgd = torch.optim.SGD(parameters.values(), lr=1.0)
    base = BaseRun(
        losses=[1.0],
        norms={"a": [2 * pull], "b": [1.0]},
        group_rates=[[1.0]],
        moved={"a": 0.0, "b": 1.0},
    )
    made = told(base=base, parameters=parameters)
    made.setup.optimizer = sgd
    return training_loop.left_still(made) is not None


def one_value(change: float = 0.0, moved: float = 1.0) -> bool:
    base = BaseRun(losses=[1.0, 1.0 + change] * 20, moved={"w": moved})
    return objective.constant_value(told(base=base, says_nothing=False)) is not None


def usual_table(std: float) -> bool:
    model = nn.Sequential(nn.Embedding(2, 2))
    table = torch.tensor([[-1.0, 1.0], [1.0, -1.0]])
    parameter = nn.Parameter(std * table / table.std())
    made = told(parameters={"0.weight": parameter})
    made.setup.model = model
    return weights._usual_table(made, "0.weight")


MEANING_BRACKETS = [
    Bracket("evidence.loss_curve.LAST_FALL", goes_on_falling, 0.2, 0.45),
    Bracket("examination.FEWEST_BATCHES", has_an_order, 3, 4),
    Bracket("rules.data.NEAR_A_CONSTANT", lambda x: not moved_by_one(x), 1.5, 2.5),
    Bracket("rules.data.ALL_ONE", one_kind, 0.97, 0.992),
    Bracket("rules.data.SETTLED", lambda x: one_kind(naive=x), 0.03, 0.015),
    Bracket("rules.graph.ROUNDING", silent, 1.5e-6, 0.7e-6),
    Bracket("rules.graph.FEWEST_SILENT", lambda n: silent(0.0, n), 9, 10),
    Bracket("rules.training_loop.PULLED", stands_still, 0.7e-4, 1.5e-4),
    Bracket("rules.objective.SAME_VALUE", lambda x: not one_value(x), 0.7e-5, 1.5e-5),
    Bracket("rules.objective.MOVED", lambda x: one_value(moved=x), 0.007, 0.015),
    Bracket("rules.weights.USUAL_TABLE", lambda x: not usual_table(x), 1.0, 1.5),
    Bracket("rules.resumption.SMALL_JUMP", lambda x: resumed(0.01, x), 0.08, 0.15),
    Bracket("rules.resumption.TRIPLED", lambda x: resumed(0.08, x), 0.13, 0.2),
    Bracket("evidence.loss_curve.GIVEN_BACK", gives_back, 0.5, 0.75),
    Bracket("evidence.loss_curve.STILL_FALLS", falls_a_little, 0.015, 0.03),
    Bracket("evidence.loss_curve.STILL_FALLS_IN_NOISE", falls_in_noise, 0.9, 1.9),
    Bracket("evidence.loss_curve.STEADY_FALL", falls_steadily, 4.5, 9),
    Bracket(
        "examination.IMPROVED",
        lambda x: compared(levels(1, 1, naive=1.0), levels(1, 1 - x, naive=1.0)),
        0.07,
        0.15,
    ),
    Bracket(
        "examination.IMPROVED_IN_NOISE",
        lambda x: compared(
            levels(1, 1, naive=1.0, noise=0.1), levels(1 - x, 1 - x, naive=1.0)
        ),
        0.2,
        0.45,
    ),
    Bracket("examination.SWINGS", swings, 0.1, 0.2),
    Bracket("evidence.dependence.UNCHANGED", mixes, 0.7e-4, 1.5e-4),
    Bracket("rules.best_change.SPOILED", spoiled, 1.2, 1.45),
    Bracket("rules.best_change.AS_CONSTANT", lambda x: not back_to(x), 1.05, 1.5),
    Bracket("rules.data.ONE_CLASS", one_class, 0.4, 0.7),
    Bracket("rules.data.BY_CHANCE", rare_class, 0.07, 0.155),
    Bracket("rules.data.INSIDE", lambda x: not inside(x), 0.15, 0.3),
    Bracket("rules.data.FEWEST_SAMPLES", lambda n: one_class(1.0, n), 3, 4),
    Bracket(
        "rules.data.AS_CONSTANT", lambda x: not no_better_than_constant(x), 0.12, 0.2
    ),
    Bracket(
        "rules.data.LEARNED",
        lambda x: not no_better_than_constant(0.0, x),
        0.4,
        0.6,
    ),
    Bracket("rules.meaning.COLLAPSED", lambda x: not collapsed(x), 0.07, 0.15),
    Bracket("rules.meaning.FEWEST_ZEROS", lambda n: vanished(zeros=n), 4, 6),
    Bracket("rules.meaning.SUDDEN", lambda x: vanished(before=x), 0.07, 0.15),
    Bracket("rules.objective.BOTTOMLESS", sinks, 0.7e4, 1.5e4),
    Bracket("rules.objective.OUTWEIGHS", outweighs, 0.7e6, 1.5e6),
    Bracket("rules.objective.FEWEST_PARTS", lambda n: outweighs(1e9, n), 7, 9),
    Bracket(
        "rules.numerics.NEAR_OVERFLOW",
        lambda x: exponentials(1.0, x),
        0.7e15,
        1.5e15,
    ),
    Bracket("rules.numerics.GROWN", lambda x: exponentials(1e18 / x, 1e18), 700, 1500),
    Bracket("rules.meaning.TINY_OUTPUT", lambda x: not collapsed(size=x), 0.015, 0.03),
    Bracket("rules.meaning.EQUAL", lambda x: not parts([1, x], [9, 90]), 1.01, 1.05),
    Bracket(
        "rules.meaning.UNEQUAL",
        lambda x: parts([1, 1], [100, round(100 * x)]),
        1.2,
        2.0,
    ),
    Bracket("rules.meaning.PADDED", padded, 0.15, 0.3),
    Bracket("rules.meaning.DETERMINED", lambda x: not read_ahead(x), 0.8, 0.95),
    Bracket("rules.meaning.ORDERED", copied, 1.5, 3),
    Bracket("rules.meaning.FEWEST_REPEATS", repeats, 20, 40),
    Bracket("rules.numerics.SWALLOWED", swallowed, 0.3, 0.5),
    Bracket("rules.numerics.LITTLE_BETTER", lambda x: swallowed(1.0, x), 0.03, 0.06),
    Bracket(
        "rules.objective.FEWEST_MOVES", lambda n: runs_away(walk([0.1] * n)), 15, 25
    ),
    Bracket(
        "rules.objective.SAME_WAY",
        lambda x: runs_away(
            walk(([0.1] * round(20 * x) + [-0.1] * round(20 - 20 * x)) * 3)
        ),
        0.8,
        0.9,
    ),
    Bracket(
        "rules.objective.KEEPS_ITS_SPEED",
        lambda x: runs_away(walk([0.1] * 20 + [0.1 * x] * 20)),
        0.4,
        0.6,
    ),
    Bracket("rules.objective.FAR", lambda x: runs_away(walk([x / 40] * 40)), 0.35, 0.6),
    Bracket("rules.objective.LARGE_SCORES", scores, 15, 30),
    Bracket("rules.objective.BEYOND_ALL", lambda x: scores(x, 0.0), 700, 1500),
    Bracket("rules.objective.DROWNED", lambda x: not drowned(x), 0.007, 0.015),
    Bracket("rules.objective.STALLED", lambda x: drowned(end=x), 0.8, 0.94),
    Bracket("rules.objective.FALLS", lambda x: not drowned(treated=x), 0.6, 0.8),
    Bracket("rules.normalization.RATE_ALONE", lambda x: not owed_to_rate(x), 0.4, 0.6),
    Bracket("rules.normalization.MOSTLY_OFF", evaluated, 0.35, 0.7),
    Bracket("rules.resumption.TRAINED_BEFORE", lambda x: not resumed(x), 0.4, 0.7),
    Bracket("rules.resumption.JUMPS", lambda x: resumed(0.3, x), 0.2, 0.4),
    Bracket("rules.data.LATEST", lambda x: not latest(x), 0.75, 0.9),
    Bracket("rules.data.REMEMBERED", lambda x: not remembered(x), 0.5, 0.7),
    Bracket("rules.learning_rate.VANISHED_RATE", lambda x: not rated(x), 2e-3, 4.5e-3),
    Bracket(
        "rules.optimizer.ALWAYS_CLIPPED",
        lambda x: not clipped([1.0, 1 + x] * 10),
        0.7e-3,
        1.5e-3,
    ),
    Bracket(
        "rules.optimizer.CLIPPED_SHARE",
        lambda x: clipped(
            [1.0] * round(100 * x) + [2.0 + k for k in range(round(100 - 100 * x))]
        ),
        0.9,
        0.97,
    ),
]

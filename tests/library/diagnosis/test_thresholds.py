"""Each threshold of a diagnosis lies between two values, and is missed if it moves."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from meaning_brackets import MEANING_BRACKETS
from test_log_thresholds import LOG_BRACKETS
from thresholds import OTHER_NUMBERS, Bracket, Probe, numbers
from torch import Tensor, nn
from update_brackets import UPDATE_BRACKETS

from gradlib.diagnosis import verdict
from gradlib.diagnosis.evidence import base_run, feature_scale, naive_loss, nan_origin
from gradlib.diagnosis.evidence.base_run import BaseRun
from gradlib.diagnosis.evidence.feature_scale import FeatureScale
from gradlib.diagnosis.evidence.function_calls import LossCall
from gradlib.diagnosis.evidence.loss_curve import LossCurve, central
from gradlib.diagnosis.evidence.nan_origin import NanOrigin
from gradlib.diagnosis.evidence.update_trace import (
    ActivationStats,
    ForwardOrigin,
    LayerStats,
    UpdateTrace,
)
from gradlib.diagnosis.examination import Examination
from gradlib.diagnosis.report import Finding
from gradlib.diagnosis.rules import (
    best_change,
    data,
    graph,
    history,
    learning_rate,
    normalization,
    numerics,
    optimizer,
    signal,
    training_loop,
    weights,
)
from gradlib.diagnosis.training_setup import TrainingSetup
from gradlib.history import History

# Loss curves.


def levels(start: float, end: float, naive: float | None = 1.0) -> LossCurve:
    """Twenty updates on one level and twenty on another."""
    return LossCurve((start,) * 20 + (end,) * 20, naive)


def shaky(start: float, end: float, noise: float) -> LossCurve:
    """The same with jumps, whose measured noise is as given."""
    size = noise * math.sqrt(8) / 2
    flat = levels(start, end).losses
    return LossCurve(tuple(x + size * (-1) ** i for i, x in enumerate(flat)), 1.0)


def lost_again(best: float, end: float) -> LossCurve:
    return LossCurve((1.2,) * 15 + (best,) * 10 + (end,) * 15, 1.0)


def spiking(height: float, count: int) -> LossCurve:
    return LossCurve(
        (1.0,) * 39 + (height, 1.0) * count + (1.0,) * (39 - 2 * count), 1.0
    )


def first_window(count: int) -> bool:
    return LossCurve((2.0,) * count + (1.0,) * (48 - count)).start >= 2


def last_window(count: int) -> bool:
    return LossCurve((1.0,) * (50 - count) + (2.0,) * count).end >= 2


def best_window(count: int) -> bool:
    losses = (2.0,) * 24 + (1.0,) * count + (2.0,) * (24 - count)
    return LossCurve(losses).best <= 1


# Examinations: rules see what they would see in a training.


def jumping(height: float) -> bool:
    losses = (1.0,) * 30 + (height,) + (1.0,) * 9
    return LossCurve(losses, None, True, (1.0,) * 40).out_of_hand == 30


def trial(base: LossCurve, treated: LossCurve) -> Examination:
    """An examination that has run, and tried one treatment."""
    made: Examination = object.__new__(Examination)
    made.__dict__.update(
        curve=base,
        naive=base.naive,
        base=BaseRun(),
        setup=SimpleNamespace(step=None, model=nn.Identity()),
        optimizers=[],
        _trials={"it": treated},
    )
    return made


def cures(base: LossCurve, treated: LossCurve) -> bool:
    return trial(base, treated).cures("it", lambda setup: setup)


class Told:
    """What a rule asks of an examination, as told; every treatment cures.

    Args:
        cured_by: The treatments that cure, by a part of their name.
        what: Fields that the rule reads.
    """

    def __init__(self, cured_by: str = "", **what: Any) -> None:
        self.is_ill = self.worth_a_look = True
        self.curve = levels(1.0, 1.0)
        self.base = BaseRun(traces={0: trace()})
        self.parameters: dict[str, nn.Parameter] = {}
        self.cured_by = cured_by
        self.treated = levels(1.0, 0.1)
        self.origin = NanOrigin()
        self.gets_a_gradient = True
        self.setup = SimpleNamespace(model=nn.Identity())
        self.naive: float | None = None
        self.__dict__.update(what)

    def cures(self, name: str, *_: Any, **__: Any) -> bool:
        return self.cured_by in name

    cured_by_gentler = cures

    def run_under(self, name: str, *_: Any) -> LossCurve:
        return self.treated

    def compared(self, name: str) -> dict[str, float]:
        return {}

    def outcome(self, name: str) -> str:
        return ""

    def restore(self) -> None:
        """Nothing was changed."""


def asked(rule: Callable[[Any], Finding | None], **what: Any) -> Finding | None:
    return rule(Told(**what))


def trace(
    *activations: tuple[str, float], layers: dict[str, LayerStats] | None = None
) -> UpdateTrace:
    made = UpdateTrace(nn.Identity())
    made.activations = [ActivationStats(f, "fc", share) for f, share in activations]
    made.layers = layers or {}
    return made


def run(**what: Any) -> BaseRun:
    return BaseRun(**{"traces": {0: trace()}, "losses": [1.0], **what})


def activated(rule: Callable[[Any], Finding | None], function: str) -> Probe:
    return lambda share: (
        asked(rule, base=run(traces={0: trace((function, share))})) is not None
    )


# Data.


def in_batches(peaks: list[float], **what: Any) -> bool:
    batches = [(torch.tensor([[float(peak)]]),) for peak in peaks]
    setup = SimpleNamespace(batches=batches, steps=len(batches))
    return asked(data.outlying_samples, setup=setup, **what) is not None


def with_outliers(count: int, total: int) -> bool:
    return in_batches([1.0] * (total - count) + [1e5] * count)


def fine_elsewhere(count: int, others: int = 10) -> bool:
    """A batch is impossible if so many of the others are fine."""

    def update(index: int) -> float:
        return 1.0 if 1 <= index <= count else math.nan

    setup = SimpleNamespace(
        batches=[(torch.ones(1),)] * (others + 1), model=nn.Linear(1, 1), update=update
    )
    origin = NanOrigin(0, ForwardOrigin("ctc_loss", "fc", 1.0, False), layer="fc")
    return asked(data.impossible_samples, setup=setup, origin=origin) is not None


def channels_first(ratio: float) -> bool:
    channels, places = torch.tensor([[-1.0], [1.0]]), torch.tensor([[-1.0, 1.0]])
    return feature_scale._channels_first([(ratio * channels + places).expand(4, 2, 2)])


def wide_in_spite_of_outliers(share: float) -> bool:
    column = torch.linspace(-1, 1, 1000)[:, None].clone()
    column[: round(1000 * share)] = 1e4
    scale = feature_scale._scale_of([column])
    assert scale is not None
    return scale.off


def clamped(rows: int) -> bool:
    column = torch.linspace(-1, 1, rows)[:, None].clone()
    column[0] = 1e4
    scale = feature_scale._scale_of([column])
    assert scale is not None
    return float(scale.std) < 0.6 * float(column.std())


def scale_is_off(mean: float, std: float) -> bool:
    return FeatureScale(torch.tensor([mean]), torch.tensor([std]), 1.0, False).off


def is_probability(excess: float) -> bool:
    out = torch.tensor([[0.5, 0.5 + excess]])
    return (
        abs(float(naive_loss._in_range(torch.tensor([1.0, 0.0]), out).sum()) - 1) < 1e-6
    )


# The training loop.


def calls(**what: Any) -> BaseRun:
    seen: dict[str, Any] = {
        **{"at_step": [0.6] * 20, "largest": [], "pairs": [], "stale": 0, "empty": 0},
        "closures": False,
    }
    return run(calls=SimpleNamespace(**{**seen, **what}))


def loop_speaks(rule: Callable[[Any], Finding | None], **what: Any) -> bool:
    setup = SimpleNamespace(step=print, clip=1.0)
    return asked(rule, setup=setup, base=calls(**what)) is not None


def clip_speaks(**what: Any) -> bool:
    return loop_speaks(training_loop.clip_without_effect, **what)


def shrunk(count: int, total: int, left: float = 0.5) -> bool:
    return clip_speaks(
        at_step=[0.6 + i for i in range(total)], pairs=[(1.0, left)] * count
    )


def one_norm(count: int) -> bool:
    others = [0.01 * 1.5**i for i in range(20 - count)]
    below, above = others[: len(others) // 2], others[len(others) // 2 :]
    return clip_speaks(
        at_step=[0.001 * x for x in below] + [0.1] * count + [9 * x for x in above]
    )


@dataclass(frozen=True)
class Replayed:
    """An update whose loss another argmax changes."""

    change: float
    contexts: tuple[Any, ...] = ()

    def update(self, step: int) -> float:
        return 1 + self.change * len(self.contexts)


def argmax_matters(change: float) -> bool:
    told: Any = Told(setup=Replayed(change))
    return graph._matters(told)


def returned(share: float = 1.0, times: float = 1.0) -> bool:
    """Whether a constant is known where so much is returned, and targets grow so."""
    calls: dict[int, list[LossCall]] = {}
    for step in range(8):
        wide = math.sqrt(times) if step > 3 else 1.0
        target = wide * torch.tensor([1.0, -1.0]).repeat(50)
        calls[step] = [LossCall("mse_loss", target, target, value=1.0)]
    return naive_loss.watched_naive_loss([share] * 8, calls) is not None


def falls_to(end: float, naive: float) -> LossCurve:
    """A fall from 30 that goes on to the end."""
    return LossCurve((30.0,) * 20 + (1.1 * end,) * 10 + (end,) * 10, naive)


# Networks.


def depth_speaks(layers: int, norms: int = 0, **what: Any) -> bool:
    chain = [nn.Linear(2, 2) for _ in range(layers)]
    model = nn.Sequential(*chain, *(nn.LayerNorm(2) for _ in range(norms)))
    setup = SimpleNamespace(model=model)
    return asked(normalization.plain_depth, setup=setup, **what) is not None


class Block(nn.Module):
    """Three layers that are no chain of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(2, 2) for _ in range(3))


def skips_tried(blocks: int) -> bool:
    setup = SimpleNamespace(model=nn.Sequential(*(Block() for _ in range(blocks))))
    rule = normalization.plain_depth
    return asked(rule, setup=setup, cured_by="skip") is not None


def layers_grow(ratio: float) -> bool:
    layers = {"0": LayerStats(1.0), "8": LayerStats(ratio)}
    setup = SimpleNamespace(model=nn.Sequential(*(nn.Linear(2, 2) for _ in range(9))))
    base = run(traces={0: trace(layers=layers)})
    finding = asked(normalization.plain_depth, setup=setup, base=base)
    assert finding is not None
    return finding.layer == "7"


def lonely(size: int) -> bool:
    model = nn.Sequential(nn.BatchNorm1d(2))
    setup = SimpleNamespace(model=model, batches=[(torch.ones(size, 2),)])
    return asked(normalization.lonely_batch_norm, setup=setup) is not None


def stays_ordinary(largest: float) -> bool:
    origin = NanOrigin(
        1, ForwardOrigin("log", "fc", largest, False), "", "fc", calm=True
    )
    return asked(numerics.undefined_operation, origin=origin) is not None


def has_no_slope(pushed: float) -> bool:
    origin = NanOrigin(
        1, None, "Sqrt", "fc", 1.0, calm=True, skipped=True, pushed=pushed
    )
    return asked(numerics.undefined_operation, origin=origin) is not None


def underflows(largest: float) -> bool:
    base = run(traces={0: trace()})
    base.first.half["fc"] = largest
    finding = asked(numerics.half_overflow, base=base)
    assert finding is not None
    return finding.cause == "fp16_underflow"


def says_nothing(loss: float = 1e-9, gradient: float = 1.0) -> bool:
    made = trial(FLAT, FLAT)
    made.base.losses = [loss] * 20
    made.base.calls = SimpleNamespace(at_step=[gradient] * 20)
    return made.says_nothing


def enough_updates(count: int) -> bool:
    made = trial(levels(1, 0.1), FLAT)
    made.base.losses = [1.0] * count
    made.base.calls = SimpleNamespace(at_step=[1.0], lost=[])
    made.setup = SimpleNamespace(
        step=None,
        more=False,
        scheduled=math.inf,
        steps=40,
        model=nn.Identity(),
        batches=[],
    )
    made.out_of_time = False
    return verdict.judge_training(made, []).verdict == "healthy"


def calm(losses: list[float], norms: list[float]) -> bool:
    base = run(losses=losses, norms={"w": norms})
    return nan_origin.is_calm(base, len(losses) - 1)


# Optimizers.


def doubling(ratio: float, size: int = 8) -> bool:
    power = math.log2(ratio)
    batch = (torch.ones(size, 1), torch.ones(size))
    setup = SimpleNamespace(
        step=None,
        batches=[batch],
        batch=lambda _: batch,
        compute=lambda b: torch.tensor(float(len(b[0])) ** power),
    )
    return asked(optimizer.summed_loss, setup=setup) is not None


def groups(**options: Any) -> Any:
    return SimpleNamespace(
        optimizer=SimpleNamespace(param_groups=[{"lr": 0.1, **options}]), steps=40
    )


def strange(**options: Any) -> bool:
    return asked(optimizer.strange_option, setup=groups(**options)) is not None


def epsilon_speaks(
    eps: float = 1e-8, gradient: float = 1e-6, gentle: float = 1.0
) -> bool:
    told: Any = Told(
        setup=groups(eps=eps, betas=(0.9, 0.999)),
        base=run(norms={"w": [gradient]}),
        parameters={"w": nn.Parameter(torch.ones(1))},
    )
    told.run_under = lambda name, *_: levels(1, gentle if "smaller" in name else 1.0)
    return optimizer.small_epsilon(told) is not None


def moved_little(distance: float) -> bool:
    told = dict(parameters={"w": None}, base=run(moved={"w": distance}))
    return asked(learning_rate.tiny_steps, **told) is not None


# Signals and weights.


def vanishing(ratio: float, count: int = 4) -> bool:
    parameters = {f"fc{i}.weight": nn.Parameter(torch.ones(2, 2)) for i in range(count)}
    norms = {name: [1.0] for name in parameters}
    norms["fc0.weight"] = [ratio]
    told = dict(parameters=parameters, base=run(norms=norms))
    return asked(signal.vanishing_signal, **told) is not None


def wide(weight: Tensor, **what: Any) -> bool:
    parameters = {"fc.weight": nn.Parameter(weight)}
    return asked(weights.wide_weights, parameters=parameters, **what) is not None


def bad_start(start: float) -> bool:
    return wide(torch.full((2, 1), 100.0), worth_a_look=False, curve=levels(start, 0.5))


def filled(variation: float) -> bool:
    spread = variation * torch.tensor([-1.0, 1.0]) / math.sqrt(2)
    return wide(100 * (1 + spread), cured_by="smaller initial values")


def again(
    uses: int = 40,
    peak: float = 1e5,
    length: int = 40,
    gain: float = 1.0,
    cured_by: str = "",
) -> Finding | None:
    weight = nn.Parameter(torch.full((1, 1), gain))
    base = run(norms={"w": [peak]})
    base.graph.uses[id(weight)] = uses
    setup = SimpleNamespace(model=nn.Identity(), batches=[(torch.ones(2, length),)])
    told = dict(setup=setup, base=base, parameters={"w": weight}, cured_by=cured_by)
    return asked(weights.recurrent_growth, **told)


def may_be_wide(gain: float) -> bool:
    finding = again(gain=gain)
    assert finding is not None
    return not finding.conclusive


# The best change.


def changes(**what: Any) -> Told:
    made = nn.Sequential(nn.Linear(1, 1))
    setup = SimpleNamespace(batches=[(torch.zeros(2, dtype=torch.long),)], model=made)
    parameters = dict(made.named_parameters())
    return Told(setup=setup, parameters=parameters, **what)


def helps(gain: float, noise: float = 0.0) -> bool:
    told: Any = changes(
        curve=levels(1.0, 1.0), treated=shaky(1 - gain, 1 - gain, noise)
    )
    return best_change.best_change(told) is not None


def leaky_tried(share: float) -> bool:
    told: Any = changes(base=run(traces={0: trace(("relu", share))}))
    return "dead_relu" in [cause for cause, *_ in best_change._changes(told)]


# Histories.


def told(rule: history.HistoryRule, curve: LossCurve, **columns: list[float]) -> bool:
    """Whether a rule speaks on a history; ``__`` in a name stands for ``/``."""
    made = History()
    for step, values in enumerate(zip(*columns.values(), strict=True)):
        row = dict(zip(columns, values, strict=True))
        made.append(step, **{name.replace("__", "/"): v for name, v in row.items()})
    return rule(made, curve) is not None


FLAT = levels(1.0, 1.0)
DIVERGED = LossCurve((1.0,) * 10 + (math.nan,))


def nan_after_jump(jump: float) -> bool:
    columns = dict(loss=[1.0] * 10 + [math.nan], gradient_norm=[1.0] * 9 + [jump, jump])
    return not told(history.sudden_nan, DIVERGED, **columns)


def fading(ratio: float, layers: int = 4) -> bool:
    columns = {f"gradient_norm__fc{i}.weight": [1.0] * 3 for i in range(layers)}
    columns["gradient_norm__fc0.weight"] = [ratio] * 3
    return told(history.fading_layers, FLAT, **columns)


def outputs(mean: float, std: float) -> bool:
    columns = dict(
        activation_mean__fc=[mean] * 3,
        activation_std__fc=[std] * 3,
        activation_zeros__fc=[0.0] * 3,
    )
    return told(history.layers_at_their_limits, FLAT, **columns)


def at_limits(distance: float) -> bool:
    return outputs(0.5, math.sqrt(1 - distance - 0.25))


def kept(norms: list[float], loss: float = 1.0) -> bool:
    losses = [1.0] + [loss] * (len(norms) - 1)
    return told(history.kept_gradients, FLAT, loss=losses, gradient_norm=norms)


def climb_of(factors: list[float]) -> list[float]:
    norms = [1.0]
    for factor in factors:
        norms.append(norms[-1] * factor)
    return norms


def plateau(share: float) -> bool:
    """A climb to a share of the top, which comes only after many steps down."""
    top = 10 * share
    rise = [top ** (i / 8) for i in range(9)]
    return kept([*rise, 0.8 * top, 0.7 * top, 0.6 * top, 0.5 * top, 10.0])


BRACKETS = [
    *MEANING_BRACKETS,
    *UPDATE_BRACKETS,
    Bracket(
        "evidence.loss_curve.EXPLODED_RISE",
        lambda x: levels(1, 1 + x).exploded,
        0.7,
        1.4,
    ),
    Bracket(
        "evidence.loss_curve.EXPLODED_NOISE",
        lambda x: shaky(1, 1.24 + x, 0.5).exploded,
        2.2,
        4.2,
    ),
    Bracket(
        "evidence.loss_curve.SMALLEST_FALL",
        lambda x: not levels(1, 1 - x).flat,
        0.03,
        0.06,
    ),
    Bracket(
        "evidence.loss_curve.FALL_IN_NOISE",
        lambda x: not shaky(1, 1 - x, 0.1).flat,
        0.063,
        0.22,
    ),
    Bracket(
        "evidence.loss_curve.SURE_FALL",
        lambda x: not shaky(1, 1 - x, 0.5).flat,
        0.023,
        0.27,
    ),
    Bracket("evidence.loss_curve.OUT_OF_HAND", jumping, 20, 45),
    Bracket("evidence.loss_curve.SPIKE", lambda x: spiking(x, 4).erratic, 1.7, 3.6),
    Bracket("evidence.loss_curve.SPIKES", lambda n: spiking(100, int(n)).erratic, 2, 3),
    Bracket(
        "evidence.loss_curve.PRETRAINED_START", lambda x: levels(x, x).learns, 0.85, 0.7
    ),
    Bracket(
        "evidence.loss_curve.PRETRAINED_END",
        lambda x: levels(0.75, x).learns,
        0.93,
        0.85,
    ),
    Bracket(
        "evidence.loss_curve.PRETRAINED_RISE",
        lambda x: levels(0.3, 0.3 + x).learns,
        0.3,
        0.2,
    ),
    Bracket(
        "evidence.loss_curve.DEEP_FALL",
        lambda x: falls_to(30 * (1 - x), 30 * (1 - x) / 1.1).learns,
        0.82,
        0.9,
    ),
    Bracket(
        "evidence.loss_curve.DEEP_FALL_SCORE",
        lambda x: falls_to(x, 1.0).learns,
        1.4,
        1.1,
    ),
    Bracket(
        "evidence.loss_curve.CLEARLY_BEATEN",
        lambda x: LossCurve((1.2,) * 5 + (x,) * 35, 1.0).learns,
        0.93,
        0.85,
    ),
    Bracket("evidence.loss_curve.BEATEN", lambda x: levels(1.2, x).learns, 0.98, 0.95),
    Bracket(
        "evidence.loss_curve.ONCE_BEATEN",
        lambda x: lost_again(x, 1.0).relapsed,
        0.88,
        0.8,
    ),
    Bracket(
        "evidence.loss_curve.LOST_AGAIN",
        lambda x: lost_again(0.5, x).relapsed,
        1.4,
        1.2,
    ),
    Bracket("evidence.loss_curve.START_PART", first_window, 3, 4),
    Bracket("evidence.loss_curve.END_PART", last_window, 7, 8),
    Bracket("evidence.loss_curve.BEST_PART", best_window, 4, 5),
    Bracket(
        "evidence.loss_curve.TRIMMED_PART",
        lambda n: central([0.0] * (10 - n) + [1.0] * n) > 0,
        2,
        3,
    ),
    Bracket(
        "evidence.base_run.DEAD_END",
        lambda n: base_run._dead_end(run(losses=[1.0] + [math.nan] * n)),
        2,
        3,
    ),
    Bracket("evidence.feature_scale.LARGE", lambda x: scale_is_off(x, 1.0), 3, 6),
    Bracket(
        "evidence.feature_scale.SMALL", lambda x: scale_is_off(0.0, x), 0.03, 0.015
    ),
    Bracket("evidence.feature_scale.CHANNELS_FIRST", channels_first, 1.5, 3),
    Bracket("evidence.feature_scale.CLAMPED", wide_in_spite_of_outliers, 0.008, 0.015),
    Bracket("evidence.feature_scale.ENOUGH_ROWS", clamped, 70, 150),
    Bracket("evidence.naive_loss.AGREES", lambda x: returned(1 + x), 1.5e-3, 7e-4),
    Bracket("evidence.naive_loss.MOVING", lambda x: returned(times=x), 2.5, 1.6),
    Bracket("evidence.naive_loss.SUM_OF_ONE", is_probability, 1.5e-3, 7e-4),
    Bracket(
        "evidence.nan_origin.GROWTH", lambda x: not calm([1, 1, x], [1.0] * 2), 150, 300
    ),
    Bracket(
        "evidence.nan_origin.SMALL_GRADIENTS",
        lambda x: not calm([1.0] * 5, [0, 0, 0, x]),
        700,
        1500,
    ),
    Bracket("evidence.update_trace.FLAT", lambda x: at_an_end(1 - x), 0.03, 0.015),
    Bracket(
        "examination.LEARNS_LITTLE",
        lambda x: trial(levels(2, x), FLAT).worth_a_look,
        0.41,
        0.53,
    ),
    Bracket(
        "examination.CURED",
        lambda x: cures(levels(1.4, 1.4), levels(1.4, x)),
        0.965,
        0.93,
    ),
    Bracket(
        "examination.CURED_IN_NOISE",
        lambda x: cures(levels(1.4, 1.4), shaky(x, x, 0.1)),
        0.87,
        0.73,
    ),
    Bracket(
        "examination.HOPELESS",
        lambda x: cures(levels(1, x), levels(1, 1.1)),
        8,
        16,
        lower=False,
    ),
    Bracket(
        "examination.NEAR_CONSTANT",
        lambda x: cures(levels(1, 100), levels(1, x)),
        1.3,
        1.05,
    ),
    Bracket(
        "examination.TENTH", lambda x: cures(levels(1, 11), levels(1, x)), 1.13, 1.0
    ),
    Bracket(
        "examination.EXPLODED",
        lambda x: cures(levels(1, x), levels(100, 100)),
        0.7e6,
        1.5e6,
    ),
    Bracket(
        "examination.CLEARLY_LOWER",
        lambda x: cures(levels(0.85, 0.85), levels(0.85, x)),
        0.63,
        0.57,
    ),
    Bracket(
        "examination.LOWER_BY",
        lambda x: cures(levels(1.1, 1.1), levels(1.1, x)),
        0.83,
        0.785,
    ),
    Bracket(
        "examination.MUCH_LOWER",
        lambda x: cures(levels(2, 0.6), levels(2, x)),
        0.4,
        0.28,
    ),
    Bracket(
        "examination.BEST_HALVED",
        lambda x: keeps(lost_again(0.5, 1.05), levels(1, x)),
        0.3,
        0.2,
    ),
    Bracket(
        "report.CERTAIN",
        lambda x: Finding("vanishing", "a", "", confidence=x).certainty == "certain",
        0.88,
        0.93,
    ),
    Bracket(
        "report.LIKELY",
        lambda x: Finding("vanishing", "a", "", confidence=x).certainty != "possible",
        0.65,
        0.75,
    ),
    Bracket("training_setup.FEWEST_STEPS", lambda n: steps(n) == n, 25, 35),
    Bracket("training_setup.WATCHED_STEPS", lambda n: steps(n) == n, 120, 90),
    Bracket("rules.best_change.ENOUGH", helps, 0.07, 0.15),
    Bracket("rules.best_change.ENOUGH_IN_NOISE", lambda x: helps(x, 0.1), 0.2, 0.4),
    Bracket("rules.best_change.SOME_DEAD", leaky_tried, 0.4, 0.6),
    Bracket("rules.data.MOSTLY_FINE", fine_elsewhere, 5, 7),
    Bracket("rules.data.OTHER_BATCHES", lambda n: fine_elsewhere(n, 18), 6, 9),
    Bracket("rules.data.FEWEST_BATCHES", lambda n: with_outliers(1, n), 7, 8),
    Bracket("rules.data.FAR", lambda x: in_batches([1.0] * 9 + [x]), 700, 1500),
    Bracket(
        "rules.data.FILL",
        lambda x: in_batches([1.0] * 9 + [x], is_ill=False),
        0.7e6,
        1.5e6,
    ),
    Bracket(
        "rules.data.OUTLYING_SHARE",
        lambda x: not with_outliers(round(20 * x), 20),
        0.15,
        0.25,
    ),
    Bracket(
        "rules.training_loop.STALE_SHARE",
        lambda x: loop_speaks(training_loop.stale_gradients, stale=20 * x),
        0.15,
        0.25,
    ),
    Bracket("rules.training_loop.FEWEST_WATCHED", lambda n: shrunk(2, n), 2, 3),
    Bracket("rules.training_loop.LEFT_OVER", lambda x: shrunk(5, 10, x), 0.985, 0.95),
    Bracket("rules.training_loop.CLIPPED_STEPS", lambda n: shrunk(n, 10), 1, 2),
    Bracket(
        "rules.training_loop.CLIPPED_SHARE",
        lambda x: shrunk(round(100 * x), 100),
        0.04,
        0.06,
    ),
    Bracket(
        "rules.training_loop.OVER_THE_BOUND",
        lambda x: clip_speaks(at_step=[x] * 9, largest=[x] * 9),
        1.03,
        1.1,
    ),
    Bracket(
        "rules.training_loop.ONE_NORM",
        lambda x: clip_speaks(at_step=[0.1] * 5 + [0.1 + 0.2 * x] * 5),
        0.015,
        0.0075,
    ),
    Bracket(
        "rules.training_loop.ONE_NORM_SHARE",
        lambda x: one_norm(round(20 * x)),
        0.55,
        0.7,
    ),
    Bracket(
        "rules.training_loop.BELOW_THE_BOUND",
        lambda x: clip_speaks(at_step=[x] * 20),
        0.6,
        0.4,
    ),
    Bracket("rules.graph.MATTERS", argmax_matters, 0.7e-6, 1.5e-6),
    Bracket("rules.normalization.LONELY", lonely, 3, 2),
    Bracket("rules.normalization.DEEP", depth_speaks, 7, 8),
    Bracket(
        "rules.normalization.LAYERS_PER_NORM", lambda n: not depth_speaks(9, n), 2, 3
    ),
    Bracket("rules.normalization.FEWEST_BLOCKS", skips_tried, 3, 4),
    Bracket("rules.normalization.GROWING", layers_grow, 20, 45),
    Bracket(
        "rules.normalization.SQUASHED",
        lambda n: (
            not depth_speaks(9, base=run(traces={0: trace(*[("tanh", 0.0)] * n)}))
        ),
        1,
        2,
    ),
    Bracket("rules.numerics.FAR_FROM_OVERFLOW", underflows, 1500, 700),
    Bracket("examination.ZERO_LOSS", says_nothing, 1.5e-6, 0.7e-6),
    Bracket(
        "examination.REAL_GRADIENT",
        lambda x: says_nothing(gradient=x),
        0.7e-4,
        1.5e-4,
    ),
    Bracket("verdict.FEWEST_UPDATES", enough_updates, 9, 10),
    Bracket("rules.numerics.EXPLODED", stays_ordinary, 1.5e6, 0.7e6),
    Bracket("rules.numerics.OVERFLOWING", has_no_slope, 1.5e20, 0.7e20),
    Bracket("rules.optimizer.DOUBLES", doubling, 1.05, 2),
    Bracket("rules.optimizer.FEWEST_SAMPLES", lambda n: doubling(2, n), 3, 4),
    Bracket("rules.optimizer.USUAL_EPS", lambda x: strange(eps=x), 0.7e-6, 1.5e-6),
    Bracket(
        "rules.optimizer.USUAL_BETA1", lambda x: strange(betas=(x, 0.999)), 0.93, 0.97
    ),
    Bracket(
        "rules.optimizer.USUAL_BETA2", lambda x: strange(betas=(0.9, x)), 0.92, 0.85
    ),
    Bracket(
        "rules.optimizer.USUAL_MOMENTUM", lambda x: strange(momentum=x), 0.93, 0.97
    ),
    Bracket(
        "rules.optimizer.LARGE_EPS", lambda x: epsilon_speaks(eps=x), 1.5e-5, 0.7e-5
    ),
    Bracket("rules.optimizer.FAINT", lambda x: epsilon_speaks(gradient=x), 5e-5, 2e-5),
    Bracket(
        "rules.optimizer.TWICE_AS_WELL", lambda x: epsilon_speaks(gentle=x), 0.4, 0.6
    ),
    Bracket("rules.learning_rate.HARDLY_MOVED", moved_little, 0.015, 0.007),
    Bracket("rules.signal.DEAD", activated(signal.dead_units, "relu"), 0.85, 0.93),
    Bracket("rules.signal.AT_ITS_ENDS", activated(signal.flat_ends, "tanh"), 0.4, 0.79),
    Bracket("rules.signal.FEWEST_LAYERS", lambda n: vanishing(1e-3, n), 2, 3),
    Bracket("rules.signal.VANISHED", vanishing, 0.07, 0.035),
    Bracket("rules.weights.WIDE", lambda x: wide(torch.full((2, 1), x)), 3.0, 6.0),
    Bracket(
        "rules.weights.WIDE_VECTOR", lambda x: wide(torch.full((2,), x)), 14.0, 30.0
    ),
    Bracket("rules.weights.BAD_START", bad_start, 6, 11),
    Bracket("rules.weights.FILLED", filled, 0.15, 0.07),
    Bracket("rules.weights.REUSED", lambda n: again(uses=n) is not None, 3, 10),
    Bracket("rules.weights.HUGE", lambda x: again(peak=x) is not None, 700, 1500),
    Bracket(
        "rules.weights.LONG",
        lambda n: again(length=n, cured_by="quarter") is not None,
        15,
        16,
    ),
    Bracket("rules.weights.WIDE_AGAIN", may_be_wide, 2.0, 3.5),
    Bracket("rules.history.JUMP", nan_after_jump, 70, 150),
    Bracket("rules.history.FADED", fading, 1.5e-4, 0.7e-4),
    Bracket("rules.history.FEWEST_LAYERS", lambda n: fading(1e-6, n), 2, 3),
    Bracket(
        "rules.history.LARGE_UPDATE",
        lambda x: told(history.violent_updates, FLAT, update_ratio__a__weight=[x] * 3),
        0.07,
        0.15,
    ),
    Bracket(
        "rules.history.ALL_ZERO",
        lambda x: told(history.dead_layers, FLAT, activation_zeros__fc=[x] * 3),
        0.99,
        0.996,
    ),
    Bracket("rules.history.AT_THE_LIMIT", at_limits, 0.06, 0.03),
    Bracket(
        "rules.history.CENTERED", lambda x: outputs(x, math.sqrt(1 - x * x)), 0.03, 0.07
    ),
    Bracket(
        "rules.history.WIDE_OUTPUT",
        lambda x: told(
            history.wide_outputs, FLAT, activation_std__a=[1.0], activation_std__b=[x]
        ),
        20,
        45,
    ),
    Bracket(
        "rules.history.STILL",
        lambda x: told(
            history.still_parameters,
            FLAT,
            update_ratio__a=[x] * 3,
            update_ratio__b=[1.0] * 3,
        ),
        1.5e-12,
        0.7e-12,
    ),
    Bracket(
        "rules.history.FEWEST_RECORDS",
        lambda n: told(
            history.still_parameters,
            FLAT,
            update_ratio__a=[0.0] * n,
            update_ratio__b=[1.0] * n,
        ),
        2,
        3,
    ),
    Bracket(
        "rules.history.NOT_RISING",
        lambda x: kept([float(i) for i in range(1, 11)], x),
        1.2,
        1.05,
    ),
    Bracket("rules.history.NEAR_THE_TOP", plateau, 0.85, 0.94),
    Bracket(
        "rules.history.SHORTEST_CLIMB",
        lambda n: kept([2.0**i for i in range(n + 1)]),
        4,
        5,
    ),
    Bracket(
        "rules.history.CLIMBED",
        lambda x: kept([x ** (i / 9) for i in range(10)]),
        3.5,
        5,
    ),
    Bracket(
        "rules.history.CLIMBING_SHARE",
        lambda x: kept(
            climb_of(
                [1.3] * round(10 * x)
                + [0.99] * round(20 - 20 * x)
                + [1.3] * round(10 * x)
            )
        ),
        0.8,
        0.9,
    ),
    Bracket(
        "rules.history.STEEPEST",
        lambda x: kept(climb_of([1.2] * 4 + [x] + [1.2] * 4)),
        4,
        2.5,
    ),
]


def at_an_end(value: float) -> bool:
    probe = trace()
    probe._activation("tanh", (), torch.tensor([value]))
    return probe.activations[0].share == 1


def keeps(base: LossCurve, treated: LossCurve) -> bool:
    return trial(base, treated).cured_by_gentler("it", lambda setup: setup)


def steps(batches: int) -> int:
    unused: Any = None
    return TrainingSetup(unused, unused, [None] * batches).steps


@pytest.mark.parametrize("bracket", BRACKETS, ids=str)
def test_a_threshold_lies_between_two_values(bracket: Bracket) -> None:
    assert bracket.decides(bracket.yes)
    assert not bracket.decides(bracket.no)


@pytest.mark.parametrize("bracket", BRACKETS, ids=str)
def test_a_threshold_that_moves_is_missed(bracket: Bracket) -> None:
    assert bracket.unnoticed() == []


def test_every_threshold_has_its_bracket() -> None:
    bracketed = {bracket.name for bracket in [*BRACKETS, *LOG_BRACKETS]}
    bracketed -= {"rules.numerics.EXPLODED"}
    assert not bracketed & OTHER_NUMBERS
    assert bracketed | OTHER_NUMBERS == numbers()


@pytest.mark.parametrize(
    ("first", "end", "speaks"),
    [(1.0, 0.95, True), (1.0, 1.1, False), (20.0, 0.95, False)],
)
def test_weights_are_too_wide_if_only_the_start_is_cured(
    first: float, end: float, speaks: bool
) -> None:
    bad = LossCurve((800.0,) * 4 + (1.02,) * 36, 1.0)
    treated = LossCurve((first,) * 4 + (end,) * 36, 1.0)
    wide_matrix = torch.full((2, 1), 12.0)
    found = wide(wide_matrix, curve=bad, treated=treated, cured_by="nothing")
    assert found is speaks


@pytest.mark.parametrize(("end", "gentler"), [(0.01, True), (0.5, False)])
def test_a_gentler_schedule_explains_a_run_that_learns_little(
    end: float, gentler: bool
) -> None:
    assert keeps(levels(1.1, 0.9), levels(1.1, end)) is gentler

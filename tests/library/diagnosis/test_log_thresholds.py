"""Each threshold of the rules on logs lies between two values."""

import math
from collections.abc import Iterable
from itertools import pairwise

import pytest
from thresholds import Bracket

from gradlib import diagnose_log, read_log
from gradlib.diagnosis.evidence.training_log import TrainingLog
from gradlib.diagnosis.rules.log import loss_scale, nonfinite, oddity, rise, standstill
from gradlib.diagnosis.rules.log.sign import BROKEN, NORMAL, LogRule, Sign

NAN = math.nan


def records(
    steps: Iterable[int] | None = None, unit: str = "step", **columns: list[float]
) -> str:
    """Lines of a log, one a record."""
    rows = list(zip(*columns.values(), strict=True))
    lines = []
    for step, row in zip(steps or range(1, len(rows) + 1), rows, strict=True):
        named = {unit: step, **dict(zip(columns, row, strict=True))}
        lines.append(", ".join(f"{name}: {value}" for name, value in named.items()))
    return "".join(f"{line}\n" for line in lines)


def losses(*values: float, first: int = 1, every: int = 1) -> str:
    steps = range(first, first + every * len(values), every)
    return records(steps, loss=list(values))


def scales(*values: float) -> str:
    """Overflows, each of which brings the loss scale to the next value."""
    return "".join(
        f"OVERFLOW! Attempted loss scale: {before}, reducing to {after}\n"
        for before, after in pairwise(values)
    )


def halved(scale: float, times: int) -> str:
    return scales(*(scale / 2**k for k in range(times + 1)))


def sign_of(rule: LogRule, text: str) -> Sign | None:
    return rule(TrainingLog(read_log(text)))


def speaks(rule: LogRule, text: str) -> bool:
    return sign_of(rule, text) is not None


def verdict(rule: LogRule, text: str) -> str:
    sign = sign_of(rule, text)
    assert sign is not None
    return sign.verdict


def diverged(text: str) -> bool:
    """Whether the first cause of a NaN is the learning rate."""
    sign = sign_of(nonfinite.first_nonfinite, text)
    assert sign is not None
    return sign.causes[0][0] == "lr_too_high"


def is_healthy(*values: float) -> bool:
    return diagnose_log(losses(*values)).verdict == "healthy"


def explodes(*values: float) -> bool:
    return speaks(rise.explosion, losses(*values))


def norm_explodes(norm: float) -> bool:
    norms = [1.0] * 4 + [norm] + [1.0] * 4
    return speaks(rise.explosion, records(loss=[2.5] * 9, grad_norm=norms))


def norm_climbs(norm: float) -> bool:
    norms = [1.0] * 9 + [norm, norm]
    return diverged(records(loss=[1.0] * 10 + [NAN], grad_norm=norms))


def spikes(norm: float) -> bool:
    norms = [1.0] * 6 + [norm] + [1.0] * 5
    return speaks(oddity.norm_spike, records(loss=[2.5] * 12, grad_norm=norms))


def rare(share: float) -> bool:
    """A norm that is infinite in a share of 100 records."""
    norms = [1.0] * 100
    norms[10 : 10 + round(100 * share)] = [math.inf] * round(100 * share)
    text = records(loss=[2.5] * 100, grad_norm=norms)
    return verdict(nonfinite.norm_not_finite, text) == NORMAL


def rises_after_skipping(factor: float) -> bool:
    """A norm that is infinite once, and a loss that ends at a multiple of its start."""
    norms = [1.0, math.inf, *[1.0] * 4]
    text = records(loss=[1.0] * 3 + [factor] * 3, grad_norm=norms)
    return verdict(nonfinite.norm_not_finite, text) != NORMAL


def ends_for_good(count: float) -> bool:
    """A watched run without a loss, whose last norms are not finite."""
    norms = [1.0] * 9 + [NAN] * int(count)
    return speaks(nonfinite.norm_without_loss, records(grad_norm=norms))


def surges(loss: float) -> bool:
    """Whether an explosion begins at its fifth record, not at the sixth."""
    sign = sign_of(rise.explosion, losses(*[1.0] * 4, loss, *[100.0] * 4))
    assert sign is not None
    return sign.step == 5


def perplexity_rises(factor: float) -> bool:
    text = records(perplexity=[8.5] * 3 + [8.5 * factor] * 3)
    return speaks(rise.perplexity_rise, text)


def rises(*values: float) -> bool:
    return speaks(rise.slow_rise, losses(*values))


def rises_in_noise(rise: float) -> bool:
    """A rise in differences of neighbours."""
    return rises(*[1.0, 2.0] * 10, *[1.0 + rise] * 3)


def rises_for_sure(*values: float) -> bool:
    return verdict(rise.slow_rise, losses(*values)) == BROKEN


def undone(share: float) -> bool:
    """A loss that rises by 2 after it had fallen."""
    return rises_for_sure(*[1 + 2 / share] * 3, *[1.0] * 5, *[3.0] * 3)


def guesses(distance: float = 0.0, last: int = 100, unit: str = "step") -> bool:
    loss = math.log(1000) * (1 + distance)
    text = records([last - 2, last - 1, last], unit, loss=[loss] * 3)
    return speaks(standstill.at_chance, text)


def is_clamped(*values: float) -> bool:
    return speaks(standstill.clamped, losses(3.5, 3.4, *values))


def stands_still(value: float, count: int) -> bool:
    return speaks(standstill.no_update, losses(3.5, 3.4, *[value] * count))


def searches(*values: float) -> bool:
    return verdict(loss_scale.scaler_searching, scales(*values)) == NORMAL


def collapses(text: str) -> bool:
    return speaks(loss_scale.scale_collapse, text)


def resumed(jump: float) -> bool:
    text = losses(1.0, 1.0) + "Resuming from checkpoint\n" + losses(jump, jump, first=3)
    return speaks(rise.resume_jump, text)


def goes_on(first: int, every: int = 1) -> bool:
    """A log that begins in mid-run, and whose loss jumps at its second record."""
    text = losses(1.0, *[9.0] * 5, first=first, every=every)
    return speaks(rise.resume_jump, text)


def at_perplexity(logarithm: float) -> bool:
    return speaks(
        standstill.clamped, records(perplexity=[8.5, 8.5, math.exp(logarithm)])
    )


def with_digits(count: int) -> bool:
    return stands_still(float("1.2345678"[: count + 1]), 4)


def starts_high(count: int) -> bool:
    text = losses(*[2.0] * count, *[1.0] * (20 - count))
    loss = TrainingLog(read_log(text)).loss
    assert loss is not None
    return loss.start >= 2


def repeats(period: int, count: int) -> bool:
    """Losses of which so many are those of the epoch before."""
    losses_ = [1.2345 + 0.1 * (k % period) for k in range(period + count)]
    return speaks(standstill.repeated_epochs, losses(*losses_))


def learns_nothing(*values: float, **options: int) -> bool:
    return speaks(standstill.nothing_learned, losses(*values, **options))


def scatters(fall: float) -> bool:
    """A fall in differences of neighbours, over the square root of nine records."""
    scatter = [0.1 * (k % 2) for k in range(27)]
    level = [0.1 * fall / 3 * (k < 18) for k in range(27)]
    return learns_nothing(*(1 + a + b for a, b in zip(scatter, level, strict=True)))


def starts_above(fall: float) -> bool:
    """A first loss so many differences of neighbours above the level of the others."""
    return learns_nothing(1 + 0.1 * fall, *[1.0, 1.1] * 10, 1.0, 1.0, 1.0)


def starts_in_epoch(epoch: float) -> bool:
    """Whether a log of lines is taken for the start of a run."""
    text = "".join(
        f"{{'loss': {2.5 + 0.1 * (k % 2) - 0.005 * k}, 'epoch': {epoch}}}\n"
        for k in range(12)
    )
    return speaks(standstill.nothing_learned, text)


def spike_is(place: int, count: int, size: float) -> Sign | None:
    values = [2.5 - 0.01 * k for k in range(count)]
    values[place] = 2.5 * size
    return sign_of(oddity.loss_spike, losses(*values))


def discriminator_wins(share: float) -> bool:
    discriminator = [0.0 if k < 10 * share else 0.5 for k in range(10)]
    text = records(d_loss=discriminator, g_loss=[2.5] * 10)
    return speaks(oddity.discriminator_wins, text)


def is_harmless(count: int) -> bool:
    sign = spike_is(5, count, 5.0)
    return sign is not None and sign.verdict == NORMAL


def zero_is_odd(lowest: float) -> bool:
    return speaks(nonfinite.zero_records, losses(1.0, 1.0, 0.0, lowest, 1.0))


LOG_BRACKETS = [
    Bracket(
        "diagnose_log.ENOUGH",
        lambda n: is_healthy(*[2.5, 2.3, 2.4, 2.1, 2.0][:n]),
        4,
        5,
    ),
    Bracket(
        "diagnose_log.IN_A_ROW", lambda n: is_healthy(*[2.5, 2.4, 2.3, 2.2][:n]), 3, 4
    ),
    Bracket("evidence.training_log.ENDS", starts_high, 1, 2),
    Bracket(
        "rules.log.nonfinite.CLIMB",
        lambda x: diverged(losses(*[1.0] * 9, x, NAN)),
        2.5,
        4.0,
    ),
    Bracket("rules.log.nonfinite.NORM_CLIMB", norm_climbs, 7.0, 15.0),
    Bracket(
        "rules.log.nonfinite.FIRST_STEPS",
        lambda step: diverged(losses(*[2.5] * (step - 1), NAN)),
        6,
        5,
    ),
    Bracket("rules.log.nonfinite.RARE", rare, 0.07, 0.04),
    Bracket("rules.log.nonfinite.FOR_GOOD", ends_for_good, 2, 3),
    Bracket("rules.log.nonfinite.CALM", rises_after_skipping, 1.3, 2.0),
    Bracket(
        "rules.log.rise.EXTREME_LOSS",
        lambda x: explodes(*[1e6] * 4, x, *[1e6] * 4),
        0.7e9,
        1.5e9,
    ),
    Bracket(
        "rules.log.rise.EXTREME_RATIO",
        lambda x: explodes(*[1.0] * 4, x, *[1.0] * 4),
        0.7e6,
        1.5e6,
    ),
    Bracket("rules.log.rise.EXTREME_NORM", norm_explodes, 0.7e9, 1.5e9),
    Bracket("rules.log.rise.RISE", lambda x: explodes(*[1.0] * 3, *[x] * 3), 3.0, 6.0),
    Bracket("rules.log.rise.SURGE", surges, 7.0, 15.0),
    Bracket("rules.log.rise.PERPLEXITY_RISE", perplexity_rises, 3.0, 6.0),
    Bracket(
        "rules.log.rise.SLOW_RISE", lambda x: rises(*[1.0] * 6, *[x] * 6), 1.15, 1.5
    ),
    Bracket(
        "rules.log.rise.DOUBLED",
        lambda x: rises_for_sure(*[1.0] * 6, *[x] * 6),
        1.7,
        3.0,
    ),
    Bracket("rules.log.rise.LOST", undone, 0.2, 0.4),
    Bracket(
        "rules.log.rise.RISING", lambda n: rises(*[1.0] * 4, *[1.5] * (n - 4)), 7, 8
    ),
    Bracket("rules.log.rise.AFTER", lambda n: rises(9.0, 1.0, 1.0, *[3.0] * n), 2, 3),
    Bracket(
        "rules.log.oddity.LOSS_SPIKE",
        lambda x: spike_is(5, 12, x) is not None,
        2.0,
        4.0,
    ),
    Bracket(
        "rules.log.oddity.FEWEST_AROUND",
        lambda n: spike_is(2, n, 5.0) is not None,
        4,
        5,
    ),
    Bracket("rules.log.oddity.WON", discriminator_wins, 0.4, 0.6),
    Bracket("rules.log.oddity.MANY", is_harmless, 25, 40),
    Bracket("rules.log.rise.NOISE", rises_in_noise, 3.0, 6.0),
    Bracket("rules.log.standstill.NEAR", guesses, 0.003, 0.0015),
    Bracket("rules.log.standstill.CHANCE_STEPS", lambda n: guesses(last=n), 40, 60),
    Bracket(
        "rules.log.standstill.CHANCE_EPOCHS",
        lambda n: guesses(last=n, unit="epoch"),
        4,
        6,
    ),
    Bracket(
        "rules.log.standstill.FALLEN",
        lambda x: learns_nothing(1.0, 1.0, 1.0, 1 - x, 1 - x, 1 - x),
        0.008,
        0.003,
    ),
    Bracket("rules.log.standstill.BY_CHANCE", scatters, 4.0, 2.0),
    Bracket("rules.log.standstill.FIRST_FALL", starts_above, 5.0, 3.0),
    Bracket(
        "rules.log.standstill.GONE",
        lambda x: speaks(standstill.gone_at_once, losses(10.0, 10 * x, 0.0, 0.0)),
        1.5e-4,
        0.7e-4,
    ),
    Bracket("rules.log.standstill.FIRST_EPOCHS", starts_in_epoch, 0.15, 0.07),
    Bracket(
        "rules.log.standstill.FLAT_RECORDS", lambda n: learns_nothing(*[1.5] * n), 4, 5
    ),
    Bracket("rules.log.standstill.REPEATED", lambda n: repeats(3, n), 3, 4),
    Bracket("rules.log.standstill.DISTINCT", lambda n: repeats(n, 12), 2, 3),
    Bracket("rules.log.nonfinite.LOWEST", zero_is_odd, 0.007, 0.015),
    Bracket(
        "rules.log.standstill.SAME_RECORDS", lambda n: stands_still(1.2345, n), 3, 4
    ),
    Bracket("rules.log.standstill.DIGITS", with_digits, 3, 4),
    Bracket(
        "rules.log.standstill.FLOAT32_FLOOR", lambda x: is_clamped(x, x), 80.0, 87.3365
    ),
    Bracket("rules.log.standstill.LARGEST_LOG_PERPLEXITY", at_perplexity, 99.0, 100.0),
    Bracket(
        "rules.log.standstill.CLAMP_DIGITS",
        lambda x: is_clamped(*[27.6310 * (1 + x)] * 3),
        3e-5,
        1.5e-5,
    ),
    Bracket(
        "rules.log.loss_scale.SCALE_START",
        lambda x: searches(x, x / 2, x / 4),
        20000.0,
        40000.0,
    ),
    Bracket(
        "rules.log.loss_scale.SCALE_LOW",
        lambda x: collapses(halved(x, 5)),
        400.0,
        200.0,
    ),
    Bracket(
        "rules.log.loss_scale.SCALE_LEVEL",
        lambda x: searches(65536.0, 2 * x, x),
        700.0,
        1500.0,
    ),
    Bracket(
        "rules.log.loss_scale.HALVINGS", lambda n: collapses(halved(128.0, n)), 1, 2
    ),
    Bracket(
        "rules.log.loss_scale.SKIPPED",
        lambda x: collapses(records([100, 200], loss=[2.5, 2.5], skipped=[0, 100 * x])),
        0.15,
        0.3,
    ),
    Bracket("rules.log.rise.RESUMED_JUMP", resumed, 2.0, 4.0),
    Bracket("rules.log.rise.MID_RUN", goes_on, 700, 1500),
    Bracket(
        "rules.log.rise.MID_RUN_PART",
        lambda x: goes_on(10000, round(10000 * x)),
        0.015,
        0.007,
    ),
    Bracket("rules.log.oddity.SPIKE", spikes, 20.0, 45.0),
]


@pytest.mark.parametrize("bracket", LOG_BRACKETS, ids=str)
def test_a_threshold_lies_between_two_values(bracket: Bracket) -> None:
    assert bracket.decides(bracket.yes)
    assert not bracket.decides(bracket.no)


@pytest.mark.parametrize("bracket", LOG_BRACKETS, ids=str)
def test_a_threshold_that_moves_is_missed(bracket: Bracket) -> None:
    assert bracket.unnoticed() == []

"""Rules about the objective: its terms, its free scalars, and parts out of reach."""

import math
from itertools import combinations, pairwise

import torch

from gradlib.diagnosis.evidence.loss_curve import median
from gradlib.diagnosis.evidence.update_trace import UpdateTrace
from gradlib.diagnosis.examination import Examination
from gradlib.diagnosis.nested import tensors
from gradlib.diagnosis.report import Finding
from gradlib.diagnosis.treatments import (
    TENTH_OF_RATE,
    balanced,
    both,
    capped,
    divided_gradients,
    held,
    louder,
    metered,
    scaled,
)

# A scalar runs away if it moves the same way at so many steps, at the end at least so
# fast as at the start, and by so much: what finds its place slows down.
FEWEST_MOVES = 20
SAME_WAY = 0.9
KEEPS_ITS_SPEED = 0.5
FAR = 0.5
# A loss that differs by less than this share over a run is one number; weights that
# move by more than this should change it.
SAME_VALUE = 1e-5
MOVED = 0.01
# A loss that reaches so many times its start below 0 has no floor: the negative log
# likelihood of a density stays within a few times.
BOTTOMLESS = 1e4
# The mean loss of so many parts of a batch or more is this many times their median
# where few samples count: one far outlier in a hundred gives 1e4.
FEWEST_PARTS = 8
OUTWEIGHS = 1e6
# The loss of a policy lies below 0 by this share of what it fell, or begins there: with
# a usual entropy bonus it is a tenth. Advantages of size 1 leave it within a half of 0.
BELOW_ZERO = 0.5
MOST_SURROGATE = 0.5
# Largest distance of a score from the mean of its row where a softmax is uniform.
UNIFORM = 0.3
# Weights at which a term is looked at again.
HALVED = 0.5
# Largest distance of an attention score from the mean of its row: the healthy stay
# within 20, where a softmax is one-hot already.
LARGE_SCORES = 20.0
# Scores beyond it need no cure as evidence.
BEYOND_ALL = 1000.0
# What an own backward pass adds outweighs the gradient of the loss by this factor: as
# a side loss it has 0.002 of it, where it rules 638 times as much.
SLIPPED = 3.0
# Relative change of a term by other weights: a number that is one has 0.
DEPENDS = 1e-4
# A term of the loss drowns below this share of the largest, if it does not fall by
# more than STALLED alone, and falls to FALLS of that once all weigh the same.
DROWNED = 0.01
STALLED = 0.9
FALLS = 0.7


def runaway_scalar(examination: Examination) -> Finding | None:
    """A free scalar, such as a temperature, drifts without end; held, it learns."""
    if not examination.is_ill and not examination.curve.rose_again:
        return None
    for name, values in examination.base.scalars.items():
        if not _runs_away(values):
            continue
        label = f"{name} held at its start"
        parameter = dict(examination.setup.model.named_parameters())[name]
        if not examination.improves(label, held([parameter])):
            continue
        return Finding(
            "objective_out_of_reach",
            name,
            f"{name} moves from {values[0]:.3g} to {values[-1]:.3g}, always the same "
            "way and never slower: its objective cannot be reached. Held at its start, "
            "the training learns.",
            {"at the start": values[0], "at the end": values[-1]},
            0.95,
            fix=f"Bound {name} with .clamp(low, high), and give it a target that the "
            "model can reach.",
        )
    return None


def _runs_away(values: list[float]) -> bool:
    moves = [b - a for a, b in pairwise(values)]
    finite = [m for m in moves if math.isfinite(m) and m]
    if len(finite) < FEWEST_MOVES:
        return False
    up = sum(m > 0 for m in finite) / len(finite)
    half = len(finite) // 2
    early, late = (median([abs(m) for m in p]) for p in (finite[:half], finite[half:]))
    return (
        max(up, 1 - up) >= SAME_WAY
        and late >= KEEPS_ITS_SPEED * early
        and abs(sum(finite)) > FAR
    )


def constant_value(examination: Examination) -> Finding | None:
    """The loss has one value whatever the weights are, though they move."""
    base = examination.base
    losses = base.losses
    if len(losses) < FEWEST_MOVES or not all(map(math.isfinite, losses)):
        return None
    spread = max(losses) - min(losses)
    if examination.says_nothing or spread > SAME_VALUE * abs(losses[0]):
        return None
    same = _same_twice(examination)
    if same:
        return Finding(
            "bad_data",
            "data",
            f"The loss is {losses[0]:.4g} at all {len(losses)} updates, and two parts "
            f"of a batch are the same in {same} of {len(examination.setup.batches)} "
            "batches: what tells them apart was cut off, or never loaded.",
            {"loss": losses[0], "batches": same},
            0.93,
            fix="Print both parts of one sample. Answers behind a long prompt need a "
            "larger max_length, or a cut on the left.",
        )
    if not max(base.moved.values(), default=0.0) > MOVED:
        return None
    return Finding(
        "objective_out_of_reach",
        "loss",
        f"The loss is {losses[0]:.4g} at all {len(losses)} updates, though the weights "
        "move: it compares the model with itself, as where a reference is a copy that "
        "follows at every step.",
        {"loss": losses[0], "largest relative move": max(base.moved.values())},
        0.85,
        fix="Keep the reference as it was at the start (copy.deepcopy, in eval mode, "
        "with requires_grad_(False)), or let it follow slowly.",
    )


def bottomless(examination: Examination) -> Finding | None:
    """The loss falls far below 0: nothing bounds it from below."""
    losses = [x for x in examination.base.losses if math.isfinite(x)]
    if not losses:
        return None
    size = max(1.0, abs(examination.curve.start))
    if not min(losses) < -BOTTOMLESS * size:
        return None
    return Finding(
        "objective_out_of_reach",
        "loss",
        f"The loss starts at {examination.curve.start:.3g} and reaches "
        f"{min(losses):.3g}: something in it has no floor.",
        {"loss at the start": examination.curve.start, "lowest loss": min(losses)},
        0.85,
        fix="Print the terms of the loss, the sign of each, and that of what is "
        "divided by: a variance, a weight or a scale must stay above 0.",
    )


def outweighing_samples(examination: Examination) -> Finding | None:
    """A few samples of a batch make nearly all of its loss."""
    losses = examination.losses_of_parts
    if len(losses) < FEWEST_PARTS or not all(0 < x < math.inf for x in losses):
        return None
    usual, mean = median(list(losses)), sum(losses) / len(losses)
    if not mean > OUTWEIGHS * usual:
        return None
    return Finding(
        "loss_terms_unbalanced",
        "loss",
        f"Of {len(losses)} parts of the first batch, half have a loss of at most "
        f"{usual:.3g}, and one has {max(losses):.3g}: a few samples make all of the "
        "gradient.",
        {"median loss of a part": usual, "largest": max(losses)},
        0.8,
        fix="Print the loss of each sample beside the weight or the divisor it has. "
        "Scale the output by the root of that divisor, or clamp the weight.",
    )


def _same_twice(examination: Examination) -> int:
    """Batches in which two tensors of several values hold the same ones."""
    count = 0
    for batch in examination.setup.batches:
        parts = [t for t in tensors(batch) if t.numel() > 1]
        pairs = combinations(parts, 2)
        count += any(a.shape == b.shape and torch.equal(a, b) for a, b in pairs)
    return count if count > len(examination.setup.batches) / 2 else 0


def paid_without_end(examination: Examination) -> Finding | None:
    """The loss of a policy falls far below 0, where its surrogate has nothing to win.

    Actions are drawn from the policy itself, and their advantages swing around 0. What
    lies below comes from another term: an entropy bonus, or a divergence that is
    subtracted.
    """
    base, curve = examination.base, examination.curve
    if not base.first.calls.samplings or examination.naive is not None:
        return None
    if not math.isfinite(curve.end) or not curve.end < 0:
        return None
    if -curve.end < BELOW_ZERO * max(curve.start - curve.end, abs(curve.start)):
        return None
    if -curve.end < MOST_SURROGATE:
        return None
    last = [c for c in base.last.calls.softmaxes if c.learned and len(c.shape) == 2]
    uniform = bool(last) and last[-1].largest < UNIFORM
    if uniform:
        told = (
            "its softmax is nearly uniform at the end, so a bonus on entropy outweighs "
            "the advantages"
        )
    else:
        told = "a term without a floor is rewarded, such as a divergence with a minus"
    return Finding(
        "loss_terms_unbalanced" if uniform else "objective_out_of_reach",
        "loss",
        f"The policy draws its own actions, and its loss ends at {curve.end:.3g}: "
        f"advantages alone leave it near 0, so {told}.",
        {"loss at the start": curve.start, "loss at the end": curve.end},
        0.7,
        conclusive=False,
        fix="Print the terms of the loss and the reward. Add a divergence, do not "
        "subtract it; give an entropy bonus a weight of 0.01.",
    )


def descended_critic(examination: Examination) -> Finding | None:
    """A critic learns by regression, and an actor descends on its answer."""
    if examination.base.last.backwards < 2:
        return None
    for name, pulls in examination.base.last.pulled.items():
        answers = [low > 0 and math.isclose(low, high) for low, high in pulls]
        learned = [low < 0 < high for low, high in pulls]
        if not any(answers) or not any(learned) or examination.setup.step is None:
            continue
        return Finding(
            "optimizer_misconfigured",
            name,
            f"{name} is fitted by one backward pass, and another one makes its answer "
            "smaller for every sample. If it foretells a reward, the actor learns the "
            "worst action: the minus is missing.",
            {"backward passes": len(pulls)},
            0.6,
            conclusive=False,
            fix="loss = -critic(state, actor(state)).mean(), if the critic foretells "
            "a reward; nothing, if it foretells a cost.",
        )
    return None


def term_without_graph(examination: Examination) -> Finding | None:
    """A term that depends on the weights is added to the loss as a mere number."""
    numbers = examination.base.first.numbers
    if not numbers:
        return None
    smaller = scaled(HALVED, list(examination.parameters.values()))
    trace = UpdateTrace(examination.setup.model)
    try:
        with trace:
            smaller(examination.setup).update(0)
    except Exception:
        return None
    finally:
        examination.restore()
    pairs = zip(numbers, trace.numbers, strict=False)
    cut = [a for a, b in pairs if abs(a - b) > DEPENDS * abs(a)]
    if not cut:
        return None
    return Finding(
        "detached_graph",
        "loss",
        f"A term of {cut[0]:.3g} is added to the loss without a graph, though it "
        "depends on the weights: it changes the value of the loss and no gradient.",
        {"terms without a graph": len(cut), "value of the first": cut[0]},
        0.9,
        fix="Compute it with a graph: torch.autograd.grad(..., create_graph=True) for "
        "a slope; no .detach(), .item() or no_grad() on what the term should teach.",
    )


def slipped_in(examination: Examination) -> Finding | None:
    """An own backward pass adds a gradient that outweighs that of the loss."""
    own = examination.base.graph.own
    if not own or examination.setup.step is not None:
        return None
    without, whole = examination.gradient_of(0.0), examination.gradient_of(1.0)
    if without is None or whole is None:
        return None
    added = without != 0
    rest = float((whole - without)[added].norm())
    ratio = float(without.norm()) / rest if rest > 0 else 0.0
    if not ratio > SLIPPED:
        return None
    name = "the added gradient a hundredth of the rest"
    count = 100 * ratio
    if not examination.improves(name, both(louder(count), divided_gradients(count))):
        return None
    return Finding(
        "loss_terms_unbalanced",
        "loss",
        f"The backward pass of {own[0]} adds a gradient that is there without any "
        f"loss, {ratio:.3g} times that of the loss; with {name} the same training "
        "learns.",
        {"added over the rest": ratio, **examination.compared(name)},
        0.9,
        fix=f"Multiply what {own[0]}.backward adds by {1 / count:.0e}, or add the side "
        "loss to the loss with that factor.",
    )


def growing_scores(examination: Examination) -> Finding | None:
    """The scores of an attention grow until it is one-hot; capped, it learns."""
    base = examination.base
    uses = [t.calls.softmaxes for t in base.traces.values()]
    first = base.first.calls.softmaxes
    peaks = [
        (call.largest, call.layer)
        for calls in uses
        for call in calls
        if call.learned and len(call.shape) > 2 and call.layer != "loss"
    ]
    if not peaks or not first:
        return None
    largest, layer = max(peaks)
    begun = max((c.largest for c in first if c.layer == layer), default=0.0)
    if not largest > LARGE_SCORES:
        return None
    if not examination.worth_a_look and not begun > LARGE_SCORES:
        return None
    name = "scores capped at 5"
    improved = examination.improves(name, capped(5.0))
    if not improved and not (largest > BEYOND_ALL and examination.worth_a_look):
        return None
    if improved:
        capped_end = examination.run_under(name, capped(5.0)).end
        owed = _owed_to_the_rate(examination, largest, capped_end)
        if owed is not None:
            return owed
    return Finding(
        "attention_logits_grow",
        layer,
        f"The scores of the attention in {layer} reach {largest:.3g} away from the "
        "mean of their row, so that the softmax picks one key and lets no gradient "
        "through." + f" With {name} the same training learns." * improved,
        {
            "largest score at the start": begun,
            "largest score": largest,
            **examination.compared(name),
        },
        0.88,
    )


def _owed_to_the_rate(
    examination: Examination, largest: float, capped_end: float
) -> Finding | None:
    """Scores that a tenth of the learning rate cures better than a cap does."""
    if not examination.run_under(*TENTH_OF_RATE).end < capped_end:
        return None
    gentle = TENTH_OF_RATE[0]
    rate = max((r for r in examination.base.rates if math.isfinite(r)), default=0.0)
    return Finding(
        "lr_too_high",
        "global",
        f"Attention scores reach {largest:.3g}, which a cap cures less than a tenth of "
        f"the rate: with {gentle} {examination.outcome(gentle)}.",
        {"largest learning rate": rate, **examination.compared(gentle)},
        0.84,
        fix=f"Set lr={rate / 10:.2g} instead of {rate:.2g}; or look for it with "
        "gradlib.lr_range_test.",
    )


def drowned_term(examination: Examination) -> Finding | None:
    """The rest of the loss outweighs one term, which learns once it weighs as much."""
    if examination.curve.exploded:
        return None
    pulls = examination.pulls
    small = [i for i, pull in enumerate(pulls) if 0 < pull < DROWNED]
    if not small:
        return None
    factors = [1 / pull if i in small else 1.0 for i, pull in enumerate(pulls)]
    usual = _terms(examination, "the terms as they are", None)
    treated = _terms(examination, "terms of equal weight", factors)
    if usual is None or treated is None:
        return None
    for i in small:
        begin, end = usual[0][i], usual[1][i]
        if end < STALLED * begin or not treated[1][i] < FALLS * end:
            continue
        name = examination.base.first.calls.losses[i].function
        return Finding(
            "loss_terms_unbalanced",
            "loss",
            f"The gradient of {name}, term {i + 1} of the loss, is {pulls[i]:.2g} of "
            f"that of the rest, and the term does not fall ({begin:.3g} to "
            f"{end:.3g}); with the same weight it reaches {treated[1][i]:.3g}.",
            {"gradient over that of the rest": pulls[i]},
            0.9,
            fix=f"Multiply {name} by {factors[i]:.1g}, or divide the rest by as much.",
        )
    return None


def _terms(
    examination: Examination, name: str, factors: list[float] | None
) -> tuple[list[float], list[float]] | None:
    """Every term at the start and at the end of a run."""
    read: list[list[float]] = []
    treatment = metered(read) if factors is None else balanced(factors, read)
    examination.run_under(name, treatment)
    rows = [row for row in read if len(row) == len(read[0])] if read else []
    if len(rows) < FEWEST_MOVES:
        return None
    part = len(rows) // 5
    columns = list(zip(*rows, strict=True))
    begin = [median(list(column[:part])) for column in columns]
    end = [median(list(column[-part:])) for column in columns]
    return begin, end

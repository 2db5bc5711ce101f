"""Rules about the data: broken values, inputs and targets out of scale."""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gradlib.diagnosis.evidence.base_run import OUT_OF_BOUNDS
from gradlib.diagnosis.evidence.feature_scale import off_scale
from gradlib.diagnosis.evidence.function_calls import LOSSES
from gradlib.diagnosis.evidence.loss_curve import TINY
from gradlib.diagnosis.examination import Examination
from gradlib.diagnosis.nested import tensors
from gradlib.diagnosis.report import Finding
from gradlib.diagnosis.treatments import (
    Treatment,
    both,
    new_tensor,
    one_draw,
    padding_first,
    real_lengths,
    reinitialized,
    repeated,
    rolled,
    scaled,
    shuffled,
)

# Other batches tried beside the one that gives NaN, and the share of them that must be
# fine: with broken weights none is, with a broken batch nearly all are.
OTHER_BATCHES = 12
MOSTLY_FINE = 0.6
POINTWISE = {"exp", "exp_", "expm1", "sinh", "cosh", "pow", "log", "sqrt", "rsqrt"}
# Fewest batches among which some can be called outlying.
FEWEST_BATCHES = 8
# Peak of a batch over the usual one: heavy tails reach 90, wrong units begin at 8,000,
# and fill values (1e20, -9999 beside fractions) go beyond FILL.
FAR = 1000.0
FILL = 1e6
# Batches of one class: shuffled data have none, sorted ones nearly all. By chance so
# many have one, where a batch is small or a class is rare.
ONE_CLASS = 0.5
BY_CHANCE = 0.1
# Variance of targets inside batches over that of all: 1 if dealt at random, 0 if
# sorted.
INSIDE = 0.2
# Loss on all batches after a run on dealt samples over that after the run as it is: 1
# where the order does not matter.
REMEMBERED = 0.6
# Where it forgets, the loss of the latest batches lies below this share of that of all:
# 0.72, and 1.07 where it learns by luck of the order.
LATEST = 0.85
FEWEST_SAMPLES = 4
# A run that ends so near the naive loss has learned a constant, and one batch that ends
# below this share of it is known by heart.
AS_CONSTANT = 0.15
LEARNED = 0.5
NEAR_A_CONSTANT = 2.0
# A constant answer has this share of the untrained loss, and this share of all tokens
# are one: a text has 0.1 and less, a padded one up to 0.9.
SETTLED = 0.02
ALL_ONE = 0.99
# Share of fill values at the ends of sequences from which they are worth a trial:
# without padding a sequence ends with one or two equal values.
FILLED_SHARE = 0.2
# Outliers are few: batches of two kinds come half and half.
OUTLYING_SHARE = 0.2


def broken_values(examination: Examination) -> Finding | None:
    """Some inputs or targets are NaN or infinite, and the loss is not what it should.

    Fill values that a mask keeps out of the loss are no illness.
    """
    batches = examination.setup.batches
    bad = broken_batches(examination)
    if not bad or (not examination.is_ill and all_finite(examination)):
        return None
    counted = sum(int((~t.isfinite()).sum()) for i in bad for t in _floats(batches[i]))
    return Finding(
        "bad_data",
        "data",
        f"{len(bad)} of {len(batches)} batches hold NaN or infinite values, first at "
        f"batch {bad[0]}.",
        {"batches": len(bad), "first batch": bad[0], "values": counted},
        0.98,
    )


def broken_batches(examination: Examination) -> list[int]:
    """Batches with NaN or infinite values."""
    batches = examination.setup.batches
    return [i for i, batch in enumerate(batches) if not _finite(batch)]


def all_finite(examination: Examination) -> bool:
    """Every loss and every gradient of the base run is finite."""
    base = examination.base
    norms = (norm for column in base.norms.values() for norm in column)
    return all(map(math.isfinite, base.losses)) and all(map(math.isfinite, norms))


def one_token(examination: Examination) -> Finding | None:
    """Nearly all tokens are one and the same, so a constant is right at once."""
    naive = examination.naive
    if naive is None or naive > SETTLED * examination.curve.start:
        return None
    whole = [
        t
        for batch in examination.setup.batches
        for t in tensors(batch)[:1]
        if not t.is_floating_point() and t.ndim > 1 and t.dtype != torch.bool
    ]
    if not whole:
        return None
    tokens = torch.cat([t.flatten() for t in whole])
    values, counts = torch.unique(tokens, return_counts=True)
    share = float(counts.max() / len(tokens))
    if share < ALL_ONE:
        return None
    common = int(values[counts.argmax()])
    return Finding(
        "bad_data",
        "data",
        f"{100 * share:.2f} % of all tokens are {common}, as where a tokenizer does "
        "not know the text: a constant answer has nearly no loss.",
        {"token": common, "share": share, "loss of a constant": naive},
        0.93,
        fix="Print some decoded sequences, and use the tokenizer and vocabulary that "
        "belong to the model.",
    )


def impossible_samples(examination: Examination) -> Finding | None:
    """A few batches give a non-finite loss whatever the weights are.

    Where a function of one value, such as exp, made it from what the network put out,
    the samples are possible and the function is at fault.
    """
    origin = examination.origin
    if origin.step is None or origin.forward is None or origin.forward.half:
        return None
    if math.isfinite(origin.loss):
        return None
    if origin.forward.function in POINTWISE and origin.forward.learned:
        return None
    batches = examination.setup.batches
    weights = list(examination.parameters.values())
    worlds = [lambda s: s, scaled(0.1, weights), reinitialized(1.0)]
    here = origin.step % len(batches)
    if any(_loss_in(examination, world, here) for world in worlds):
        return None
    others = [i for i in range(len(batches)) if i != here][:OTHER_BATCHES]
    fine = sum(_loss_in(examination, worlds[1], i) for i in others)
    if fine < MOSTLY_FINE * len(others) or not others:
        return None
    if origin.forward.function in LOSSES and origin.forward.empty:
        return Finding(
            "labels_masked",
            "data",
            f"In batch {here} {origin.forward.function} gets no value at all: the mean "
            f"over nothing is {origin.loss}. {fine} of {len(others)} other batches "
            "have some.",
            {"batch": here},
            0.95,
            fix="Leave out a sample of which nothing is kept, or divide the sum of the "
            "losses by count.clamp(min=1).",
        )
    return Finding(
        "bad_data",
        "data",
        f"Batch {here} gives a loss of {origin.loss} for three different sets of "
        f"weights; {fine} of {len(others)} other batches do not.",
        {"batch": here, "operation": origin.forward.function},
        0.96,
        fix="Look at its lengths, masks and labels if its numbers are finite. Leave "
        "out a sample of which nothing is kept, or whose target is longer than its "
        "input.",
    )


def _loss_in(examination: Examination, world: Any, index: int) -> bool:
    """Whether the loss of one batch is finite after a change of the weights."""
    try:
        return math.isfinite(world(examination.setup).update(index))
    except Exception:
        return False
    finally:
        examination.restore()


def refused_samples(examination: Examination) -> Finding | None:
    """An index in a batch, such as a class or a token, is larger than the table."""
    failure, base = examination.base.failure, examination.base
    if not any(part in failure for part in OUT_OF_BOUNDS):
        return None
    done = len(base.losses) - bool(base.losses)
    here = done % len(examination.setup.batches)
    whole = [t for t in tensors(examination.setup.batches[here]) if not _floating(t)]
    evidence = {
        f"integers of shape {tuple(t.shape)}": f"{int(t.min())} to {int(t.max())}"
        for t in whole
        if t.numel()
    }
    return Finding(
        "bad_data",
        "data",
        f"Batch {here} holds an index that is out of range: {failure}",
        {"batch": here, **evidence},
        0.95,
        fix="Count classes and tokens from 0, and make the output layer or the "
        "embedding as large as the largest one plus 1.",
    )


def _floating(t: Tensor) -> bool:
    return t.is_floating_point() or t.is_complex() or t.dtype == torch.bool


def outlying_samples(examination: Examination) -> Finding | None:
    """A few batches hold values far outside all others, and leaving them out cures.

    Values a million times the usual ones (fill values) need no cure as evidence.
    """
    batches = examination.setup.batches
    if len(batches) < FEWEST_BATCHES:
        return None
    peaks = [
        max((float(t.abs().max()) for t in _floats(b)), default=0.0) for b in batches
    ]
    usual = sorted(peaks)[len(peaks) // 2]
    far = [i for i, peak in enumerate(peaks) if peak > FAR * max(usual, TINY)]
    if not far or len(far) > OUTLYING_SHARE * len(batches):
        return None
    filled = min(peaks[i] for i in far) > FILL * max(usual, TINY)
    if not (examination.is_ill or filled):
        return None
    kept = [b for i, b in enumerate(batches) if i not in far]
    name = "those batches left out"
    cured = examination.cures(
        name, lambda setup: replace(setup, batches=kept, max_steps=setup.steps)
    )
    if not (cured or filled):
        return None
    return Finding(
        "bad_data",
        "data",
        f"{len(far)} of {len(batches)} batches hold values up to {max(peaks):.3g}, "
        f"where {usual:.3g} is usual, first at batch {far[0]}.",
        {"first batch": far[0], "batches": len(far), **examination.compared(name)},
        0.92,
    )


def sorted_samples(examination: Examination) -> Finding | None:
    """Targets are alike within a batch and differ between batches."""
    batches = examination.setup.batches
    found = _targets(batches)
    if found is None:
        return None
    targets = torch.cat(found)
    between = torch.stack([t.float().mean() for t in found])
    if not targets.is_floating_point():
        kinds = len(torch.unique(targets))
        kept = [len(torch.unique(t)) for t in found]
        alone = sum(k == 1 for k in kept) / len(kept)
        expected = sum(_chance_of_one(targets, len(t)) for t in found) / len(found)
        if kinds < 2 or alone < ONE_CLASS or expected > BY_CHANCE:
            return None
        told = f"{100 * alone:.0f} % of the batches hold one class, of {kinds}"
        evidence: dict[str, Any] = {"classes": kinds, "batches of one class": alone}
    else:
        inside = torch.stack([t.double().var() for t in found]).mean()
        share = float(inside / targets.double().var().clamp_min(TINY))
        if share > INSIDE:
            return None
        told = f"Within a batch the targets vary by {share:.2g} of what they do in all"
        evidence = {"variance inside batches": share}
    name = "samples dealt anew"
    examination.run_under(name, shuffled)
    numbers = targets.is_floating_point()
    if numbers and not _forgotten(examination, _loss_of_all(examination)):
        return None
    return Finding(
        "unshuffled_data",
        "data",
        f"{told}: the samples come sorted, first batches at {float(between[0]):.3g}, "
        f"last at {float(between[-1]):.3g}.",
        {**evidence, **examination.compared(name)},
        0.94,
    )


def forgotten_batches(examination: Examination) -> Finding | None:
    """Later batches make the model forget the earlier ones; dealt anew they do not."""
    count = len(examination.setup.batches)
    if not examination.worth_a_look or count < FEWEST_BATCHES:
        return None
    if examination.curve.exploded:
        return None
    usual = _loss_of_all(examination)
    latest = examination.curve.end
    if not latest < LATEST * usual or not _forgotten(examination, usual):
        return None
    name = "samples dealt anew"
    examination.run_under(name, shuffled)
    return Finding(
        "unshuffled_data",
        "data",
        f"Once it is over, the loss of all {count} batches together is {usual:.4g}, "
        f"that of the last ones {latest:.4g}, and after a run on the "
        "same samples in another order all are lower: later batches make the model "
        "forget the earlier ones.",
        {"loss of all batches": usual, **examination.compared(name)},
        0.85,
    )


def _loss_of_all(examination: Examination) -> float:
    """Loss of all batches once the run as given is over."""
    return examination.loss_after(lambda setup: setup)


def _forgotten(examination: Examination, usual: float) -> bool:
    """Whether all batches together have far less loss after a run on dealt samples."""
    dealt = examination.loss_after(shuffled)
    return math.isfinite(dealt) and dealt < REMEMBERED * usual


def _targets(batches: list[Any]) -> list[Tensor] | None:
    """One target a sample, batch by batch; None where there is no such thing."""
    found = []
    for batch in batches:
        parts = tensors(batch)
        if len(parts) < 2 or len(parts[0]) != len(parts[-1]):
            return None
        target = parts[-1]
        if target.numel() != len(target) or len(target) < FEWEST_SAMPLES:
            return None
        found.append(target.flatten())
    return found if len(found) >= FEWEST_BATCHES else None


def _chance_of_one(targets: Tensor, size: int) -> float:
    """Probability that a batch of this size holds one class, if dealt at random."""
    _, counts = torch.unique(targets, return_counts=True)
    return float((counts / len(targets)).pow(size).sum())


def misplaced_targets(examination: Examination) -> Finding | None:
    """Targets moved by one place are learned, those as given are not.

    Targets of other inputs leave the training near a constant answer; far from it,
    another draw of the same noise would pass for a cure.
    """
    if not examination.is_ill or examination.curve.exploded:
        return None
    if not examination.curve.score < NEAR_A_CONSTANT:
        return None
    parts = tensors(examination.setup.batches[0])
    if len(parts) < 2 or parts[0].ndim < 1 or len(parts[0]) != len(parts[-1]):
        return None
    index, target = len(parts) - 1, parts[-1]
    along = (
        [0, 1] if target.ndim > 1 and parts[0].shape[:2] == target.shape[:2] else [0]
    )
    for dim in along:
        for shift in (1, -1):
            if target.shape[dim] < FEWEST_SAMPLES:
                continue
            name = f"targets moved by {shift} along axis {dim}"
            if not examination.cures(name, rolled(index, dim, shift)):
                continue
            return Finding(
                "labels_misaligned",
                "data",
                f"With {name} the same training learns: targets stand beside the "
                "wrong inputs.",
                {"axis": dim, "shift": shift, **examination.compared(name)},
                0.93,
            )
    return None


def nothing_to_learn(examination: Examination) -> Finding | None:
    """One batch alone is learned at once, and all together not at all.

    What was trained before, and stands where it stood, may know all that can be known.
    """
    curve, naive = examination.curve, examination.naive
    if not examination.is_ill or naive is None or curve.exploded or curve.still_falls:
        return None
    if not abs(curve.score - 1) < AS_CONSTANT:
        return None
    optimizer = examination.setup.optimizer
    if curve.start < naive or (optimizer is not None and any(optimizer.state.values())):
        return None
    trials = {
        "the first batch alone": repeated,
        "the first batch alone, with one draw of random numbers": one_draw,
    }
    name = next(
        (n for n, t in trials.items() if _learned_by_heart(examination, n, t)), None
    )
    if name is None:
        return None
    told = name[0].upper() + name[1:]
    drawn = " Targets that are drawn anew, such as a noise, must be those drawn for the"
    drawn += " input."
    return Finding(
        "labels_misaligned",
        "data",
        f"{told} is learned, all batches together are not: what is "
        "learned from one does not hold for the next." + drawn * ("draw" in name),
        examination.compared(name),
        0.55,
        conclusive=False,
    )


def _learned_by_heart(
    examination: Examination, name: str, treatment: Treatment
) -> bool:
    naive = examination.naive
    assert naive is not None
    return examination.run_under(name, treatment).end < LEARNED * naive


def read_after_padding(examination: Examination) -> Finding | None:
    """Sequences end with fill values; with these in front the training learns."""
    if not examination.is_ill or examination.curve.exploded:
        return None
    first = tensors(examination.setup.batches[0])[:1]
    if not first or first[0].ndim < 2 or first[0].shape[1] < FEWEST_SAMPLES:
        return None
    sizes = [
        real_lengths(t).float() / t.shape[1]
        for batch in examination.setup.batches
        for t in tensors(batch)[:1]
        if t.ndim == first[0].ndim
    ]
    shares = torch.cat(sizes)
    if float(shares.mean()) > 1 - FILLED_SHARE or len(set(shares.tolist())) < 3:
        return None
    name = "the fill values in front"
    if not examination.cures(name, padding_first(0)):
        return None
    return Finding(
        "padding_in_loss",
        "(root)",
        f"{100 * (1 - float(shares.mean())):.0f} % of the places of the sequences hold "
        f"the fill value at their ends; with {name} the same training learns: the "
        "model reads its answer behind the padding.",
        {
            "share of fill values": 1 - float(shares.mean()),
            **examination.compared(name),
        },
        0.92,
        fix="Read the state at the last real place: states[range(len(x)), "
        "lengths - 1], or pack_padded_sequence; and leave fill values out of means.",
    )


def input_scale(examination: Examination) -> Finding | None:
    """Inputs are far from mean 0 and variance 1, and standardizing them cures."""
    if not examination.worth_a_look:
        return None
    index, features = off_scale(examination.setup.batches, 0)
    if index is None or features is None:
        return None
    name = "standardized inputs"
    if not examination.cures(name, new_tensor(index, features.standardize)):
        return None
    return Finding(
        "unnormalized_input",
        "data",
        f"Input features reach a mean or standard deviation of {features.largest:.3g}; "
        "with standardized inputs the same training learns.",
        {
            "largest mean or std": features.largest,
            "ratio of feature scales": features.spread,
            **examination.compared(name),
        },
        0.93,
    )


def target_scale(examination: Examination) -> Finding | None:
    """Targets are far from mean 0 and variance 1, and scaling them cures.

    Where no gradient arrives at all, no scale can help: only the loss would shrink.
    """
    if not examination.worth_a_look or not examination.gets_a_gradient:
        return None
    if not examination.is_ill and examination.curve.still_falls:
        return None
    index, features = off_scale(examination.setup.batches, 1)
    if index is None or features is None:
        return None
    treatments = {
        "standardized targets": new_tensor(index, features.standardize),
        "targets divided by their maximum": new_tensor(index, features.shrink),
    }
    inputs, entering = off_scale(examination.setup.batches, 0)
    if inputs is not None and entering is not None:
        treatments["standardized inputs and targets"] = both(
            new_tensor(inputs, entering.standardize), treatments["standardized targets"]
        )
    cured = (n for n, t in treatments.items() if examination.cures(n, t, rescaled=True))
    name = next(cured, None)
    if name is None:
        return None
    return Finding(
        "unscaled_target",
        "data",
        f"Targets reach a mean or standard deviation of {features.largest:.3g}; "
        f"with {name} the same training learns.",
        {"largest mean or std": features.largest, **examination.compared(name)},
        0.94,
    )


def _floats(batch: Any) -> list[Tensor]:
    return [t for t in tensors(batch) if t.is_floating_point() and t.numel()]


def _finite(batch: Any) -> bool:
    return all(bool(t.isfinite().all()) for t in _floats(batch))

"""Rules about what is computed: axes, shapes, and which output meets which target."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from gradlib.diagnosis.evidence.function_calls import LossCall, SoftmaxCall
from gradlib.diagnosis.evidence.loss_curve import median
from gradlib.diagnosis.examination import Examination
from gradlib.diagnosis.nested import mapped, samples, tensors
from gradlib.diagnosis.report import Finding
from gradlib.diagnosis.treatments import (
    another_axis,
    batch_first,
    one_shape,
    uncut,
    using,
)

# Spread of the outputs over samples at the end, over that at the start: where the
# outputs have become one and the same it is 0.08 and less, where they are learned 0.3
# and more.
COLLAPSED = 0.1
# Updates at the end with a loss of exactly 0, and the share of its start above which
# the losses just before must lie: what is learned to the end comes down gradually.
FEWEST_ZEROS = 5
SUDDEN = 0.1
# Size of outputs that have shrunk to nothing: normalized ones have 0.05 and more.
TINY_OUTPUT = 0.02
# Share of the targets at the ends of sequences that is filled with one value: without
# padding a row ends with one or two equal values.
PADDED = 0.2
# Weights of micro-batches are equal to within this factor, their sizes differ by this.
EQUAL = 1.02
UNEQUAL = 1.5
# Shifts of a target against its input that are looked for, in steps.
SHIFTS = (1, 0, 2, -1, 3)
# How often a token is the same after the same two: always if they determine it, half
# the time or less in a text. Sequences have an order if it is so many times chance.
DETERMINED = 0.9
ORDERED = 2.0
FEWEST_REPEATS = 30
# A loss that changes by less than this share does not change: sums in another order.
SAME_LOSS = 1e-5
FEWEST_VIEWS = 4
# What moving an axis must gain where the training learns without: heads that mix places
# lose a twentieth and more of the scale.
ALSO_LEARNED = 0.05
# Rows of a table that are compared.
MOST_ROWS = 4096


def wrong_shape(examination: Examination) -> Finding | None:
    """Output and target have equally many values in other shapes: all are paired."""
    pairings = examination.base.first.calls.pairings
    if not pairings:
        return None
    found = pairings[0]
    name = "output and target of one shape"
    examination.run_under(name, one_shape)
    told = next((w for w in examination.base.warnings if "size" in w), "")
    return Finding(
        "shape_mismatch",
        "loss" if found.layer in ("loss", "(root)") else found.layer,
        f"{found.function} pairs shapes {found.shapes[0]} and {found.shapes[1]}: "
        f"broadcasting makes {found.made}, every value against every other."
        + f" Warned: {told}"
        * bool(told),
        {"shape of the result": str(found.made), **examination.compared(name)},
        0.95,
    )


def softmax_of_one(examination: Examination) -> Finding | None:
    """A softmax runs over a single value, so that it is 1 whatever is learned."""
    calls = examination.base.first.calls
    single = [c for c in calls.softmaxes if c.learned and c.shape[c.dim] == 1]
    lonely = [
        c
        for c in calls.losses
        if c.function == "cross_entropy"
        and c.output.ndim > 1
        and c.output.shape[1] == 1
        and not c.target.is_floating_point()
    ]
    if lonely:
        return Finding(
            "wrong_axis",
            "loss",
            f"The cross entropy runs over one class, shape "
            f"{tuple(lonely[0].output.shape)}: it is 0 whatever the output is.",
            {"loss": lonely[0].value},
            0.95,
            fix="Use F.binary_cross_entropy_with_logits(out.squeeze(1), y.float()), or "
            "put out one logit a class.",
        )
    if not single:
        return None
    return _axis_finding(examination, single[0], "over a single value, so it is 1")


def length_of_all(examination: Examination) -> Finding | None:
    """One norm is taken over all samples of a batch, and one for each cures."""
    calls = examination.base.first.calls
    if not calls.whole_norms or not examination.worth_a_look:
        return None
    name = "a norm for each sample"

    def each(x: Tensor, *given: Any, **named: Any) -> Tensor:
        if x.ndim == 2 and not given[1:] and named.get("dim") is None:
            named |= {"dim": 1, "keepdim": True}
        made: Tensor = torch.norm(x, *given, **named)
        return made

    if not examination.improves(name, using(norm=each)):
        return None
    return Finding(
        "wrong_axis",
        "loss" if calls.whole_norms[0] in ("loss", "(root)") else calls.whole_norms[0],
        "A norm takes all values of a batch together, so the length of a sample hangs "
        f"on the others; with {name} the same training learns.",
        {"norms over a whole batch": len(calls.whole_norms)}
        | examination.compared(name),
        0.9,
        fix="x / x.norm(dim=-1, keepdim=True), or F.normalize(x, dim=-1).",
    )


def softmax_over_samples(examination: Examination) -> Finding | None:
    """A softmax runs over the samples of a batch, and another axis cures."""
    count = samples(examination.setup.batches[0])
    over = [
        c
        for c in examination.base.first.calls.softmaxes
        if c.learned
        and c.dim == 0
        and len(c.shape) > 1
        and c.shape[0] == count > 1
        and c.shape[-1] != count
    ]
    if not over:
        return None
    return _axis_finding(examination, over[0], f"over the {count} samples of a batch")


def _axis_finding(
    examination: Examination, call: SoftmaxCall, what: str
) -> Finding | None:
    name = "the softmax over another axis"
    improved = examination.improves(name, another_axis(call.shape, call.dim))
    if not improved and not examination.is_ill and not _silent(examination):
        return None
    return Finding(
        "wrong_axis",
        call.layer,
        f"A softmax of shape {call.shape} runs {what}.",
        {"axis": call.dim, **examination.compared(name)},
        0.94 if improved else 0.8,
        fix="softmax(dim=...) over the axis whose values compete: classes, or keys.",
    )


def _silent(examination: Examination) -> list[str]:
    """Parameters whose gradient is exactly zero at every step."""
    return [
        name
        for name in examination.parameters
        if examination.base.norms[name]
        and max(examination.base.norms[name]) == min(examination.base.norms[name]) == 0
    ]


def cut_axis(examination: Examination) -> Finding | None:
    """A change of shape cuts an axis where the owner means to move one.

    Once it may be meant; several times alike (queries, keys, values) it is not.
    """
    cuts = examination.base.first.calls.cuts
    if not cuts:
        return None
    name = "axes moved, not cut"
    improved = examination.improves(name, uncut, share=ALSO_LEARNED)
    found = cuts[0]
    alike = sum(c == found for c in cuts) > 1
    if not improved and not examination.is_ill and not alike:
        return None
    i, j = found.axes
    return Finding(
        "wrong_axis",
        found.layer,
        f"In {found.layer} values of shape {found.before} are read as {found.after}: "
        f"axis {i}, of length {found.before[i]}, stands at place {j}, but the values "
        "did not move, so it mixes what belongs to different places."
        + f" With {name} the same training ends lower."
        * improved,
        examination.compared(name),
        0.93 if improved else 0.7,
        conclusive=improved,
        fix="x.view(batch, time, heads, -1).transpose(1, 2) to split heads, and "
        "x.transpose(1, 2).reshape(batch, time, -1) to merge them.",
    )


def bag_of_samples(examination: Examination) -> Finding | None:
    """Two views of the samples, and the loss is the same whichever belong together."""
    setup = examination.setup
    views = tensors(setup.batches[0])
    if setup.step is not None or len(views) != 2 or examination.is_ill:
        return None
    a, b = views
    if a.shape != b.shape or not a.is_floating_point() or not b.is_floating_point():
        return None
    if len(a) < FEWEST_VIEWS or a.ndim < 2 or bool(torch.equal(a, b)):
        return None
    usual = examination.loss_of(setup.batches[0])
    if not math.isfinite(usual):
        return None

    def differs(first: Tensor, second: Tensor) -> bool:
        parts = iter((first, second))
        other = examination.loss_of(mapped(setup.batches[0], lambda _: next(parts)))
        return not abs(other - usual) <= SAME_LOSS * abs(usual)

    if differs(a, b.roll(1, 0)) or differs(b, a) or not differs(a, torch.zeros_like(b)):
        return None
    return Finding(
        "target_leak",
        "loss",
        "Which samples of the two views belong together makes no difference to the "
        "loss: it compares every sample with itself, and falls without learning.",
        {"loss": usual, "loss at the end": examination.curve.end},
        0.9,
        fix="Leave each sample out of its own pairs: fill the diagonal of the "
        "similarities with -inf, and let the target be the other view.",
    )


def mixed_samples(examination: Examination) -> Finding | None:
    """The output of a sample depends on the others; the axes exchanged cure."""
    if not examination.dependence.on_others:
        return None
    model = examination.setup.model
    swapped = [
        name
        for name, m in model.named_modules()
        if getattr(m, "batch_first", None) is False
    ]
    name = "batch_first=True"
    improved = bool(swapped) and examination.improves(name, batch_first)
    if not improved and not examination.is_ill:
        return None
    if not improved and _graphs(examination):
        return None
    layer = swapped[0].removesuffix(".self_attn") if swapped else "(root)"
    return Finding(
        "wrong_axis",
        layer or "(root)",
        "In evaluation mode the output of one sample changes with another sample: an "
        "operation runs along the batch."
        + f" With {name} the same training learns."
        * improved,
        examination.compared(name) if swapped else {},
        0.93 if improved else 0.75,
        conclusive=improved,
        fix="Give the module its axes: nn.LSTM(..., batch_first=True) for inputs "
        "(batch, time, feature); for mean, softmax or reshape name the right dim."
        if swapped
        else "",
    )


def placed_samples(examination: Examination) -> Finding | None:
    """The output of a sample changes with its place in the batch."""
    seen = examination.dependence
    if not seen.on_place or seen.on_others or not examination.is_ill:
        return None
    return Finding(
        "wrong_axis",
        "(root)",
        "In evaluation mode the outputs change when the samples change places within "
        "the batch, though no sample depends on another: something is counted along "
        "the batch, such as positions.",
        {},
        0.9,
        fix="Count along the sequence: torch.arange(x.size(1)).unsqueeze(0) for inputs "
        "of shape (batch, time).",
    )


def _graphs(examination: Examination) -> bool:
    """Whether the model may mix rows on purpose: it gets several tensors, or sets."""
    call = examination.base.call
    return call is None or len(call.inputs) > 1


def token_calls(examination: Examination) -> Iterator[tuple[LossCall, Tensor, Tensor]]:
    """Losses on sequences: the call, its targets as rows, and the tokens that entered.

    Rows of the targets may be a step or two shorter than those of the tokens.
    """
    base = examination.base
    if base.call is None:
        return
    entered = [t for t in base.call.inputs if t.ndim == 2 and not t.is_floating_point()]
    if not entered:
        return
    tokens = entered[0]
    for call in base.first.calls.losses:
        target = call.target
        if target.is_floating_point() or target.numel() % len(tokens):
            continue
        length = target.numel() // len(tokens)
        if tokens.shape[1] - 3 <= length <= tokens.shape[1] and length > 3:
            yield call, target.reshape(len(tokens), length), tokens


def _shift(call: LossCall, target: Tensor, tokens: Tensor) -> int | None:
    """By how many steps the targets lie ahead of the tokens at their places."""
    length = target.shape[1]
    for shift in SHIFTS:
        first, last = max(0, -shift), min(length, tokens.shape[1] - shift)
        mine = target[:, first:last]
        theirs = tokens[:, first + shift : last + shift]
        counted = mine != call.ignored
        if counted.any() and bool((mine == theirs)[counted].all()):
            return shift
    return None


def shifts_of(examination: Examination) -> list[int]:
    """The shifts of all losses on sequences whose targets are their own tokens."""
    shifts = []
    for call, target, tokens in token_calls(examination):
        shift = _shift(call, target, tokens)
        if shift is not None:
            shifts.append(shift - _left_out(examination, call, target))
    return shifts


def _left_out(examination: Examination, call: LossCall, target: Tensor) -> int:
    """Places at the start of the model's output that the loss leaves out."""
    count, length = target.shape
    for output in tensors(examination.base.output):
        if output.ndim != 3 or len(output) != count:
            continue
        if call.output.numel() != count * length * output.shape[2]:
            continue
        used = call.output.float().reshape(count, length, -1)
        for first in range(1, output.shape[1] - length + 1):
            if torch.equal(used, output[:, first : first + length].float()):
                return first
    return 0


def shifted_targets(examination: Examination) -> Finding | None:
    """The targets of a sequence are its own tokens, but not the next ones."""
    shifts = shifts_of(examination)
    if not shifts or {0, 1} & set(shifts):
        return None
    return Finding(
        "labels_misaligned",
        "loss",
        f"The targets lie {shifts[0]} steps ahead of the tokens, where 1 is the next "
        "token: they are shifted more than once, or the wrong way.",
        {"shift": shifts[0]},
        0.93,
        fix="Shift once: either tokens[:, 1:] as labels, or the model's own shift "
        "(labels=input_ids).",
    )


def copied_tokens(examination: Examination) -> Finding | None:
    """The target is the token that enters at its place, in sequences with an order.

    Random tokens to be copied are a task; a text that is copied is a mistake.
    """
    shifts = shifts_of(examination)
    if not shifts or any(shifts) or examination.is_ill:
        return None
    tokens = _tokens(examination)
    _, counts = torch.unique(tokens, return_counts=True)
    chance = float((counts / tokens.numel()).pow(2).sum())
    if _agreement(tokens, 2) < ORDERED * chance:
        return None
    return Finding(
        "target_leak",
        "loss",
        "At every place the target is the token that enters there: copying "
        "the input is enough.",
        {"shift": 0, "loss at the end": examination.curve.end},
        0.9,
        fix="Predict the next token: loss(logits[:, :-1], tokens[:, 1:]).",
    )


def _tokens(examination: Examination) -> Tensor:
    """All sequences of the batches that are as long as those of the first call."""
    first = next(token_calls(examination))[2]
    rows = [
        t
        for batch in examination.setup.batches
        for t in tensors(batch)[:1]
        if t.ndim == 2 and t.shape[1] == first.shape[1] and not t.is_floating_point()
    ]
    return torch.cat(rows or [first])[:MOST_ROWS]


def _agreement(tokens: Tensor, length: int) -> float:
    """How often a token is the same after the same tokens before it."""
    size = int(tokens.max()) + 1
    context = torch.zeros_like(tokens[:, length:])
    for i in range(length):
        context = context * size + tokens[:, i : tokens.shape[1] - length + i]
    before, following = context.flatten(), tokens[:, length:].flatten()
    order = before.argsort(stable=True)
    before, following = before[order], following[order]
    again = before[1:] == before[:-1]
    if int(again.sum()) < FEWEST_REPEATS:
        return 0.0
    return float((following[1:] == following[:-1])[again].float().mean())


def future_seen(examination: Examination) -> Finding | None:
    """The target is the next token, and the output depends on it already.

    Where the tokens before determine the next one, nothing is gained by reading it.
    """
    if not examination.dependence.ahead or 1 not in shifts_of(examination):
        return None
    if examination.is_ill or _agreement(_tokens(examination), 2) > DETERMINED:
        return None
    return Finding(
        "target_leak",
        "(root)",
        "The target at each place is the next token, and the output there changes "
        "with the next token: the answer is read, not predicted.",
        {"loss at the end": examination.curve.end},
        0.94,
        fix="Mask the future: is_causal=True with a causal mask in every attention; no "
        "bidirectional recurrence, no convolution that looks ahead.",
    )


def answer_in_the_input(examination: Examination) -> Finding | None:
    """One column of the inputs is the target."""
    pairs = [tensors(batch)[:2] for batch in examination.setup.batches]
    if examination.setup.loss_fn is None or any(len(pair) < 2 for pair in pairs):
        return None
    x, y = pairs[0]
    if x.ndim < 2 or x[0].numel() < 3 or y.numel() != len(x) != 1:
        return None
    if any(a.shape[1:] != x.shape[1:] or b.numel() != len(a) for a, b in pairs):
        return None
    inputs = torch.cat([a.flatten(1).double() for a, _ in pairs])[:MOST_ROWS]
    target = torch.cat([b.flatten().double() for _, b in pairs])[:MOST_ROWS]
    if not bool(target.isfinite().all()) or len(torch.unique(target)) < 3:
        return None
    same = (inputs == target[:, None]).all(0).nonzero().flatten()
    if not len(same):
        return None
    return Finding(
        "target_leak",
        "data",
        f"Input {int(same[0])} equals the target in all {len(target)} samples.",
        {"input": int(same[0]), "samples": len(target)},
        0.92,
        fix=f"Leave input {int(same[0])} out.",
    )


def padding_counted(examination: Examination) -> Finding | None:
    """Sequences end with a fill value, and the loss counts it."""
    for call, target, tokens in token_calls(examination):
        if call.reached is None:
            continue
        ends = target[:, -1]
        fill = ends.mode().values
        if int(fill) == call.ignored:
            continue
        tail = (target == fill).flip(1).long().cumprod(1).flip(1).bool()
        lengths = tail.sum(1)
        steady = tokens[:, -1] == tokens[:, -1].mode().values
        known = tail[steady & (ends == fill)]
        share = float(tail.float().mean())
        if share < PADDED or len(torch.unique(lengths)) < 3 or not len(known):
            continue
        if bool((target[~tail] == fill).any()):
            continue
        reached = _per_target(call, target)
        if reached is None or not bool(reached[tail].gt(0).any()):
            continue
        return Finding(
            "padding_in_loss",
            "loss",
            f"{100 * share:.0f} % of the targets are the fill value {int(fill)} at the "
            "ends of sequences, and they get a gradient like the others.",
            {
                "fill value": int(fill),
                "share of targets": share,
                "share of the gradient": float(reached[tail].sum() / reached.sum()),
            },
            0.92,
            fix=f"F.cross_entropy(logits, targets, ignore_index={int(fill)}).",
        )
    return None


def _per_target(call: LossCall, target: Tensor) -> Tensor | None:
    """Size of the gradient that reaches the output of every target."""
    if call.reached is None:
        return None
    g = call.reached.abs()
    classes = 1 if g.ndim > 1 and g.ndim == call.target.ndim + 1 else None
    summed = g.sum(classes) if classes is not None else g
    return summed.reshape(target.shape) if summed.numel() == target.numel() else None


def ignored_labels(examination: Examination) -> Finding | None:
    """No label of a batch counts: all are the ignored class."""
    calls = examination.base.first.calls.losses
    empty = [c for c in calls if c.terms == 0 and c.target.numel()]
    whole = [
        t
        for batch in examination.setup.batches
        for t in tensors(batch)[1:]
        if not t.is_floating_point() and t.numel()
    ]
    if not empty or not all(bool((t == empty[0].ignored).all()) for t in whole):
        return None
    return Finding(
        "labels_masked",
        "data",
        f"All {empty[0].target.numel()} labels of the first batch are "
        f"{empty[0].ignored}, which the loss ignores; so are those of the others.",
        {"labels": empty[0].target.numel()},
        0.96,
    )


def vanished_labels(examination: Examination) -> Finding | None:
    """The loss is a number, and exactly 0 from one update on: nothing counts any more.

    What is learned to the end, as a hinge may be, comes near 0 before.
    """
    losses = examination.base.losses
    zeros = len(losses) - next(
        (k for k in range(len(losses), 0, -1) if losses[k - 1] != 0), 0
    )
    counted = losses[: len(losses) - zeros]
    if zeros < FEWEST_ZEROS or not counted:
        return None
    if not min(counted[-3:]) > SUDDEN * examination.curve.start:
        return None
    return Finding(
        "labels_masked",
        "loss",
        f"At update {len(counted) - 1} the loss is {counted[-1]:.3g}; from update "
        f"{len(counted)} on it is exactly 0 at all {zeros}: no label counts any more.",
        {"first update": len(counted), "updates": zeros},
        0.9,
        fix="Count the ones of the mask at every step. A mask that is kept and written "
        "to in place loses them: hand out mask.clone().",
    )


def unequal_parts(examination: Examination) -> Finding | None:
    """One update averages the means of parts that hold unequally many targets."""
    ratios = []
    for trace in examination.base.traces.values():
        calls = [c for c in trace.calls.losses if c.weight and c.terms]
        kinds = {(c.function, c.output.shape[-1]) for c in calls}
        if len(calls) < 2 or len(kinds) > 1:
            continue
        weights = [abs(c.weight) for c in calls]
        terms = [c.terms for c in calls]
        if calls[0].reduction == "sum" or max(weights) > EQUAL * min(weights):
            continue
        ratios.append(max(terms) / min(terms))
    if not ratios or median(ratios) < UNEQUAL:
        return None
    return Finding(
        "mean_of_means",
        "loop",
        f"An update averages the mean losses of parts, of which one has "
        f"{max(ratios):.3g} times the targets of another: targets of small parts "
        "count more.",
        {"largest over smallest part": max(ratios)},
        0.9,
    )


def collapsed_outputs(examination: Examination) -> Finding | None:
    """The loss does not rise, and the outputs become the same for all samples."""
    curve, base = examination.curve, examination.base
    if not math.isfinite(curve.end) or examination.naive is not None:
        return None
    if curve.end > curve.start:
        return None
    # Where the loss calls parts of the model itself, the last of them stands for it.
    layers = base.first.layers
    name = "" if "" in layers else next(reversed(layers), "")
    first, last = (t.layers.get(name) for t in (base.first, base.last))
    if first is None or last is None or not first.spread or base.first is base.last:
        return None
    small = last.rms < min(TINY_OUTPUT, COLLAPSED * first.rms)
    if not last.spread < COLLAPSED * first.spread and not small:
        return None
    return Finding(
        "representation_collapse",
        name or "(root)",
        f"While the loss goes from {curve.start:.3g} to {curve.end:.3g}, the outputs "
        "become the same for all samples.",
        {
            "spread over samples at the start": first.spread,
            "at the end": last.spread,
            "size of the outputs at the start": first.rms,
            "size at the end": last.rms,
        },
        0.92,
    )

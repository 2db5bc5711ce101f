"""Rules about values that leave the range of numbers."""

import math
from itertools import chain, pairwise

import torch

from gradlib.diagnosis.evidence.base_run import CONSTRAINT
from gradlib.diagnosis.evidence.update_trace import ForwardOrigin
from gradlib.diagnosis.examination import EXPLODED, Examination
from gradlib.diagnosis.report import Finding, layer_of
from gradlib.diagnosis.treatments import in_float32

# Largest value in float16 of a run that only underflows: activations have 1 to 100, and
# what overflows in the next steps is near 65504 already.
FAR_FROM_OVERFLOW = 1e3
# Share of weights with a gradient that a step leaves as they are: in float32 up to
# 0.05, in bfloat16 with steps of a thousandth 0.5 and more.
SWALLOWED = 0.4
# What float32 must gain then, in units of the naive loss.
LITTLE_BETTER = 0.04
# A parameter in a logarithm that is so many steps from 0, and has come down to this
# share of its start, can cross it: one that rests there moves a tenth of that.
STEPS_FROM_ZERO = 5.0
CAME_NEAR = 0.5
# What an operation without a finite slope gets is an ordinary gradient; where a product
# of many factors overflows, the one before is within a few powers of float32's 3e38.
OVERFLOWING = 1e20
# A result of exp beyond this, grown by this factor, goes on growing: float32 ends at
# exp(88.7), this is exp(34).
NEAR_OVERFLOW = 1e15
GROWN = 1e3
REMEDIES = {
    "log": "torch.log(x.clamp_min(1e-8)); for probabilities F.logsigmoid, "
    "F.log_softmax or cross entropy on logits.",
    "sqrt": "torch.sqrt(x.clamp_min(1e-8)).",
    "norm": "torch.sqrt(x.pow(2).sum(-1) + 1e-8) instead of the norm.",
    "std": "torch.sqrt(x.var(-1, correction=0) + 1e-8) instead of std.",
    "exp": "torch.exp(x.clamp(max=10)).",
    "div": "a / (b + 1e-8); with torch.where, make the denominator safe before.",
    "pow": "x.clamp_min(1e-8).pow(p).",
    "atan2": "torch.atan2(y, x + 1e-6 * (x.abs() + y.abs() < 1e-6)).",
    "acos": "torch.acos(x.clamp(-1 + 1e-6, 1 - 1e-6)).",
    "softmax": "a finite mask, scores.masked_fill(mask, -1e4), so that no row is "
    "masked everywhere.",
}


def softmax_twice(examination: Examination) -> Finding | None:
    """The loss applies softmax (or sigmoid) to what already went through one."""
    twice = examination.base.graph.twice
    if not twice:
        return None
    stable = (
        "cross_entropy" if twice == "Softmax" else "binary_cross_entropy_with_logits"
    )
    return Finding(
        "loss_numerics",
        "loss",
        f"{twice} is applied twice: once in the model and again inside {stable}, "
        "which flattens the gradient.",
        {
            "loss at the start": examination.curve.start,
            "loss at the end": examination.curve.end,
        },
        0.95,
        fix=f"Return logits from the model; {stable} expects them.",
    )


def not_logarithms(examination: Examination) -> Finding | None:
    """A loss gets numbers above 0 where it expects logarithms of probabilities."""
    found = examination.base.first.calls.not_logarithms
    if not found:
        return None
    name, largest = next(iter(found.items()))
    return Finding(
        "loss_numerics",
        "loss",
        f"{name} expects logarithms of probabilities, which are never above 0, and got "
        f"values up to {largest:.3g}.",
        {
            "largest value": largest,
            "loss at the start": examination.curve.start,
            "loss at the end": examination.curve.end,
        },
        0.95,
        fix="Give it the logarithm: output.log_softmax(dim=1), not softmax and not the "
        "output itself.",
    )


def unbounded_logarithm(examination: Examination) -> Finding | None:
    """A free parameter enters a logarithm or a root, and is a few steps from 0."""
    for name, lowest in examination.base.bare.items():
        finite = [v for v in lowest if math.isfinite(v)]
        if len(finite) < 2:
            continue
        stride = max(abs(b - a) for a, b in pairwise(finite))
        if not 0 < min(finite) < STEPS_FROM_ZERO * stride:
            continue
        if not min(finite) < CAME_NEAR * finite[0]:
            continue
        return Finding(
            "loss_numerics",
            name,
            f"{name} enters a logarithm or a root as it is, has come from "
            f"{finite[0]:.3g} down to {min(finite):.3g}, and moves by up to "
            f"{stride:.2g} in a step: at 0 the loss is not a number.",
            {"lowest value": min(finite), "largest step": stride},
            0.8,
            conclusive=False,
            fix=f"Learn the logarithm: let {name} be s, and use s.exp() where the "
            "parameter stands now and s where its logarithm does.",
        )
    return None


def growing_exponential(examination: Examination) -> Finding | None:
    """What ``exp`` puts out grows towards the end of float32."""
    traces = [examination.base.traces[step] for step in sorted(examination.base.traces)]
    first, last = (t.largest_exp for t in (traces[0], traces[-1]))
    if not (last > NEAR_OVERFLOW and last > GROWN * max(first, 1.0)):
        return None
    return Finding(
        "loss_numerics",
        "loss",
        f"exp gives up to {first:.2g} at the first update and {last:.2g} at the last "
        "one watched; float32 ends at 3.4e38, and a sum of such numbers loses the "
        "small ones before.",
        {"largest at the start": first, "largest at the end": last},
        0.8,
        conclusive=False,
        fix="Where a logarithm follows, torch.logsumexp(x, dim) in place of "
        "x.exp().sum(dim).log(); else torch.exp(x.clamp(max=30)).",
    )


def half_overflow(examination: Examination) -> Finding | None:
    """Values in float16 leave its range, at either end, and float32 cures."""
    half = examination.base.first.half
    forward = examination.origin.forward
    used = half or (forward is not None and forward.half)
    if forward is not None and _small_division(forward):
        return None
    overflows = any(math.isinf(largest) for largest in half.values())
    if not used or not (examination.worth_a_look or overflows):
        return None
    born = forward.layer if forward is not None and forward.half else ""
    cured = examination.cures("float32", in_float32)
    if not cured and forward is not None and _beyond_half(forward):
        return _overflown(examination, forward)
    if not cured and (
        not born or examination.run_under("float32", in_float32).exploded
    ):
        return None
    largest = max(half.values(), default=math.inf)
    if examination.origin.updated and examination.origin.calm:
        return _update_below(examination)
    if (
        not born
        and largest < FAR_FROM_OVERFLOW
        and math.isfinite(examination.curve.end)
    ):
        return _underflow(examination, largest)
    widest = next((n for n, v in half.items() if math.isinf(v)), "")
    widest = widest or max(half, key=lambda place: half[place], default="all")
    layer = born or widest
    return Finding(
        "fp16_overflow",
        layer,
        "The training fails in float16 and runs in float32.",
        {
            "largest value in float16": half.get(layer, math.inf),
            "limit": torch.finfo(torch.float16).max,
            **examination.compared("float32"),
        },
        0.95,
    )


def _beyond_half(forward: ForwardOrigin) -> bool:
    """Large and finite values of float16 give one that is not finite."""
    return forward.half and FAR_FROM_OVERFLOW < forward.largest_input < math.inf


def _overflown(examination: Examination, forward: ForwardOrigin) -> Finding:
    """Values leave the range in a network beside the model, which no trial reaches."""
    return Finding(
        "fp16_overflow",
        forward.layer,
        f"At step {examination.origin.step} {forward.function} takes finite values of "
        f"float16 of up to {forward.largest_input:.4g}, and its result is beyond "
        "65,504.",
        {
            "largest value that enters": forward.largest_input,
            "limit": torch.finfo(torch.float16).max,
        },
        0.92,
    )


def _small_division(forward: ForwardOrigin) -> bool:
    """A division of small numbers in half precision, where a small eps is 0."""
    small = forward.largest_input < FAR_FROM_OVERFLOW
    return forward.half and "div" in forward.function and small


def _underflow(examination: Examination, largest: float) -> Finding:
    """Nothing comes near the upper end of float16, so the lower end is at fault."""
    return Finding(
        "fp16_underflow",
        "global",
        "In float16 the training does not learn, in float32 it does; no value of the "
        f"forward pass is larger than {largest:.3g}, so gradients below 6e-8 became 0.",
        {
            "largest value in float16": largest,
            "smallest number": torch.finfo(torch.float16).smallest_normal / 1024,
            **examination.compared("float32"),
        },
        0.93,
    )


def _update_below(examination: Examination) -> Finding:
    """Loss and gradients are finite in float16, and the update is not."""
    origin = examination.origin
    return Finding(
        "fp16_underflow",
        layer_of(origin.updated),
        f"At step {origin.updated_at} loss and gradients are finite, and the update "
        f"makes {origin.updated} NaN in float16: squares of gradients and an eps of "
        "1e-8 are 0 there, and it divides by them.",
        {"step": origin.updated_at, **examination.compared("float32")},
        0.93,
        fix="Keep weights and the optimizer in float32, under torch.autocast; or set "
        "eps=1e-4.",
    )


def swallowed_updates(examination: Examination) -> Finding | None:
    """Weights in half precision stay where they are, since updates are rounded off."""
    return _rounded_off(
        examination, examination.base.swallowed, "the weights with a gradient"
    )


def rounded_average(examination: Examination) -> Finding | None:
    """A frozen copy in half precision cannot follow: small moves are rounded off."""
    rewritten = examination.base.rewritten
    shares = {name: sum(seen) / len(seen) for name, seen in rewritten.items()}
    return _rounded_off(
        examination,
        shares,
        "the values of a frozen copy that is written to",
        fix="Keep what follows slowly in float32: teacher.float(), and "
        "old.lerp_(new.float(), 0.01).",
    )


def _rounded_off(
    examination: Examination, shares: dict[str, float], what: str, fix: str = ""
) -> Finding | None:
    """Most values stay where they are when they should move, and float32 is better."""
    if not shares:
        return None
    usual = sorted(shares.values())[len(shares) // 2]
    if usual < SWALLOWED:
        return None
    name = "float32"
    if not examination.improves(name, in_float32, share=LITTLE_BETTER):
        return None
    worst = max(shares, key=lambda n: shares[n])
    model = examination.setup.model
    named = dict(chain(model.named_parameters(), model.named_buffers()))
    kind = str(named[worst].dtype)
    return Finding(
        "low_precision_updates",
        layer_of(worst),
        f"{100 * usual:.0f} % of {what} did not change in a step: "
        f"{kind.removeprefix('torch.')} has no number that close. With {name} weights "
        "the same training learns.",
        {"share that did not change": usual, **examination.compared(name)},
        0.93,
        fix=fix,
    )


def refused_values(examination: Examination) -> Finding | None:
    """The training raises because a value left the range of a distribution."""
    failure = examination.base.failure
    if CONSTRAINT not in failure or not examination.curve.finite:
        return None
    return Finding(
        "loss_numerics",
        examination.stopped_in,
        f"After {len(examination.base.losses) - 1} updates a distribution refuses its "
        f"parameters: {failure}",
        {"updates": max(0, len(examination.base.losses) - 1)},
        0.9,
        fix="Let the network put out the logarithm of what must be positive, with "
        "bounds: std = log_std.clamp(-5, 2).exp().",
    )


def undefined_operation(examination: Examination) -> Finding | None:
    """NaN or infinity is born from ordinary finite values."""
    origin = examination.origin
    if origin.step is None or not origin.layer or not origin.calm:
        return None
    forward = origin.forward
    if forward is not None:
        opaque = forward.function.startswith(("rnn_", "lstm", "gru"))
        half = forward.half and not _small_division(forward)
        if half or opaque or forward.largest_input > EXPLODED:
            return None
        return Finding(
            "loss_numerics",
            origin.layer,
            f"At step {origin.step} {forward.function} turned finite values (at most "
            f"{forward.largest_input:.3g}) into NaN or infinity.",
            {
                "step": origin.step,
                "operation": forward.function,
                "largest input": forward.largest_input,
            },
            0.93,
            fix="Divide in float32, where a small eps is not 0: "
            "a.float() / (b.float() + 1e-8)."
            if forward.half
            else _remedy(forward.function),
        )
    spoiled = examination.curve.exploded or origin.skipped
    if not math.isfinite(origin.loss) or not spoiled or origin.pushed > OVERFLOWING:
        return None
    slope = f": {origin.backward} has no finite slope there" if origin.backward else ""
    return Finding(
        "loss_numerics",
        origin.layer,
        f"At step {origin.step} the loss is finite ({origin.loss:.3g}), its gradient "
        f"is not{slope}.",
        {
            "step": origin.step,
            "backward operation": origin.backward or "unknown",
            "loss": origin.loss,
        },
        0.92,
        fix=_remedy(origin.backward),
    )


def _remedy(operation: str) -> str:
    """The stable form of an operation; empty, and so the cause's, if not known."""
    name = operation.lower().strip("_")
    for part, remedy in REMEDIES.items():
        if part in name and (part == "softmax") == ("softmax" in name):
            return f"Use {remedy}"
    return ""

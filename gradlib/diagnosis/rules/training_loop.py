"""Rules about the code around the model: zero, clip, step, and what is held."""

import math

from torch import Tensor

from gradlib.diagnosis.evidence.base_run import BaseRun
from gradlib.diagnosis.evidence.loss_curve import median
from gradlib.diagnosis.examination import Examination
from gradlib.diagnosis.nested import mapped, samples
from gradlib.diagnosis.report import Finding, layer_of
from gradlib.diagnosis.rules.graph import FEWEST_SILENT
from gradlib.diagnosis.treatments import thawed
from gradlib.measure.tensors import HALF_TYPES

# Share of steps on a stale gradient: who accumulates on purpose clears before the first
# pass, so has none; who clears once an epoch, or never, has 0.98 or more.
STALE_SHARE = 0.2
# What is left of a gradient after the step: untouched it is 1, clipped 0.01 or less.
LEFT_OVER = 0.98
# Clipping is seen at so many steps, and this share of them: 0, or 0.69 and more.
FEWEST_WATCHED = 3
CLIPPED_STEPS = 2
CLIPPED_SHARE = 0.05
# Norm over the bound: clipped it is at most 1 by rounding, misplaced 2 and more.
OVER_THE_BOUND = 1.05
# Clipped, then divided by a loss scale: this share of steps has one norm, to within
# this much, below this share of the bound. Norms that were not clipped have at most
# 0.13 of the steps in such a band; clipped ones all, at the bound.
ONE_NORM = 0.01
ONE_NORM_SHARE = 0.6
BELOW_THE_BOUND = 0.5
# Learning rate times gradient, summed over the run, in units of the size of the
# weights: above it a weight that stands still was not updated. Adam moves by more, and
# a step of SGD that float32 rounds off is below 1e-7 of the weight.
PULLED = 1e-4


def stale_gradients(examination: Examination) -> Finding | None:
    """Gradients of earlier steps are still there when new ones arrive."""
    calls = examination.base.calls
    if examination.setup.step is None or calls is None or not calls.at_step:
        return None
    if calls.closures:
        return None
    share = calls.stale / len(calls.at_step)
    if share < STALE_SHARE:
        return None
    return Finding(
        "missing_zero_grad",
        "loop",
        f"{calls.stale} of {len(calls.at_step)} optimizer steps used a gradient that "
        "still held what an earlier step had used.",
        {
            "stale steps": calls.stale,
            "gradient norm, first step": calls.at_step[0],
            "gradient norm, median": median(calls.at_step),
        },
        0.97,
    )


def cleared_too_early(examination: Examination) -> Finding | None:
    """Gradients are cleared after they arrived and before a step used them."""
    calls = examination.base.calls
    if examination.setup.step is None or calls is None or calls.closures:
        return None
    if examination.alternating or not any(calls.steps) or calls.lost:
        return None
    if max(calls.empty, calls.wiped) < STALE_SHARE * len(calls.steps):
        return None
    return Finding(
        "zero_grad_misplaced",
        "loop",
        f"In {max(calls.empty, calls.wiped)} of {len(calls.steps)} updates a gradient "
        "arrived and was cleared before any step used it.",
        {
            "steps without a gradient": calls.empty,
            "gradients cleared unused": calls.wiped,
        },
        0.97,
    )


def no_gradient_at_all(examination: Examination) -> Finding | None:
    """The loss is zero and so is every gradient, at every step."""
    base = examination.base
    norms = [value for column in base.norms.values() for value in column]
    if not norms or max(norms) != 0 or max(map(abs, base.losses)) > 0:
        return None
    if _ignores_target(examination):
        return Finding(
            "labels_masked",
            "loss",
            f"The loss and all gradients are exactly 0 in all {len(base.losses)} "
            "updates, and other targets leave it at 0: no label takes part in it.",
            {"updates": len(base.losses)},
            0.9,
            fix="Print the shapes of output and target inside the loss: a slice or a "
            "mask leaves nothing of them.",
        )
    return Finding(
        "zero_advantage",
        "loss",
        f"The loss and all gradients are exactly 0 in all {len(base.losses)} updates: "
        "whatever the loss is multiplied with, such as an advantage, is 0.",
        {"updates": len(base.losses)},
        0.75,
        conclusive=False,
    )


def lost_on_the_way(examination: Examination) -> Finding | None:
    """Gradients reach parameters and are gone before the step; nothing moves."""
    base = examination.base
    if base.calls is None or examination.setup.step is not None or not base.losses:
        return None
    lost = [
        name
        for name, p in examination.parameters.items()
        if id(p) in base.calls.arrived
        and base.norms[name]
        and max(base.norms[name]) <= 0
        and base.moved[name] == 0
    ]
    if not lost or any(base.moved[name] > 0 for name in examination.parameters):
        return None
    return Finding(
        "optimizer_misconfigured",
        "loop",
        f"Gradients reach {len(lost)} parameters in the backward pass, are gone when "
        f"optimizer.step() comes, and after {len(base.losses)} updates no value has "
        "changed.",
        {"parameters": len(lost), "updates": len(base.losses)},
        0.93,
        fix="Look at the hooks that run inside backward(): one that makes the update "
        "itself needs a learning rate above 0 and a schedule that is stepped before "
        "it clears the gradient.",
    )


def _moved_on(t: Tensor) -> Tensor:
    return t.roll(1, 0) if t.ndim else t


def _ignores_target(examination: Examination) -> bool:
    """Whether a loss of zero stays zero when the targets are those of other samples."""
    setup = examination.setup
    if setup.loss_fn is None or samples(setup.batch(0)) < 2:
        return False
    x, y = setup.batch(0)
    return examination.loss_of((x, mapped(y, _moved_on))) == 0


def frozen_by_mistake(examination: Examination) -> Finding | None:
    """Parameters want no gradient, and once they do the training learns."""
    model = examination.setup.model
    frozen = [
        n
        for n, p in model.named_parameters()
        if not p.requires_grad and p.is_floating_point()
    ]
    if not frozen:
        return None
    if not examination.parameters:
        return Finding(
            "frozen_parameters",
            layer_of(frozen[0]),
            f"None of the {len(frozen)} parameters wants a gradient.",
            {"frozen": len(frozen)},
            0.97,
        )
    name = "frozen parameters trained"
    named = dict(model.named_parameters())
    in_optimizer = [n for n in frozen if id(named[n]) in examination.held]
    # A backbone outside the optimizer is frozen on purpose, as below adapters.
    ill = examination.worth_a_look if in_optimizer else examination.is_ill
    if not ill or not examination.cures(name, thawed):
        return None
    return Finding(
        "frozen_parameters",
        layer_of((in_optimizer or frozen)[0]),
        f"{', '.join((in_optimizer or frozen)[:3])} want no gradient; with {name} the "
        "same training learns.",
        {
            "frozen": len(frozen),
            "of these in the optimizer": len(in_optimizer),
            **examination.compared(name),
        },
        0.92 if in_optimizer else 0.85,
        conclusive=bool(in_optimizer),
    )


def frozen_on_the_way(examination: Examination) -> Finding | None:
    """From one update on no parameter gets a gradient any more."""
    columns = [c for c in examination.base.norms.values() if max(c, default=-1.0) > 0]
    if not columns:
        return None
    # No gradient is -1; one that is NaN is still a gradient.
    last = max(k for c in columns for k, norm in enumerate(c) if norm != -1.0)
    without = len(columns[0]) - 1 - last
    if without < FEWEST_SILENT:
        return None
    return Finding(
        "frozen_parameters",
        "loop",
        f"{len(columns)} parameters get a gradient up to update {last}, and none of "
        f"them in the {without} after it.",
        {"last update with a gradient": last, "parameters": len(columns)},
        0.93,
        fix="Print requires_grad of every parameter before and after that update: "
        "what ran there, such as a save or an evaluation, has to put it back.",
    )


def clip_without_effect(examination: Examination) -> Finding | None:
    """The optimizer does not use the clipped gradient."""
    calls, bound = examination.base.calls, examination.setup.clip
    if (
        examination.setup.step is None
        or calls is None
        or calls.closures
        or len(calls.at_step) < FEWEST_WATCHED
    ):
        return None
    pairs = [
        (used, left)
        for used, left in calls.pairs
        if math.isfinite(used) and left < LEFT_OVER * used
    ]
    if len(pairs) >= max(CLIPPED_STEPS, CLIPPED_SHARE * len(calls.at_step)):
        return _misplaced(
            f"After {len(pairs)} optimizer steps the gradient shrank: it was clipped "
            "when it had already been used.",
            {"norm used by the step": pairs[0][0], "norm after it": pairs[0][1]},
        )
    if not isinstance(bound, (int, float)):
        return None
    over = [
        used
        for used, peak in zip(calls.at_step, calls.largest, strict=False)
        if math.isfinite(used)
        and used > OVER_THE_BOUND * bound
        and peak > OVER_THE_BOUND * bound
    ]
    if len(over) >= max(CLIPPED_STEPS, CLIPPED_SHARE * len(calls.at_step)):
        return _misplaced(
            f"{len(over)} optimizer steps used a gradient longer than the clipping "
            f"bound of {bound:g}.",
            {"bound": bound, "largest norm used": max(over)},
        )
    finite = [used for used in calls.at_step if math.isfinite(used) and used > 0]
    usual = median(finite)
    same = [used for used in finite if abs(used - usual) < ONE_NORM * usual]
    if len(same) > ONE_NORM_SHARE * len(calls.at_step) and (
        usual < BELOW_THE_BOUND * bound
    ):
        return _misplaced(
            f"The gradient that the optimizer used has the same norm {usual:.3g} at "
            f"{len(same)} steps, far below the bound of {bound:g}: it was scaled "
            "after clipping.",
            {"bound": bound, "norm used": usual, "loss scale": bound / usual},
        )
    return None


def _misplaced(symptom: str, evidence: dict[str, float]) -> Finding:
    return Finding("clip_misplaced", "loop", symptom, dict(evidence), 0.95)


def orphans(examination: Examination) -> Finding | None:
    """Parameters get a gradient, but no optimizer holds them and they never move."""
    base = examination.base
    lost = [
        name
        for name, p in examination.parameters.items()
        if id(p) not in examination.held
        and base.moved[name] == 0
        and (max(base.norms[name], default=-1) > 0 or not base.norms[name])
    ]
    if not lost:
        return _foreign(examination)
    if not math.isfinite(base.losses[0]):
        return None  # no update has been made by then
    trained = [
        n for n, p in examination.parameters.items() if id(p) in examination.held
    ]
    known = {id(p) for p in examination.setup.model.parameters()}
    strangers = sum(
        id(p) not in known
        for g in examination.setup.optimizer.param_groups
        for p in g["params"]
    )
    evidence = {
        "parameters left out": len(lost),
        "trained": len(trained),
        "strangers": strangers,
    }
    if not trained:
        return Finding(
            "optimizer_misconfigured",
            "all",
            "The optimizer holds none of the model's trainable parameters, so the "
            "model never changes.",
            evidence,
            0.97,
        )
    order = list(base.first.layers)
    late = max(
        (order.index(layer_of(n)) for n in trained if layer_of(n) in order), default=-1
    )
    downstream = [
        n for n in lost if layer_of(n) not in order or order.index(layer_of(n)) > late
    ]
    if not downstream and not (strangers or examination.is_ill):
        return None
    chosen = downstream or lost
    return Finding(
        "optimizer_misconfigured",
        layer_of(chosen[0]),
        f"{', '.join(lost[:4])} get gradients, but no optimizer holds them.",
        evidence,
        0.92 if downstream or strangers else 0.6,
        conclusive=bool(downstream or strangers),
        fix="Add the missing parameters as a group of the optimizer (or freeze them "
        "with requires_grad_(False) if that is meant).",
    )


def never_stepped(examination: Examination) -> Finding | None:
    """Gradients arrive at every update, and no optimizer makes a step.

    Where the loss is not finite, a scaler may leave steps out with reason.
    """
    base, setup = examination.base, examination.setup
    if setup.step is None or base.calls is None or base.failure:
        return None
    if not all(map(math.isfinite, base.losses)):
        return None
    count = len(base.losses)
    stood = not any(base.moved[name] for name in examination.parameters)
    if count < FEWEST_WATCHED or any(base.calls.steps) or not stood:
        return None
    if base.calls.lost or not base.calls.arrived:
        return None
    return Finding(
        "optimizer_misconfigured",
        "loop",
        f"Gradients reach {len(base.calls.arrived)} parameters, in {count} updates "
        "optimizer.step() is never called, and no value has changed.",
        {"updates": count, "steps": 0},
        0.97,
        fix="Call optimizer.step() after backward() in every update; the step of a "
        "schedule or of a scaler does not take its place.",
    )


def left_still(examination: Examination) -> Finding | None:
    """Weights that the optimizer holds get gradients, and stay where they are."""
    base = examination.base
    held = {
        id(p): i
        for i, group in enumerate(examination.setup.optimizer.param_groups)
        for p in group["params"]
    }
    mine = {n: p for n, p in examination.parameters.items() if id(p) in held}
    pulls = {
        name: _pull(base, name, held[id(p)]) / (float(p.detach().norm()) or 1.0)
        for name, p in mine.items()
        if base.moved[name] == 0 and p.numel() > 1 and p.dtype not in HALF_TYPES
    }
    still = [name for name, pull in pulls.items() if pull > PULLED]
    if not still or not any(base.moved[name] > 0 for name in mine):
        return None
    scattered = [name for name in still if not mine[name].is_contiguous()]
    fix = (
        f"Print {still[0]} before and after optimizer.step(). Let step() reach every "
        'p of group["params"] that has a gradient, and write nothing back over it.'
    )
    if scattered:
        fix = (
            f"{scattered[0]} lies in columns, which some operations in place do not "
            "write to: nn.Parameter(weight.t().contiguous())."
        )
    return Finding(
        "optimizer_misconfigured",
        layer_of(still[0]),
        f"Gradients reach {', '.join(still[:3])}, the optimizer holds it at a rate "
        f"above 0, and after {len(base.losses)} updates no value has changed.",
        {
            "weights that stand still": len(still),
            "of": len(mine),
            "rate times gradient, over their size": max(pulls.values()),
        },
        0.93,
        fix=fix,
    )


def _pull(base: BaseRun, name: str, group: int) -> float:
    """Learning rate times gradient of a parameter, summed over the run."""
    pairs = zip(base.group_rates, base.norms[name], strict=True)
    return sum(r[group] * n for r, n in pairs if n > 0 and math.isfinite(n))


def _foreign(examination: Examination) -> Finding | None:
    known = {id(p) for p in examination.setup.model.parameters()} | examination.held
    leaves = [p for p in examination.base.graph.leaves if id(p) not in known]
    if not leaves or examination.setup.step is not None:
        return None
    shapes = ", ".join(str(tuple(p.shape)) for p in leaves[:3])
    return Finding(
        "optimizer_misconfigured",
        "(root)",
        f"The loss depends on {len(leaves)} parameters (shapes {shapes}) that the "
        "model does not register and no optimizer holds.",
        {"unregistered parameters": len(leaves)},
        0.9,
        fix="Register the modules: nn.ModuleList instead of a Python list.",
    )

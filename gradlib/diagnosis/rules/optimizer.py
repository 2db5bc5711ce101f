"""Rules about the optimizer: reduction, clipping, moments and the other settings."""

import math
from itertools import combinations, pairwise

from gradlib.diagnosis.examination import Examination
from gradlib.diagnosis.nested import mapped, samples, tensors
from gradlib.diagnosis.report import Finding, layer_of
from gradlib.diagnosis.treatments import (
    TENTH_OF_RATE,
    Treatment,
    averaged,
    divided_gradients,
    optimizer_option,
    unclipped,
)

# Loss of a batch over that of its half: 0.8 to 1.05 for a mean, 2 for a sum.
DOUBLES = 1.5
# Norms that differ by less than this from the usual one were clipped to it; a tight
# clip acts on this share of the steps, a usual one on a part of them.
ALWAYS_CLIPPED = 1e-3
CLIPPED_SHARE = 0.95
# Fewest samples that can be halved.
FEWEST_SAMPLES = 4
# Usual settings end here: eps=1e-8 (1e-6 for half precision), betas=(0.9, 0.999)
# (from 0.9 on for images, language and RL), momentum 0.9 to 0.95.
USUAL_EPS = 1e-6
USUAL_BETA1 = 0.95
USUAL_BETA2 = 0.9
USUAL_MOMENTUM = 0.95
# An eps above it cannot be too small.
LARGE_EPS = 1e-5
# Root mean square gradient of the quietest step: a solved problem goes down to 1e-7,
# one that stalls to 2e-4.
FAINT = 3e-5
# A larger eps is the cause only if a smaller rate does not do twice as well.
TWICE_AS_WELL = 0.5
# Fewest steps to judge by.
FEWEST_STEPS = 4


def summed_parts(examination: Examination) -> Finding | None:
    """An update sums the gradients of its micro-batches, and their mean cures."""
    curve = examination.curve
    ill = examination.is_ill or curve.rose_again or curve.end > curve.start
    if not ill or examination.setup.step is None:
        return None
    trace = examination.base.first
    weights = [c.weight for c in trace.calls.losses]
    count = trace.backwards
    if count < 2 or len(weights) % count or not weights:
        return None
    if any(c.reduction != "mean" for c in trace.calls.losses):
        return None
    if not min(weights) > 1 / math.sqrt(count):
        return None
    name = f"the mean over {count} backward passes"
    if not examination.cures_in_own_units(name, divided_gradients(count)):
        return None
    return Finding(
        "sum_reduction",
        "loop",
        f"An update makes {count} backward passes and sums their gradients, each of a "
        f"whole mean loss; with {name} {examination.outcome(name)}.",
        {"backward passes": count, **examination.compared(name)},
        0.92,
        fix=f"Divide the loss of every micro-batch by {count} before backward().",
    )


def tight_clip(examination: Examination) -> Finding | None:
    """Every gradient is clipped to a small part of itself, and without it learns."""
    calls = examination.base.calls
    wanted = examination.worth_a_look or examination.naive is None
    if not wanted or calls is None or examination.curve.exploded:
        return None
    used = [norm for norm in calls.at_step if math.isfinite(norm) and norm > 0]
    if len(used) < FEWEST_STEPS:
        return None
    usual = sorted(used)[len(used) // 2]
    # One step after the other, as the bound may change with a loss scale.
    same = 1 + sum(abs(b - a) < ALWAYS_CLIPPED * a for a, b in pairwise(used))
    if same < CLIPPED_SHARE * len(used):
        return None
    name = "no clipping"
    if not examination.improves(name, unclipped):
        return None
    if examination.scalers and _powers_of_two(max(used) / min(used)):
        return Finding(
            "clip_misplaced",
            "loop",
            f"The norm that the optimizer uses goes from {used[0]:.3g} to "
            f"{used[-1]:.3g} with the loss scale, and by nothing else: the gradient is "
            f"clipped before it is unscaled. With {name} the same training learns.",
            {"norm, first": used[0], "last": used[-1], **examination.compared(name)},
            0.93,
        )
    return Finding(
        "clip_too_tight",
        "loop",
        f"At {same} of {len(used)} steps the gradient has the norm {usual:.3g}: it is "
        f"clipped every time. With {name} the same training learns.",
        {"norm of every step": usual, **examination.compared(name)},
        0.92,
        fix="Print the norm before clipping for 100 steps, and clip at its 90th "
        "percentile or leave clipping out.",
    )


def _powers_of_two(ratio: float) -> bool:
    """Whether a ratio is 2, 4, 8, ... but for rounding."""
    power = round(math.log2(ratio))
    return power > 0 and abs(ratio / 2**power - 1) < ALWAYS_CLIPPED


def broken_moments(examination: Examination) -> Finding | None:
    """The weights are finite, what the optimizer keeps of old gradients is not."""
    base = examination.base
    broken, norms = base.broken_moments, base.calls.at_step if base.calls else []
    late = norms[len(norms) // 2 :]
    if not broken or not late or not all(map(math.isfinite, late)):
        return None
    return Finding(
        "optimizer_misconfigured",
        layer_of(broken[0]),
        f"The gradient is finite at each of the last {len(late)} steps, and what the "
        f"optimizer keeps of earlier ones for {', '.join(broken[:3])} is not: an "
        "infinity or NaN that entered once stays, and spoils or stops every update.",
        {"parameters": len(broken), "of": len(examination.parameters)},
        0.93,
        fix="Let a step whose gradient is not finite change nothing, moments included: "
        "test the gradient before step() takes it in, as torch.amp.GradScaler does.",
    )


def summed_loss(examination: Examination) -> Finding | None:
    """The loss doubles with the batch, and dividing by the batch size cures."""
    if not examination.is_ill or examination.setup.step is not None:
        return None
    ratio = _doubling(examination)
    if not ratio > DOUBLES:
        return None
    batch = examination.setup.batches[0]
    terms = {
        "samples": samples(batch),
        "values": max(samples(batch), tensors(batch)[-1].numel()),
    }
    for kind, count in terms.items():
        name = f"the mean over {count} {kind}"
        if examination.cures(name, averaged(count)):
            return Finding(
                "sum_reduction",
                "loss",
                f"The loss of a whole batch is {ratio:.3g} times the loss of its half; "
                f"with {name} {examination.outcome(name)}.",
                {"terms of the sum": count, **examination.compared(name)},
                0.93,
            )
    return None


def _doubling(examination: Examination) -> float:
    """Loss of a batch over the mean loss of its two halves, without training."""
    batch = examination.setup.batch(0)
    size = samples(batch)
    if size < FEWEST_SAMPLES:
        return math.nan
    half = size // 2

    def part(start: int) -> float:
        cut = mapped(
            batch,
            lambda t: t[start : start + half] if t.ndim and t.shape[0] == size else t,
        )
        examination.restore()
        return float(examination.setup.compute(cut).detach())

    try:
        examination.restore()
        whole = float(examination.setup.compute(batch).detach())
        parts = (part(0) + part(half)) / 2
        return whole / parts if parts else math.nan
    except Exception:
        return math.nan
    finally:
        examination.restore()


def strange_option(examination: Examination) -> Finding | None:
    """One option of the optimizer at its usual value cures."""
    if not examination.worth_a_look:
        return None
    groups = examination.setup.optimizer.param_groups
    trials: list[tuple[str, str, Treatment]] = []
    if any(g.get("maximize") for g in groups):
        trials.append(("maximize", "maximize=False", optimizer_option(maximize=False)))
    if any(float(g.get("weight_decay") or 0) > 0 for g in groups):
        trials.append(
            ("weight_decay", "weight_decay=0", optimizer_option(weight_decay=0.0))
        )
    eps = [float(g["eps"]) for g in groups if "eps" in g]
    if eps and max(eps) > USUAL_EPS:
        trials.append(("eps", "eps=1e-8", optimizer_option(eps=1e-8)))
    if any(
        g["betas"][0] > USUAL_BETA1 or g["betas"][1] < USUAL_BETA2
        for g in groups
        if "betas" in g
    ):
        trials.append(
            ("betas", "betas=(0.9, 0.999)", optimizer_option(betas=(0.9, 0.999)))
        )
    if any(float(g.get("momentum") or 0) > USUAL_MOMENTUM for g in groups):
        trials.append(("momentum", "momentum=0.9", optimizer_option(momentum=0.9)))
    for name, label, treatment in trials:
        if examination.cures(label, treatment):
            value = groups[0].get(name)
            return Finding(
                "optimizer_misconfigured",
                "global",
                f"The optimizer runs with {name} = {value}; with {label} the same "
                "training learns.",
                {name: str(value), **examination.compared(label)},
                0.9,
                fix=f"Start from {label}.",
            )
    return None


def held_twice(examination: Examination) -> Finding | None:
    """Two optimizers that take turns hold the same parameters."""
    if not examination.alternating:
        return None
    stepped = examination.base.first.stepped
    held = [
        {id(p) for g in o.param_groups for p in g["params"] if p.requires_grad}
        for o in examination.optimizers
        if id(o) in stepped
    ]
    shared = set().union(*(a & b for a, b in combinations(held, 2)))
    if not shared:
        return None
    return Finding(
        "optimizer_misconfigured",
        "all",
        f"{len(shared)} parameters are held by two optimizers that take turns: what "
        "one of them improves for its loss, the other changes for its own.",
        {"held twice": len(shared), "held by each": str([len(h) for h in held])},
        0.75,
        conclusive=False,
        fix="Give each optimizer its own parameters: "
        "Adam(model.discriminator.parameters()), Adam(model.generator.parameters()).",
    )


def undefined_update(examination: Examination) -> Finding | None:
    """Loss and gradients are finite, and the update makes a weight NaN."""
    origin = examination.origin
    if not origin.updated or not origin.calm:
        return None
    name, step = origin.updated, origin.updated_at
    column = examination.base.norms[name]
    norm = column[step] if step < len(column) else -1.0
    pushed = f"the norm of its gradient is {norm:.3g}" if norm >= 0 else "no gradient"
    return Finding(
        "optimizer_misconfigured",
        layer_of(name),
        f"At step {step} loss and gradients are finite, and the update makes {name} "
        f"NaN ({pushed} there).",
        {"step": step, "first bad step": origin.step},
        0.92,
        fix="Leave out of the update what has a gradient of 0, or divide by "
        "g.norm() + 1e-8 and not by the norm alone."
        if norm == 0
        else "Look in the optimizer's step for what divides, takes a root or reads its "
        "state: a small eps inside, and a fresh state.",
    )


def small_epsilon(examination: Examination) -> Finding | None:
    """A larger epsilon of Adam cures where gradients are close to zero."""
    groups = examination.setup.optimizer.param_groups
    eps = [float(g["eps"]) for g in groups if "eps" in g]
    if (
        not examination.is_ill
        or not eps
        or max(eps) > LARGE_EPS
        or "betas" not in groups[0]
    ):
        return None
    typical = _faintest(examination)
    label = "eps=1e-4"
    if not typical < FAINT or not examination.cures(label, optimizer_option(eps=1e-4)):
        return None
    gentle = examination.run_under(*TENTH_OF_RATE)
    treated = examination.run_under(label, optimizer_option(eps=1e-4))
    if gentle.end < TWICE_AS_WELL * treated.end:
        return None
    return Finding(
        "optimizer_misconfigured",
        "global",
        f"Gradients go down to {typical:.1g}, and Adam divides by sqrt(v) + "
        f"{eps[0]:g}; with {label} the same training learns.",
        {"eps": eps[0], "smallest gradient": typical, **examination.compared(label)},
        0.87,
        fix="Raise eps to 1e-4 or 1e-3.",
    )


def _faintest(examination: Examination) -> float:
    """Root mean square gradient of the quietest step."""
    columns = [examination.base.norms[name] for name in examination.parameters]
    size = sum(p.numel() for p in examination.parameters.values())
    steps = zip(*columns, strict=True)
    norms = [math.hypot(*(max(0.0, n) for n in step)) for step in steps]
    finite = [norm for norm in norms if math.isfinite(norm)]
    return min(finite, default=math.inf) / math.sqrt(size)

"""Rules about the optimizer: rate, warm-up, reduction and the other settings."""

import math
from itertools import combinations, pairwise

from gradlib.diagnosis.evidence.loss_curve import median
from gradlib.diagnosis.examination import Examination
from gradlib.diagnosis.nested import mapped, samples, tensors
from gradlib.diagnosis.report import Finding, layer_of
from gradlib.diagnosis.treatments import (
    Treatment,
    averaged,
    both,
    divided_gradients,
    optimizer_option,
    repeated,
    rising_rates,
    slower,
    steady_rates,
    unclipped,
    unscheduled,
    warmed,
)

# Loss of a batch over that of its half: 0.8 to 1.05 for a mean, 2 for a sum.
DOUBLES = 1.5
# A rate that has fallen below this share of the largest half way through is over: warm
# restarts and cosine schedules are at 0.5 there, steps of 0.1 twice at 0.01.
VANISHED_RATE = 3e-3
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
# Largest relative move of a parameter over the run: 0 to 1e-5 where the rate is far too
# small, 0.05 and more where something is learned.
HARDLY_MOVED = 0.01
# A start below this share of the naive loss is that of a model trained before. The
# first updates with full moments raise it by 0.05 of the naive loss or less, without
# them by 0.3 and more.
TRAINED_BEFORE = 0.5
JUMPS = 0.25
# The same where it was trained far below the naive loss: the loss triples.
SMALL_JUMP = 0.1
TRIPLED = 2.0
FIRST_LOSSES = 20
# An optimizer that has counted so many steps and begins again at none has lost its
# state; the median of as many losses is so many times that before.
OLD_ENOUGH = 5
WORSE_WITHOUT_STATE = 1.5
# A rate that falls below this share of itself at once, so many times, and rises step by
# step in between: cycles and restarts fall slowly, or begin at their top.
STARTS_ANEW = 0.3
FEWEST_STARTS = 3
# The first update moves the weights so many times as far as each of the next ones: the
# first steps of an optimizer differ by a factor of 3, with a warm-up they are smaller.
# What is written over them lies 30 and more away. The loss of the first batch rises to
# so many times what it was; where nothing is written over, it stays.
REPLACED = 10.0
WORSE = 1.5
# Share of the run that a warm-up takes, and its fewest steps.
WARM_UP = 0.6
SHORTEST_WARM_UP = 4


def rate_below_zero(examination: Examination) -> Finding | None:
    """The learning rate is negative, so that steps climb the loss."""
    below = [k for k, rate in enumerate(examination.base.rates) if rate < 0]
    if not below or not examination.is_ill:
        return None
    rates = examination.base.rates
    return Finding(
        "optimizer_misconfigured",
        "global",
        f"The learning rate is negative from update {below[0]} on ({rates[-1]:.2g} at "
        "the last), so each step climbs the loss.",
        {"first update": below[0], "lowest rate": min(rates)},
        0.97,
        fix="Give the schedule the length of the whole run, also after a resume, and "
        "hold it at 0: max(0.0, 1 - step / total).",
    )


def rate_of_zero(examination: Examination) -> Finding | None:
    """The learning rate is zero, or falls to nothing within the run."""
    rates = [r for r in examination.base.rates if math.isfinite(r)]
    norms = examination.base.calls.at_step if examination.base.calls else []
    if len(rates) < SHORTEST_WARM_UP or not any(norm > 0 for norm in norms):
        return None
    if max(rates) == 0:
        return Finding(
            "learning_rate_zero",
            "global",
            f"The learning rate is 0 at all {len(rates)} steps, so nothing moves.",
            {"learning rate": 0.0, "steps": len(rates)},
            0.97,
        )
    half = rates[len(rates) // 2]
    early = rates.index(max(rates)) < len(rates) // 2
    ended = early and half < VANISHED_RATE * max(rates)
    unknown = examination.naive is None
    if ended and (half == 0 or examination.worth_a_look or unknown):
        name = "the largest rate kept"
        if examination.improves(name, steady_rates):
            return Finding(
                "learning_rate_zero",
                "global",
                f"The learning rate falls from {max(rates):.2g} to {rates[-1]:.2g} "
                f"within {len(rates)} updates; with {name} the same training learns.",
                {
                    "largest rate": max(rates),
                    "rate half way": half,
                    **examination.compared(name),
                },
                0.94,
            )
    return _group_of_zero(examination)


def rate_starts_anew(examination: Examination) -> Finding | None:
    """The warm-up begins again and again, so that the rate never arrives."""
    rates = examination.base.rates
    moves = list(pairwise(rates))
    starts = sum(after < STARTS_ANEW * before for before, after in moves)
    rises = sum(after > before for before, after in moves)
    if starts < FEWEST_STARTS or starts + rises < len(moves):
        return None
    if not examination.worth_a_look and examination.naive is not None:
        return None
    trials = {
        "a warm-up that goes on": rising_rates,
        "a learning rate 100 times larger": slower(1 / 100),
    }
    name = next((n for n, t in trials.items() if examination.improves(n, t)), None)
    if name is None:
        return None
    return Finding(
        "learning_rate_zero",
        "global",
        f"Within {len(rates)} updates the learning rate rises and falls back to its "
        f"start {starts} times: the warm-up counts the steps of something shorter than "
        f"the run, such as an epoch. With {name} the same training learns.",
        {"starts": starts, "largest rate": max(rates), **examination.compared(name)},
        0.93,
        fix="Count the steps of the whole run: epoch * len(loader) + step.",
    )


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


def replaced_weights(examination: Examination) -> Finding | None:
    """The first update puts other weights in place of those that were loaded.

    It does so at a learning rate of 0 too, where no step can have moved them.
    """
    jumps, curve = examination.base.jumps, examination.curve
    if len(jumps) < SHORTEST_WARM_UP or not math.isfinite(curve.end):
        return None
    rest = max(jumps[1:])
    if not 0 < REPLACED * rest < jumps[0]:
        return None
    still = examination.run_under("no learning", both(repeated, slower(math.inf)))
    # Only the second: an optimizer inside may go on at a rate of its own.
    first, after = (*still.losses, math.nan)[:2]
    if not after > WORSE * first > 0:
        return None
    return Finding(
        "resume_state_lost",
        "loop",
        f"The first update moves the weights by {jumps[0]:.2g} of their size, the next "
        f"ones by {rest:.2g} at most. At a learning rate of 0 the loss of the first "
        f"batch still goes from {first:.3g} to {after:.3g}: the update writes older "
        "weights over those that the model had, as from the float32 masters of an "
        "optimizer that was built before the "
        "checkpoint was loaded.",
        {"first move": jumps[0], "largest move after it": rest, "first loss": first},
        0.9,
        fix="Load the checkpoint before the optimizer (and its copies of the weights) "
        "is built, or copy the loaded weights into these too.",
    )


def _group_of_zero(examination: Examination) -> Finding | None:
    """A group whose rate is zero at every step, though gradients arrive."""
    columns = list(zip(*examination.base.group_rates, strict=True))
    groups = examination.setup.optimizer.param_groups
    names = {id(p): n for n, p in examination.setup.model.named_parameters()}
    for group, column in zip(groups, columns, strict=False):
        mine = [names[id(p)] for p in group["params"] if id(p) in names]
        norms = examination.base.norms
        fed = [n for n in mine if norms[n] and max(norms[n]) > 0]
        if max(column) == 0 and fed and examination.is_ill:
            return Finding(
                "learning_rate_zero",
                layer_of(fed[0]),
                f"The group with {fed[0]} has learning rate 0 at all {len(column)} "
                "steps.",
                {"parameters": len(mine)},
                0.93,
            )
    return None


def tight_clip(examination: Examination) -> Finding | None:
    """Every gradient is clipped to a small part of itself, and without it learns."""
    calls = examination.base.calls
    wanted = examination.worth_a_look or examination.naive is None
    if not wanted or calls is None or examination.curve.exploded:
        return None
    used = [norm for norm in calls.at_step if math.isfinite(norm) and norm > 0]
    if len(used) < SHORTEST_WARM_UP:
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
    gentle = examination.run_under("a learning rate 10 times smaller", slower(10.0))
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


def lost_state(examination: Examination) -> Finding | None:
    """A model that was trained before jumps away; with a warm-up it does not.

    The optimizer starts without the moments that it had when training stopped.
    """
    curve, naive = examination.curve, examination.naive
    optimizer = examination.setup.optimizer
    adaptive = any("betas" in g for g in optimizer.param_groups)
    if naive is None or not adaptive or any(optimizer.state.values()):
        return None
    if not curve.start < TRAINED_BEFORE * naive:
        return None
    first = [x for x in curve.losses[:FIRST_LOSSES] if math.isfinite(x)]
    rise = max(first, default=curve.start) - curve.start
    least = min(JUMPS * naive, max(SMALL_JUMP * naive, TRIPLED * curve.start))
    if rise < least:
        return None
    name = "a warm-up of 20 steps"
    treated = examination.run_under(name, warmed(20))
    calm = max(treated.losses[:FIRST_LOSSES]) - curve.start
    if not calm < rise / 2:
        return None
    return Finding(
        "resume_state_lost",
        "global",
        f"The model was trained before (loss {curve.start:.3g}), and its optimizer "
        f"starts empty: the first updates raise the loss by {rise:.3g}, after a "
        f"warm-up by {max(calm, 0):.3g}.",
        {"rise": rise, "rise with a warm-up": max(calm, 0.0)},
        0.85,
        fix='optimizer.load_state_dict(checkpoint["optimizer"]); without it, warm '
        "the learning rate up.",
    )


def state_starts_anew(examination: Examination) -> Finding | None:
    """The optimizer counts its steps from 0 again, and the loss jumps there."""
    ages, losses = examination.base.ages, examination.base.losses
    anew = [
        k
        for k in range(OLD_ENOUGH, min(len(ages), len(losses)))
        if ages[k] == 0 and ages[k - 1] >= OLD_ENOUGH
    ]
    if not anew or len(ages) > len(losses):
        return None
    update = anew[0]
    before = median(losses[update - OLD_ENOUGH : update])
    after = median(losses[update + 1 : update + 1 + OLD_ENOUGH])
    if not after > before + (WORSE_WITHOUT_STATE - 1) * abs(before):
        return None
    return Finding(
        "resume_state_lost",
        "loop",
        f"At update {update} the optimizer, which had counted {ages[update - 1] + 1} "
        f"steps, begins with an empty state; the loss goes from {before:.3g} to "
        f"{after:.3g}.",
        {"update": update, "loss before": before, "loss after": after},
        0.9,
        fix='optimizer.load_state_dict(checkpoint["optimizer"]) where the training '
        "goes on; without it, warm the learning rate up again.",
    )


def tiny_steps(examination: Examination) -> Finding | None:
    """Weights hardly move, and a learning rate 100 times larger cures."""
    if not examination.is_ill or examination.curve.exploded:
        return None
    moved = [
        m for n, m in examination.base.moved.items() if n in examination.parameters
    ]
    if not moved or max(moved) > HARDLY_MOVED:
        return None
    for factor in (100.0, 1e4, 1e6):
        label = f"a learning rate {factor:g} times larger"
        if examination.cures(label, slower(1 / factor)):
            return Finding(
                "optimizer_misconfigured",
                "global",
                f"The weights moved by at most {max(moved):.2g} of their size; "
                f"with {label} the training learns.",
                {"largest relative move": max(moved), **examination.compared(label)},
                0.8,
                conclusive=False,
                fix="Raise the learning rate (and check what the scheduler sets).",
            )
    return None


def missing_warmup(examination: Examination) -> Finding | None:
    """An adaptive optimizer on a network with attention learns after a warm-up."""
    used = examination.base.graph.operations
    attention = any("Attention" in name for name in used) or (
        used["Softmax"] and used["Bmm"]
    )
    adaptive = any("betas" in g for g in examination.setup.optimizer.param_groups)
    if not attention or not adaptive:
        return None
    label = "a warm-up"
    if not examination.cured_by_gentler(
        label, warmed(max(SHORTEST_WARM_UP, int(WARM_UP * examination.setup.steps)))
    ):
        return None
    return Finding(
        "warmup_missing",
        "global",
        "At the full learning rate from the first step the training fails; with a "
        "linear warm-up to the same rate it learns.",
        {
            "learning rate": examination.base.rates[0]
            if examination.base.rates
            else math.nan,
            **examination.compared(label),
        },
        0.86,
    )


def fast_steps(examination: Examination) -> Finding | None:
    """A smaller learning rate, and nothing more special, cures."""
    rate = max(
        (r for r in examination.base.rates if math.isfinite(r)), default=math.nan
    )
    for factor in (10.0, 100.0, 1000.0):
        label = f"a learning rate {factor:g} times smaller"
        if examination.cured_by_gentler(label, slower(factor)):
            return Finding(
                "lr_too_high",
                "global",
                f"With {label} {examination.outcome(label)}.",
                {"largest learning rate": rate, **examination.compared(label)},
                0.84 if factor < 100 else 0.8,
                conclusive=False,
                fix=f"Set lr={rate / factor:.2g} instead of {rate:.2g}; or look for "
                "it with gradlib.lr_range_test.",
            )
    if examination.setup.scheduler is not None and examination.cured_by_gentler(
        "no scheduler", unscheduled
    ):
        return Finding(
            "optimizer_misconfigured",
            "global",
            "Without the scheduler the same training learns.",
            examination.compared("no scheduler"),
            0.75,
            conclusive=False,
        )
    return None

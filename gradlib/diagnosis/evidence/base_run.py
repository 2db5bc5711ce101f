"""The base run: train as the owner does, and write down what happens."""

import math
import re
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gradlib.diagnosis.evidence.call_order import CallOrder
from gradlib.diagnosis.evidence.dependence import ModelCall
from gradlib.diagnosis.evidence.loss_graph import LossGraph, read_graph
from gradlib.diagnosis.evidence.update_trace import UpdateTrace
from gradlib.diagnosis.nested import copied, tensors
from gradlib.diagnosis.training_setup import TrainingSetup
from gradlib.hooks import Hooks
from gradlib.measure.tensors import HALF_TYPES, values_of

# Shares of the run at which an update is traced.
LOOKS = (0.0, 0.02, 0.25, 0.5, 0.75, 1.0)
# So many losses in a row that are not finite: it does not come back.
DEAD_END = 3
# Steps at which the rounding of weights, and how far they jump, is watched.
FIRST_STEPS = 5
# Parts of what torch says when a training breaks.
DETACHED = "does not require grad"
ONE_VALUE = "more than 1 value per channel"
CONSTRAINT = "satisfy the constraint"
OUT_OF_BOUNDS = ("out of bounds", "index out of range in self")
# Errors that a training raises by what it does; others are mistakes in its code.
RAISED = (RuntimeError, ValueError, ArithmeticError, AssertionError)
# Characters of an error or a warning that are kept.
LONGEST_MESSAGE = 200


@dataclass
class BaseRun:
    """Everything the base run showed.

    Args:
        losses: Loss of every update.
        norms: Per parameter, the norm of its gradient at every optimizer step;
            -1 where it had none.
        traces: Step -> the layers and activations base there.
        graph: Facts about the first loss's graph.
        calls: The order of events.
        moved: Name of a parameter -> relative distance from its start.
        failure: What the training raised, if that is a symptom.
        cut_short: The run ended early because updates take long.
        scalars: Name of a parameter with one value -> that value before every
            optimizer step.
        swallowed: Name of a parameter in half precision -> share of its values with a
            gradient that the optimizer's first steps did not change.
        call: The first call of the model.
        output: What it gave.
        modes: Whether the model was in training mode at every call.
        group_rates: Learning rate of every group before every optimizer step.
        warnings: What torch and others warned of, each once, in a line.
        jumps: How far each of the first updates moved the weights, all together, in
            units of their size at the start.
        bare: Name of a parameter that enters a logarithm or a root as it is -> its
            lowest value before every optimizer step.
        rewritten: Name of a frozen tensor in half precision that is written to ->
            shares of its values that each update left as they were.
        buffers_moved: Name of a buffer -> relative distance from its start.
        ages: Steps that the optimizer counted before each of its steps; 0 where it
            keeps no count.
        broken_moments: Names of finite parameters for which the optimizer keeps a
            tensor with NaN or infinity at the end.
    """

    losses: list[float] = field(default_factory=list)
    norms: dict[str, list[float]] = field(default_factory=dict)
    traces: dict[int, UpdateTrace] = field(default_factory=dict)
    graph: LossGraph = field(default_factory=LossGraph)
    calls: CallOrder | None = None
    moved: dict[str, float] = field(default_factory=dict)
    rates: list[float] = field(default_factory=list)
    failure: str = ""
    cut_short: bool = False
    scalars: dict[str, list[float]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    swallowed: dict[str, float] = field(default_factory=dict)
    call: ModelCall | None = None
    output: Any = None
    modes: list[bool] = field(default_factory=list)
    group_rates: list[list[float]] = field(default_factory=list)
    jumps: list[float] = field(default_factory=list)
    bare: dict[str, list[float]] = field(default_factory=dict)
    rewritten: dict[str, list[float]] = field(default_factory=dict)
    buffers_moved: dict[str, float] = field(default_factory=dict)
    ages: list[int] = field(default_factory=list)
    broken_moments: list[str] = field(default_factory=list)

    @property
    def first(self) -> UpdateTrace:
        """The look into the first update."""
        return self.traces[min(self.traces)]

    @property
    def last(self) -> UpdateTrace:
        """The look into the last finite update that was traced."""
        finite = [
            s
            for s in self.traces
            if s < len(self.losses) and math.isfinite(self.losses[s])
        ]
        return self.traces[max(finite, default=min(self.traces))]


def run_base(setup: TrainingSetup, seconds: float = math.inf) -> BaseRun:
    """Run the training and observe it; the caller restores the state.

    Args:
        setup: The training.
        seconds: Processor time after which the run ends early.
    """
    base = BaseRun()
    names = dict(setup.model.named_parameters())
    start = {name: p.detach().clone() for name, p in names.items()}
    buffers = {n: b for n, b in setup.model.named_buffers() if b.is_floating_point()}
    kept = {name: b.clone() for name, b in buffers.items()}
    compare_writes = _watch_writes(base, {**names, **buffers}, {**start, **kept})
    base.norms = {name: [] for name in names}
    base.scalars = {name: [] for name, p in names.items() if p.numel() == 1}
    base.calls = CallOrder(setup.optimizer, setup.model)
    looks = {round(share * (setup.steps - 1)) for share in LOOKS} | {1, 2}
    clock = time.process_time()
    with (
        Hooks() as hooks,
        base.calls.watching(),
        warnings.catch_warnings(record=True) as told,
    ):
        warnings.simplefilter("default")
        hooks.keep(
            setup.optimizer.register_step_pre_hook(
                lambda *_: _record(base, names, setup)
            ),
            *_watch_rounding(setup, base, names),
            setup.model.register_forward_pre_hook(
                partial(_keep_call, base), with_kwargs=True
            ),
            setup.model.register_forward_hook(partial(_keep_output, base)),
        )
        for step in range(setup.steps):
            few = step < FIRST_STEPS
            before = {n: p.detach().clone() for n, p in names.items()} if few else {}
            if not _observed_update(setup, base, step, step in looks):
                break
            compare_writes()
            if few:
                base.jumps.append(_jump(names, before, start))
            if step == 0:
                base.bare = {
                    n: [] for n, p in names.items() if id(p) in base.graph.bare
                }
            base.cut_short = time.process_time() - clock > seconds
            if base.cut_short or _dead_end(base):
                break
    base.moved = {name: _distance(p, start[name]) for name, p in names.items()}
    base.buffers_moved = {n: _distance(b, kept[n]) for n, b in buffers.items()}
    state = setup.optimizer.state
    base.broken_moments = [
        name
        for name, p in names.items()
        if p.isfinite().all() and not all(map(_is_finite, tensors(state.get(p, {}))))
    ]
    base.warnings = list(dict.fromkeys(in_a_line(w.message) for w in told))
    return base


def in_a_line(message: object) -> str:
    """A message in one line: what was meant, without the values it lists."""
    text = " ".join(str(message).split())
    text = re.sub(r"(tensor\()?\[\[?[-\d.e+, \[\]]{20,}.*", "[...]", text)
    return text if len(text) <= LONGEST_MESSAGE else f"{text[:LONGEST_MESSAGE]}..."


def _observed_update(
    setup: TrainingSetup, base: BaseRun, step: int, look: bool
) -> bool:
    assert base.calls is not None
    try:
        if look:
            trace = UpdateTrace(setup.model)
            base.traces[step] = trace
            with trace:
                loss = setup.update(step)
            if step == 0:
                base.graph = read_graph(trace.loss)
            trace.loss = None
        else:
            loss = setup.update(step)
    except Exception as error:
        in_backward = look and base.traces[step].inside_backward
        if not (in_backward or is_symptom(error, base, setup)):
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(
                f"{_way(setup)}: expected an update that runs, got "
                f"{type(error).__name__} at batch {step}: {error}"
            ) from error
        base.failure = in_a_line(f"{type(error).__name__}: {error}")
        if base.losses:
            base.losses.append(math.nan)
        return False
    base.losses.append(loss)
    base.calls.end_of_update()
    return True


def is_symptom(error: Exception, base: BaseRun, setup: TrainingSetup) -> bool:
    """Whether an error is the training's illness rather than a wrong argument."""
    text = str(error)
    if any(part in text for part in (DETACHED, ONE_VALUE, CONSTRAINT, *OUT_OF_BOUNDS)):
        return True
    if base.losses and isinstance(error, RAISED):
        return True
    finite = all(bool(p.isfinite().all()) for p in setup.model.parameters())
    lost = bool(base.losses) and not math.isfinite(base.losses[-1])
    return not finite or lost or "nan" in text.lower() or "non-finite" in text.lower()


def _way(setup: TrainingSetup) -> str:
    ways = ("step", "loss", "loss_fn")
    return next(name for name in ways if getattr(setup, name) is not None)


def _record(
    base: BaseRun, names: dict[str, torch.nn.Parameter], setup: TrainingSetup
) -> None:
    held = [(n, p.grad) for n, p in names.items() if p.grad is not None]
    dense = [values_of(g) for _, g in held]
    values = (
        [float(v) for v in torch.stack([g.float().norm() for g in dense])]
        if dense
        else []
    )
    norms = dict(zip((n for n, _ in held), values, strict=True))
    for name, column in base.norms.items():
        column.append(norms.get(name, -1.0))
    for name, values_before in base.scalars.items():
        values_before.append(float(names[name].detach()))
    for name, lowest in base.bare.items():
        lowest.append(float(names[name].detach().min()))
    rates = [float(group["lr"]) for group in setup.optimizer.param_groups]
    base.group_rates.append(rates)
    base.rates.append(max(rates))
    counts = [kept.get("step", 0) for kept in setup.optimizer.state.values()]
    base.ages.append(int(max(counts, default=0)))


def _watch_rounding(
    setup: TrainingSetup, base: BaseRun, names: dict[str, torch.nn.Parameter]
) -> list[Any]:
    """Compare weights in half precision before and after the first steps."""
    low = {n: p for n, p in names.items() if p.dtype in HALF_TYPES and p.ndim > 1}
    before: dict[str, Tensor] = {}
    seen: dict[str, list[float]] = {name: [] for name in low}

    def keep(*_: Any) -> None:
        if len(base.rates) <= FIRST_STEPS:
            before.update({n: p.detach().clone() for n, p in low.items()})

    def compare(*_: Any) -> None:
        for name, value in before.items():
            p = low[name]
            if p.grad is None or not base.rates or base.rates[-1] == 0:
                continue
            wanted = values_of(p.grad) != 0
            if wanted.shape == p.shape and bool(wanted.any()):
                still = (p.detach() == value) & wanted
                seen[name].append(float(still.sum() / wanted.sum()))
                base.swallowed[name] = sum(seen[name]) / len(seen[name])
        before.clear()

    if not low:
        return []
    return [
        setup.optimizer.register_step_pre_hook(keep),
        setup.optimizer.register_step_post_hook(compare),
    ]


def _watch_writes(
    base: BaseRun, named: dict[str, Tensor], start: dict[str, Tensor]
) -> Callable[[], None]:
    """Compare frozen tensors in half precision before and after each update."""
    last = {
        name: (t._version, start[name])
        for name, t in named.items()
        if t.dtype in HALF_TYPES and t.ndim > 1 and not t.requires_grad
    }

    def compare() -> None:
        for name, (version, value) in last.items():
            t = named[name].detach()
            if t.shape != value.shape or t._version == version:
                continue
            share = float((t == value).float().mean())
            base.rewritten.setdefault(name, []).append(share)
            last[name] = (t._version, t.clone())

    return compare


def _keep_call(base: BaseRun, model: Any, args: Any, kwargs: Any) -> None:
    if torch.is_grad_enabled():
        base.modes.append(model.training)
    if base.call is None:
        base.call = ModelCall(copied(args), copied(kwargs))


def _keep_output(base: BaseRun, _model: Any, _inputs: Any, output: Any) -> None:
    if base.output is None:
        base.output = copied(output)


def _dead_end(base: BaseRun) -> bool:
    return len(base.losses) >= DEAD_END and not any(
        map(math.isfinite, base.losses[-DEAD_END:])
    )


def _is_finite(value: Tensor) -> bool:
    return bool(value.isfinite().all())


def _jump(
    names: dict[str, torch.nn.Parameter],
    before: dict[str, Tensor],
    start: dict[str, Tensor],
) -> float:
    """How far an update moved all weights together, relative to their size at first."""
    moved = [p.detach().float() - before[n].float() for n, p in names.items()]
    size = sum(float(then.float().square().sum()) for then in start.values())
    return (
        math.sqrt(sum(float(m.square().sum()) for m in moved) / size) if size else 0.0
    )


def _distance(now: Tensor, start: Tensor) -> float:
    scale = float(start.float().norm())
    return float((now.detach().float() - start.float()).norm()) / (scale or 1.0)

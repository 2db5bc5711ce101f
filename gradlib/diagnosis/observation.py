"""The base run: train as the owner does, and write down what happens."""

import math
import statistics
import time
import warnings
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gradlib.diagnosis.graph import Graph, read
from gradlib.diagnosis.loop import Loop
from gradlib.diagnosis.probe import Probe
from gradlib.diagnosis.setup import Setup
from gradlib.sparse import values_of

LOOKS = (0.0, 0.02, 0.25, 0.5, 0.75, 1.0)
BASE_SECONDS = 2.5
DETACHED = "does not require grad"
ONE_VALUE = "more than 1 value per channel"


@dataclass
class Observation:
    """Everything the base run showed.

    Args:
        losses: Loss of every update.
        norms: Per parameter, the norm of its gradient at every optimizer step;
            -1 where it had none.
        probes: Step -> the layers and activations seen there.
        graph: Facts about the first loss's graph.
        loop: The order of events.
        moved: Name of a parameter -> relative distance from its start.
        failure: What the training raised, if that is a symptom.
        hurried: The run ended early because updates take long.
    """

    losses: list[float] = field(default_factory=list)
    norms: dict[str, list[float]] = field(default_factory=dict)
    probes: dict[int, Probe] = field(default_factory=dict)
    graph: Graph = field(default_factory=Graph)
    loop: Loop | None = None
    moved: dict[str, float] = field(default_factory=dict)
    rates: list[float] = field(default_factory=list)
    failure: str = ""
    hurried: bool = False

    @property
    def first(self) -> Probe:
        """The look into the first update."""
        return self.probes[min(self.probes)]

    @property
    def last(self) -> Probe:
        """The look into the last finite update that was probed."""
        finite = [
            s
            for s in self.probes
            if s < len(self.losses) and math.isfinite(self.losses[s])
        ]
        return self.probes[max(finite, default=min(self.probes))]

    @property
    def broken_at(self) -> int | None:
        """First step whose loss is not finite."""
        bad = (s for s, loss in enumerate(self.losses) if not math.isfinite(loss))
        return next(bad, None)


def watch(setup: Setup) -> Observation:
    """Run the training and observe it; the caller restores the state."""
    seen = Observation()
    names = dict(setup.model.named_parameters())
    start = {name: p.detach().clone() for name, p in names.items()}
    seen.norms = {name: [] for name in names}
    seen.loop = Loop(setup.optimizer, setup.model)
    looks = {round(share * (setup.steps - 1)) for share in LOOKS} | {1, 2}
    clock = time.process_time()
    record = setup.optimizer.register_step_pre_hook(
        lambda *_: _record(seen, names, setup)
    )
    try:
        with seen.loop.watching(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for step in range(setup.steps):
                if not _observed_update(setup, seen, step, step in looks):
                    break
                seen.hurried = time.process_time() - clock > BASE_SECONDS
                if seen.hurried or _dead_end(seen):
                    break
    finally:
        record.remove()
    seen.moved = {name: _distance(p, start[name]) for name, p in names.items()}
    return seen


def _observed_update(setup: Setup, seen: Observation, step: int, look: bool) -> bool:
    assert seen.loop is not None
    try:
        if look:
            probe = Probe(setup.model)
            seen.probes[step] = probe
            with probe:
                loss = setup.update(step)
            if step == 0:
                seen.graph = read(probe.loss)
            probe.loss = None
        else:
            loss = setup.update(step)
    except Exception as error:
        if not is_symptom(error, seen, setup):
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(
                f"{_way(setup)}: expected an update that runs, got "
                f"{type(error).__name__} at batch {step}: {error}"
            ) from error
        seen.failure = f"{type(error).__name__}: {error}"
        if seen.losses:
            seen.losses.append(math.nan)
        return False
    seen.losses.append(loss)
    seen.loop.end_of_update()
    return True


def is_symptom(error: Exception, seen: Observation, setup: Setup) -> bool:
    """Whether an error is the training's illness rather than a wrong argument."""
    text = str(error)
    if DETACHED in text or ONE_VALUE in text:
        return True
    finite = all(bool(p.isfinite().all()) for p in setup.model.parameters())
    lost = bool(seen.losses) and not math.isfinite(seen.losses[-1])
    return not finite or lost or "nan" in text.lower() or "non-finite" in text.lower()


def _way(setup: Setup) -> str:
    ways = ("step", "loss", "loss_fn")
    return next(name for name in ways if getattr(setup, name) is not None)


def _record(
    seen: Observation, names: dict[str, torch.nn.Parameter], setup: Setup
) -> None:
    held = [(n, p.grad) for n, p in names.items() if p.grad is not None]
    dense = [values_of(g) for _, g in held]
    values = (
        [float(v) for v in torch.stack([g.float().norm() for g in dense])]
        if dense
        else []
    )
    norms = dict(zip((n for n, _ in held), values, strict=True))
    for name, column in seen.norms.items():
        column.append(norms.get(name, -1.0))
    seen.rates.append(max(float(g["lr"]) for g in setup.optimizer.param_groups))


def _dead_end(seen: Observation) -> bool:
    return len(seen.losses) >= 3 and not any(map(math.isfinite, seen.losses[-3:]))


def _distance(now: Tensor, start: Tensor) -> float:
    scale = float(start.float().norm())
    return float((now.detach().float() - start.float()).norm()) / (scale or 1.0)


def median(values: list[float]) -> float:
    """Median of the finite values; NaN if there are none."""
    finite = [value for value in values if math.isfinite(value)]
    return statistics.median(finite) if finite else math.nan

"""Rules about normalization: batch norm that misleads, and depth without any."""

import math

from torch import nn

from gradlib.diagnosis.evidence.base_run import ONE_VALUE
from gradlib.diagnosis.examination import Examination
from gradlib.diagnosis.nested import samples
from gradlib.diagnosis.report import Finding
from gradlib.diagnosis.training_setup import TrainingSetup
from gradlib.diagnosis.treatments import (
    LAYERS,
    TENTH_OF_RATE,
    Treatment,
    merged,
    normalized,
    skipping,
)

DEPTH_LAYERS = (*LAYERS, nn.Bilinear)
# Samples a batch at which statistics mean nothing, and at which they do.
LONELY = 2
ENOUGH = 32
# Share of calls in evaluation mode: a model that is evaluated with gradients now and
# then has less than half.
MOSTLY_OFF = 0.5
# Layers in a row: up to 7 train without normalization, 12 and more do not.
DEEP = 8
# A network with a norm for every third layer is normalized.
LAYERS_PER_NORM = 3
# Blocks that skip connections can be put around.
FEWEST_BLOCKS = 4
# Last output over the first, in rms: the healthy keep it within 6, others reach 1e5.
GROWING = 30.0
# A tenth of the rate alone ends below this share of the naive loss where the rate was
# too high (0.06 and less); where depth stands in the way it stays above 0.99.
RATE_ALONE = 0.5
# Spread over samples before the last layer, over that of the first: where samples are
# averaged away it is 0.02 and less, in a healthy network 0.3 and more.
ALIKE = 0.05
# The means of a layer's inputs lie so many stored standard deviations from the stored
# means: where statistics fit, 0.05 to 0.23, where they stayed behind 2.7.
OFF_CENTER = 1.0
# Calls of a sigmoid or tanh: one is an output, two are the hidden layers' own problem.
SQUASHED = 1
RESIDUAL = "Add a norm and a skip connection to every block: x = x + norm(block(x))."


def lonely_batch_norm(examination: Examination) -> Finding | None:
    """Batch norm in training mode sees one or two samples at a time; more cure."""
    norms = [
        name
        for name, m in examination.setup.model.named_modules()
        if "batchnorm" in type(m).__name__.lower() and m.training
    ]
    sizes = [samples(batch) for batch in examination.setup.batches]
    size = sorted(sizes)[len(sizes) // 2]
    if ONE_VALUE in examination.base.failure:
        return Finding(
            "batchnorm_misuse",
            norms[0] if norms else "(root)",
            "A batch has one value per channel: batch norm has no variance and raises.",
            {"smallest batch": min(sizes), "batches": len(sizes)},
            0.97,
        )
    if not norms or size > LONELY:
        return None
    if not examination.cures("batches of 32", merged(ENOUGH)):
        return None
    return Finding(
        "batchnorm_misuse",
        norms[0],
        f"Batch norm takes its statistics from batches of {size}; with larger batches "
        "the same training learns.",
        {
            "batch size": size,
            "batch norms": len(norms),
            **examination.compared("batches of 32"),
        },
        0.96,
    )


def frozen_batch_norm(examination: Examination) -> Finding | None:
    """Batch norm in evaluation mode uses statistics that do not fit the data."""
    norms = {
        name: m
        for name, m in examination.setup.model.named_modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and not m.training
    }
    if not norms or not examination.is_ill:
        return None

    def training(setup: TrainingSetup) -> TrainingSetup:
        for module in norms.values():
            module.train()
        return setup

    name = "batch norm in training mode"
    if not examination.cures(name, training):
        return None
    return Finding(
        "batchnorm_misuse",
        next(iter(norms)),
        f"{len(norms)} batch norms use their stored statistics while training; "
        f"with {name} the same training learns.",
        {"batch norms": len(norms), **examination.compared(name)},
        0.92,
        fix="Call model.train() before training.",
    )


def lost_mode(examination: Examination) -> Finding | None:
    """The model is left in evaluation mode after the first updates."""
    modes = examination.base.modes
    norms = [
        name
        for name, m in examination.setup.model.named_modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm)
    ]
    if not norms or not modes or not modes[0]:
        return None
    share = modes.count(False) / len(modes)
    if share < MOSTLY_OFF:
        return None
    return Finding(
        "batchnorm_misuse",
        norms[0],
        f"The model begins in training mode and {100 * share:.0f} % of its calls with "
        "gradients are in evaluation mode: nothing calls model.train() again.",
        {"calls in evaluation mode": modes.count(False), "calls": len(modes)},
        0.93,
        fix="Call model.train() before every update, or after every evaluation.",
    )


def stale_statistics(examination: Examination) -> Finding | None:
    """Batch norm in a copy that follows others keeps the statistics of the start."""
    base = examination.base
    stale = {
        name: off
        for name, off in base.last.offsets.items()
        if off > OFF_CENTER
        and f"{name}.weight" not in examination.parameters
        and base.moved.get(f"{name}.weight", 0.0) > 0
        and base.buffers_moved.get(f"{name}.running_mean") == 0
    }
    if not stale:
        return None
    worst = max(stale, key=lambda n: stale[n])
    return Finding(
        "batchnorm_misuse",
        worst,
        f"The weights of {worst} follow others, its statistics do not: they stay as at "
        f"the start, {stale[worst]:.2g} standard deviations from what enters.",
        {"batch norms": len(stale), "distance of the means": stale[worst]},
        0.92,
        fix="Copy the buffers, too: for old, new in zip(teacher.buffers(), "
        "student.buffers()): old.copy_(new).",
    )


def lonely_norm(examination: Examination) -> Finding | None:
    """A normalization runs over a single value, and puts out a constant."""
    found = examination.base.first.calls.lonely_norms
    if not found:
        return None
    return Finding(
        "wrong_axis",
        found[0],
        f"The normalization in {found[0]} runs over a single value: less its own mean "
        "it is 0, whatever enters.",
        {"loss at the end": examination.curve.end},
        0.95,
        fix="Normalize over an axis of several values: after the embedding, or "
        "standardize each column over the data instead.",
    )


def alike_samples(examination: Examination) -> Finding | None:
    """Layer by layer the samples become alike, so that the last ones see only one."""
    if not examination.is_ill or examination.curve.exploded:
        return None
    seen = [s.spread for n, s in examination.base.first.layers.items() if n]
    if len(seen) < DEEP or not seen[0] > 0 or not seen[-2] < ALIKE * seen[0]:
        return None
    layers = [n for n in examination.base.first.layers if n]
    return Finding(
        "deep_no_skip_or_norm",
        layers[len(layers) // 2],
        f"Over {len(seen)} layers what samples have in common grows until they are "
        f"alike: their spread is {seen[0]:.2g} of the outputs of the first layer, and "
        f"{seen[-2]:.2g} before the last.",
        {"spread, first layer": seen[0], "spread before the last": seen[-2]},
        0.7,
        conclusive=False,
        fix=f"{RESIDUAL} In a graph network add the nodes themselves to what their "
        "neighbors send, or use two to four layers.",
    )


def plain_depth(examination: Examination) -> Finding | None:
    """Many layers in a row, and normalizing each one cures."""
    model = examination.setup.model
    depth = sum(isinstance(m, DEPTH_LAYERS) for m in model.modules())
    normed = sum("norm" in type(m).__name__.lower() for m in model.modules())
    if not examination.is_ill or depth < DEEP or normed >= depth // LAYERS_PER_NORM:
        return None
    blocks = _blocks(model)
    trials: dict[str, Treatment] = {"normalized layers": normalized}
    if len(blocks) >= FEWEST_BLOCKS:
        trials["normalized layers and skip connections"] = skipping(blocks)
    if _squashing(examination):
        return None
    cure = next(
        (name for name, t in trials.items() if examination.cures(name, t)), None
    )
    if cure is None:
        return None
    if _owed_to_rate(examination, examination.run_under(cure, trials[cure]).end):
        return None
    sizes = [s.rms for n, s in examination.base.first.layers.items() if n]
    spreads = [s.spread for n, s in examination.base.first.layers.items() if n]
    names = [n for n, m in model.named_modules() if isinstance(m, DEPTH_LAYERS)]
    growing = len(sizes) > 1 and sizes[-1] > GROWING * sizes[0]
    inner = names[1:-1]
    return Finding(
        "deep_no_skip_or_norm",
        inner[-1] if growing else inner[0],
        f"{depth} layers follow each other without normalization; with {cure} the "
        "same training learns.",
        {
            "layers": depth,
            "output rms, first layer": sizes[0] if sizes else math.nan,
            "output rms, last layer": sizes[-1] if sizes else math.nan,
            "spread over samples, last layer": spreads[-1] if spreads else math.nan,
            **examination.compared(cure),
        },
        0.88,
        fix="" if cure == "normalized layers" else RESIDUAL,
    )


def _owed_to_rate(examination: Examination, cured: float) -> bool:
    """Whether a tenth of the rate does without a cure that ends at this loss."""
    if not examination.cures(*TENTH_OF_RATE):
        return False
    slow, naive = examination.run_under(*TENTH_OF_RATE).end, examination.naive
    return slow < cured or (naive is not None and slow < RATE_ALONE * naive)


def _blocks(model: nn.Module) -> list[nn.Module]:
    """Members of the longest chain of modules, without those that hold no weights."""
    chains = [
        [m for m in chain if any(True for _ in m.parameters())]
        for chain in model.modules()
        if isinstance(chain, (nn.Sequential, nn.ModuleList))
    ]
    return max(chains, key=len, default=[])


def _squashing(examination: Examination) -> bool:
    used = [a.function for a in examination.base.first.activations]
    return sum(f in ("sigmoid", "tanh") for f in used) > SQUASHED

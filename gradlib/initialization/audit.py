"""Audit of a model's weights: what their scale does to signals and gradients."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradlib.activations import ACTIVATIONS, ActivationLike, as_activation
from gradlib.checks import check_positive
from gradlib.initialization.growth import (
    Growth,
    example_growth,
    measured_growth,
    predicted_growth,
)
from gradlib.initialization.weight_layers import inputs_of, mean_square, weight_layers
from gradlib.models.feedforward import Feedforward
from gradlib.tables import html_table, text_table

NORMS = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
    *(nn.LayerNorm, nn.GroupNorm, nn.RMSNorm),
)
UNKNOWN = Growth(math.nan, math.nan)
TOTAL_TOLERANCE = 10.0  # growth over all layers within this factor counts as none


@dataclass(frozen=True)
class AuditRow:
    """What one layer, or all of them together, does.

    Args:
        layer: Name of the layer.
        gain: Root mean square of its weights times sqrt(fan_in).
        predicted: Growth by theory.
        measured: Growth for the batch, if one was given.
        verdict: "shrinks", "keeps" or "grows", or what signal and gradient do if
            they disagree; "unknown" if there is no number.
    """

    layer: str
    gain: float
    predicted: Growth
    measured: Growth | None
    verdict: str


@dataclass(frozen=True, repr=False)
class Audit:
    """A table with a row for each layer; printing it shows it.

    Args:
        rows: One for each linear or convolutional layer.
        total: All layers together; what is measured counts more than what is
            predicted. The verdict says so if the signal of most examples fares
            otherwise than the mean over the batch.
        typical: Growth of the signal of the median example over all layers; NaN
            without a batch.
    """

    rows: tuple[AuditRow, ...]
    total: AuditRow
    typical: float = math.nan

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[AuditRow]:
        return iter(self.rows)

    def __getitem__(self, layer: str) -> AuditRow:
        for row in self.rows:
            if row.layer == layer:
                return row
        known = ", ".join(row.layer for row in self.rows)
        raise KeyError(f"expected one of the layers {known}; got {layer!r}")

    def __repr__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        return html_table(self._header, map(_cells, [*self.rows, self.total]))

    @property
    def _header(self) -> list[str]:
        measured = ["measured signal", "measured gradient"]
        return [
            *("layer", "gain", "signal", "gradient"),
            *(measured if self.total.measured is not None else []),
            "verdict",
        ]

    def table(self, rows: int = 12) -> str:
        """The first and the last layers as text, then all of them together."""
        header = self._header
        return text_table(
            header,
            map(_cells, self.rows),
            left=(0, len(header) - 1),
            most=rows,
            total=_cells(self.total),
        )


def audit(
    model: nn.Module,
    batch: Tensor | None = None,
    *,
    activation: ActivationLike | None = None,
    tolerance: float = 0.1,
    generator: torch.Generator | None = None,
) -> Audit:
    """What the scale of each layer's weights does to signals and gradients.

    signal: factor on the mean square of a layer's output over that of the layer
    before, gain^2 E f(x)^2 / E x^2 plus the biases' part; gradient: factor on the
    squared norm of the gradient on its way back through the layer, gain^2 E f'(x)^2.
    Beyond 1, depth makes them explode; below, vanish.

    The prediction holds for independent weights and plain nets, right after
    initialization. If the model has norms, each layer is judged for inputs of
    variance 1. Norms and residual branches have no predicted total: give a batch.

    Under ``fully_shard`` weights are those of the whole, and every process must call
    this; each measures with the batch that it is given.

    Args:
        model: Any module with linear or convolutional layers, ``Conv1D`` of
            transformers among them.
        batch: Inputs to measure the same factors with, and how the signal of the
            median example fares; the model's gradients, buffers and mode stay as
            they are.
        activation: Between the layers; None looks it up among the model's modules.
        tolerance: Relative change by one layer that still counts as "keeps"; > 0.
            Over all layers a factor from 1/10 to 10 does.
        generator: Source of the gradient that is sent back from the output.

    Returns:
        An `Audit`, which prints as a table.

    Raises:
        TypeError: ``model`` is not a module, or batch or output not a tensor.
        ValueError: there is no such layer, or ``activation`` cannot be looked up.

    Example:
        >>> net = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
        >>> for layer in (net[0], net[2]):
        ...     _ = nn.init.eye_(layer.weight), nn.init.zeros_(layer.bias)
        >>> audit(net)
        layer     gain  signal  gradient  verdict
        0            1       1         1  keeps
        2            1     0.5       0.5  shrinks
        2 layers     -     0.5       0.5  keeps

    References:
        Poole et al. 2016, https://arxiv.org/abs/1606.05340
        Schoenholz et al. 2017, https://openreview.net/forum?id=H1W1UN9gg
    """
    tolerance = check_positive(tolerance, "tolerance")
    layers = weight_layers(model, transposed=True)
    if activation is None:
        activation = _activation_of(model) if len(layers) > 1 else "identity"
    activation = as_activation(activation)
    normed = any(isinstance(module, NORMS) for module in model.modules())
    predicted = predicted_growth(model, activation, renormalized=normed)
    total = Growth(*map(math.prod, zip(*predicted.values(), strict=True)))
    if normed or getattr(model, "residual", None):
        total = UNKNOWN
    measured: dict[str, Growth | None] = dict.fromkeys(layers)
    whole: Growth | None = None
    typical = math.nan
    if batch is not None:
        steps, whole = measured_growth(model, batch, generator)
        measured = {name: steps.get(name, UNKNOWN) for name in layers}
        typical = example_growth(model, batch).nanmedian().item()
    rows = tuple(
        AuditRow(
            name,
            math.sqrt(inputs_of(layer) * mean_square(layer.weight)),
            predicted[name],
            measured[name],
            _verdict(predicted[name], 1 - tolerance, 1 + tolerance),
        )
        for name, layer in layers.items()
    )
    sane = 1 / TOTAL_TOLERANCE, TOTAL_TOLERANCE
    verdict = _verdict(whole or total, *sane)
    most = _word(typical, *sane)
    if whole is not None and most not in ("unknown", _word(whole.forward, *sane)):
        verdict += f", but the signal of most examples {most}"
    last = AuditRow(f"{len(rows)} layers", math.nan, total, whole, verdict)
    return Audit(rows, last, typical)


def _activation_of(model: nn.Module) -> ActivationLike:
    if isinstance(model, Feedforward):
        return next(iter(model.activations.children()))
    known = {type(a.module()) for a in ACTIVATIONS.values()} - {nn.Identity}
    found = {repr(m): m for m in model.modules() if type(m) in known}
    if len(found) == 1:
        return next(iter(found.values()))
    raise ValueError(
        "activation: expected one kind of activation module in the model, got "
        f"{', '.join(found) or 'none'}. Name it, such as activation='relu', or "
        "activation='identity' if there is none."
    )


def _verdict(growth: Growth, low: float, high: float) -> str:
    words = [_word(factor, low, high) for factor in growth]
    changes = {word for word in words if word != "keeps"}
    if len(changes) < 2:
        return next(iter(changes), "keeps")
    return f"signal {words[0]}, gradient {words[1]}"


def _word(factor: float, low: float, high: float) -> str:
    if math.isnan(factor):
        return "unknown"
    return "shrinks" if factor < low else "grows" if factor > high else "keeps"


def _cells(row: AuditRow) -> list[str]:
    numbers = [row.gain, *row.predicted, *(row.measured or ())]
    return [row.layer, *(_text(number) for number in numbers), row.verdict]


def _text(number: float) -> str:
    return "-" if math.isnan(number) else f"{number:.3g}"

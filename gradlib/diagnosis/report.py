"""What a diagnosis says: causes, findings and the report that a reader gets."""

import math
import textwrap
from dataclasses import dataclass, field
from typing import Any

CERTAIN = 0.9
LIKELY = 0.7
_WIDTH = 76


@dataclass(frozen=True)
class Cause:
    """One thing that breaks training: its plain name, its cure, where to read on."""

    title: str
    fix: str
    chapter: str


CAUSES: dict[str, Cause] = {
    "lr_too_high": Cause(
        "the learning rate is too high",
        "Divide the learning rate by 10, or find it with a learning rate range test.",
        "schedulers",
    ),
    "init_too_large": Cause(
        "some weights start far too large",
        "Initialise the named parameter: nn.init.xavier_normal_(weight), or "
        'nn.init.kaiming_normal_(weight, nonlinearity="relu") before a ReLU.',
        "initialization",
    ),
    "vanishing": Cause(
        "the gradient vanishes on its way to the first layers",
        "Use nn.ReLU() between layers, with nn.init.kaiming_normal_(weight, "
        'nonlinearity="relu").',
        "activations",
    ),
    "saturated_activation": Cause(
        "a sigmoid or tanh sits on its flat ends",
        "Make what enters the activation smaller: smaller weights or biases before "
        "it, scaled inputs, or normalisation.",
        "activations",
    ),
    "dead_relu": Cause(
        "ReLU units never fire, so nothing before them gets a gradient",
        "Use nn.Softplus() or nothing at the output; inside, nn.LeakyReLU(0.1), "
        "nn.init.zeros_(bias) and He initialisation.",
        "activations",
    ),
    "recurrent_explosion": Cause(
        "the same weights, applied at every step, blow the signal up",
        "Use nn.GRU or nn.LSTM, shorten the sequence, or clip before each step: "
        "nn.utils.clip_grad_norm_(model.parameters(), 1.0).",
        "causes",
    ),
    "unnormalized_input": Cause(
        "the inputs are far from mean 0 and variance 1",
        "Standardise every input feature: x = (x - mean) / std (pixels: x / 255).",
        "causes",
    ),
    "unscaled_target": Cause(
        "the targets are far from mean 0 and variance 1",
        "Train on y = (y - mean) / std, and predict model(x) * std + mean.",
        "causes",
    ),
    "loss_numerics": Cause(
        "an operation leaves the range where it is defined",
        "Use the fused, stable form (cross entropy on logits, logsigmoid), and put "
        "a small eps inside sqrt, log and divisions.",
        "causes",
    ),
    "bad_data": Cause(
        "some samples hold values that no model can fit",
        "Look at the named batch; drop, impute or mask what is broken there, for "
        "example with keep = x.isfinite().all(1).",
        "field_guide",
    ),
    "missing_zero_grad": Cause(
        "gradients of earlier steps are added to the new ones",
        "Call optimizer.zero_grad() before every backward pass.",
        "field_guide",
    ),
    "sum_reduction": Cause(
        "the loss is a sum over the batch, so its gradient grows with the batch",
        'Use reduction="mean", or divide the learning rate by the batch size.',
        "causes",
    ),
    "deep_no_skip_or_norm": Cause(
        "many layers in a row have neither normalisation nor skip connections",
        "Normalise after every layer (nn.LayerNorm, nn.BatchNorm2d), or add residual "
        "connections: x = x + block(x).",
        "regularization",
    ),
    "batchnorm_misuse": Cause(
        "batch norm works with statistics that do not describe the data",
        "Use a larger batch, or nn.GroupNorm, nn.LayerNorm or nn.InstanceNorm.",
        "regularization",
    ),
    "fp16_overflow": Cause(
        "values leave the range of float16",
        "Use dtype=torch.bfloat16 or float32; in float16 keep float32 weights, "
        "torch.amp.GradScaler and an eps of at least 1e-4.",
        "field_guide",
    ),
    "clip_misplaced": Cause(
        "clipping does not act on the gradient that the optimizer uses",
        "loss.backward(); clip_grad_norm_(model.parameters(), bound); "
        "optimizer.step(). With a scaler, scaler.unscale_(optimizer) before the clip.",
        "clipping",
    ),
    "warmup_missing": Cause(
        "the full learning rate comes before the network can bear it",
        "Raise the learning rate over the first steps: "
        "LambdaLR(optimizer, lambda step: min(1, (step + 1) / 500)).",
        "schedulers",
    ),
    "optimizer_misconfigured": Cause(
        "the optimizer does not update what it should, or not as it should",
        "Build the optimizer from model.parameters() after the model is final, "
        "and start from its default settings.",
        "field_guide",
    ),
    "detached_graph": Cause(
        "the graph is cut between the loss and these parameters",
        "Remove no_grad(), .detach(), .item(), argmax or rounding from the path to "
        "the loss (or pass the slope on: x + (x.round() - x).detach()).",
        "field_guide",
    ),
    "healthy": Cause("nothing is broken", "Nothing to fix.", "field_guide"),
}


@dataclass(frozen=True)
class Finding:
    """One suspected cause, with the numbers that speak for it.

    Args:
        cause: A key of :data:`CAUSES`.
        layer: Where: a module or parameter, ``"data"``, ``"loss"``, ``"loop"``
            (the code around the model), ``"all"`` or ``"global"``.
        symptom: What was seen, in a sentence.
        evidence: Name -> number (or short text).
        confidence: From 0 to 1; findings are sorted by it. Runs with a change speak
            louder than what was only watched.
        fix: What to do; by default the cure of the cause.
        chapter: Where the book explains it.
    """

    cause: str
    layer: str
    symptom: str
    evidence: dict[str, Any] = field(default_factory=dict)
    confidence: float = 0.9
    fix: str = ""
    chapter: str = ""

    def __post_init__(self) -> None:
        if self.cause not in CAUSES:
            raise ValueError(
                f"cause: expected one of {', '.join(CAUSES)}; got {self.cause!r}"
            )
        object.__setattr__(self, "fix", self.fix or CAUSES[self.cause].fix)
        object.__setattr__(self, "chapter", self.chapter or CAUSES[self.cause].chapter)

    @property
    def certainty(self) -> str:
        """``"certain"``, ``"likely"`` or ``"possible"``, by the confidence."""
        words = ("certain", "likely", "possible")
        limits = (CERTAIN, LIKELY, 0.0)
        return next(
            w for w, low in zip(words, limits, strict=True) if self.confidence >= low
        )

    def to_dict(self) -> dict[str, Any]:
        """The finding as plain values, for a log."""
        return {
            "cause": self.cause,
            "layer": self.layer,
            "symptom": self.symptom,
            "evidence": {key: _plain(value) for key, value in self.evidence.items()},
            "confidence": round(self.confidence, 2),
            "certainty": self.certainty,
            "fix": self.fix,
            "chapter": self.chapter,
        }


@dataclass(frozen=True)
class Report:
    """The answer of :func:`gradlib.diagnose`; print it to read it.

    Args:
        findings: Most likely first; empty if the training is healthy.
        course: What was watched, in a sentence.
        measurements: Numbers about the run as a whole.
    """

    findings: tuple[Finding, ...] = ()
    course: str = ""
    measurements: dict[str, Any] = field(default_factory=dict)

    @property
    def cause(self) -> str:
        """``"healthy"``, or the cause of the first finding."""
        return self.findings[0].cause if self.findings else "healthy"

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values, for a log."""
        return {
            "cause": self.cause,
            "course": self.course,
            "measurements": {k: _plain(v) for k, v in self.measurements.items()},
            "findings": [finding.to_dict() for finding in self.findings],
        }

    def __str__(self) -> str:
        told = f"Diagnosis: {self.cause} ({CAUSES[self.cause].title})"
        lines = textwrap.wrap(told, _WIDTH, subsequent_indent=" " * 11)
        lines += _paragraph("Watched", self.course)
        for rank, finding in enumerate(self.findings, 1):
            sure = f"{finding.certainty} ({100 * finding.confidence:.0f} %)"
            lines += ["", f"{rank}. {finding.cause} in {finding.layer}: {sure}"]
            lines += _paragraph("Symptom", finding.symptom)
            lines += _paragraph("Cause", CAUSES[finding.cause].title + ".")
            shown = "; ".join(f"{k}: {_short(v)}" for k, v in finding.evidence.items())
            lines += _paragraph("Evidence", shown)
            lines += _paragraph("Fix", finding.fix)
            lines += _paragraph("Read", f"chapters/{finding.chapter}.ipynb")
        return "\n".join(lines)


def _paragraph(label: str, text: str) -> list[str]:
    if not text:
        return []
    start = f"   {label + ':':10}"
    return textwrap.wrap(text, _WIDTH, initial_indent=start, subsequent_indent=" " * 13)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    return str(value)

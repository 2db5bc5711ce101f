"""Rules about values that leave the range of numbers."""

import math

from gradlib.diagnosis.patient import Patient
from gradlib.diagnosis.replacements import single
from gradlib.diagnosis.report import Finding
from gradlib.diagnosis.rules_data import compared

EXPLODED = 1e6
REMEDIES = {
    "log": "torch.log(x.clamp_min(1e-8)); for probabilities F.logsigmoid, "
    "F.log_softmax or cross entropy on logits.",
    "sqrt": "torch.sqrt(x + 1e-8).",
    "norm": "torch.sqrt(x.pow(2).sum(-1) + 1e-8) instead of the norm.",
    "std": "torch.sqrt(x.var(-1, correction=0) + 1e-8) instead of std.",
    "exp": "torch.exp(x.clamp(max=10)).",
    "div": "a / (b + 1e-8); with torch.where, make the denominator safe before.",
    "pow": "x.clamp_min(1e-8).pow(p).",
}


def softmax_twice(patient: Patient) -> Finding | None:
    """The loss applies softmax (or sigmoid) to what already went through one."""
    twice = patient.seen.graph.twice
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
            "loss at the start": patient.course.start,
            "loss at the end": patient.course.end,
        },
        0.95,
        fix=f"Return logits from the model; {stable} expects them.",
    )


def half_overflow(patient: Patient) -> Finding | None:
    """Values in float16 leave its range, and float32 cures."""
    half = patient.seen.first.half
    births = patient.death.birth
    used = half or (births is not None and births.half)
    overflows = any(math.isinf(largest) for largest in half.values())
    if not used or not (patient.doubtful or overflows):
        return None
    born = births.layer if births is not None and births.half else ""
    cured = patient.cures("float32", single)
    if not cured and (not born or patient.under("float32", single).blown):
        return None
    widest = next((n for n, v in half.items() if math.isinf(v)), "")
    widest = widest or max(half, key=lambda place: half[place], default="all")
    layer = born or widest
    return Finding(
        "fp16_overflow",
        layer,
        "The training fails in float16 and runs in float32.",
        {
            "largest value in float16": half.get(layer, math.inf),
            "limit": 65504.0,
            **compared(patient, "float32"),
        },
        0.95,
    )


def undefined_operation(patient: Patient) -> Finding | None:
    """NaN or infinity is born from ordinary finite values."""
    death = patient.death
    if death.step is None or not death.layer or not death.calm:
        return None
    birth = death.birth
    if birth is not None:
        opaque = birth.function.startswith(("rnn_", "lstm", "gru"))
        if birth.half or opaque or birth.largest_input > EXPLODED:
            return None
        return Finding(
            "loss_numerics",
            death.layer,
            f"At step {death.step} {birth.function} turned finite values (at most "
            f"{birth.largest_input:.3g}) into NaN or infinity.",
            {
                "step": death.step,
                "operation": birth.function,
                "largest input": birth.largest_input,
            },
            0.93,
            fix=_remedy(birth.function),
        )
    if not math.isfinite(death.loss) or not patient.course.blown:
        return None
    slope = f": {death.backward} has no finite slope there" if death.backward else ""
    return Finding(
        "loss_numerics",
        death.layer,
        f"At step {death.step} the loss is finite ({death.loss:.3g}), its gradient is "
        f"not{slope}.",
        {
            "step": death.step,
            "backward operation": death.backward or "unknown",
            "loss": death.loss,
        },
        0.92,
        fix=_remedy(death.backward),
    )


def _remedy(operation: str) -> str:
    """The stable form of an operation; empty, and so the cause's, if not known."""
    name = operation.lower().strip("_")
    for part, remedy in REMEDIES.items():
        if part in name and "softmax" not in name:
            return f"Use {remedy}"
    return ""

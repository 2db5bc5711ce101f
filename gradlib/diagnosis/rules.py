"""The table of rules: what a contributor extends."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from gradlib.diagnosis import (
    rules_data,
    rules_guess,
    rules_loop,
    rules_norm,
    rules_numerics,
    rules_optimizer,
    rules_signal,
    rules_weights,
)
from gradlib.diagnosis.patient import Patient
from gradlib.diagnosis.report import Finding

SURE = 0.86
WATCHED_ONLY = 0.9


@dataclass(frozen=True)
class Rule:
    """A named question to a training, answered by a finding or by silence.

    Args:
        name: Short name, for logs and tests.
        examine: Function of a :class:`Patient`; returns a finding or None.
        guess: Asked only where no other rule has spoken.
    """

    name: str
    examine: Callable[[Patient], Finding | None]
    guess: bool = False


RULES: list[Rule] = [
    Rule("broken values in the data", rules_data.broken_values),
    Rule("broken weights", rules_weights.broken_weights),
    Rule("stale gradients", rules_loop.stale_gradients),
    Rule("clipping without effect", rules_loop.clip_without_effect),
    Rule("parameters without optimizer", rules_loop.orphans),
    Rule("cut graph", rules_loop.cut_graph),
    Rule("softmax twice", rules_numerics.softmax_twice),
    Rule("lonely batch norm", rules_norm.lonely_batch_norm),
    Rule("frozen batch norm", rules_norm.frozen_batch_norm),
    Rule("overflow in half precision", rules_numerics.half_overflow),
    Rule("impossible samples", rules_data.impossible_samples),
    Rule("undefined operation", rules_numerics.undefined_operation),
    Rule("outlying samples", rules_data.outlying_samples),
    Rule("summed loss", rules_optimizer.summed_loss),
    Rule("target scale", rules_data.target_scale),
    Rule("input scale", rules_data.input_scale),
    Rule("dead units", rules_signal.dead_units),
    Rule("flat ends", rules_signal.flat_ends),
    Rule("wide weights", rules_weights.wide_weights),
    Rule("recurrent growth", rules_weights.recurrent_growth),
    Rule("strange option", rules_optimizer.strange_option),
    Rule("missing warm-up", rules_optimizer.missing_warmup),
    Rule("plain depth", rules_norm.plain_depth),
    Rule("vanishing signal", rules_signal.vanishing_signal),
    Rule("small epsilon", rules_optimizer.small_epsilon),
    Rule("fast steps", rules_optimizer.fast_steps),
    Rule("tiny steps", rules_optimizer.tiny_steps),
    Rule("best change", rules_guess.best_change, guess=True),
]


def examine(patient: Patient) -> list[Finding]:
    """Ask the rules in order until one is sure; sort what they said.

    With ``step=`` the loss cannot be taken apart, so every confidence is lowered.
    """
    findings: list[Finding] = []
    for rule in RULES:
        if rule.guess and findings:
            continue
        finding = rule.examine(patient)
        if finding is not None:
            findings.append(finding)
            if finding.confidence >= SURE:
                break
    if patient.setup.step is not None:
        findings = [
            replace(f, confidence=WATCHED_ONLY * f.confidence) for f in findings
        ]
    return sorted(findings, key=lambda f: f.confidence, reverse=True)

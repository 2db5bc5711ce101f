"""The table of rules: what a contributor extends."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from gradlib.diagnosis.examination import Examination
from gradlib.diagnosis.report import Finding
from gradlib.diagnosis.rules import (
    best_change,
    data,
    graph,
    learning_rate,
    meaning,
    normalization,
    numerics,
    objective,
    optimizer,
    resumption,
    signal,
    training_loop,
    weights,
)

# Factor of every confidence where the update could only be watched.
WATCHED_ONLY = 0.9


@dataclass(frozen=True)
class Rule:
    """A named question to a training, answered by a finding or by silence.

    Args:
        name: Short name, for logs and tests.
        ask: Function of a :class:`Examination`; returns a finding or None.
        guess: Asked only where no other rule has spoken.
    """

    name: str
    ask: Callable[[Examination], Finding | None]
    guess: bool = False


RULES: list[Rule] = [
    Rule("broken values in the data", data.broken_values),
    Rule("broken weights", weights.broken_weights),
    Rule("stale gradients", training_loop.stale_gradients),
    Rule("cleared too early", training_loop.cleared_too_early),
    Rule("no gradient at all", training_loop.no_gradient_at_all),
    Rule("lost on the way", training_loop.lost_on_the_way),
    Rule("rate below zero", learning_rate.rate_below_zero),
    Rule("rate of zero", learning_rate.rate_of_zero),
    Rule("rate starts anew", learning_rate.rate_starts_anew),
    Rule("clipping without effect", training_loop.clip_without_effect),
    Rule("parameters without optimizer", training_loop.orphans),
    Rule("never stepped", training_loop.never_stepped),
    Rule("left still", training_loop.left_still),
    Rule("frozen on the way", training_loop.frozen_on_the_way),
    Rule("frozen by mistake", training_loop.frozen_by_mistake),
    Rule("cut graph", graph.cut_graph),
    Rule("wrong shape", meaning.wrong_shape),
    Rule("norm of one", normalization.lonely_norm),
    Rule("softmax of one", meaning.softmax_of_one),
    Rule("shifted targets", meaning.shifted_targets),
    Rule("answer in the input", meaning.answer_in_the_input),
    Rule("ignored labels", meaning.ignored_labels),
    Rule("vanished labels", meaning.vanished_labels),
    Rule("unequal parts", meaning.unequal_parts),
    Rule("padding counted", meaning.padding_counted),
    Rule("one token", data.one_token),
    Rule("softmax twice", numerics.softmax_twice),
    Rule("no logarithms", numerics.not_logarithms),
    Rule("lonely batch norm", normalization.lonely_batch_norm),
    Rule("frozen batch norm", normalization.frozen_batch_norm),
    Rule("lost mode", normalization.lost_mode),
    Rule("stale statistics", normalization.stale_statistics),
    Rule("broken moments", optimizer.broken_moments),
    Rule("overflow in half precision", numerics.half_overflow),
    Rule("refused samples", data.refused_samples),
    Rule("swallowed updates", numerics.swallowed_updates),
    Rule("rounded average", numerics.rounded_average),
    Rule("impossible samples", data.impossible_samples),
    Rule("undefined operation", numerics.undefined_operation),
    Rule("held twice", optimizer.held_twice),
    Rule("undefined update", optimizer.undefined_update),
    Rule("refused values", numerics.refused_values),
    Rule("outlying samples", data.outlying_samples),
    Rule("length of all", meaning.length_of_all),
    Rule("softmax over samples", meaning.softmax_over_samples),
    Rule("cut axis", meaning.cut_axis),
    Rule("bag of samples", meaning.bag_of_samples),
    Rule("mixed samples", meaning.mixed_samples),
    Rule("placed samples", meaning.placed_samples),
    Rule("sorted samples", data.sorted_samples),
    Rule("constant value", objective.constant_value),
    Rule("bottomless", objective.bottomless),
    Rule("term without graph", objective.term_without_graph),
    Rule("slipped in", objective.slipped_in),
    Rule("runaway scalar", objective.runaway_scalar),
    Rule("replaced weights", resumption.replaced_weights),
    Rule("summed parts", optimizer.summed_parts),
    Rule("summed loss", optimizer.summed_loss),
    Rule("unbounded logarithm", numerics.unbounded_logarithm),
    Rule("growing exponential", numerics.growing_exponential),
    Rule("drowned term", objective.drowned_term),
    Rule("read after padding", data.read_after_padding),
    Rule("target scale", data.target_scale),
    Rule("input scale", data.input_scale),
    Rule("tight clip", optimizer.tight_clip),
    Rule("dead units", signal.dead_units),
    Rule("flat ends", signal.flat_ends),
    Rule("wide weights", weights.wide_weights),
    Rule("recurrent growth", weights.recurrent_growth),
    Rule("growing scores", objective.growing_scores),
    Rule("strange option", optimizer.strange_option),
    Rule("lost state", resumption.lost_state),
    Rule("state starts anew", resumption.state_starts_anew),
    Rule("missing warm-up", learning_rate.missing_warmup),
    Rule("plain depth", normalization.plain_depth),
    Rule("alike samples", normalization.alike_samples),
    Rule("vanishing signal", signal.vanishing_signal),
    Rule("small epsilon", optimizer.small_epsilon),
    Rule("fast steps", learning_rate.fast_steps),
    Rule("tiny steps", learning_rate.tiny_steps),
    Rule("misplaced targets", data.misplaced_targets),
    Rule("collapsed outputs", meaning.collapsed_outputs),
    Rule("copied tokens", meaning.copied_tokens),
    Rule("future seen", meaning.future_seen),
    Rule("paid without end", objective.paid_without_end, guess=True),
    Rule("descended critic", objective.descended_critic, guess=True),
    Rule("silent weights", graph.silent_weights, guess=True),
    Rule("forgotten batches", data.forgotten_batches, guess=True),
    Rule("outweighing samples", objective.outweighing_samples, guess=True),
    Rule("best change", best_change.best_change, guess=True),
    Rule("nothing to learn", data.nothing_to_learn, guess=True),
]


def ask_rules(examination: Examination) -> list[Finding]:
    """Ask the rules in order until one is conclusive; sort what they said.

    The order is the argument: what is read off the code and the data comes before what
    a trial must show, and a special cure before one that helps with many causes (a
    smaller learning rate). A conclusive finding keeps the rules after it from being
    asked, and comes first; confidence sorts the others, and steers nothing.

    With ``step=`` the loss cannot be taken apart, so every confidence is lowered.
    """
    findings: list[Finding] = []
    for rule in RULES:
        if rule.guess and findings:
            continue
        finding = rule.ask(examination)
        if finding is not None:
            findings.append(finding)
            if finding.conclusive:
                break
    if examination.setup.step is not None:
        findings = [
            replace(f, confidence=WATCHED_ONLY * f.confidence) for f in findings
        ]
    return sorted(findings, key=lambda f: (f.conclusive, f.confidence), reverse=True)

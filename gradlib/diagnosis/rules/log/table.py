"""The table of rules on logs: what a contributor extends."""

from gradlib.diagnosis.rules.log import (
    loss_scale,
    nonfinite,
    oddity,
    reinforcement,
    rise,
    standstill,
)
from gradlib.diagnosis.rules.log.sign import LogRule

LOG_RULES: tuple[LogRule, ...] = (
    nonfinite.first_nonfinite,
    nonfinite.hidden_nan,
    nonfinite.zero_records,
    standstill.nothing_to_learn,
    standstill.gone_at_once,
    standstill.constant_norm,
    loss_scale.scale_collapse,
    loss_scale.scaler_searching,
    loss_scale.overflow_and_rise,
    nonfinite.norm_not_finite,
    nonfinite.norm_without_loss,
    nonfinite.average_not_finite,
    rise.explosion,
    rise.perplexity_rise,
    rise.slow_rise,
    standstill.at_chance,
    standstill.clamped,
    standstill.no_update,
    standstill.repeated_epochs,
    standstill.no_gradient,
    standstill.nothing_learned,
    rise.resume_jump,
    nonfinite.stopped,
    nonfinite.refused,
    reinforcement.reward_without_gradient,
    reinforcement.reinforcement,
    oddity.norm_spike,
    oddity.loss_spike,
    oddity.discriminator_wins,
    oddity.growing_sums,
    oddity.negative_loss,
    oddity.epoch_boundaries,
)
"""All rules on logs, in the order in which their remarks are told."""

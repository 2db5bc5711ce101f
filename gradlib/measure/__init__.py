"""Sizes and directions of gradients, parameters and updates; NaN; curvature; lags.

Norms by layer read the device once, however many layers there are; a second time
where a norm does not fit float32 and is taken again in float64.
"""

from gradlib.measure.attention import attention_changes, attention_logits
from gradlib.measure.by_layer import (
    gradient_angle,
    gradient_norms,
    parameter_norms,
    snapshot,
    update_norms,
    update_ratios,
)
from gradlib.measure.curvature import jacobian_singular_values, sharpness
from gradlib.measure.gradients import Parameters, checked_gradients, total_norm
from gradlib.measure.nonfinite import NonFinite, first_nonfinite
from gradlib.measure.second_moment import update_rms
from gradlib.measure.through_time import gradient_by_lag, step_jacobians

__all__ = [
    "NonFinite",
    "Parameters",
    "attention_changes",
    "attention_logits",
    "checked_gradients",
    "first_nonfinite",
    "gradient_angle",
    "gradient_by_lag",
    "gradient_norms",
    "jacobian_singular_values",
    "parameter_norms",
    "sharpness",
    "snapshot",
    "step_jacobians",
    "total_norm",
    "update_norms",
    "update_ratios",
    "update_rms",
]

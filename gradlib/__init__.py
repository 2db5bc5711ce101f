"""Measure, clip and diagnose the gradients of PyTorch models.

The helper library of the book *Exploding Gradients*. The best known names are here;
formulas live in `gradlib.theory`, models in `gradlib.models`, data in `gradlib.data`.
Drawing lives in `gradlib.plotting` and `gradlib.figures`, which import matplotlib
and are imported only on request.
"""

from gradlib.clip import (
    AutoClip,
    ZClip,
    clip_adaptive_,
    clip_each_norm_,
    clip_norm_,
    clip_value_,
    normalize_,
)
from gradlib.curvature import jacobian_singular_values, sharpness
from gradlib.diagnosis import diagnose, diagnose_history
from gradlib.errors import DivergenceError, NonFiniteGradientError
from gradlib.history import History
from gradlib.initialization import audit, fixup_, initialize_, lsuv_
from gradlib.measure import (
    first_nonfinite,
    gradient_angle,
    gradient_norms,
    parameter_norms,
    snapshot,
    total_norm,
    update_norms,
    update_ratios,
)
from gradlib.monitor import GradientMonitor
from gradlib.sweep import sweep
from gradlib.training import accuracy, fit, lr_range_test

__all__ = [
    "AutoClip",
    "DivergenceError",
    "GradientMonitor",
    "History",
    "NonFiniteGradientError",
    "ZClip",
    "accuracy",
    "audit",
    "clip_adaptive_",
    "clip_each_norm_",
    "clip_norm_",
    "clip_value_",
    "diagnose",
    "diagnose_history",
    "first_nonfinite",
    "fit",
    "fixup_",
    "gradient_angle",
    "gradient_norms",
    "initialize_",
    "jacobian_singular_values",
    "lr_range_test",
    "lsuv_",
    "normalize_",
    "parameter_norms",
    "sharpness",
    "snapshot",
    "sweep",
    "total_norm",
    "update_norms",
    "update_ratios",
]

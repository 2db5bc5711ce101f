"""The book's figures: one style, and one function for each kind of plot.

Each function draws into ``ax``, or into a new figure, and returns the Axes.
"""

from gradlib.plotting.bars import float16_histogram, waterfall
from gradlib.plotting.curves import loss_curves, seed_band, theory_over_measurement
from gradlib.plotting.health import health_strip, update_ratio_strip
from gradlib.plotting.layers import gradient_norm_by_layer, norm_heatmap
from gradlib.plotting.maps import confusion_matrix, phase_diagram
from gradlib.plotting.style import PALETTE, use_style

__all__ = [
    "PALETTE",
    "confusion_matrix",
    "float16_histogram",
    "gradient_norm_by_layer",
    "health_strip",
    "loss_curves",
    "norm_heatmap",
    "phase_diagram",
    "seed_band",
    "theory_over_measurement",
    "update_ratio_strip",
    "use_style",
    "waterfall",
]

"""What theory says of signals and gradients, in closed form or by quadrature.

- mean field: what wide layers do to the variance of signals and gradients;
- the critical line between vanishing and exploding gradients;
- growth through whole architectures: norms, residual branches, finite width;
- recurrence: gates, truncation, memory, Lyapunov exponents;
- attention: the floor under its entropy, the bounds of its logits;
- feedback: policies, bootstrapped values, two players;
- stability of training: learning rates, Adam's spikes, weight decay, gradient noise;
- spectra of Jacobians;
- precision: what formats of 32, 16 and 8 bits lose.
"""

from gradlib.theory.architectures import (
    LogNormMoments,
    batch_norm_growth,
    batch_norm_residual_growth,
    finite_width_moments,
    residual_growth,
)
from gradlib.theory.attention import (
    attention_entropy_floor,
    qk_norm_bound,
    soft_cap_slope,
)
from gradlib.theory.critical_line import CriticalPoint, critical_line, critical_sigma_w2
from gradlib.theory.feedback import (
    bootstrap_growth,
    critical_spread,
    policy_bounce,
    two_player_growth,
)
from gradlib.theory.mean_field import (
    FixedPoint,
    chi,
    depth_scale,
    fixed_point,
    variance_map,
)
from gradlib.theory.precision import (
    EngineGap,
    block_round,
    effective_share,
    engine_gap,
    flush_threshold,
    flushed_fraction,
    frozen_share,
    overflow_fraction,
    overflow_threshold,
    rounding_step,
    skip_rate,
    stall_gradient,
    stochastic_round,
    swallowed_share,
)
from gradlib.theory.recurrence import (
    cell_growth,
    gate_half_life,
    lyapunov_exponents,
    memory_sensitivity,
    truncation_share,
)
from gradlib.theory.spectrum import (
    jacobian_bound,
    singular_value_variance,
    spectral_radius,
)
from gradlib.theory.stability import (
    GradientNoise,
    SpikePeak,
    adam_spike,
    adam_spike_peak,
    gradient_noise,
    max_learning_rate,
    max_sharpness,
    noise_floor,
    settled_gradient_ratio,
    squared_gradient_norm,
    weight_decay_equilibrium,
)

__all__ = [
    "CriticalPoint",
    "EngineGap",
    "FixedPoint",
    "GradientNoise",
    "LogNormMoments",
    "SpikePeak",
    "adam_spike",
    "adam_spike_peak",
    "attention_entropy_floor",
    "batch_norm_growth",
    "batch_norm_residual_growth",
    "block_round",
    "bootstrap_growth",
    "cell_growth",
    "chi",
    "critical_line",
    "critical_sigma_w2",
    "critical_spread",
    "depth_scale",
    "effective_share",
    "engine_gap",
    "finite_width_moments",
    "fixed_point",
    "flush_threshold",
    "flushed_fraction",
    "frozen_share",
    "gate_half_life",
    "gradient_noise",
    "jacobian_bound",
    "lyapunov_exponents",
    "max_learning_rate",
    "max_sharpness",
    "memory_sensitivity",
    "noise_floor",
    "overflow_fraction",
    "overflow_threshold",
    "policy_bounce",
    "qk_norm_bound",
    "residual_growth",
    "rounding_step",
    "settled_gradient_ratio",
    "singular_value_variance",
    "skip_rate",
    "soft_cap_slope",
    "spectral_radius",
    "squared_gradient_norm",
    "stall_gradient",
    "stochastic_round",
    "swallowed_share",
    "truncation_share",
    "two_player_growth",
    "variance_map",
    "weight_decay_equilibrium",
]

"""Formulas: activations, mean-field theory, stability, precision, spectra."""

import torch
from hypothesis import strategies as st
from kinds import (
    ACTIVATION,
    GENERATOR,
    INF,
    MATRIX,
    MODEL,
    NAMED,
    NAN,
    NO_MATRIX,
    SCALES,
    SIDES,
    SMALL_SEED,
    TENSOR,
    Entry,
    Kind,
    below_one,
    choice,
    count,
    entry,
    matrix,
    not_negative,
    number,
    positive,
)
from torch import nn

from gradlib import (
    activations,
    criticality,
    errors,
    growth,
    precision,
    quadrature,
    spectrum,
    stability,
    theory,
)

VARIANCE = Kind(st.floats(1e-6, 1e6), positive().bad)
ANY = 1e-100, 1e100
PLUS = positive(*ANY)
OPTIMIZER = choice(*stability.OPTIMIZERS)
TYPE = Kind(
    st.sampled_from([torch.float16, torch.bfloat16, torch.float32]),
    (torch.int8, torch.float64, "float16", 7, None),
)
FUNCTION = Kind(
    st.sampled_from([torch.sin, torch.relu, torch.sign, torch.ones_like]),
    (lambda x: 1.0, lambda x: x.sum(), lambda x: x * NAN, 7, None),
)
SQUARE = st.builds(lambda n, seed, s: matrix(n, n, seed, s), SIDES, SMALL_SEED, SCALES)


def without_stopping(f: object, low: float, high: float) -> float:
    return criticality.root(lambda q: q - 0.5 * (low + high), low, high)


TABLE: dict[str, Entry] = {
    "activations.get": entry(activations.get, activation=ACTIVATION),
    "activations.slope": entry(
        activations.slope,
        activation=ACTIVATION,
        x=Kind(TENSOR.good, (*TENSOR.bad, torch.arange(3))),
    ),
    "activations.second_moment": entry(
        activations.second_moment,
        activation=ACTIVATION,
        variance=Kind(VARIANCE.good, not_negative().bad),
    ),
    "activations.slope_second_moment": entry(
        activations.slope_second_moment,
        activation=ACTIVATION,
        variance=Kind(VARIANCE.good, not_negative().bad),
    ),
    "activations.max_slope": entry(activations.max_slope, activation=ACTIVATION),
    "activations.quadrature_gain": entry(
        activations.quadrature_gain, activation=NAMED, variance=VARIANCE
    ),
    "activations.gain": entry(activations.gain, activation=ACTIVATION),
    "quadrature.gaussian_expectation": entry(
        quadrature.gaussian_expectation,
        f=FUNCTION,
        variance=Kind(VARIANCE.good | st.just(0.0), not_negative().bad),
        mean=number(-100, 100),
        points=count(16, 300),
    ),
    "theory.variance_map": entry(
        theory.variance_map,
        activation=NAMED,
        q=not_negative(1e6),
        sigma_w2=positive(1e-6, 1e6),
        sigma_b2=not_negative(1e6),
    ),
    "theory.fixed_point": entry(
        theory.fixed_point,
        activation=NAMED,
        sigma_w2=positive(1e-3, 10),
        sigma_b2=not_negative(10),
        start=positive(1e-3, 1e3),
        slow=10,
    ),
    "theory.chi": entry(
        theory.chi,
        activation=NAMED,
        sigma_w2=positive(1e-3, 10),
        sigma_b2=not_negative(10),
        q=Kind(not_negative().good, (NAN, -1.0, "1", [1.0])),
    ),
    "theory.depth_scale": entry(
        theory.depth_scale,
        activation=NAMED,
        sigma_w2=positive(1e-3, 10),
        sigma_b2=not_negative(10),
        q=Kind(not_negative().good, (NAN, -1.0, "1", [1.0])),
    ),
    "criticality.critical_sigma_w2": entry(
        criticality.critical_sigma_w2,
        activation=NAMED,
        sigma_b2=not_negative(10),
        slow=20,
    ),
    "criticality.critical_line": entry(
        criticality.critical_line,
        activation=NAMED,
        variances=Kind(
            st.lists(st.floats(1e-6, 1e6), max_size=3), ([0.0], [NAN], [-1.0], ["1"], 7)
        ),
    ),
    "criticality.inside_limits": entry(
        criticality.inside_limits, q=Kind(not_negative().good | st.just(INF))
    ),
    "criticality.root": entry(
        without_stopping,
        f=Kind(st.none()),
        low=Kind(st.floats(1e-9, 1.0)),
        high=Kind(st.floats(1.5, 1e9)),
    ),
    "growth.batch_norm_growth": entry(growth.batch_norm_growth, activation=ACTIVATION),
    "growth.residual_growth": entry(
        growth.residual_growth, depth=count(1, 10**6), scale=not_negative(1e200)
    ),
    "growth.batch_norm_residual_growth": entry(
        growth.batch_norm_residual_growth, depth=count(1, 1000), activation=ACTIVATION
    ),
    "growth.finite_width_moments": entry(
        growth.finite_width_moments,
        widths=Kind(
            st.lists(st.integers(1, 10**9), min_size=1, max_size=5),
            ([], [0], [1.5], ["2"], 7, None),
        ),
    ),
    "growth.cell_growth": entry(
        growth.cell_growth,
        forget_bias=Kind(st.floats(allow_nan=False), (NAN, "1", None, [1.0])),
        steps=count(0, 10**6),
    ),
    "stability.max_sharpness": entry(
        stability.max_sharpness, lr=PLUS, optimizer=OPTIMIZER, momentum=below_one()
    ),
    "stability.max_learning_rate": entry(
        stability.max_learning_rate,
        sharpness=PLUS,
        optimizer=OPTIMIZER,
        momentum=below_one(),
    ),
    "stability.adam_spike": entry(
        stability.adam_spike,
        step=count(1, 10**6),
        beta1=below_one(),
        beta2=below_one(),
    ),
    "stability.adam_spike_peak": entry(
        stability.adam_spike_peak, beta1=below_one(), beta2=below_one()
    ),
    "stability.weight_decay_equilibrium": entry(
        stability.weight_decay_equilibrium,
        lr=PLUS,
        weight_decay=PLUS,
        squared_gradient=not_negative(1e100),
    ),
    "stability.noise_floor": entry(
        stability.noise_floor, lr=PLUS, curvature=PLUS, noise=not_negative(1e200)
    ),
    "stability.squared_gradient_norm": entry(
        stability.squared_gradient_norm,
        signal=not_negative(1e300),
        noise=not_negative(1e300),
        batch_size=count(1, 10**9),
    ),
    "stability.gradient_noise": entry(
        stability.gradient_noise,
        small_norm2=not_negative(1e300),
        large_norm2=not_negative(1e300),
        small_batch=count(1, 100),
        large_batch=Kind(st.integers(101, 10**6), count(1, 2).bad),
    ),
    "precision.flush_threshold": entry(precision.flush_threshold, dtype=TYPE),
    "precision.overflow_threshold": entry(precision.overflow_threshold, dtype=TYPE),
    "precision.flushed_fraction": entry(
        precision.flushed_fraction,
        log_mean=number(-1e6, 1e6),
        log_std=PLUS,
        scale=PLUS,
        dtype=TYPE,
    ),
    "precision.overflow_fraction": entry(
        precision.overflow_fraction,
        log_mean=number(-1e6, 1e6),
        log_std=PLUS,
        scale=PLUS,
        dtype=TYPE,
    ),
    "precision.skip_rate": entry(precision.skip_rate, growth_interval=count(1, 10**9)),
    "spectrum.spectral_radius": entry(
        spectrum.spectral_radius, weight=Kind(SQUARE, (*NO_MATRIX, torch.ones(2, 3)))
    ),
    "spectrum.jacobian_bound": entry(
        spectrum.jacobian_bound,
        weights=Kind(
            st.lists(MATRIX, min_size=1, max_size=3) | MATRIX,
            ([], *([m] for m in NO_MATRIX), 7, None),
        ),
        activation=ACTIVATION,
        named={"weights": "weights?"},
    ),
    "spectrum.singular_value_variance": entry(
        spectrum.singular_value_variance,
        depth=count(1, 1000),
        activation=NAMED,
        weights=choice("gaussian", "orthogonal"),
        q=VARIANCE,
    ),
    "errors.check_positive": entry(
        lambda value: errors.check_positive(value, "value"), value=PLUS
    ),
    "errors.check_count": entry(
        lambda value: errors.check_count(value, "value"), value=count(1, 10**30)
    ),
    "errors.check_choice": entry(
        lambda value: errors.check_choice(value, "value", ["a", "b"]),
        value=choice("a", "b"),
    ),
    "errors.check_limit": entry(
        lambda value: errors.check_limit(value, "value"),
        value=Kind(
            st.none() | st.floats(1e-9, 1e9) | st.just(INF), (0.0, -1.0, NAN, "1")
        ),
    ),
    "errors.check_type": entry(
        lambda value: errors.check_type(int | None, value=value),
        value=Kind(st.none() | st.integers(), (1.5, "1")),
    ),
    "errors.check_function": entry(
        lambda value: errors.check_function(value, "value"),
        value=Kind(st.just(print), (1.5, "print", None, nn.ReLU)),
    ),
    "errors.check_list": entry(
        lambda value: errors.check_list(value, "value"),
        value=Kind(st.lists(st.integers()), (1.5, None)),
    ),
    "errors.check_model": entry(errors.check_model, model=MODEL),
    "errors.check_generator": entry(errors.check_generator, generator=GENERATOR),
}

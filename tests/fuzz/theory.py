"""Formulas: activations, mean-field theory, recurrence, feedback, spectra and more."""

import torch
from hypothesis import strategies as st
from kinds import (
    ACTIVATION,
    GENERATOR,
    INF,
    MATRIX,
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
    randn,
    refused,
)

from gradlib import activations, quadrature, theory
from gradlib.theory.stability import OPTIMIZERS

VARIANCE = Kind(st.floats(1e-6, 1e6), positive().bad)
ANY = 1e-100, 1e100
PLUS = positive(*ANY)
OPTIMIZER = choice(*OPTIMIZERS)
TYPE = Kind(
    st.sampled_from(
        [
            torch.float8_e4m3fn,
            torch.float8_e5m2,
            torch.float16,
            torch.bfloat16,
            torch.float32,
        ]
    ),
    (torch.int8, torch.float64, "float16", 7, None),
)
FUNCTION = Kind(
    st.sampled_from([torch.sin, torch.relu, torch.sign, torch.ones_like]),
    (lambda x: 1.0, lambda x: x.sum(), lambda x: x * NAN, 7, None),
)
NO_NUMBERS = (7, "x", None, [1.0], torch.ones(2).long(), torch.tensor([1.0, NAN]))
NUMBERS = Kind(TENSOR.good, NO_NUMBERS)
PAIR_OF_MOVES = st.builds(
    lambda shape, seed: {
        "weights": randn(shape, seed),
        "updates": randn(shape, seed + 1, 1e-3),
    },
    st.lists(SIDES, min_size=1, max_size=3),
    SMALL_SEED,
)
TWO_ENGINES = st.builds(
    lambda n, tokens, seed, gap: {
        "trainer": randn([n, tokens], seed),
        "sampler": randn([n, tokens], seed) + randn([n, tokens], seed + 1, gap),
    },
    st.integers(2, 5),
    SIDES,
    SMALL_SEED,
    st.sampled_from([0.0, 1e-3, 1.0, 1e3]),
)
SQUARE = st.builds(lambda n, seed, s: matrix(n, n, seed, s), SIDES, SMALL_SEED, SCALES)


TABLE: dict[str, Entry] = {
    "activations.as_activation": entry(
        activations.as_activation, activation=ACTIVATION
    ),
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
    "theory.critical_sigma_w2": entry(
        theory.critical_sigma_w2,
        activation=NAMED,
        sigma_b2=not_negative(10),
        slow=20,
    ),
    "theory.critical_line": entry(
        theory.critical_line,
        activation=NAMED,
        variances=Kind(
            st.lists(st.floats(1e-6, 1e6), max_size=3), ([0.0], [NAN], [-1.0], ["1"], 7)
        ),
    ),
    "theory.batch_norm_growth": entry(theory.batch_norm_growth, activation=ACTIVATION),
    "theory.residual_growth": entry(
        theory.residual_growth, depth=count(1, 10**6), scale=not_negative(1e200)
    ),
    "theory.batch_norm_residual_growth": entry(
        theory.batch_norm_residual_growth, depth=count(1, 1000), activation=ACTIVATION
    ),
    "theory.finite_width_moments": entry(
        theory.finite_width_moments,
        widths=Kind(
            st.lists(st.integers(1, 10**9), min_size=1, max_size=5),
            ([], [0], [1.5], ["2"], 7, None),
        ),
    ),
    "theory.cell_growth": entry(
        theory.cell_growth,
        forget_bias=Kind(st.floats(allow_nan=False), (NAN, "1", None, [1.0])),
        steps=count(0, 10**6),
    ),
    "theory.attention_entropy_floor": entry(
        theory.attention_entropy_floor,
        keys=count(1, 10**6),
        spread=not_negative(1e100),
    ),
    "theory.qk_norm_bound": entry(
        theory.qk_norm_bound,
        head_size=count(1, 10**6),
        query_gain=not_negative(1e100),
        key_gain=not_negative(1e100),
    ),
    "theory.soft_cap_slope": entry(
        theory.soft_cap_slope,
        logit=number(-1e100, 1e100),
        cap=PLUS,
    ),
    "theory.settled_gradient_ratio": entry(
        theory.settled_gradient_ratio, lr=PLUS, weight_decay=PLUS
    ),
    "theory.gate_half_life": entry(
        theory.gate_half_life,
        forget_bias=Kind(st.floats(allow_nan=False), (NAN, "1", None, [1.0])),
    ),
    "theory.truncation_share": entry(
        theory.truncation_share, decay=below_one(), steps=count(0, 10**6)
    ),
    "theory.memory_sensitivity": entry(theory.memory_sensitivity, decay=below_one()),
    "theory.critical_spread": entry(theory.critical_spread, lr=positive(1e-6, 1e6)),
    "theory.policy_bounce": entry(
        theory.policy_bounce, lr=positive(1e-6, 1e6), spread=positive(1e-6, 1e6)
    ),
    "theory.bootstrap_growth": entry(
        theory.bootstrap_growth,
        lr=positive(1e-6, 1e6),
        discount=number(0.0, 1.0, -0.1, 1.1),
        ratio=positive(1e-6, 1e6),
    ),
    "theory.two_player_growth": entry(
        theory.two_player_growth,
        lr=positive(1e-6, 1e6),
        coupling=positive(1e-6, 1e6),
        penalty=not_negative(),
    ),
    "theory.lyapunov_exponents": entry(
        theory.lyapunov_exponents,
        jacobians=Kind(
            st.builds(
                lambda steps, n, seed: randn([steps, n, n], seed),
                st.integers(2, 4),
                st.integers(2, 4),
                SMALL_SEED,
            ),
            (torch.ones(2, 2), torch.ones(1, 2, 3), torch.ones(1, 1, 1) * NAN, 7, None),
        ),
        k=count(1, 2),
        skip=count(0, 1),
        generator=GENERATOR,
        changes=("random state",),
    ),
    "theory.max_sharpness": entry(
        theory.max_sharpness, lr=PLUS, optimizer=OPTIMIZER, momentum=below_one()
    ),
    "theory.max_learning_rate": entry(
        theory.max_learning_rate,
        sharpness=PLUS,
        optimizer=OPTIMIZER,
        momentum=below_one(),
    ),
    "theory.adam_spike": entry(
        theory.adam_spike,
        step=count(1, 10**6),
        beta1=below_one(),
        beta2=below_one(),
    ),
    "theory.adam_spike_peak": entry(
        theory.adam_spike_peak, beta1=below_one(), beta2=below_one()
    ),
    "theory.weight_decay_equilibrium": entry(
        theory.weight_decay_equilibrium,
        lr=PLUS,
        weight_decay=PLUS,
        squared_gradient=not_negative(1e100),
    ),
    "theory.noise_floor": entry(
        theory.noise_floor, lr=PLUS, curvature=PLUS, noise=not_negative(1e200)
    ),
    "theory.squared_gradient_norm": entry(
        theory.squared_gradient_norm,
        signal=not_negative(1e300),
        noise=not_negative(1e300),
        batch_size=count(1, 10**9),
    ),
    "theory.gradient_noise": entry(
        theory.gradient_noise,
        small_norm2=not_negative(1e300),
        large_norm2=not_negative(1e300),
        small_batch=count(1, 100),
        large_batch=Kind(st.integers(101, 10**6), count(1, 2).bad),
    ),
    "theory.flush_threshold": entry(theory.flush_threshold, dtype=TYPE),
    "theory.overflow_threshold": entry(theory.overflow_threshold, dtype=TYPE),
    "theory.flushed_fraction": entry(
        theory.flushed_fraction,
        log_mean=number(-1e6, 1e6),
        log_std=PLUS,
        scale=PLUS,
        dtype=TYPE,
    ),
    "theory.overflow_fraction": entry(
        theory.overflow_fraction,
        log_mean=number(-1e6, 1e6),
        log_std=PLUS,
        scale=PLUS,
        dtype=TYPE,
    ),
    "theory.skip_rate": entry(theory.skip_rate, growth_interval=count(1, 10**9)),
    "theory.rounding_step": entry(
        theory.rounding_step, value=number(-448.0, 448.0, 1e39), dtype=TYPE
    ),
    "theory.stall_gradient": entry(
        theory.stall_gradient, weight=number(-448.0, 448.0, 1e39), lr=PLUS, dtype=TYPE
    ),
    "theory.swallowed_share": entry(
        theory.swallowed_share,
        joint=PAIR_OF_MOVES,
        weights=refused(*NO_NUMBERS),
        updates=refused(*NO_NUMBERS, torch.ones(7, 7)),
        dtype=TYPE,
        named={"weights": "weights|updates", "updates": "weights|updates"},
    ),
    "theory.frozen_share": entry(
        theory.frozen_share,
        beta2=Kind(st.floats(1e-6, 0.9999999), below_one().bad),
        dtype=TYPE,
    ),
    "theory.stochastic_round": entry(
        theory.stochastic_round, values=NUMBERS, dtype=TYPE, generator=GENERATOR
    ),
    "theory.block_round": entry(
        theory.block_round,
        values=NUMBERS,
        dtype=TYPE,
        block=Kind(st.sampled_from([None, 1]), (0, -1, 1.5, "2", 1009)),
    ),
    "theory.engine_gap": entry(
        theory.engine_gap,
        joint=TWO_ENGINES,
        trainer=refused(*NO_NUMBERS, torch.ones(3), torch.full((2, 2), NAN)),
        sampler=refused(*NO_NUMBERS, torch.ones(3), torch.full((2, 2), INF)),
        named={"trainer": "trainer|sampler", "sampler": "trainer|sampler"},
    ),
    "theory.effective_share": entry(
        theory.effective_share, std=not_negative(1e200), tokens=count(1, 10**9)
    ),
    "theory.spectral_radius": entry(
        theory.spectral_radius, weight=Kind(SQUARE, (*NO_MATRIX, torch.ones(2, 3)))
    ),
    "theory.jacobian_bound": entry(
        theory.jacobian_bound,
        weights=Kind(
            st.lists(MATRIX, min_size=1, max_size=3) | MATRIX,
            ([], *([m] for m in NO_MATRIX), 7, None),
        ),
        activation=ACTIVATION,
        named={"weights": "weights?"},
    ),
    "theory.singular_value_variance": entry(
        theory.singular_value_variance,
        depth=count(1, 1000),
        activation=NAMED,
        weights=choice("gaussian", "orthogonal"),
        q=VARIANCE,
    ),
}

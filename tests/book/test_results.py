"""Results of the literature on exploding gradients, each reproduced by a test.

``RESULTS`` says where. A formula of one module is tested with that module; here are
the experiments that take several. Bands hold for ten seeds or more; a test runs five.
"""

import ast
import copy
import math
from functools import partial

import numpy as np
import pytest
import torch
from book import ROOT
from draws import generator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.optim.lr_scheduler import LinearLR

from gradlib.clip import (
    AutoClip,
    Clip,
    ZClip,
    clip_adaptive_,
    clip_each_norm_,
    clip_norm_,
)
from gradlib.data import adding_problem, batches, heavy_tailed_noise, repeat_task
from gradlib.history import History
from gradlib.initialization import initialize_
from gradlib.measure import (
    gradient_by_lag,
    jacobian_singular_values,
    sharpness,
    step_jacobians,
    total_norm,
)
from gradlib.models import (
    SideBySide,
    deep_mlp,
    query_key_groups,
    recurrent_classifier,
    recurrent_lm,
    small_transformer,
    token_loss,
)
from gradlib.sweep import Ensemble, sweep
from gradlib.theory import (
    jacobian_bound,
    lyapunov_exponents,
    max_learning_rate,
    max_sharpness,
    noise_floor,
)
from gradlib.training import fit

SEEDS = range(5)

RESULTS = {
    # Gradients at initialization
    "ReLU mean field, He 2015": "mean_field: gradients_grow_by_chi",
    "tanh mean field, Schoenholz 2017": "mean_field: gradients_grow_by_chi",
    "torch's default for nn.Linear": "mean_field: gradients_grow_by_chi",
    "finite width, Hanin 2018": "architectures: finite_width_moments_are_measured",
    "batch norm explodes, Yang 2019": "architectures: batch_norm_growth_is_measured",
    "residual branches, Zhang 2019": "architectures: residual_growth_is_measured",
    "batch norm in residual nets, De & Smith 2020": (
        "architectures: batch_norm_residual_growth_is_measured"
    ),
    "dynamical isometry, Pennington 2017": (
        "spectrum: singular_value_variance_is_measured"
    ),
    "SELU, GELU, SiLU": "mean_field: a_kept_variance_need_not_be_stable",
    "tanh nets, Glorot 2010": (
        "initialization: xavier_keeps_tanh_gradients_that_torchs_default_loses"
    ),
    # Recurrent nets
    "spectral radius, Pascanu 2013": (
        "spectrum: gaussian_recurrence_grows_by_its_spectral_radius"
    ),
    "LSTM cell path": "recurrence: cell_growth_is_that_of_an_lstm",
    "truncated gradients": "recurrence: truncation_share_is_that_of_autograd",
    "curse of memory, Zucchet 2024": "recurrence: memory_sensitivity_is_measured",
    "Lyapunov exponents, Engelken 2023": (
        "results: the_gradient_by_lag_follows_the_lyapunov_exponent"
    ),
    # A forget bias of 1, as Jozefowicz 2015 advise, does not bridge a lag of 60.
    "biases from the lag, Tallec 2018": (
        "results: both_gates_bridge_a_lag_that_a_forget_bias_of_1_does_not"
    ),
    "the cliff, Pascanu 2013": "results: clipping_comes_down_from_the_cliff",
    "clipping RNNs, Pascanu 2013": "results: clipping_keeps_an_rnn_from_diverging",
    # Clipping
    "(L0, L1)-smoothness, Zhang 2020": "results: clipping_descends_a_quartic_fast",
    "curvature of LSTMs, Zhang 2020": "results: curvature_follows_the_gradient",
    "stable rate with clipping": "results: clipping_makes_ten_times_the_rate_usable",
    "AGC, Brock 2021": "results: agc_makes_ten_times_the_rate_usable",
    "heavy-tailed noise, Zhang 2020": "results: clipping_bounds_heavy_tails",
    "outlier batches, AutoClip and ZClip": "results: clippers_survive_outlier_batches",
    # Learning rates
    "thresholds of optimizers, Cohen 2021": (
        "stability: optimizers_of_torch_diverge_beyond_the_limit"
    ),
    "edge of stability, Cohen 2021": "results: sharpness_settles_at_its_limit",
    "catapult, Lewkowycz 2020": "results: catapult_up_to_twice_the_limit",
    "spike of Adam": "stability: adam_of_torch_spikes",
    "equilibrium of weight decay, van Laarhoven 2017": (
        "stability: weight_decay_equilibrium_is_measured"
    ),
    "noise floor": "stability: noise_floor_is_measured",
    "linear decay, Defazio 2023": "results: linear_decay_ends_below_a_constant_rate",
    "thirty layers, He 2015": "results: he_trains_thirty_layers_and_xavier_does_not",
    # Transformers, number formats, batches
    "pre-norm and post-norm, Xiong 2020": (
        "transformer: pre_norm_shrinks_the_last_gradient_with_depth"
    ),
    "warm-up, Xiong 2020": "transformer: post_norm_needs_warmup",
    "QK norm, Wortsman 2023": "transformer: qk_norm_survives_a_large_rate",
    "soft cap, Gemma 2": "results: a_soft_cap_bounds_logits_and_saves_no_run",
    "a small rate for queries and keys": (
        "results: slow_queries_and_keys_survive_large_logits"
    ),
    "QK-clip, Kimi K2": (
        "transformer: qk_clip_shrinks_only_the_heads_beyond_the_threshold"
    ),
    "z-loss, PaLM": "transformer: z_loss_has_the_gradient_of_its_formula",
    "floor under the entropy, after Zhai 2023": (
        "attention: no_row_falls_below_the_floor"
    ),
    "spikes of Adam on a quadratic, Bai 2025": (
        "results: adam_grows_where_curvature_passes_its_limit"
    ),
    "late gradients, Defazio 2025": "stability: settled_gradient_ratio_is_measured",
    "loss scaling, Micikevicius 2018": "precision: shares_agree_with_a_sample",
    "skipped steps of a scaler": "precision: skip_rate_is_that_of_grad_scaler",
    "updates that bfloat16 swallows": (
        "precision: torch_loses_what_swallowed_share_counts"
    ),
    "stall of descent": "precision: descent_stalls_at_its_gradient",
    "a second moment that never forgets": (
        "precision: torch_adam_in_bfloat16_never_forgets_at_0999"
    ),
    "stochastic rounding": (
        "precision: stochastic_rounding_takes_neighbors_and_keeps_the_mean"
    ),
    "one outlier in eight bits": (
        "precision: one_outlier_flushes_what_the_lognormal_law_says"
    ),
    "trainer and sampler, Qi 2025": (
        "results: a_bfloat16_sampler_is_eight_times_as_far_as_a_float16_one"
    ),
    "gradient noise, McCandlish 2018": "stability: gradient_noise_is_measured",
    "half-life of moments, Malladi 2022, Marek 2025": (
        "results: adam_ends_alike_at_sixteen_times_the_batch"
    ),
    "shards of a batch": "results: clipping_shards_is_not_clipping_their_mean",
    "spectral norm, Miyato 2018": "results: spectral_norm_cures_by_vanishing",
    # Loops that learn from their own output
    "a narrow policy bounces": (
        "feedback: a_narrow_policy_bounces_by_the_rate_over_twice_its_spread"
    ),
    "two states, Tsitsiklis & Van Roy 1996": (
        "feedback: bootstrap_growth_is_that_of_descent"
    ),
    "Dirac-GAN, Mescheder 2018": (
        "feedback: two_players_grow_as_the_largest_eigenvalue"
    ),
}


@pytest.mark.parametrize("place", sorted(set(RESULTS.values())))
def test_each_result_has_its_test(place: str) -> None:
    module, name = place.split(": ")
    (path,) = (ROOT / "tests").rglob(f"test_{module}.py")
    tree = ast.parse(path.read_text("utf8"))
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert f"test_{name}" in names, f"test_{module}.py: no test_{name}"


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator(seed))


def clusters(seed: int) -> tuple[Tensor, Tensor]:
    """Ten noisy clusters of vectors, and which one each belongs to."""
    labels = torch.randint(10, (2048,), generator=generator(seed))
    x = normal(seed + 100, 10, 32)[labels] + 0.8 * normal(seed + 200, 2048, 32)
    return x / x.std(), labels


def scaled(sigma_w2: float) -> partial[nn.Module]:
    return partial(initialize_, scheme="normal", gain=math.sqrt(sigma_w2))


class Cliff(nn.Module):
    """Fifty steps of x <- w sigmoid(x) + b, from weights around the cliff."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(4 + 2 * torch.rand(()))
        self.b = nn.Parameter(-3 + 1.2 * torch.rand(()))

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(50):
            x = self.w * x.sigmoid() + self.b
        return x.sigmoid()


# 400 starts in tens of 40: 30 to 58 per cent arrive unclipped, 97 to 100 clipped.
def test_clipping_comes_down_from_the_cliff() -> None:
    arrived = {}
    for max_norm in (None, 1.0):
        runs = sweep(
            Cliff,
            [(torch.tensor(0.5), torch.tensor(0.7))] * 300,
            lrs=[0.5],
            seeds=range(200),
            loss_fn=F.mse_loss,
            clip=max_norm,
        )
        arrived[max_norm] = (runs.losses[:, -1] < 1e-3).double().mean().item()
    norms = runs.gradient_norms
    assert norms.max() > 1000 * norms[:, 0].median()
    assert arrived[None] < 0.6
    assert arrived[1.0] > 0.95


# 24 seeds: unclipped runs end within 12 steps. Clipped ones do not, but in so few
# steps they learn nothing either.
@pytest.mark.parametrize("seed", SEEDS)
def test_clipping_keeps_an_rnn_from_diverging(seed: int) -> None:
    ends = []
    for clip in (None, partial(clip_norm_, max_norm=1.0)):
        model = recurrent_classifier(
            width=32, spectral_radius=2.0, hidden_scheme="gaussian", seed=seed
        )
        history = fit(
            model,
            batches(*adding_problem(1280, 30, seed=seed), 32, seed=seed),
            lr=0.1,
            steps=40,
            loss_fn=F.mse_loss,
            clip=clip,
            stop_at_divergence="stop",
        )
        ends.append(history.diverged_at)
    assert ends[0] is not None
    assert ends[1] is None


def steps_down_a_quartic(start: float, *, clip: bool) -> int:
    """Steps until |4 x^3| < 0.1: at a rate safe at the start, or clipped.

    12 x^2 <= 16 + |4 x^3|, so 1 / 16 is safe where the step is at most 1.
    """
    x = nn.Parameter(torch.tensor(start, dtype=torch.float64))
    lr, most = 1 / 16 if clip else 1 / (12 * start**2), 10_000
    for step in range(most):
        x.grad = 4 * x.detach() ** 3
        norm = clip_norm_([x], max_norm=16.0) if clip else x.grad
        if norm < 0.1:
            return step
        with torch.no_grad():
            x -= lr * x.grad
    return most


def test_clipping_descends_a_quartic_fast() -> None:
    starts = [2.0, 4.0, 8.0, 16.0]
    slopes = [
        np.polyfit(
            np.log(starts),
            np.log([steps_down_a_quartic(start, clip=clip) for start in starts]),
            1,
        )[0]
        for clip in (False, True)
    ]
    assert slopes[0] == pytest.approx(2, abs=0.1)
    assert slopes[1] < 1


# 20 seeds: 0.86 to 0.95. The task matters: on a fresh Markov chain each step, where
# the noise of the batch hides the curvature, six seeds gave -0.3 to 0.5.
@pytest.mark.parametrize("seed", SEEDS)
def test_curvature_follows_the_gradient(seed: int) -> None:
    tokens = torch.randint(16, (16, 26), generator=generator(seed))
    model = recurrent_lm("lstm", 32, vocab=16, seed=seed)
    parameters = list(model.parameters())

    def gradient() -> Tensor:
        loss = token_loss(model(tokens[:, :-1]), tokens[:, 1:])
        return torch.cat([g.ravel() for g in torch.autograd.grad(loss, parameters)])

    norms, curvatures = [], []
    for _ in range(60):
        fit(
            model,
            [(tokens[:, :-1], tokens[:, 1:])],
            lr=1.0,
            steps=4,
            loss_fn=token_loss,
        )
        before = gradient()
        fit(model, [(tokens[:, :-1], tokens[:, 1:])], lr=1.0, loss_fn=token_loss)
        norms.append(float(before.norm()))
        curvatures.append(float((gradient() - before).norm()) / norms[-1])
    assert np.corrcoef(np.log(norms), np.log(curvatures))[0, 1] > 0.8


# 20 seeds: losses end below 0.5, but unclipped at rate 1 none survives.
def test_clipping_makes_ten_times_the_rate_usable() -> None:
    clipped = {}
    for max_norm in (None, 1.0):
        clipped[max_norm] = sweep(
            partial(deep_mlp, 8, 64, in_features=32),
            batches(*clusters(0), 64, seed=0),
            lrs=[0.1, 1.0],
            seeds=SEEDS,
            schemes={"sigma_w2 = 3": scaled(3.0)},
            steps=120,
            clip=max_norm,
        )
    slow, fast = clipped[None].final_losses.view(2, -1)
    assert (slow < 1).all()
    assert fast.isinf().all()
    assert (clipped[1.0].final_losses < 1).all()


# 20 seeds: 0.3 at most, 1.9 at least (guessing is 2.3), 0.4 at most.
@pytest.mark.parametrize("seed", SEEDS)
def test_agc_makes_ten_times_the_rate_usable(seed: int) -> None:
    def final_loss(lr: float, *, agc: bool = False) -> float:
        model = deep_mlp(
            14, 64, in_features=32, residual="plain", branch_layers=2, seed=seed
        )
        initialize_(model, "he", generator=generator(seed))
        inner = list(model.layers[:-1].parameters())

        def clip(parameters: object) -> Tensor:
            return clip_adaptive_(inner, 0.02) if agc else total_norm(inner)

        history = fit(
            model,
            batches(*clusters(seed), 64, seed=seed),
            optimizer=partial(torch.optim.SGD, momentum=0.9),
            lr=lr,
            steps=60,
            clip=clip,
            stop_at_divergence="stop",
        )
        if history.diverged_at is not None:
            return math.inf
        return float(np.mean(history["loss"][-10:]))

    assert final_loss(0.01) < 1
    assert final_loss(0.1) > 1.8
    assert final_loss(0.1, agc=True) < 1


def walk(noise: Tensor, clip: Clip | None) -> Tensor:
    """|x|^2 of each chain after each step of noisy descent on |x|^2 / 2."""
    chains = [nn.Parameter(torch.zeros(noise.shape[-1])) for _ in noise[0]]
    optimizer = torch.optim.SGD(chains, lr=0.02)
    squares = []
    for step in noise:
        for chain, kick in zip(chains, step, strict=True):
            chain.grad = chain.detach() + kick
        if clip is not None:
            clip(chains)
        optimizer.step()
        squares.append(torch.stack([c.detach().square().sum() for c in chains]))
    return torch.stack(squares)


# 20 seeds: 1,000 times or more (more chains and steps meet larger kicks); the Gaussian
# walk, which clipping leaves alone, within 4 per cent of its floor.
@pytest.mark.parametrize("seed", SEEDS)
def test_clipping_bounds_heavy_tails(seed: int) -> None:
    clip = partial(clip_each_norm_, max_norm=5.0)
    noise = heavy_tailed_noise((400, 100, 10), 1.5, generator=generator(seed))
    assert walk(noise, None).max() > 300 * walk(noise, clip).max()
    gaussian = walk(normal(seed, 400, 100, 10), clip)[200:].mean().item()
    assert gaussian == pytest.approx(10 * noise_floor(0.02, 1.0), rel=0.1)


# 20 seeds: one errs by up to 0.062 (radius 3), the mean of five by 0.014.
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("rnn", {"spectral_radius": 0.8, "hidden_scheme": "gaussian"}),
        ("rnn", {"spectral_radius": 3.0, "hidden_scheme": "gaussian"}),
        ("lstm", {}),
        ("gru", {}),
    ],
)
def test_the_gradient_by_lag_follows_the_lyapunov_exponent(
    kind: str, options: dict[str, float | str]
) -> None:
    gaps = []
    for seed in SEEDS:
        model = recurrent_classifier(
            kind, 32, in_features=8, seed=seed, **options
        ).double()
        x = normal(seed, 16, 1, 120, 8).double()
        by_lag = gradient_by_lag(lambda x, m=model: m(x.flatten(0, 1)).sum(), x)
        slope = np.polyfit(range(20, 100), by_lag.log().mean(0)[20:100], 1)[0]
        path = normal(seed + 100, 300, 8).double()
        exponents = lyapunov_exponents(
            step_jacobians(model.rnn, path), skip=100, generator=generator(seed)
        )
        gaps.append(slope - exponents.item())
    assert abs(float(np.mean(gaps))) < 0.04


# Ten draws of three seeds: both gates at most 0.8, a forget bias of 1 at least 2.0;
# guessing has log 8 = 2.08.
def test_both_gates_bridge_a_lag_that_a_forget_bias_of_1_does_not() -> None:
    lag, width = 60, 24
    models = []
    for bias in (math.log(lag), 1.0):
        for seed in range(3):
            model = recurrent_classifier(
                "lstm",
                width,
                in_features=9,
                out_features=8,
                forget_bias=bias,
                seed=seed,
            )
            if bias > 1:
                model.rnn.bias_ih_l0.data[:width] = -bias
                model.rnn.bias_hh_l0.data[:width] = 0
            models.append(model)
    net, draw = SideBySide(models), generator(0)
    optimizer, losses = torch.optim.Adam(net.parameters(), lr=0.01), []
    for _ in range(150):
        symbol = torch.randint(8, (16,), generator=draw)
        tokens = torch.full((16, lag + 1), 8)
        tokens[:, 0] = symbol
        answers = net(F.one_hot(tokens, 9).float()).permute(1, 2, 0)
        labels = symbol[:, None].expand(-1, len(models))
        loss = F.cross_entropy(answers, labels, reduction="none").mean(0)
        optimizer.zero_grad()
        loss.sum().backward()
        net.clip_(1.0)
        optimizer.step()
        losses.append(loss.detach())
    both, one = torch.stack(losses[-20:]).mean(0).view(2, 3)
    assert both.mean() < 1.2
    assert one.min() > 1.9


CLIPPERS = {
    "norm": partial(partial, clip_norm_, max_norm=1.0),
    "auto": AutoClip,
    "z": ZClip,
}


def worst_after_outliers(seed: int, clip: Clip | None) -> float:
    """Largest loss on good batches once some have labels 500 times too large."""
    outliers, weights = (80, 100, 120), normal(seed, 10, 1)
    pairs = []
    for step, x in enumerate(normal(seed + 100, 150, 64, 10)):
        pairs.append((x, (x @ weights).sin() * (500 if step in outliers else 1)))
    history: History = fit(
        deep_mlp(2, 64, in_features=10, out_features=1, activation="tanh", seed=seed),
        pairs,
        optimizer=partial(torch.optim.SGD, momentum=0.9),
        lr=0.05,
        loss_fn=F.mse_loss,
        clip=clip,
        diverged_above=math.inf,
    )
    losses = enumerate(history["loss"])
    return max(x for step, x in losses if step > 80 and step not in outliers)


# 20 seeds: clipped at most 0.84, not clipped at least 9,000.
@pytest.mark.parametrize("seed", SEEDS)
def test_clippers_survive_outlier_batches(seed: int) -> None:
    assert worst_after_outliers(seed, None) > 1000
    for make in CLIPPERS.values():
        assert worst_after_outliers(seed, make()) < 1


# 20 seeds: within 2 per cent.
@pytest.mark.parametrize(("lr", "steps"), [(0.1, 1500), (0.2, 750)])
@pytest.mark.parametrize("seed", SEEDS)
def test_sharpness_settles_at_its_limit(seed: int, lr: float, steps: int) -> None:
    x, y = normal(seed, 100, 10), normal(seed + 100, 100, 1).sign()
    model = deep_mlp(
        3, 32, in_features=10, out_features=1, activation="tanh", seed=seed
    )
    fit(model, [(x, y)], lr=lr, steps=steps, loss_fn=F.mse_loss)
    found = sharpness(lambda: F.mse_loss(model(x), y), model.parameters())
    assert found == pytest.approx(max_sharpness(lr), rel=0.03)


def test_catapult_up_to_twice_the_limit() -> None:
    """Lewkowycz et al.: f = v.u / sqrt(n), whose sharpness at zero loss is 2 here."""

    def start(model: nn.Module, generator: torch.Generator) -> None:
        weights = list(model.parameters())
        with torch.no_grad():
            for weight in weights:
                weight.normal_(generator=generator)
            norm = torch.stack([w.norm() for w in weights]).norm()
            for weight in weights:
                weight *= math.sqrt(2) / norm

    limit = max_learning_rate(2.0)
    shares = [0.25, 0.95, 1.05, 1.95, 2.1]
    runs = sweep(
        partial(
            deep_mlp,
            2,
            512,
            in_features=1,
            out_features=1,
            activation="identity",
            bias=False,
        ),
        [(torch.ones(1, 1), torch.zeros(1, 1))],
        lrs=[share * limit for share in shares],
        seeds=range(10),
        schemes={"start": start},
        steps=400,
        loss_fn=lambda f, y: F.mse_loss(f, y) / 2,
        diverged_above=1e8,
    )
    losses = runs.losses.view(len(shares), 10, -1)
    jump = losses.nan_to_num(0).amax(2) / losses[:, :, 0]
    assert (jump[:2] == 1).all()
    assert (jump[2] > 1.5).all()
    assert (losses[:4, :, -1] < 1e-4).all()
    assert runs.diverged.view(len(shares), 10).all(1).tolist() == [*[False] * 4, True]


# 20 seeds: linear decay ends 8 to 17 per cent lower, each at its best rate.
@pytest.mark.parametrize("seed", SEEDS)
def test_linear_decay_ends_below_a_constant_rate(seed: int) -> None:
    curvatures, steps = torch.logspace(-3, 0, 20), 400

    class Bowls(nn.Module):
        """A hundred noisy quadratics with curvatures from 0.001 to 1."""

        def __init__(self) -> None:
            super().__init__()
            self.x = nn.Parameter(torch.full((100, 20), 3.0))

        def forward(self, noise: Tensor) -> Tensor:
            return (curvatures * self.x**2 / 2 + noise * self.x).sum()

    noise = 0.5 * normal(seed, steps, 100, 20)

    def final_loss(lr: float, *, decay: bool) -> float:
        model = Bowls()
        fit(
            model,
            [(kick, torch.zeros(())) for kick in noise],
            lr=lr,
            loss_fn=lambda loss, _: loss,
            scheduler=partial(
                LinearLR,
                start_factor=1.0,
                end_factor=0.0 if decay else 1.0,
                total_iters=steps,
            ),
        )
        return float((curvatures * model.x.detach() ** 2).mean())

    constant = min(final_loss(lr, decay=False) for lr in (0.05, 0.1, 0.2))
    linear = min(final_loss(lr, decay=True) for lr in (0.1, 0.2, 0.5))
    assert linear < 0.97 * constant


# 15 seeds: He 0.1 to 0.9, Xavier 2.30; ln 10 = 2.303 is guessing.
def test_he_trains_thirty_layers_and_xavier_does_not() -> None:
    runs = sweep(
        partial(deep_mlp, 30, 100, in_features=32),
        batches(*clusters(0), 64, seed=0),
        lrs=[0.002],
        seeds=SEEDS,
        schemes={"he": "he", "xavier": scaled(1.0), "twice he": scaled(4.0)},
        steps=150,
        momentum=0.9,
    )
    he, xavier, twice = runs.final_losses.view(3, -1)
    assert (he < 1.8).all()
    assert (xavier > 2.28).all()
    assert twice.isinf().all()


# 20 seeds: the mean of clipped shards has 0.48 to 0.57 of the norm allowed.
@pytest.mark.parametrize("seed", SEEDS)
def test_clipping_shards_is_not_clipping_their_mean(seed: int) -> None:
    model = deep_mlp(3, 32, in_features=32, seed=seed)
    x, labels = clusters(seed)

    def gradient(x: Tensor, labels: Tensor, max_norm: float = math.inf) -> Tensor:
        model.zero_grad()
        F.cross_entropy(model(x), labels).backward()
        if max_norm < math.inf:
            clip_norm_(model.parameters(), max_norm)
        return torch.cat([p.grad.ravel() for p in model.parameters()])

    shards = list(zip(x[:64].split(8), labels[:64].split(8), strict=True))
    whole = gradient(x[:64], labels[:64])
    norm = total_norm(model.parameters()).item()
    averaged = torch.stack([gradient(*shard) for shard in shards]).mean(0)
    torch.testing.assert_close(averaged, whole)
    assert whole.norm() == pytest.approx(norm, rel=1e-5)
    clipped = torch.stack([gradient(*shard, norm / 2) for shard in shards]).mean(0)
    assert clipped.norm() < 0.95 * norm / 2


# 12 seeds: 7.6 to 8.2, the ratio of the two formats' steps being 8.
@pytest.mark.parametrize("seed", SEEDS)
def test_a_bfloat16_sampler_is_eight_times_as_far_as_a_float16_one(seed: int) -> None:
    model = small_transformer(depth=1, context=16, seed=seed)
    x, _ = repeat_task(1024, 16, seed=seed)
    draw, gap = generator(seed), {}
    with torch.no_grad():
        for dtype in (torch.float16, torch.bfloat16):
            given = copy.deepcopy(model).to(dtype)(x).float().log_softmax(-1)
            drawn = torch.multinomial(given.exp().flatten(0, 1), 1, generator=draw)
            tokens = drawn.view(*x.shape, 1)
            trained = model(x).log_softmax(-1).gather(-1, tokens)
            gap[dtype] = (trained - given.gather(-1, tokens)).std()
    assert 6.5 < gap[torch.bfloat16] / gap[torch.float16] < 9.5


def adam_floor(k: int, lr: float, betas: tuple[float, float], seed: int) -> float:
    """Excess loss of 32 regressions, batches of 4k, at the end of 8,192 examples."""
    draw, losses = generator(seed), []
    curvature = torch.logspace(-1, 0, 16)
    w = torch.ones(32, 16, requires_grad=True)
    optimizer = torch.optim.Adam([w], lr=lr, betas=betas, eps=0.0)
    for _ in range(8192 // (4 * k)):
        x = torch.randn(32, 4 * k, 16, generator=draw) * curvature.sqrt()
        noise = torch.randn(32, 4 * k, 1, generator=draw)
        errors = x @ w.detach()[..., None] + noise
        w.grad = (x.mT @ errors)[..., 0] / (4 * k)
        optimizer.step()
        losses.append((curvature * w.detach() ** 2).sum(1).mean().item() / 2)
    return float(np.mean(losses[-len(losses) // 4 :]))


# 12 seeds: 0.96 to 1.02 with the half-life kept, 0.51 to 0.60 with the same betas
# (memory of the way down), 4.3 to 4.5 with sixteen times the rate.
@pytest.mark.parametrize("seed", SEEDS)
def test_adam_ends_alike_at_sixteen_times_the_batch(seed: int) -> None:
    small = adam_floor(1, 0.01, (0.9, 0.99), seed)
    kept = 0.9**16, 0.99**16
    assert 0.9 < adam_floor(16, 0.04, kept, seed) / small < 1.1
    assert 0.4 < adam_floor(16, 0.04, (0.9, 0.99), seed) / small < 0.7
    assert adam_floor(16, 0.16, kept, seed) / small > 3.5


# 20 seeds: the Jacobian is 36 to 84 before and at most 4e-4 after.
@pytest.mark.parametrize("seed", SEEDS)
def test_spectral_norm_cures_by_vanishing(seed: int) -> None:
    model = deep_mlp(10, 128, in_features=128, out_features=128, bias=False)
    scaled(3.0)(model, generator=generator(seed))

    def stretch() -> tuple[float, float]:
        """Norm of the Jacobian, and its bound."""
        largest = jacobian_singular_values(model, normal(seed + 100, 1, 128), k=1)
        return largest.item(), jacobian_bound([w.weight for w in model.layers], "relu")

    norm, bound = stretch()
    assert 20 < norm < bound / 1000
    torch.manual_seed(seed)  # for where its power iterations start
    for layer in model.layers:
        parametrizations.spectral_norm(layer, n_power_iterations=30)
    norm, bound = stretch()
    assert bound == pytest.approx(1, abs=0.1)
    assert norm < 1e-3


def repeats_learned(
    share: float, cap: float | None, steps: int = 150
) -> tuple[Tensor, float]:
    """Last losses of five transformers at rate 0.1, and their largest logit."""
    models = [
        small_transformer(depth=1, context=16, logit_cap=cap, seed=seed)
        for seed in SEEDS
    ]
    optimizers = [
        torch.optim.AdamW(
            query_key_groups(model, 0.1, share), betas=(0.9, 0.98), weight_decay=0.0
        )
        for model in models
    ]
    drawn = [repeat_task(16 * steps, 16, seed=seed) for seed in SEEDS]
    x, y = (torch.stack(t).view(5, steps, 16, 16) for t in zip(*drawn, strict=True))
    ensemble, losses = Ensemble(models), []
    for t in range(steps):
        losses.append(ensemble.backward(token_loss, x[:, t], y[:, t]))
        for optimizer in optimizers:
            for group, rate in zip(
                optimizer.param_groups, (0.1, 0.1 * share), strict=True
            ):
                group["lr"] = rate * min(1, (t + 1) / 20)
            optimizer.step()
    logits = []
    for model, tokens in zip(models, x[:, -1], strict=True):
        model.record_logits = True
        model(tokens)
        logits.append(model.head_logits.max().item())
    return torch.stack(losses)[-20:].mean(0), min(logits)


# 12 seeds: losses 2.43 to 2.65 below a cap of 15, in the chapter 2.03 and more, of 90;
# guessing is log 16 = 2.77.
def test_a_soft_cap_bounds_logits_and_saves_no_run() -> None:
    losses, logit = repeats_learned(1.0, 15.0)
    assert 14 < logit <= 15
    assert (losses > 1.8).all()


# 12 seeds: losses 0.00 to 0.09, logits 53 to 89.
def test_slow_queries_and_keys_survive_large_logits() -> None:
    losses, logit = repeats_learned(0.1, None)
    assert logit > 30
    assert (losses < 0.3).all()


# Deterministic: above the limit all steps grow, below 0.9 of it up to 5 per cent.
@pytest.mark.parametrize("beta1", [0.0, 0.5, 0.9])
def test_adam_grows_where_curvature_passes_its_limit(beta1: float) -> None:
    lr, beta2 = 0.01, 0.99
    x, m, v, sizes, curvatures = 1.0, 0.0, 0.0, [], []
    for t in range(1, 5001):
        m += (1 - beta1) * (x - m)
        v += (1 - beta2) * (x * x - v)
        root = math.sqrt(v / (1 - beta2**t))
        x -= lr * m / (1 - beta1**t) / root
        sizes.append(abs(x))
        curvatures.append(1 / root)
    swings = torch.tensor(sizes, dtype=torch.float64).unfold(0, 30, 1).amax(-1)[100:]
    grows = swings[40:] > swings[:-40]
    limit = max_sharpness(lr, "adam", momentum=beta1)
    relative = (
        torch.tensor(curvatures, dtype=torch.float64)[135 : 135 + len(grows)] / limit
    )
    assert grows[relative > 1.1].float().mean() > 0.95
    assert grows[(relative > 0.3) & (relative < 0.9)].float().mean() < 0.15

"""Building models, giving them weights, and following signals through them."""

import torch
from hypothesis import strategies as st
from kinds import (
    ACTIVATION,
    FEATURES,
    FLAG,
    GENERATOR,
    INPUTS,
    KINDS_OF_NET,
    NAMED,
    NAN,
    NETWORK,
    NO_MODEL,
    SEED,
    SMALL_SEED,
    Entry,
    Kind,
    choice,
    count,
    entry,
    network,
    not_negative,
    positive,
    randn,
    refused,
)
from torch import Tensor, nn

from gradlib import initialization, models
from gradlib.initialization import audit

Drawn = dict[str, object]
OPTIONAL_SEED = Kind(st.integers(0, 2**40), SEED.or_none().bad)
SMALL = count(1, 6)
NORM = Kind(st.sampled_from([None, "batch", "layer"]), ("no such name", 7))
KIND = choice("rnn", "lstm", "gru")
HIDDEN = choice("orthogonal", "gaussian", "identity")
RADIUS = Kind(st.none() | st.floats(0, 2), not_negative().or_none().bad)


def residual_shape(
    branches: int, layers: int, residual: str | None
) -> dict[str, object]:
    """A depth that residual branches fill."""
    depth = 2 + branches * layers
    return {"depth": depth, "branch_layers": layers, "residual": residual}


SHAPE = st.builds(
    residual_shape,
    st.integers(1, 3),
    st.integers(1, 2),
    st.sampled_from([None, "plain", "scaled", "rezero"]),
)
NO_SHAPE = {
    "depth": refused(0, -3, 2.5, "4", None),
    "branch_layers": refused(0, -1, 1.5, "1", None),
    "residual": refused("no such name", 7),
}


def answered(model: nn.Module, *shape: int) -> Tensor:
    return model(torch.zeros(2, *shape))


def mlp(**arguments: object) -> None:
    answered(models.deep_mlp(**arguments), arguments["in_features"])


def cnn(**arguments: object) -> None:
    answered(models.small_cnn(**arguments), arguments["in_channels"], 8, 8)


def classifier(**arguments: object) -> None:
    answered(models.recurrent_classifier(**arguments), 3, arguments["in_features"])


def language_model(**arguments: object) -> None:
    model = models.recurrent_lm(**arguments)
    model(torch.zeros(2, 3, dtype=torch.int64))


def small_transformer(**arguments: object) -> None:
    model = models.small_transformer(**arguments)
    model(torch.zeros(2, 1, dtype=torch.int64))


def clipped(model: models.Transformer, threshold: float) -> None:
    if isinstance(model, models.Transformer):
        model.record_logits = True
        model(torch.zeros(2, 3, dtype=torch.int64))
    models.qk_clip_(model, threshold)


def stopped(weight: float, logits: Tensor) -> None:
    assert models.z_loss(logits, weight).item() >= 0


def cell(kind: str, bias: float | None, nonlinearity: str) -> dict[str, object]:
    """A kind with what only that kind has."""
    return {
        "kind": kind,
        "forget_bias": bias if kind == "lstm" else None,
        "nonlinearity": nonlinearity if kind == "rnn" else "tanh",
    }


RECURRENT = {
    "joint": st.builds(
        cell,
        KIND.good,
        st.none() | st.floats(-5, 5),
        st.sampled_from(["tanh", "relu"]),
    ),
    "kind": Kind(KIND.good, KIND.bad),
    "width": SMALL,
    "layers": count(1, 2),
    "nonlinearity": choice("tanh", "relu"),
    "spectral_radius": RADIUS,
    "hidden_scheme": HIDDEN,
    "forget_bias": refused("1", [1.0], NAN),
    "seed": OPTIONAL_SEED,
}
RNN = st.builds(
    lambda made, width: made(2, width),
    st.sampled_from([nn.RNN, nn.LSTM, nn.GRU]),
    st.integers(1, 4),
)
NO_LAYERS = (*NO_MODEL, nn.ReLU())
INITIALIZABLE = Kind(NETWORK, NO_LAYERS)
SCHEME = choice(*initialization.SCHEMES)


def normal(gain: float | None, std: float | None) -> dict[str, object]:
    return {"scheme": "normal", "gain": gain if std is None else None, "std": std}


FITTING = st.builds(
    lambda scheme, gain: {"scheme": scheme, "gain": gain, "std": None},
    SCHEME.good,
    st.none() | st.floats(1e-3, 1e3),
) | st.builds(
    normal, st.none() | st.floats(1e-3, 1e3), st.none() | st.floats(1e-3, 1e3)
)


def residual_net(branches: int, layers: int, seed: int) -> nn.Module:
    depth = 2 + branches * layers
    return models.deep_mlp(
        depth,
        4,
        in_features=FEATURES,
        residual="plain",
        branch_layers=layers,
        seed=seed,
    )


RESIDUAL_NET = st.builds(residual_net, st.integers(1, 3), st.integers(1, 2), SMALL_SEED)
# A net of one kind of activation, whose weights carry a signal.
LIVE_NET = st.builds(
    network, KINDS_OF_NET, SMALL_SEED, st.just(1.0), st.booleans(), st.just(False)
)


def seen(model: nn.Module, x: Tensor) -> None:
    with initialization.observed(model, lambda name, output: None):
        model(x)


def rerun(model: nn.Module, x: Tensor) -> None:
    with initialization.untouched(model):
        model.train()(x)
        model.eval()


TABLE: dict[str, Entry] = {
    "models.deep_mlp": entry(
        mlp,
        joint=SHAPE,
        **NO_SHAPE,
        width=SMALL,
        in_features=SMALL,
        out_features=SMALL,
        activation=ACTIVATION,
        norm=Kind(NORM.good | st.just("rms"), NORM.bad),
        bias=FLAG,
        seed=OPTIONAL_SEED,
    ),
    "models.small_cnn": entry(
        cnn,
        joint=SHAPE,
        **NO_SHAPE,
        channels=SMALL,
        in_channels=count(1, 3),
        out_features=SMALL,
        activation=ACTIVATION,
        norm=NORM,
        bias=FLAG,
        seed=OPTIONAL_SEED,
    ),
    "models.recurrent_classifier": entry(
        classifier, in_features=SMALL, out_features=SMALL, **RECURRENT
    ),
    "models.recurrent_lm": entry(language_model, vocab=SMALL, **RECURRENT),
    "models.initialize_hidden_": entry(
        models.initialize_hidden_,
        rnn=Kind(RNN, (*NO_MODEL, nn.LSTM(2, 4, proj_size=2))),
        spectral_radius=not_negative(),
        scheme=HIDDEN,
        generator=GENERATOR,
        changes=("weights", "random state"),
    ),
    "models.small_transformer": entry(
        small_transformer,
        joint=st.builds(
            lambda heads, size: {"heads": heads, "width": heads * size},
            st.integers(1, 3),
            st.integers(1, 3),
        ),
        heads=refused(0, -1, 1.5, "2", None, 100),
        width=refused(0, -1, 1.5, "2", None),
        vocab=SMALL,
        depth=count(1, 2),
        context=SMALL,
        norm_position=choice("pre", "post"),
        qk_norm=FLAG,
        qk_gain=FLAG,
        logit_cap=positive(1e-3, 1e3).or_none(),
        hidden=count(1, 6).or_none(),
        activation=ACTIVATION,
        causal=FLAG,
        seed=OPTIONAL_SEED,
    ),
    "models.qk_clip_": entry(
        clipped,
        model=Kind(
            st.builds(lambda seed: models.small_transformer(seed=seed), SMALL_SEED),
            (*NO_MODEL, nn.ReLU()),
        ),
        threshold=positive(),
        changes=("weights",),
        slow=3,
    ),
    "models.query_key_groups": entry(
        models.query_key_groups,
        model=Kind(
            st.builds(lambda seed: models.small_transformer(seed=seed), SMALL_SEED),
            (*NO_MODEL, nn.Linear(2, 2)),
        ),
        lr=positive(),
        share=positive(),
        slow=3,
    ),
    "models.z_loss": entry(
        stopped,
        logits=Kind(
            st.builds(lambda seed: randn([2, 3, 4], seed), SMALL_SEED),
            (7, None, torch.zeros(())),
        ),
        weight=positive(1e-6, 1e3),
    ),
    "models.vgg11": entry(
        models.vgg11,
        classes=SMALL,
        norm=FLAG,
        changes=("random state",),
        slow=300,
    ),
    "models.resnet18": entry(
        models.resnet18,
        classes=SMALL,
        zero_init=FLAG,
        changes=("random state",),
        slow=20,
    ),
    "models.token_loss": entry(
        models.token_loss,
        logits=Kind(
            st.builds(lambda seed: randn([2, 3, 4], seed), SMALL_SEED),
            (7, None, torch.zeros(3), torch.zeros(2, 5, 4)),
        ),
        tokens=Kind(
            st.builds(lambda token: torch.full((2, 3), token), st.integers(0, 3)),
            (7, None, torch.zeros(2, 5).long()),
        ),
    ),
    "initialization.initialize_": entry(
        initialization.initialize_,
        joint=FITTING,
        model=INITIALIZABLE,
        scheme=Kind(SCHEME.good, SCHEME.bad),
        activation=Kind(NAMED.good, ()),
        gain=refused(*positive().or_none().bad),
        std=refused(*positive().or_none().bad),
        bias_std=Kind(st.none() | st.floats(0, 10), not_negative().or_none().bad),
        generator=GENERATOR,
        changes=("weights", "random state"),
    ),
    "initialization.lsuv_": entry(
        initialization.lsuv_,
        model=Kind(LIVE_NET, NO_LAYERS),
        batch=Kind(
            st.builds(lambda seed: randn([8, FEATURES], seed), SMALL_SEED),
            (7, None, "x", torch.zeros(8, FEATURES), torch.full((8, FEATURES), NAN)),
        ),
        tolerance=positive(0.01, 1.0),
        max_steps=count(1, 4),
        generator=GENERATOR,
        changes=("weights", "random state"),
    ),
    "initialization.fixup_": entry(
        initialization.fixup_,
        model=Kind(
            RESIDUAL_NET,
            (*NO_LAYERS, models.deep_mlp(4, 4, residual="rezero", seed=0)),
        ),
        activation=NAMED,
        branches=Kind(st.none(), (7, [[]], [[nn.ReLU()]], [7], [])),
        generator=GENERATOR,
        changes=("weights", "random state"),
    ),
    "initialization.audit": entry(
        audit,
        model=Kind(LIVE_NET, NO_LAYERS),
        batch=Kind(st.none() | INPUTS.good, (7, "x", [1.0])),
        activation=Kind(st.none() | NAMED.good, ("rellu", 7, nn.ReLU)),
        tolerance=positive(),
        generator=Kind(GENERATOR.good),  # without a batch nothing is drawn
    ),
    "initialization.predicted_growth": entry(
        initialization.predicted_growth,
        model=INITIALIZABLE,
        activation=NAMED,
        renormalized=FLAG,
    ),
    "initialization.measured_growth": entry(
        initialization.measured_growth,
        model=Kind(LIVE_NET, NO_LAYERS),
        batch=Kind(INPUTS.good, INPUTS.bad),
        generator=GENERATOR,
    ),
}

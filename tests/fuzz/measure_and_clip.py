"""Measuring, clipping and penalizing: what works on parameters and gradients."""

import torch
from hypothesis import strategies as st
from kinds import (
    FINITE_GRADIENT,
    GENERATOR,
    INF,
    MATRIX,
    NAN,
    NETWORK,
    NO_MODEL,
    PAIR,
    PARAMETERS,
    SAME_PARAMETERS,
    SIZES,
    SMALL_SEED,
    TENSOR,
    Entry,
    Kind,
    below_one,
    choice,
    count,
    entry,
    parameter,
    positive,
    randn,
    refused,
)
from torch import Tensor, nn

from gradlib import clip, measure, regularization
from gradlib.errors import NonFiniteGradientError

BROKEN = (NonFiniteGradientError,)
IN_PLACE = ("gradients",)
TYPE_OF_NORM = Kind(st.sampled_from([0.5, 1.0, 2.0, 3, INF]), (0.0, -1.0, NAN, "2"))
TENSORS = st.lists(TENSOR.good, min_size=1, max_size=4)
GRADIENTS = st.lists(
    st.builds(randn, SIZES, SMALL_SEED, st.sampled_from([0.0, 1.0])),
    min_size=1,
    max_size=3,
)


def with_gradients(model: nn.Module) -> bool:
    return any(p.grad is not None for p in model.parameters())


def moved(model: nn.Module, size: float) -> dict[str, object]:
    """A model and a snapshot from before an update of a given size."""
    before = {name: p.detach() - size for name, p in model.named_parameters()}
    return {"model": model, "before": before}


def autoclip(parameters: object, calls: int, **settings: object) -> None:
    clipper = clip.AutoClip(**settings)
    for _ in range(calls):
        clipper(parameters)


def zclip(parameters: object, calls: int, **settings: object) -> None:
    clipper = clip.ZClip(**settings)
    for _ in range(calls):
        clipper(parameters)


FINITE = st.lists(
    st.builds(parameter, SIZES, SMALL_SEED, FINITE_GRADIENT, st.just(torch.float32)),
    min_size=1,
    max_size=3,
)


def step_of(
    model: nn.Module, batch: tuple[Tensor, Tensor], ends: bool
) -> dict[str, object]:
    def run() -> Tensor:
        loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
        if ends:
            loss.backward()
        return loss

    return {"model": model, "run": run}


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> dict[str, object]:
    model = model.eval()
    return {
        "loss_fn": lambda: nn.functional.cross_entropy(model(batch[0]), batch[1]),
        "parameters": list(model.parameters()),
    }


FUNCTIONS = [torch.sin, torch.sum, lambda x: x.flatten()[:1] ** 2, torch.zeros_like]
FLOATS = st.builds(randn, SIZES, SMALL_SEED, st.sampled_from([0.0, 1.0]))


def recurrent(
    steps: int, width: int, seed: int, nonlinearity: str, last: bool
) -> dict[str, object]:
    rnn = nn.RNN(2, width, nonlinearity=nonlinearity, batch_first=True)
    hidden = rnn(randn([3, steps, 2], seed))[0]
    loss = (hidden[:, -1] if last else hidden).square().sum()
    return {"loss": loss, "hidden": hidden, "rnn": rnn}


PENALIZED = Kind(
    st.lists(MATRIX, min_size=1, max_size=3), ([], 7, None, nn.Linear(1, 1), ["w"])
)
MATRICES = Kind(PENALIZED.good, (*PENALIZED.bad, [torch.ones(3)]))


def recurrence(cell: type[nn.RNNBase], width: int, steps: int) -> dict[str, object]:
    """A recurrent layer, a sequence and a first state."""
    size = 2 * width if cell is nn.LSTM else width
    return {
        "rnn": cell(2, width),
        "x": torch.ones(steps, 2),
        "state": torch.zeros(size),
    }


def stepped(model: nn.Module, steps: int) -> dict[str, object]:
    """A model with gradients, and an Adam that has made steps with them."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0)
    for _ in range(steps):
        optimizer.step()
    return {"model": model, "optimizer": optimizer}


NO_ADAM = (7, None, torch.optim.SGD([torch.ones(1)], lr=0.1), nn.Linear(1, 1))
LAYERS = (7, [], [7], "no such layer", ["no such layer"])


def attention(width: int, heads: int, seed: int) -> dict[str, object]:
    """A layer of attention, and a batch for it."""
    layer = nn.MultiheadAttention(width * heads, heads, batch_first=True)
    x = randn([2, 3, width * heads], seed)
    return {"model": layer, "batch": (x, x, x)}


def logits(shape: list[int], seed: int) -> dict[str, object]:
    """Attention logits of one layer at two moments."""
    return {name: {"0": randn(shape, seed + k)} for k, name in enumerate(MOMENTS)}


MOMENTS = ("before", "after")
NO_LOGITS = (7, None, {}, {"1": torch.ones(1, 1, 1, 1)}, {"0": torch.ones(9, 9, 9, 9)})

TABLE: dict[str, Entry] = {
    "measure.attention_logits": entry(
        measure.attention_logits,
        joint=st.builds(attention, st.integers(1, 3), st.integers(1, 3), SMALL_SEED),
        layers=Kind(st.none() | st.just([""]), LAYERS),
        heads=count(1, 3).or_none(),
        model=refused(*NO_MODEL),
        changes=("random state",),
    ),
    "measure.attention_changes": entry(
        measure.attention_changes,
        joint=st.builds(
            logits,
            st.lists(st.integers(1, 3), min_size=4, max_size=4),
            SMALL_SEED,
        ),
        before=refused(*NO_LOGITS, {"0": 7}),
        after=refused(*NO_LOGITS, {"0": 7}),
    ),
    "clip.clip_value_": entry(
        clip.clip_value_,
        parameters=PARAMETERS,
        clip_value=positive(),
        nonfinite=choice("raise", "pass"),
        errors=BROKEN,
        changes=IN_PLACE,
    ),
    "clip.clip_norm_": entry(
        clip.clip_norm_,
        parameters=PARAMETERS,
        max_norm=positive(),
        norm_type=TYPE_OF_NORM,
        nonfinite=choice("raise", "pass"),
        errors=BROKEN,
        changes=IN_PLACE,
    ),
    "clip.clip_each_norm_": entry(
        clip.clip_each_norm_,
        parameters=PARAMETERS,
        max_norm=positive(),
        nonfinite=choice("raise", "pass"),
        errors=BROKEN,
        changes=IN_PLACE,
    ),
    "clip.normalize_": entry(
        clip.normalize_,
        parameters=PARAMETERS,
        norm=positive(),
        nonfinite=choice("raise", "pass"),
        errors=BROKEN,
        changes=IN_PLACE,
    ),
    "clip.clip_adaptive_": entry(
        clip.clip_adaptive_,
        parameters=PARAMETERS,
        clipping=positive(),
        eps=positive(),
        nonfinite=choice("raise", "pass"),
        errors=BROKEN,
        changes=IN_PLACE,
    ),
    "clip.AutoClip": entry(
        autoclip,
        parameters=SAME_PARAMETERS,
        calls=Kind(st.integers(1, 4)),
        percentile=Kind(st.floats(0, 100), (-1.0, 101.0, NAN, INF, "1", None)),
        window=count(1, 3),
        nonfinite=choice("raise", "pass"),
        errors=BROKEN,
        changes=IN_PLACE,
    ),
    "clip.ZClip": entry(
        zclip,
        parameters=SAME_PARAMETERS,
        calls=Kind(st.integers(1, 4)),
        z_threshold=positive(),
        decay=Kind(st.floats(0.01, 0.999), (0.0, *below_one().bad)),
        warmup=count(1, 3),
        max_norm=positive().or_none(),
        nonfinite=choice("raise", "pass"),
        errors=BROKEN,
        changes=IN_PLACE,
    ),
    "measure.total_norm": entry(
        measure.total_norm, parameters=PARAMETERS, norm_type=TYPE_OF_NORM
    ),
    "measure.checked_gradients": entry(
        measure.checked_gradients,
        parameters=PARAMETERS,
        norm_type=TYPE_OF_NORM,
        errors=BROKEN,
    ),
    "measure.gradient_by_lag": entry(
        measure.gradient_by_lag,
        function=Kind(
            st.sampled_from([torch.sum, lambda x: x.sin().mean()]),
            (torch.exp, lambda x: 1.0, lambda x: torch.ones(()), 7, "sum", None),
        ),
        x=Kind(
            st.builds(
                randn, st.lists(st.integers(1, 4), min_size=3, max_size=4), SMALL_SEED
            ),
            (torch.ones(2, 3), torch.ones(1, 2, 3).long(), [1.0], 7, None),
        ),
    ),
    "measure.step_jacobians": entry(
        measure.step_jacobians,
        joint=st.builds(
            recurrence,
            st.sampled_from([nn.RNN, nn.LSTM, nn.GRU]),
            st.integers(1, 4),
            st.integers(1, 4),
        ),
        rnn=refused(*NO_MODEL, nn.ReLU(), nn.GRU(2, 3, num_layers=2)),
        x=refused(torch.ones(3), torch.ones(1, 9), [1.0], 7, None),
        state=refused(torch.ones(17), torch.ones(2, 2), [1.0], 7),
    ),
    "measure.gradient_norms": entry(
        measure.gradient_norms,
        model=Kind(
            NETWORK.filter(with_gradients), (*NO_MODEL, nn.Linear(2, 1), nn.ReLU())
        ),
    ),
    "measure.parameter_norms": entry(
        measure.parameter_norms, model=Kind(NETWORK, (*NO_MODEL, nn.ReLU()))
    ),
    "measure.snapshot": entry(
        measure.snapshot, model=Kind(NETWORK, (*NO_MODEL, nn.ReLU()))
    ),
    "measure.update_norms": entry(
        measure.update_norms,
        joint=st.builds(moved, NETWORK, st.sampled_from([0.0, 1e-9, 1.0, 1e30])),
        model=refused(*NO_MODEL),
        before=refused(7, None, [], {}, {"no such layer": torch.ones(2)}),
    ),
    "measure.update_ratios": entry(
        measure.update_ratios,
        joint=st.builds(moved, NETWORK, st.sampled_from([0.0, 1e-9, 1.0, 1e30])),
        model=refused(*NO_MODEL),
        before=refused(7, None, [], {}, {"no such layer": torch.ones(2)}),
    ),
    "measure.update_rms": entry(
        measure.update_rms,
        joint=st.builds(stepped, NETWORK.filter(with_gradients), st.integers(0, 2)),
        model=refused(*NO_MODEL, nn.Linear(2, 1)),
        optimizer=refused(*NO_ADAM),
    ),
    "measure.gradient_angle": entry(
        measure.gradient_angle,
        joint=st.builds(
            lambda parts, seed: {
                "a": [part + 1e-3 for part in parts],
                "b": [randn(list(part.shape), seed) for part in parts],
            },
            GRADIENTS,
            SMALL_SEED,
        ),
        a=refused([], 7, None, "ab", torch.zeros(3), torch.tensor([NAN]), ["x"]),
        b=refused([], 7, None, "ab", torch.zeros(3), torch.tensor([INF]), ["x"]),
    ),
    "measure.first_nonfinite": entry(
        measure.first_nonfinite,
        joint=st.builds(step_of, NETWORK, PAIR, st.booleans()),
        model=refused(*NO_MODEL),
        run=refused(7, None, lambda: 7, lambda: torch.ones(2)),
    ),
    "measure.jacobian_singular_values": entry(
        measure.jacobian_singular_values,
        function=Kind(st.sampled_from(FUNCTIONS), (lambda x: 1.0, 7, None)),
        x=Kind(FLOATS, (7, None, torch.arange(3), "x")),
        k=Kind(st.none() | st.just(1), (0, -1, 1.5, "1", 10**6)),
        generator=GENERATOR,
    ),
    "measure.sharpness": entry(
        measure.sharpness,
        joint=st.builds(loss_of, NETWORK, PAIR),
        loss_fn=refused(
            7, None, lambda: 7.0, lambda: torch.ones(2), lambda: torch.tensor(NAN)
        ),
        parameters=refused([], 7, None, ["w"], nn.Linear(1, 1)),
        iterations=count(1, 4),
        tolerance=positive(),
        generator=GENERATOR,
    ),
    "regularization.l1_penalty": entry(regularization.l1_penalty, parameters=PENALIZED),
    "regularization.l2_penalty": entry(regularization.l2_penalty, parameters=PENALIZED),
    "regularization.spectral_penalty": entry(
        regularization.spectral_penalty, parameters=MATRICES
    ),
    "regularization.orthogonality_penalty": entry(
        regularization.orthogonality_penalty, parameters=MATRICES, gain=positive()
    ),
    "regularization.recurrent_penalty": entry(
        regularization.recurrent_penalty,
        joint=st.builds(
            recurrent,
            st.integers(1, 4),
            st.integers(1, 3),
            SMALL_SEED,
            st.sampled_from(["tanh", "relu"]),
            st.booleans(),
        ),
        loss=refused(7, None, torch.tensor(1.0), torch.ones(2)),
        hidden=refused(7, None, torch.ones(2, 9)),
        rnn=refused(7, None, nn.LSTM(1, 2), nn.Linear(1, 1), nn.RNN(1, 2, 2)),
        changes=("random state",),
    ),
}

"""Models side by side behave as each alone."""

import pytest
import torch
from draws import generator
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from gradlib.models import Recurrent, SideBySide, recurrent_classifier, recurrent_lm


def three(kind: str, **options: str) -> list[Recurrent]:
    return [
        recurrent_classifier(kind, 6, in_features=3, out_features=2, seed=s, **options)
        for s in range(3)
    ]


def batch(seed: int) -> tuple[Tensor, Tensor]:
    draw = generator(seed)
    x = torch.randn(5, 7, 3, generator=draw)
    return x, torch.randn(5, 2, generator=draw)


CELLS = [("rnn", "tanh"), ("rnn", "relu"), ("lstm", "tanh"), ("gru", "tanh")]


@pytest.mark.parametrize(("kind", "nonlinearity"), CELLS)
def test_trains_as_each_alone(kind: str, nonlinearity: str) -> None:
    models = three(kind, nonlinearity=nonlinearity)
    together = SideBySide(models)
    joint = torch.optim.Adam(together.parameters(), lr=0.01)
    own = [torch.optim.Adam(m.parameters(), lr=0.01) for m in models]
    for step in range(4):
        x, y = batch(step)
        joint.zero_grad()
        (together(x) - y).square().mean((1, 2)).sum().backward()
        norms = together.clip_(0.1)
        joint.step()
        for k, (model, optimizer) in enumerate(zip(models, own, strict=True)):
            optimizer.zero_grad()
            mse_loss(model(x), y).backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            torch.testing.assert_close(norms[k], norm, rtol=1e-4, atol=1e-6)
            optimizer.step()
    x, _ = batch(9)
    alone = torch.stack([m(x) for m in models])
    torch.testing.assert_close(together(x), alone, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_each_model_may_have_its_own_inputs(kind: str) -> None:
    models = three(kind)
    x = torch.randn(3, 5, 7, 3, generator=generator(0))
    expected = torch.stack([m(each) for m, each in zip(models, x, strict=True)])
    torch.testing.assert_close(SideBySide(models)(x), expected)


def test_models_are_copied() -> None:
    models = three("gru")
    together = SideBySide(models)
    nn.init.zeros_(together.weight_hh)
    assert all(m.rnn.weight_hh_l0.any() for m in models)


def test_thresholds_may_differ_and_nan_stays_where_it_is() -> None:
    together = SideBySide(three("rnn"))
    x, y = batch(0)
    (together(x) - y).square().sum().backward()
    together.weight_hh.grad[0] = float("nan")
    norms = together.clip_(torch.tensor([1.0, 1e-3, 1e9]))
    assert norms.isnan().tolist() == [True, False, False]
    after = torch.stack([p.grad.flatten(1).norm(dim=1) for p in together.parameters()])
    after = after.norm(dim=0)
    torch.testing.assert_close(
        after[1:], torch.stack([norms.new_tensor(1e-3), norms[2]])
    )


@pytest.mark.parametrize(("kind", "calls"), [("rnn", 1), ("lstm", 2), ("gru", 1)])
def test_each_state_sees_and_cuts_every_state(kind: str, calls: int) -> None:
    together, seen = SideBySide(three(kind)), []

    def cut(step: int, state: Tensor) -> Tensor:
        seen.append(step)
        return state.detach() if step == 3 else state

    x = batch(0)[0].requires_grad_()
    together(x, cut).sum().backward()
    assert seen == [step for step in range(7) for _ in range(calls)]
    assert x.grad is not None
    assert not x.grad[:, :4].any()
    assert x.grad[:, 4:].all()


@pytest.mark.parametrize(
    ("models", "error", "message"),
    [
        ([], ValueError, "models: .*got none"),
        ([nn.Linear(2, 2)], TypeError, "models: expected Recurrent, got Linear"),
        ([recurrent_lm("gru")], ValueError, "models: .*embedding=True"),
        ([recurrent_classifier(layers=2)], ValueError, "models: .*layers=2"),
        (
            [recurrent_classifier("rnn"), recurrent_classifier("gru")],
            ValueError,
            "models: expected one kind and shape, got 2",
        ),
    ],
)
def test_messages(
    models: list[nn.Module], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        SideBySide(models)

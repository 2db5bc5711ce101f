"""Recurrent classifiers of one shape, trained side by side in one pass."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from gradlib.checks import check_list, check_type
from gradlib.models.recurrent import Recurrent

EachState = Callable[[int, Tensor], Tensor]


class SideBySide(nn.Module):
    """Recurrent classifiers whose weights are stacked, so that one loop serves all.

    Each behaves as alone: an optimizer that works entry by entry, such as SGD or Adam,
    takes the same steps as with separate models, if the loss is the sum of their losses
    and clipping is `clip_`. A model that becomes NaN leaves the others alone. For other
    models there is `gradlib.sweep.Ensemble`; but vmap, on which it stands, runs torch's
    LSTM one model at a time on a CPU, and lets nobody look at a state between steps.

    Args:
        models: Results of `recurrent_classifier`, of one kind and shape, with one
            layer. They are copied.

    Attributes:
        weight_ih: Input weights, shape (models, features, gates * width); transposed
            as compared with torch.
        weight_hh: Hidden-to-hidden weights, shape (models, width, gates * width).
        bias_ih: The first bias, shape (models, 1, gates * width).
        bias_hh: The second one.
        head_weight: Shape (models, width, out_features).
        head_bias: Shape (models, 1, out_features).

    Raises:
        TypeError: one is not a `Recurrent`.
        ValueError: there is none, one reads tokens, answers each step or has several
            layers, or they differ in kind or shape.

    Example:
        >>> from gradlib.models import recurrent_classifier
        >>> models = [recurrent_classifier("gru", width=8, seed=s) for s in range(3)]
        >>> SideBySide(models)(torch.zeros(5, 20, 2)).shape
        torch.Size([3, 5, 1])
    """

    def __init__(self, models: Iterable[Recurrent]) -> None:
        super().__init__()
        given = check_list(models, "models")
        if not given:
            raise ValueError("models: expected one or more, got none")
        for model in given:
            check_type(Recurrent, models=model)
            _check_plain(model)
        self.kind = given[0].rnn.mode
        shapes = {
            (m.rnn.mode, *(tuple(p.shape) for p in m.parameters())) for m in given
        }
        if len(shapes) > 1:
            raise ValueError(
                f"models: expected one kind and shape, got {len(shapes)} different ones"
            )

        def stacked(values: list[Tensor]) -> nn.Parameter:
            return nn.Parameter(torch.stack([v.detach().clone() for v in values]))

        rnns, heads = [m.rnn for m in given], [m.head for m in given]
        self.weight_ih = stacked([r.weight_ih_l0.T for r in rnns])
        self.weight_hh = stacked([r.weight_hh_l0.T for r in rnns])
        self.bias_ih = stacked([r.bias_ih_l0[None] for r in rnns])
        self.bias_hh = stacked([r.bias_hh_l0[None] for r in rnns])
        self.head_weight = stacked([h.weight.T for h in heads])
        self.head_bias = stacked([h.bias[None] for h in heads])

    def forward(self, x: Tensor, each_state: EachState | None = None) -> Tensor:
        """Answers after the last step.

        Args:
            x: Inputs for all models, shape (batch, steps, features), or for each its
                own, shape (models, batch, steps, features).
            each_state: Called with the step and a new state, shape (models, batch,
                width), twice a step for an LSTM (c, then h); its result takes the
                state's place. ``state.detach()`` truncates, a hook on it sees the
                gradient through time.

        Returns:
            Shape (models, batch, out_features).
        """
        x = x if x.ndim == 4 else x[None]
        weighted = torch.matmul(x.movedim(2, 0), self.weight_ih) + self.bias_ih
        size = (*weighted.shape[1:-1], self.weight_hh.shape[1])
        state = [weighted.new_zeros(size) for _ in range(1 + (self.kind == "LSTM"))]
        for step, inputs in enumerate(weighted.unbind(0)):
            state = self._step(inputs, state)
            if each_state is not None:
                state = [each_state(step, s) for s in state]
        answer: Tensor = torch.baddbmm(self.head_bias, state[-1], self.head_weight)
        return answer

    @torch.no_grad()
    def clip_(self, max_norm: float | Tensor) -> Tensor:
        """Clip the gradient of each model by its own norm.

        g <- g * min(1, max_norm / ||g||), in place, model by model.

        Args:
            max_norm: Largest norm allowed, one for all or of shape (models,).

        Returns:
            Norms before clipping, shape (models,).
        """
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        parts = [g.flatten(1).norm(dim=1) for g in gradients]
        norms: Tensor = torch.stack(parts).norm(dim=0)
        factors = (max_norm / norms).clamp(max=1.0)
        for gradient in gradients:
            gradient *= factors[:, None, None]
        return norms

    def _step(self, inputs: Tensor, state: list[Tensor]) -> list[Tensor]:
        """The next state, (c, h) of an LSTM, else h."""
        h = state[-1]
        if self.kind == "GRU":
            r, z, n = torch.baddbmm(self.bias_hh, h, self.weight_hh).chunk(3, dim=-1)
            r_in, z_in, n_in = inputs.chunk(3, dim=-1)
            new = (n_in + (r + r_in).sigmoid() * n).tanh()
            return [new + (z + z_in).sigmoid() * (h - new)]
        gates = torch.baddbmm(inputs + self.bias_hh, h, self.weight_hh)
        if self.kind == "LSTM":
            i, f, g, o = gates.chunk(4, dim=-1)
            c = f.sigmoid() * state[0] + i.sigmoid() * g.tanh()
            return [c, o.sigmoid() * c.tanh()]
        return [gates.relu() if self.kind == "RNN_RELU" else gates.tanh()]


def _check_plain(model: Recurrent) -> None:
    if model.embedding is not None or model.every_step or model.rnn.num_layers != 1:
        raise ValueError(
            "models: expected classifiers of vectors with one layer, got one with "
            f"embedding={model.embedding is not None}, every_step={model.every_step}, "
            f"layers={model.rnn.num_layers}. Train such models one by one."
        )

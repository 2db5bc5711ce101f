"""Many models in one: weights stacked, one step for all of them."""

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from gradlib.checks import check_type
from gradlib.clip import Clip
from gradlib.sweep.result import Run
from gradlib.training.loop import LossFunction, check_attached, loss_of

State = dict[str, Tensor]


class StackedRuns:
    """The runs that go on, their weights stacked along the first axis.

    Attributes:
        index: The position of each among the runs of the sweep.
        limits: The largest sane loss of each.
    """

    def __init__(
        self,
        models: dict[tuple[str, int], nn.Module],
        runs: Sequence[Run],
        momentum: float,
        clip: Clip | None,
    ) -> None:
        """Give each run a copy of the weights of its scheme and seed."""
        self.model = next(iter(models.values()))
        weights, buffers = stack_module_state(list(models.values()))
        place = {start: k for k, start in enumerate(models)}
        copies = torch.tensor([place[m.scheme, m.seed] for m in runs])
        self.weights = {name: _taken(w, copies) for name, w in weights.items()}
        self.buffers = {name: _taken(b, copies) for name, b in buffers.items()}
        self.velocities = [torch.zeros_like(w) for w in self.trained]
        like = self.trained[0]
        self.rates = torch.tensor([m.lr for m in runs], dtype=torch.float64).to(like)
        self.limits = torch.full_like(self.rates, math.inf)
        self.index = torch.arange(len(runs))
        self.momentum = momentum
        self.max_norm = math.inf if clip is None or callable(clip) else float(clip)
        self.clippers = [copy.deepcopy(clip) for _ in runs] if callable(clip) else []

    @property
    def trained(self) -> list[Tensor]:
        return [w for w in self.weights.values() if w.requires_grad]

    def measure(
        self, x: Tensor, y: Tensor, loss_fn: LossFunction
    ) -> tuple[Tensor, Tensor]:
        """Loss and gradient norm of each run."""
        check_type(Tensor, inputs=x, targets=y)
        x, y = x.to(self.rates.device), y.to(self.rates.device)

        def one(weights: State, buffers: State) -> Tensor:
            def model(x: Tensor) -> object:
                return functional_call(self.model, (weights, buffers), (x,))

            return loss_of(model, loss_fn, x, y)

        try:
            losses = vmap(one, randomness="different")(self.weights, self.buffers)
        except RuntimeError as error:
            if "vmap" not in str(error) and "Batching rule" not in str(error):
                raise
            raise NotImplementedError(
                f"model: torch.func.vmap cannot run {type(self.model).__name__} "
                f"({error}). Train such models one by one, with gradlib.fit."
            ) from error
        check_attached(losses)
        self.gradients = torch.autograd.grad(
            losses.sum(), self.trained, allow_unused=True, materialize_grads=True
        )
        parts = [_norms(g) for g in self.gradients]
        self.norms = torch.linalg.vector_norm(torch.stack(parts), dim=0)
        return losses.detach(), self.norms

    def keep(self, wanted: Tensor) -> None:
        """Leave out the runs that are not wanted."""
        self.weights = {name: _taken(w, wanted) for name, w in self.weights.items()}
        self.buffers = {name: _taken(b, wanted) for name, b in self.buffers.items()}
        self.velocities = [v[wanted] for v in self.velocities]
        self.gradients = tuple(g[wanted] for g in self.gradients)
        self.norms, self.rates = self.norms[wanted], self.rates[wanted]
        self.limits, self.index = self.limits[wanted], self.index[wanted]

    @torch.no_grad()
    def step(self) -> None:
        """Clip, with the factor of torch's own clipping, then one step of SGD."""
        self._lay_out()
        if self.clippers:
            self._clip_one_by_one()
        shrink = (self.max_norm / (self.norms + 1e-6)).clamp(max=1.0)
        for w, v, g in zip(self.trained, self.velocities, self.gradients, strict=True):
            if self.momentum:
                v.mul_(self.momentum).addcmul_(g, _beside(shrink, g))
                w.addcmul_(v, _beside(self.rates, w), value=-1.0)
            else:
                w.addcmul_(g, _beside(shrink * self.rates, w), value=-1.0)

    def _clip_one_by_one(self) -> None:
        """Hand the gradients of each run to its own clipper."""
        for place, run in enumerate(self.index.tolist()):
            parameters = [nn.Parameter(w[place]) for w in self.trained]
            for p, g in zip(parameters, self.gradients, strict=True):
                p.grad = g[place]
            self.clippers[run](parameters)
            for p, g in zip(parameters, self.gradients, strict=True):
                g[place] = 0.0 if p.grad is None else p.grad

    def _lay_out(self) -> None:
        """Order weights in memory as their gradients, which makes steps faster."""
        for w, v, g in zip(self.trained, self.velocities, self.gradients, strict=True):
            if w.stride() != g.stride():
                w.data = torch.empty_like(g).copy_(w)
                v.data = torch.empty_like(g).copy_(v)


def _norms(stacked: Tensor) -> Tensor:
    """The norm of each run, without a copy of a tensor that lies transposed."""
    rows = stacked.unsqueeze(-1)
    norms: Tensor = torch.linalg.vector_norm(rows, dim=tuple(range(1, rows.dim())))
    return norms


def _taken(stacked: Tensor, runs: Tensor) -> Tensor:
    return stacked.detach()[runs].requires_grad_(stacked.requires_grad)


def _beside(numbers: Tensor, stacked: Tensor) -> Tensor:
    """One number a run, in a shape that multiplies stacked tensors."""
    return numbers.view(-1, *[1] * (stacked.dim() - 1))

"""The fixes of the causes, done to a training as their lines say.

A cure takes a training (what ``diagnose`` takes, as a dictionary) and the finding on
it, and returns the training to run instead. It knows nothing else: no case, no cured
form. None of it is shared with the runs by which the rules find a cause.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.data import DataLoader, TensorDataset

from gradlib.diagnosis import Finding

Case = dict[str, Any]
Cure = Callable[[Case, Finding], Case]

NORMED = (nn.Linear, nn.Conv2d)
SMALL = 1e-6

# A program cannot change these from outside: the reason why. Their cases' cured forms
# are what the fix asks for; `test_clinic.py` sees them healthy.
BY_HAND = {
    "zero_advantage": "other prompts, more answers or another reward are needed",
    "labels_masked": "the labels that were overwritten are no longer in the batches",
    "objective_out_of_reach": "the target that can be reached is the owner's wish",
    "resume_state_lost": "what was lost lies in the owner's checkpoint",
}
# Read from logs only, so there is no training to cure.
ONLY_IN_LOGS = {
    "hardware_half_precision_bug",
    "software_version_bug",
}


class Instead(TorchFunctionMode):
    """Call other functions in place of those of torch with these names."""

    def __init__(self, **others: Callable[..., Any]) -> None:
        super().__init__()
        self.others = others

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        other = self.others.get(getattr(func, "__name__", ""), func)
        return other(*args, **(kwargs or {}))


def inside(case: Case, context: Callable[[], Any]) -> Case:
    """Run the model, the loss and the update of a training inside a context."""

    def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            with context():
                return function(*args, **kwargs)

        return call

    case["model"].forward = wrapped(case["model"].forward)
    ways = {name: wrapped(case[name]) for name in ("loss", "step") if name in case}
    if "loss_fn" in case:
        ways["loss_fn"] = wrapped(case["loss_fn"])
    return {**case, **ways}


def before_each(case: Case, prepare: Callable[[], Any]) -> Case:
    """Call something before every update of ``step``."""
    step = case["step"]

    def prepared(batch: Any) -> Any:
        prepare()
        return step(batch)

    return {**case, "step": prepared}


def new_optimizer(case: Case) -> Case:
    """An optimizer of the same kind on all parameters, with its default settings."""
    old = case["optimizer"]
    rate = max(group["lr"] for group in old.param_groups)
    return {**case, "optimizer": type(old)(case["model"].parameters(), lr=rate)}


def replace_modules(
    model: nn.Module, change: Callable[[nn.Module], nn.Module | None]
) -> None:
    """Put other modules where ``change`` gives one."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            new = change(child)
            if new is not None:
                setattr(parent, name, new)


def with_batches(case: Case, change: Callable[[Any], Any]) -> Case:
    """Change every batch."""
    return {**case, "batches": [change(batch) for batch in case["batches"]]}


def named_parameters(case: Case, finding: Finding) -> list[tuple[str, nn.Parameter]]:
    """The parameters in the layer that a finding names, or the one it names."""
    layer = "" if finding.layer == "(root)" else finding.layer
    return [
        (name, p)
        for name, p in case["model"].named_parameters()
        if not layer or name == layer or name.startswith(f"{layer}.")
    ]


def smaller_rate(case: Case, finding: Finding) -> Case:
    """Set lr=... instead of ..."""
    found = re.search(r"lr=(\S+) instead of (\S+?);", finding.fix)
    assert found is not None, finding.fix
    for group in case["optimizer"].param_groups:
        group["lr"] *= float(found[1]) / float(found[2])
    return case


def initialized(case: Case, finding: Finding) -> Case:
    """The named layer and all of its kind: xavier, or He where ReLU follows."""
    modules = dict(case["model"].named_modules())
    he = any(isinstance(m, nn.ReLU) for m in modules.values())
    for module in modules.values():
        if not isinstance(module, type(modules[finding.layer])):
            continue
        for p in module.parameters(recurse=False):
            if p.ndim > 1 and he:
                nn.init.kaiming_normal_(p, nonlinearity="relu")
            elif p.ndim > 1:
                nn.init.xavier_normal_(p)
    return case


def smaller_before(case: Case, finding: Finding) -> Case:
    """Smaller weights and biases before the activation."""
    for _, p in named_parameters(case, finding):
        if p.ndim > 1:
            nn.init.xavier_normal_(p)
        else:
            nn.init.zeros_(p)
    return case


def rectified(case: Case, finding: Finding) -> Case:
    """He initialization, with nn.ReLU() between layers where the fix says so."""
    flat = (nn.Sigmoid, nn.Tanh)
    if "nn.ReLU()" in finding.fix:
        replace_modules(
            case["model"], lambda m: nn.ReLU() if isinstance(m, flat) else None
        )
    for p in case["model"].parameters():
        if p.ndim > 1:
            nn.init.kaiming_normal_(p, nonlinearity="relu")
    return case


def revived(case: Case, finding: Finding) -> Case:
    """nn.Softplus() at the output; inside nn.LeakyReLU(0.1), zero biases, He."""
    model = case["model"]
    relus = [m for m in model.modules() if isinstance(m, nn.ReLU)]
    layers = [name for name, m in model.named_modules() if hasattr(m, "weight")]
    if finding.layer == layers[-1]:
        replace_modules(model, lambda m: nn.Softplus() if m is relus[-1] else None)
        return case
    replace_modules(model, lambda m: nn.LeakyReLU(0.1) if m in relus else None)
    for _, p in named_parameters(case, finding):
        if p.ndim > 1:
            nn.init.kaiming_normal_(p, nonlinearity="relu")
        else:
            nn.init.zeros_(p)
    return case


def bounded_recurrence(case: Case, _finding: Finding) -> Case:
    """Use tanh in place of ReLU."""
    return inside(case, lambda: Instead(relu=torch.tanh))


def standardized(case: Case, place: int) -> Case:
    """x = (x - mean) / std, feature by feature, of one place of every batch."""

    def numbers(batch: Any) -> Tensor:
        part = list(batch.values() if isinstance(batch, dict) else batch)[place]
        return part[0] if isinstance(part, (tuple, list)) else part

    values = torch.cat([numbers(batch) for batch in case["batches"]])
    axes = tuple(d for d in range(values.ndim) if d != 1 or values.ndim > 2)
    mean, std = values.mean(axes, keepdim=True), values.std(axes, keepdim=True)
    old = {id(numbers(batch)) for batch in case["batches"]}

    def scaled(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: scaled(value) for key, value in part.items()}
        if isinstance(part, (tuple, list)):
            return type(part)(scaled(value) for value in part)
        return (part - mean) / (std + SMALL) if id(part) in old else part

    return with_batches(case, scaled)


def in_range(case: Case, finding: Finding) -> Case:
    """The named operation with its eps or clamp; else logits into cross entropy."""
    safe: dict[str, Callable[[Tensor], Tensor]] = {
        "torch.log(x.clamp_min(1e-8))": lambda x: torch.log(x.clamp_min(1e-8)),
        "torch.sqrt(x.clamp_min(1e-8))": lambda x: torch.sqrt(x.clamp_min(1e-8)),
        "torch.exp(x.clamp(max=10))": lambda x: torch.exp(x.clamp(max=10)),
    }
    named = {
        line.removeprefix("torch.").partition("(")[0]: function
        for line, function in safe.items()
        if line in finding.fix
    }
    if named:
        return inside(case, lambda: Instead(**named))
    assert finding.fix.startswith("Return logits"), finding.fix
    flat = (nn.Softmax, nn.Sigmoid)
    replace_modules(
        case["model"], lambda m: nn.Identity() if isinstance(m, flat) else None
    )
    return case


def without_bad_data(case: Case, finding: Finding) -> Case:
    """Count classes from 0; else drop the samples that are broken: their batches."""
    if "Count classes" in finding.fix:
        first = min(int(y.min()) for _, y in case["batches"])
        return with_batches(case, lambda batch: (batch[0], batch[1] - first))

    def finite(part: Any) -> bool:
        if isinstance(part, Tensor):
            return bool(part.isfinite().all())
        return all(finite(value) for value in part)

    def possible(batch: Any) -> bool:
        if "operation" not in finding.evidence:
            return True
        model = case["model"]
        if "loss_fn" in case:
            return finite(case["loss_fn"](model(batch[0]), batch[1]))
        return finite(case["loss"](model, batch))

    kept = [batch for batch in case["batches"] if finite(batch) and possible(batch)]
    return {**case, "batches": kept}


def cleared(case: Case, _finding: Finding) -> Case:
    """optimizer.zero_grad() before every backward pass."""
    return before_each(case, case["optimizer"].zero_grad)


def cleared_once(case: Case, _finding: Finding) -> Case:
    """optimizer.zero_grad() before the update, and nowhere else."""
    optimizer = case["optimizer"]
    clear = optimizer.zero_grad
    optimizer.zero_grad = lambda *_, **__: None
    return before_each(case, clear)


def averaged(case: Case, _finding: Finding) -> Case:
    """reduction="mean"."""
    case["loss_fn"].reduction = "mean"
    return case


class Residual(nn.Module):
    """x + norm(block(x))."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(x)
        return x + F.layer_norm(y, y.shape[-1:])


def normalized(case: Case, finding: Finding) -> Case:
    """A norm after every layer, or around every block if the fix says so."""
    model = case["model"]
    if "norm(block(x))" in finding.fix:
        chains = [m for m in model.modules() if isinstance(m, nn.Sequential)]
        chain = max(chains, key=len)
        for i, block in enumerate(chain):
            chain[i] = Residual(block)
        return case
    layers = [m for m in model.modules() if isinstance(m, NORMED)]

    def normed(module: nn.Module) -> nn.Module | None:
        if module is layers[-1] or not any(module is layer for layer in layers):
            return None
        if isinstance(module, nn.Conv2d):
            return nn.Sequential(module, nn.BatchNorm2d(module.out_channels))
        assert isinstance(module, nn.Linear)
        return nn.Sequential(module, nn.LayerNorm(module.out_features))

    replace_modules(model, normed)
    rate = case["optimizer"].param_groups[0]
    same = {k: v for k, v in rate.items() if k in ("lr", "momentum", "weight_decay")}
    return {**case, "optimizer": type(case["optimizer"])(model.parameters(), **same)}


def larger_batches(case: Case, _finding: Finding) -> Case:
    """Use a larger batch: 32 samples."""
    pairs = TensorDataset(
        *(torch.cat(part) for part in zip(*case["batches"], strict=True))
    )
    loader = DataLoader(pairs, 32, shuffle=True, drop_last=True)
    return {**case, "batches": [tuple(batch) for _ in range(20) for batch in loader]}


def in_float32(case: Case, _finding: Finding) -> Case:
    """float32 throughout."""
    case["model"].float()
    return with_batches(
        case, lambda b: tuple(t.float() if t.is_floating_point() else t for t in b)
    )


def scaled_loss(case: Case, _finding: Finding) -> Case:
    """scaler.scale(loss).backward(); scaler.step(optimizer); scaler.update()."""
    model, optimizer, loss_fn = case["model"], case["optimizer"], case["loss_fn"]
    scaler = torch.amp.GradScaler("cpu")

    def step(batch: Any) -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = loss_fn(model(batch[0]), batch[1])
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return loss

    rest = {k: v for k, v in case.items() if k != "loss_fn"}
    return {**rest, "step": step}


def default_settings(case: Case, finding: Finding) -> Case:
    """Start from the named setting; else build from model.parameters()."""
    found = re.match(r"Start from (\w+)=(.+)\.$", finding.fix)
    if found is None:
        return new_optimizer(case)
    for group in case["optimizer"].param_groups:
        group[found[1]] = float(found[2])
    return case


def clipped_before_the_step(case: Case, _finding: Finding) -> Case:
    """Clip between backward (with a scaler: unscale_) and the optimizer's step."""
    clip = nn.utils.clip_grad_norm_
    parameters = list(case["model"].parameters())

    @contextmanager
    def no_other() -> Iterator[None]:
        kept = nn.utils.clip_grad_norm_
        nn.utils.clip_grad_norm_ = lambda *_, **__: torch.zeros(())
        try:
            yield
        finally:
            nn.utils.clip_grad_norm_ = kept

    case["optimizer"].register_step_pre_hook(
        lambda *_: (clip(parameters, case["clip"]), None)[1]
    )
    return inside(case, no_other)


def warmed_up(case: Case, _finding: Finding) -> Case:
    """LambdaLR(optimizer, lambda step: min(1, (step + 1) / 500))."""
    schedule = torch.optim.lr_scheduler.LambdaLR(
        case["optimizer"], lambda step: min(1, (step + 1) / 500)
    )
    return {**case, "scheduler": schedule}


def scheduled_by_epoch(case: Case, _finding: Finding) -> Case:
    """scheduler.step() once an epoch."""
    schedule, count = case["scheduler"], [0]

    def each_epoch() -> None:
        count[0] += 1
        if count[0] % len(case["batches"]) == 0:
            schedule()

    return {**case, "scheduler": each_epoch}


def unfrozen(case: Case, _finding: Finding) -> Case:
    """requires_grad_(True), before the optimizer is built."""
    for p in case["model"].parameters():
        p.requires_grad_(True)
    return new_optimizer(case)


def clipped_at_the_usual(case: Case, _finding: Finding) -> Case:
    """Clip at the 90th percentile of the norms that clipping returns."""
    norms: list[float] = []
    bound = [float(case["clip"])]

    def clip(parameters: list[nn.Parameter]) -> Tensor:
        norm = nn.utils.clip_grad_norm_(parameters, bound[0])
        norms.append(float(norm))
        if len(norms) == 20:
            bound[0] = float(torch.tensor(norms).quantile(0.9))
        return norm

    return {**case, "clip": clip}


def in_autocast(case: Case, _finding: Finding) -> Case:
    """Weights in float32, computation in torch.autocast(dtype=torch.bfloat16)."""
    case["model"].float()
    return inside(case, lambda: torch.autocast("cpu", dtype=torch.bfloat16))


def normalized_attention(case: Case, _finding: Finding) -> Case:
    """q, k = F.layer_norm(q, q.shape[-1:]), F.layer_norm(k, k.shape[-1:])."""

    def attention(q: Tensor, k: Tensor, *rest: Any, **named: Any) -> Tensor:
        q, k = F.layer_norm(q, q.shape[-1:]), F.layer_norm(k, k.shape[-1:])
        return F.scaled_dot_product_attention(q, k, *rest, **named)

    return inside(case, lambda: Instead(scaled_dot_product_attention=attention))


def weighed(case: Case, finding: Finding) -> Case:
    """Multiply the named term of the loss by the factor of the fix."""
    found = re.match(r"Multiply (\w+) by ([\d.e+-]+),", finding.fix)
    assert found is not None, finding.fix
    name, factor = found[1], float(found[2])

    def heavier(*args: Any, **kwargs: Any) -> Tensor:
        return factor * getattr(F, name)(*args, **kwargs)

    return inside(case, lambda: Instead(**{name: heavier}))


def one_shape(case: Case, _finding: Finding) -> Case:
    """loss_fn(model(x), y) with y in the shape of model(x)."""
    loss_fn = case["loss_fn"]
    return {**case, "loss_fn": lambda out, y: loss_fn(out, y.reshape(out.shape))}


def right_axis(case: Case, _finding: Finding) -> Case:
    """batch_first=True; softmax over the classes."""
    for module in case["model"].modules():
        if hasattr(module, "batch_first"):
            module.batch_first = True
        if isinstance(module, nn.LogSoftmax):
            module.dim = 1
    return case


def shifted_once(case: Case, finding: Finding) -> Case:
    """labels=input_ids: the model shifts them itself; rows beside their own."""
    if "axis" in finding.evidence:
        shift, axis = finding.evidence["shift"], finding.evidence["axis"]
        return with_batches(case, lambda b: (*b[:-1], b[-1].roll(shift, axis)))
    return with_batches(case, lambda b: {**b, "labels": b["input_ids"]})


def hidden_answer(case: Case, finding: Finding) -> Case:
    """Leave the named input out; else a causal mask, or predict the next token."""
    column = finding.evidence.get("input")
    if column is not None:

        def without(batch: Any) -> Any:
            x = batch[0].clone()
            x[:, column] = 0
            return (x, *batch[1:])

        return with_batches(case, without)
    if finding.fix.startswith("Predict the next token"):

        def loss(model: nn.Module, tokens: Tensor) -> Tensor:
            return F.cross_entropy(
                model(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()
            )

        return {**case, "loss": loss}

    def masked(_module: nn.Module, args: Any, kwargs: Any) -> Any:
        mask = nn.Transformer.generate_square_subsequent_mask(args[0].shape[1])
        return args, {**kwargs, "src_mask": mask}

    for module in case["model"].modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            module.register_forward_pre_hook(masked, with_kwargs=True)
    return case


def padding_ignored(case: Case, finding: Finding) -> Case:
    """F.cross_entropy(logits, targets, ignore_index=pad)."""
    pad = finding.evidence["fill value"]

    def loss_fn(out: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(out.flatten(0, 1), y.flatten(), ignore_index=pad)

    return {**case, "loss_fn": loss_fn}


def shuffled(case: Case, _finding: Finding) -> Case:
    """DataLoader(data, batch_size, shuffle=True)."""
    data = TensorDataset(
        *(torch.cat(part) for part in zip(*case["batches"], strict=True))
    )
    loader = DataLoader(data, len(case["batches"][0][0]), shuffle=True)
    return {**case, "batches": [tuple(batch) for batch in loader]}


def one_mean(case: Case, _finding: Finding) -> Case:
    """reduction="sum", divided by the number of targets in all parts."""
    step = case["step"]

    def summed(parts: Any) -> Any:
        count = sum(int((y != -100).sum()) for _, y in parts)

        def share(out: Tensor, y: Tensor, **_: Any) -> Tensor:
            return len(parts) * F.cross_entropy(out, y, reduction="sum") / count

        with Instead(cross_entropy=share):
            return step(parts)

    return {**case, "step": summed}


def spread_out(case: Case, _finding: Finding) -> Case:
    """Add a loss on the variance over the batch."""
    loss = case["loss"]

    def with_variance(model: nn.Module, batch: Any) -> Tensor:
        codes = model(batch[0])
        wanted = codes.shape[1] ** -0.5
        return loss(model, batch) + F.relu(wanted - codes.std(0)).mean()

    return {**case, "loss": with_variance}


def attached(case: Case, _finding: Finding) -> Case:
    """Remove no_grad() and .detach() from the path to the loss."""

    @contextmanager
    def whole() -> Iterator[None]:
        kept = torch.set_grad_enabled
        torch.set_grad_enabled = lambda _mode: torch.enable_grad()
        try:
            with Instead(detach=lambda x: x):
                yield
        finally:
            torch.set_grad_enabled = kept

    return inside(case, whole)


CURES: dict[str, Cure] = {
    "lr_too_high": smaller_rate,
    "init_too_large": initialized,
    "vanishing": rectified,
    "saturated_activation": smaller_before,
    "dead_relu": revived,
    "recurrent_explosion": bounded_recurrence,
    "unnormalized_input": lambda case, _: standardized(case, 0),
    "unscaled_target": lambda case, _: standardized(case, 1),
    "loss_numerics": in_range,
    "bad_data": without_bad_data,
    "missing_zero_grad": cleared,
    "sum_reduction": averaged,
    "deep_no_skip_or_norm": normalized,
    "batchnorm_misuse": larger_batches,
    "fp16_overflow": in_float32,
    "fp16_underflow": scaled_loss,
    "clip_misplaced": clipped_before_the_step,
    "warmup_missing": warmed_up,
    "optimizer_misconfigured": default_settings,
    "detached_graph": attached,
    "learning_rate_zero": scheduled_by_epoch,
    "zero_grad_misplaced": cleared_once,
    "frozen_parameters": unfrozen,
    "clip_too_tight": clipped_at_the_usual,
    "low_precision_updates": in_autocast,
    "attention_logits_grow": normalized_attention,
    "loss_terms_unbalanced": weighed,
    "shape_mismatch": one_shape,
    "wrong_axis": right_axis,
    "labels_misaligned": shifted_once,
    "target_leak": hidden_answer,
    "padding_in_loss": padding_ignored,
    "unshuffled_data": shuffled,
    "mean_of_means": one_mean,
    "representation_collapse": spread_out,
}

"""Each rule speaks where it must and is silent where it must."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from score_clinic import CLINIC, load
from torch import Tensor, nn
from trainings import (
    Case,
    case,
    classes,
    curve,
    good,
    good_regression,
    mlp,
    nan_input,
    run,
)

from gradlib.diagnosis import RULES, Finding
from gradlib.diagnosis.examination import Examination
from gradlib.diagnosis.rules.training_loop import frozen_on_the_way
from gradlib.diagnosis.training_setup import TrainingSetup


def nan_weight() -> Case:
    made = good()
    made["model"].fc2.weight.data[0, 0] = float("nan")
    return made


def own_loop(order: str, clip: float | None = None) -> Case:
    made = good()
    model, optimizer = made["model"], made["optimizer"]
    calls: dict[str, Callable[[], Any]] = {
        "z": optimizer.zero_grad,
        "c": lambda: nn.utils.clip_grad_norm_(model.parameters(), clip or 1.0),
        "s": optimizer.step,
    }

    def step(batch: Any) -> Tensor:
        loss = F.cross_entropy(model(batch[0]), batch[1])
        for letter in order:
            loss.backward() if letter == "b" else calls[letter]()
        return loss

    return dict(made, loss_fn=None, step=step, clip=clip)


def left_out() -> Case:
    made = good()
    rest = [p for n, p in made["model"].named_parameters() if "fc3" not in n]
    return dict(made, optimizer=torch.optim.Adam(rest, lr=1e-2))


def backbone_left_out() -> Case:
    made = good()
    head = made["model"].fc3.parameters()
    return dict(made, optimizer=torch.optim.Adam(head, lr=1e-2))


class OfLengthOne(torch.optim.Optimizer):
    """Gradient descent whose steps have the length of the rate, parameter by parameter.

    p <- p - lr g / (|g| + eps)
    """

    def __init__(self, parameters: Any, eps: float) -> None:
        super().__init__(parameters, {"lr": 1e-2, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    length = p.grad.norm() + group["eps"]
                    p.sub_(group["lr"] * p.grad / length)


def steps_of_length_one(eps: float) -> Case:
    """A part of the model is switched off after eight batches: its gradient is 0."""
    model = mlp(4, 1, side=nn.Linear(4, 32))
    batches = [(x, y, float(k < 8)) for k, (x, y) in enumerate(curve())]

    def loss(model: Any, batch: tuple[Tensor, Tensor, float]) -> Tensor:
        x, y, share = batch
        h = model.act1(model.fc1(x)) + share * model.side(x)
        return F.mse_loss(model.fc3(model.act2(model.fc2(h))), y)

    return case(
        model, batches, loss=loss, optimizer=OfLengthOne(model.parameters(), eps)
    )


def rounded() -> Case:
    made = good_regression()
    return dict(made, loss_fn=lambda out, y: F.mse_loss(torch.round(out), y))


def argmax_in_the_loss() -> Case:
    def loss_fn(out: Tensor, y: Tensor) -> Tensor:
        wrong = (out.argmax(1) - y).float().pow(2).mean()
        return F.cross_entropy(out, y) + wrong

    return dict(good(), loss_fn=loss_fn)


def argmax_for_a_log() -> Case:
    right: list[float] = []

    def loss_fn(out: Tensor, y: Tensor) -> Tensor:
        right.append(float((out.argmax(1) == y).float().mean()))
        return F.cross_entropy(out, y)

    return dict(good(), loss_fn=loss_fn)


def softmax_inside() -> Case:
    return case(mlp(8, 4, end=nn.Softmax(1)), classes())


def one_class_only() -> Case:
    batches = [(x, torch.zeros_like(y)) for x, y in classes()]
    return case(mlp(8, 1), batches)


def single_samples() -> Case:
    generator = torch.Generator().manual_seed(2)
    batches = []
    for _ in range(40):
        level = torch.randn(1, 1, generator=generator)
        noise = 0.1 * torch.randn(1, 2, 6, generator=generator)
        batches.append((level[:, :, None] + noise, level))
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv1d(2, 8, 3), nn.BatchNorm1d(8), nn.ReLU(), nn.Flatten(), nn.Linear(32, 1)
    )
    return case(model, batches)


def one_value() -> Case:
    batches = curve()
    batches[5] = (batches[5][0][:1], batches[5][1][:1])
    return case(mlp(4, 1, act1=nn.BatchNorm1d(32)), batches)


def evaluation_mode() -> Case:
    batches = [(80 * x + 500, y) for x, y in classes()]
    model = nn.Sequential(nn.BatchNorm1d(8), *mlp(8, 4)).eval()
    return case(model, batches, lr=0.1, sgd=True)


def half_precision() -> Case:
    batches = [(x.half(), y) for x, y in classes()]

    def loss_fn(out: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(out.float(), y)

    return case(mlp(8, 4).half(), batches, loss_fn=loss_fn)


def empty_targets() -> Case:
    batches = classes()
    batches[9] = (batches[9][0], torch.full((16,), -100))
    return case(mlp(8, 4), batches)


def naive_cross_entropy(eps: float) -> Case:
    def loss_fn(out: Tensor, y: Tensor) -> Tensor:
        p = torch.sigmoid(out[:, 0])
        right = (y > 1).float()
        return -(right * (p + eps).log() + (1 - right) * (1 - p + eps).log()).mean()

    batches = classes()
    batches[4] = (batches[4][0] * 1000, batches[4][1])
    return case(mlp(8, 1), batches, loss_fn=loss_fn)


def class_out_of_range(classes_known: int) -> Case:
    return case(mlp(8, classes_known), classes())


class Gaussian(nn.Module):
    """A policy whose standard deviation may become negative."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.std = nn.Parameter(torch.full((1,), start))
        self.mean = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> torch.distributions.Normal:
        return torch.distributions.Normal(self.mean(x), self.std.expand(len(x), 1))


def shrinking_std(start: float) -> Case:
    torch.manual_seed(0)
    model = Gaussian(start)
    with torch.no_grad():
        batches = [(x, model.mean(x)) for x, _ in curve()]

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return -model(batch[0]).log_prob(batch[1]).mean()

    return case(model, batches, lr=0.2, loss=loss)


def one_wild_value() -> Case:
    batches = curve()
    batches[6][0][0, 0] = 1e6
    return case(mlp(4, 1), batches, sgd=True, lr=0.05)


def summed(sgd: bool = True) -> Case:
    loss_fn = nn.MSELoss(reduction="sum")
    batches = curve(size=128)
    lr = 0.1 if sgd else 1e-2
    return case(mlp(4, 1), batches, sgd=sgd, lr=lr, loss_fn=loss_fn)


def far_targets() -> Case:
    return case(mlp(4, 1), [(x, 500 + 90 * y) for x, y in curve()], lr=1e-3)


def far_inputs() -> Case:
    batches = [(255 * x, y) for x, y in classes()]
    return case(mlp(8, 4), batches, sgd=True, lr=0.1)


def dead_output() -> Case:
    made = case(mlp(4, 1, end=nn.ReLU()), [(x, y + 1) for x, y in curve()])
    made["model"].fc3.bias.data.fill_(-9.0)
    return made


def dead_inside() -> Case:
    made = case(mlp(4, 1), curve())
    for layer in (made["model"].fc1, made["model"].fc2):
        layer.bias.data.fill_(-9.0)
    return made


def flat_output() -> Case:
    made = case(mlp(4, 1, end=nn.Tanh()), curve())
    made["model"].fc3.bias.data.fill_(40.0)
    return made


def wide_layer() -> Case:
    made = good()
    made["model"].fc2.weight.data.mul_(1e4)
    return made


class Looped(nn.Module):
    """The same matrix at every step."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.enter, self.leave = nn.Linear(1, 16), nn.Linear(16, 1)
        self.again = nn.Linear(16, 16, bias=False)
        nn.init.orthogonal_(self.again.weight, gain)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(len(x), 16)
        for t in range(x.shape[1]):
            h = torch.relu(self.again(h) + self.enter(x[:, t]))
        return self.leave(h)


def loop(gain: float) -> Case:
    generator = torch.Generator().manual_seed(3)
    batches = []
    for _ in range(30):
        x = torch.randn(16, 40, 1, generator=generator)
        batches.append((x, x[:, -3:].sum(1)))
    return case(Looped(gain), batches, sgd=True, lr=0.02)


def decayed(weight_decay: float) -> Case:
    made = good()
    sgd = torch.optim.SGD(
        made["model"].parameters(), lr=0.1, momentum=0.9, weight_decay=weight_decay
    )
    return dict(made, optimizer=sgd)


def deep(norm: bool) -> Case:
    torch.manual_seed(0)
    blocks = [
        layer
        for i in range(14)
        for layer in (
            nn.Linear(8 if i == 0 else 24, 24),
            nn.LayerNorm(24) if norm else nn.Identity(),
            nn.ReLU(),
        )
    ]
    model = nn.Sequential(*blocks, nn.Linear(24, 4))
    return case(model, classes(80, 32), sgd=True, lr=0.05)


def sigmoids(activation: type[nn.Module]) -> Case:
    torch.manual_seed(0)
    layers = [
        layer
        for i in range(5)
        for layer in (nn.Linear(8 if i == 0 else 32, 32), activation())
    ]
    model = nn.Sequential(*layers, nn.Linear(32, 4))
    return case(model, classes(), sgd=True, lr=0.05)


def solved(eps: float) -> Case:
    torch.manual_seed(0)
    model = nn.Linear(4, 1, bias=False)
    batches = []
    with torch.no_grad():
        for x, _ in ((x / 1000, y) for x, y in curve()):
            batches.append((x, model(x)))
            batches[-1][1].add_(1e-5 * x[:, :1])
    adam = torch.optim.Adam(model.parameters(), lr=5.0, eps=eps)
    return case(model, batches, optimizer=adam)


class Attention(nn.Module):
    """Post-norm blocks of self-attention over eight tokens."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(8, 16)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
            for _ in range(6)
        )
        self.out = nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        h = self.table(x)
        for block in self.blocks:
            h = block(h)
        return self.out(h).transpose(1, 2)


def attention(lr: float) -> Case:
    generator = torch.Generator().manual_seed(4)
    batches = []
    for _ in range(60):
        x = torch.randint(0, 8, (16, 6), generator=generator)
        batches.append((x, (x + 3) % 8))
    return case(Attention(), batches, lr=lr)


def clinic(name: str) -> tuple[Callable[[], Case], Callable[[], Case]]:
    """Both forms of a case of the clinic."""
    module = load(CLINIC / f"{name}.py")
    return module.make, module.make_fixed


class Tempered(nn.Module):
    """A network beside a free scalar."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net, self.log_scale = mlp(4, 1), nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def free_scalar(target: float) -> Case:
    """Raises a penalty for ever, unless its target can be reached."""
    model = Tempered()

    def loss(model: Tempered, batch: Any) -> Tensor:
        out, scale = model(batch[0]), model.log_scale.exp()
        push = scale * (batch[1].pow(2).mean() - target).detach()
        fit = F.mse_loss(out, batch[1]) + scale.detach() * (out - 1).pow(2).mean()
        return fit - push + push.detach()

    adam = torch.optim.Adam(
        [
            {"params": model.net.parameters(), "lr": 1e-2},
            {"params": [model.log_scale], "lr": 0.1},
        ]
    )
    return case(model, curve(), optimizer=adam, loss=loss)


def resumed(with_state: bool) -> Case:
    """A linear model that Adam has trained, with or without Adam's state."""
    torch.manual_seed(0)
    model, true = nn.Linear(16, 1), torch.randn(16, 1)
    batches = [(x, x @ true) for x in torch.randn(60, 64, 16)]
    adam = torch.optim.Adam(model.parameters(), lr=0.1)
    for x, y in 6 * batches:
        adam.zero_grad()
        F.mse_loss(model(x), y).backward()
        adam.step()
    if not with_state:
        adam = torch.optim.Adam(model.parameters(), lr=1.0)
    return case(model, batches, optimizer=adam)


def scheduled(total: int) -> Case:
    """A rate that falls in a line, to zero after so many steps and then below."""
    made = case(mlp(8, 4), classes(), lr=0.1, sgd=True)
    line = torch.optim.lr_scheduler.LambdaLR(made["optimizer"], lambda t: 1 - t / total)
    return dict(made, scheduler=line)


def left_in_evaluation(train: bool) -> Case:
    """Calls eval() at the end of every update, and train() at the start, or not."""
    made = case(mlp(8, 4, act1=nn.BatchNorm1d(32)), classes())
    model, optimizer = made["model"], made["optimizer"]

    def step(batch: Any) -> Tensor:
        if train:
            model.train()
        loss = F.cross_entropy(model(batch[0]), batch[1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.eval()
        return loss

    return dict(made, loss_fn=None, step=step)


RULE_CASES: dict[str, tuple[Callable[[], Case], Callable[[], Case]]] = {
    "broken values in the data": (nan_input, good),
    "broken weights": (nan_weight, good),
    "rate starts anew": clinic("fresh/warmup_every_epoch"),
    "norm of one": clinic("fresh/norm_of_one_feature"),
    "no logarithms": clinic("fresh/kl_of_probabilities"),
    "replaced weights": clinic("fresh/masters_of_the_start"),
    "summed parts": clinic("fresh/micro_losses_summed"),
    "unbounded logarithm": clinic("later/task_weights_below_zero"),
    "read after padding": clinic("fresh/state_after_the_padding"),
    "alike samples": clinic("fresh/graph_of_sixteen_layers"),
    "cut axis": clinic("unseen/heads_split_across_tokens"),
    "bag of samples": clinic("fresh/itself_among_the_pairs"),
    "paid without end": clinic("fresh/entropy_above_all"),
    "descended critic": clinic("fresh/actor_without_a_minus"),
    "stale gradients": (lambda: own_loop("bs"), lambda: own_loop("zbs")),
    "cleared too early": (lambda: own_loop("bzs"), lambda: own_loop("zbs")),
    "no gradient at all": clinic("today/rewards_all_alike"),
    "rate below zero": (lambda: scheduled(10), lambda: scheduled(40)),
    "rate of zero": clinic("today/rate_decays_every_batch"),
    "clipping without effect": (
        lambda: own_loop("zbsc", clip=0.01),
        lambda: own_loop("zbcs", clip=0.01),
    ),
    "parameters without optimizer": (left_out, backbone_left_out),
    "frozen by mistake": clinic("today/backbone_left_frozen"),
    "cut graph": (argmax_in_the_loss, argmax_for_a_log),
    "wrong shape": clinic("today/mask_without_channel"),
    "softmax of one": (one_class_only, good),
    "shifted targets": clinic("today/lm_labels_shifted_twice"),
    "copied tokens": clinic("today/lm_copies_its_input"),
    "future seen": clinic("today/lm_sees_the_future"),
    "answer in the input": clinic("today/target_among_the_columns"),
    "ignored labels": clinic("today/all_labels_ignored"),
    "unequal parts": clinic("today/accumulated_means"),
    "padding counted": clinic("today/pad_tokens_in_the_loss"),
    "softmax over samples": clinic("today/softmax_over_the_batch"),
    "mixed samples": clinic("today/encoder_over_the_batch"),
    "placed samples": clinic("later/positions_of_the_batch"),
    "one token": clinic("later/corpus_of_one_token"),
    "frozen on the way": clinic("early/lora_save"),
    "length of all": clinic("control/simclr_norm_axis"),
    "held twice": clinic("control/gan_all_variables"),
    "lost on the way": clinic("catalogue/layerwise_warmup"),
    "never stepped": clinic("retest/depth_net"),
    "state starts anew": clinic("retest/two_runs"),
    "broken moments": clinic("retest/muon_half"),
    "forgotten batches": clinic("catalogue/corpus_in_file_order"),
    "vanished labels": clinic("visible/packed_mask"),
    "bottomless": clinic("visible/masked_columns"),
    "outweighing samples": clinic("visible/torsion_scores"),
    "growing exponential": clinic("visible/part_capsules"),
    "constant value": clinic("unseen/reference_follows_the_policy"),
    "left still": clinic("recent/writes_to_a_copy"),
    "term without graph": clinic("recent/penalty_without_a_graph"),
    "slipped in": clinic("recent/balance_by_the_token"),
    "stale statistics": clinic("recent/statistics_of_the_teacher_left"),
    "rounded average": clinic("recent/average_rounded_away"),
    "silent weights": clinic("later/router_of_one_expert"),
    "swallowed updates": clinic("today/weights_in_bfloat16"),
    "sorted samples": clinic("today/images_sorted_by_class"),
    "runaway scalar": (lambda: free_scalar(-5.0), lambda: free_scalar(5.0)),
    "growing scores": clinic("today/scores_of_two_encoders"),
    "tight clip": clinic("today/clipped_to_a_thousandth"),
    "misplaced targets": clinic("today/targets_one_row_off"),
    "drowned term": clinic("today/depth_drowns_the_classes"),
    "nothing to learn": clinic("today/inputs_shuffled_alone"),
    "collapsed outputs": clinic("today/siamese_without_stop_gradient"),
    "softmax twice": (softmax_inside, good),
    "lonely batch norm": (single_samples, good),
    "frozen batch norm": (evaluation_mode, good),
    "lost mode": (lambda: left_in_evaluation(False), lambda: left_in_evaluation(True)),
    "lost state": (lambda: resumed(False), lambda: resumed(True)),
    "overflow in half precision": (half_precision, good),
    "refused samples": (
        lambda: class_out_of_range(3),
        lambda: class_out_of_range(4),
    ),
    "refused values": (lambda: shrinking_std(0.5), lambda: shrinking_std(9.0)),
    "impossible samples": (empty_targets, good),
    "undefined operation": (
        lambda: naive_cross_entropy(0.0),
        lambda: naive_cross_entropy(1e-6),
    ),
    "outlying samples": (one_wild_value, good_regression),
    "summed loss": (summed, lambda: summed(sgd=False)),
    "target scale": (far_targets, good_regression),
    "input scale": (far_inputs, good),
    "dead units": (dead_output, good_regression),
    "flat ends": (flat_output, good_regression),
    "wide weights": (wide_layer, good),
    "recurrent growth": (lambda: loop(1.6), lambda: loop(0.8)),
    "strange option": (lambda: decayed(0.5), lambda: decayed(5e-4)),
    "plain depth": (lambda: deep(False), lambda: deep(True)),
    "vanishing signal": (lambda: sigmoids(nn.Sigmoid), lambda: sigmoids(nn.ReLU)),
    "undefined update": (
        lambda: steps_of_length_one(0.0),
        lambda: steps_of_length_one(1e-8),
    ),
    "small epsilon": (lambda: solved(1e-15), good_regression),
    "missing warm-up": (lambda: attention(5e-2), lambda: attention(3e-3)),
    "fast steps": (lambda: case(mlp(8, 4), classes(), sgd=True, lr=30.0), good),
    "tiny steps": (lambda: case(mlp(8, 4), classes(), sgd=True, lr=1e-6), good),
    "best change": (lambda: case(mlp(8, 4), classes(), sgd=True, lr=30.0), good),
}


def examined(made: Case) -> Examination:
    ways = {
        "loss_fn": None,
        "loss": None,
        "step": None,
        "clip": None,
        "scheduler": None,
    }
    return Examination(TrainingSetup.checked(**{**ways, "max_steps": None, **made}))


def ask(rule: str, made: Case) -> Finding | None:
    examination = examined(made)
    try:
        return next(r for r in RULES if r.name == rule).ask(examination)
    finally:
        examination.restore()


def test_every_rule_has_a_pair_of_cases() -> None:
    assert set(RULE_CASES) == {rule.name for rule in RULES}


@pytest.mark.parametrize("rule", RULE_CASES)
def test_a_rule_speaks_where_it_must(rule: str) -> None:
    assert ask(rule, RULE_CASES[rule][0]()) is not None


@pytest.mark.parametrize("rule", RULE_CASES)
def test_a_rule_is_silent_where_it_must(rule: str) -> None:
    assert ask(rule, RULE_CASES[rule][1]()) is None


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        ("shifted targets", "visible/fsdp_adam"),  # outputs cut at their start
        ("silent weights", "visible/hybrid_clip"),  # beside a gradient of a billion
        ("cut graph", "early/points_moved"),  # a last branch that no loss asks for
        ("silent weights", "catalogue/few_step_generator_bf16"),  # an input of 0
        ("clipping without effect", "catalogue/deblur_gp"),  # a second backward pass
        ("unequal parts", "retest/nas_supernet"),  # targets that are shares of classes
    ],
)
def test_a_rule_is_not_misled(rule: str, name: str) -> None:
    assert ask(rule, clinic(name)[1]()) is None


@pytest.mark.parametrize(
    ("rule", "name", "cause"),
    [
        ("tight clip", "catalogue/clip_scaled_gradient", "clip_misplaced"),
        ("no gradient at all", "catalogue/cldice_airway", "labels_masked"),
        ("wrong shape", "control/ppo_advantage_column", "shape_mismatch"),
        ("impossible samples", "control/beit_mask_count", "labels_masked"),
        ("overflow in half precision", "control/happynet_half_adam", "fp16_underflow"),
        ("no gradient at all", "today/rewards_all_alike", "zero_advantage"),
        ("rate of zero", "retest/long_context_lm", "learning_rate_zero"),
        (
            "overflow in half precision",
            "catalogue/text_encoder_half",
            "fp16_overflow",
        ),
        (
            "collapsed outputs",
            "catalogue/dino_shared_backbone",
            "representation_collapse",
        ),
    ],
)
def test_a_rule_names_the_cause(rule: str, name: str, cause: str) -> None:
    found = ask(rule, clinic(name)[0]())
    assert found is not None
    assert found.cause == cause


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        ("growing scores", "control/fcn_summed_pixels"),  # a softmax in the loss
        ("parameters without optimizer", "control/gpt2_mask_half"),  # NaN at once
        ("cut graph", "retest/gan_mnist"),  # NaN before the generator's turn
        ("never stepped", "control/gpt2_mask_half"),  # a scaler that waits
    ],
)
def test_a_rule_is_silent_about_what_has_another_cause(rule: str, name: str) -> None:
    assert ask(rule, clinic(name)[0]()) is None


def test_one_hot_attention_that_learns_is_not_broken() -> None:
    assert ask("growing scores", clinic("control/yolo_query_scale")[1]()) is None


@pytest.mark.parametrize("name", ["bert_tutorial_rate", "rcnn_rate"])
def test_depth_is_not_blamed_where_a_tenth_of_the_rate_learns(name: str) -> None:
    assert ask("plain depth", clinic(f"catalogue/{name}")[0]()) is None


def test_masters_of_an_optimizer_inside_go_on_at_their_own_rate() -> None:
    ill, cured = clinic("early/master_copy")
    found = ask("replaced weights", ill())
    assert found is not None
    assert found.cause == "resume_state_lost"
    assert ask("replaced weights", cured()) is None


def test_a_clip_behind_the_rule_that_makes_the_update_is_tight() -> None:
    ill, cured = clinic("early/muon_clip")
    assert ask("tight clip", ill()) is not None
    assert ask("tight clip", cured()) is None


def two_branches(loss: str) -> Case:
    """A net learns by one branch; another runs beside it."""
    made = good()
    net, side = made["model"], mlp(8, 4)
    model = nn.ModuleDict({"net": net, "side": side})

    def value(model: Any, batch: Any) -> Tensor:
        x, y = batch
        found, other = model["net"](x), model["side"](x)
        added = {"unused": 0.0, "cut": 0.1 * other.detach()}[loss]
        return F.cross_entropy(found + added, y)

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return {
        "model": model, "optimizer": optimizer, "batches": made["batches"],
        "loss": value,
    }  # fmt: skip


@pytest.mark.parametrize("loss", ["unused", "cut"])
def test_a_graph_is_cut_only_where_the_loss_depends_on_the_value(loss: str) -> None:
    found = ask("cut graph", two_branches(loss))
    assert (found is not None) is (loss == "cut")


@pytest.mark.parametrize(
    "name",
    [
        "fresh/adapter_rebuilt",  # factors that start at zero
        "unseen/last_loss_counts",  # a loss that is computed and not added
    ],
)
def test_what_was_meant_to_learn_is_cut(name: str) -> None:
    assert ask("cut graph", clinic(name)[0]()) is not None


@pytest.mark.parametrize("turns", [True, False])
def test_optimizers_that_step_after_one_loss_do_not_take_turns(turns: bool) -> None:
    made = good()
    model = made["model"]
    first, *rest = model.parameters()
    pair = torch.optim.SGD([first], lr=0.1), torch.optim.SGD(rest, lr=0.1)

    def step(batch: Any) -> Tensor:
        x, y = batch
        for optimizer in pair:
            loss = F.cross_entropy(model(x), y)
            model.zero_grad()
            loss.backward()
            if turns:
                optimizer.step()
        if not turns:
            for optimizer in pair:
                optimizer.step()
        return loss.detach()

    made = {"model": model, "optimizer": pair[0], "batches": made["batches"]}
    assert examined(made | {"step": step}).alternating is turns


@pytest.mark.parametrize(("rest", "speaks"), [(-1.0, True), (float("nan"), False)])
def test_a_gradient_that_is_nan_is_not_frozen(rest: float, speaks: bool) -> None:
    examination = examined(good())
    examination.base.norms = {"fc1.weight": [1.0] * 10 + [rest] * 40}
    examination.restore()
    assert (frozen_on_the_way(examination) is not None) is speaks


def test_scores_that_a_smaller_rate_cures_better_are_owed_to_the_rate() -> None:
    by_rate = ask("growing scores", clinic("visible/visual_lora")[0]())
    by_scores = ask("growing scores", clinic("today/scores_of_two_encoders")[0]())
    assert by_rate is not None
    assert by_scores is not None
    assert by_rate.cause == "lr_too_high"
    assert by_scores.cause == "attention_logits_grow"


def test_a_constant_of_more_values_than_labels_is_judged_on_other_batches() -> None:
    """48 places with a constant each have 20 labels each, of 24 classes."""
    made = clinic("visible/random_features")[1]()
    naive = examined(made).naive
    labels = torch.cat([y[y >= 0] for _, y in made["batches"]])
    shares = labels.bincount() / len(labels)
    entropy = -(shares * shares.log()).sum()
    assert naive is not None
    assert entropy < naive < 1.2 * entropy


def test_a_game_of_squared_errors_does_not_descend_on_its_critic() -> None:
    """Both sides fit numbers: the fakes 0 for one of them, 1 for the other."""
    torch.manual_seed(0)
    game = nn.ModuleDict({"maker": mlp(4, 4), "judge": mlp(4, 1)})
    optimizer = torch.optim.Adam(game.parameters(), lr=1e-3)

    def step(batch: Any) -> Tensor:
        real = batch[0]
        fake = game["maker"](torch.randn_like(real))
        one, none = game["judge"](real), game["judge"](fake.detach())
        loss = (one - 1).square().mean() + none.square().mean()
        optimizer.zero_grad()
        loss.backward()
        game["judge"].requires_grad_(False)
        (game["judge"](fake) - 1).square().mean().backward()
        game["judge"].requires_grad_(True)
        optimizer.step()
        return loss

    made = dict(model=game, optimizer=optimizer, batches=curve(), step=step)
    assert ask("descended critic", made) is None


def test_a_number_that_only_replaces_the_value_of_a_term_is_no_lost_term() -> None:
    """The value of one term is taken out again, and its gradient kept."""
    assert ask("term without graph", free_scalar(5.0)) is None


def test_a_number_within_a_learned_factor_is_no_lost_term() -> None:
    """The factor learns from it: exp(-s) (a + b), where b has no graph."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        error = (model(x) - y).square().mean()
        s = model[0].bias[0]
        return (-s).exp() * (error + error.detach().sqrt()) + s

    made = case(mlp(4, 1), curve()) | {"loss_fn": None, "loss": loss}
    assert ask("term without graph", made) is None


def test_a_division_of_small_numbers_in_half_precision_overflows_nothing() -> None:
    made = clinic("recent/guard_lost_in_half")[0]
    finding = ask("undefined operation", made())
    assert finding is not None
    assert "a.float()" in finding.fix
    assert ask("overflow in half precision", made()) is None


def test_an_update_that_divides_by_a_norm_of_zero_is_named() -> None:
    report = run(steps_of_length_one(0.0))
    assert report.cause == "optimizer_misconfigured"
    assert report.findings[0].layer == "side"
    assert "At step 8 loss and gradients are finite" in report.findings[0].symptom
    assert "g.norm() + 1e-8" in report.findings[0].fix
    assert run(steps_of_length_one(1e-8)).cause == "healthy"


def test_an_update_that_reads_a_spoiled_state_is_named() -> None:
    made = good()
    for p in made["model"].fc2.parameters():
        made["optimizer"].state[p] = {
            "step": torch.tensor(9.0),
            "exp_avg": torch.zeros_like(p),
            "exp_avg_sq": torch.full_like(p, torch.nan),
        }
    finding = ask("undefined update", made)
    assert finding is not None
    assert finding.layer == "fc2"
    assert "a fresh state" in finding.fix


@pytest.mark.parametrize("lowest", [0.0, -1.0])
def test_the_cure_of_a_root_holds_at_zero_and_below(lowest: float) -> None:
    """The branch of a root that where() throws away has a gradient that is NaN."""

    def rooted(root: Callable[[Tensor], Tensor]) -> Case:
        def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
            x, y = batch
            error = (model(x) - y).square().mean(1)
            error = torch.cat([error, error[:1] * 0 + lowest])
            return torch.where(error > 0, root(error), error).mean()

        return case(mlp(4, 1), curve()) | {"loss_fn": None, "loss": loss}

    finding = ask("undefined operation", rooted(torch.sqrt))
    assert finding is not None
    assert "torch.sqrt(x.clamp_min(1e-8))" in finding.fix
    cured = rooted(lambda x: torch.sqrt(x.clamp_min(1e-8)))
    assert ask("undefined operation", cured) is None


def test_a_step_that_leaves_all_dead_behind_replaces_no_weights() -> None:
    """One huge step, then none: the learning rate, and not a checkpoint."""
    made = case(mlp(4, 1), curve(), sgd=True, lr=3e3)
    assert ask("replaced weights", made) is None


def test_dead_units_say_when_their_own_trial_fails() -> None:
    finding = ask("dead units", dead_inside())
    assert finding is not None
    assert "does not cure" in finding.symptom
    cured = ask("dead units", clinic("cases/dead_relu_logits")[0]())
    assert cured is not None
    assert "does not cure" not in cured.symptom


def test_the_cure_of_vanishing_by_dead_units_names_the_biases() -> None:
    finding = ask("vanishing signal", dead_inside())
    assert finding is not None
    assert "nn.init.zeros_(bias)" in finding.fix


def test_the_norms_named_for_plain_depth_fit_linear_layers() -> None:
    finding = ask("plain depth", deep(False))
    assert finding is not None
    assert "nn.BatchNorm1d after nn.Linear" in finding.fix


def test_a_batch_of_finite_numbers_is_not_searched_for_those_that_are_not() -> None:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        return F.cross_entropy(model(x), y, ignore_index=-100)

    batches = classes()
    batches[3] = batches[3][0], torch.full_like(batches[3][1], -100)
    finding = run(dict(good(), batches=batches, loss_fn=None, loss=loss)).findings[0]
    assert (finding.cause, finding.evidence["batch"]) == ("bad_data", 3)
    assert "labels" in finding.fix
    assert "isfinite" not in finding.fix

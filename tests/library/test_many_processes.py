"""Norms of models that several processes train are those of the whole."""

import json

import pytest
from ranks import run_two

PROGRAM = """
import math
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from gradlib import AutoClip, GradientMonitor, NonFiniteGradientError, ZClip, audit
from gradlib import diagnose, fit, gradient_angle, jacobian_singular_values
from gradlib import lr_range_test, sharpness, watch
from gradlib.clip import clip_adaptive_, clip_each_norm_, clip_norm_, clip_value_
from gradlib.clip import normalize_
from gradlib.measure import checked_gradients, first_nonfinite, gradient_norms
from gradlib.measure import parameter_norms
from gradlib.measure import snapshot, update_ratios

X = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
Y = X[:, :3].argmax(dim=1)
SHARE = slice(4 * RANK, 4 * RANK + 4)

def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))

def sharded_by_layer():
    model = network()
    fully_shard(model[0])
    fully_shard(model[2])
    return fully_shard(model)

def plain(norms):
    return {name.removeprefix("module."): size for name, size in norms.items()}

def train(model, file, batch=slice(None)):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    found = {"gradients": [], "ratios": [], "sizes": []}
    monitor = GradientMonitor(model, updates_every=1)
    with watch(model, optimizer, updates_every=1, file=file) as watcher, monitor:
        for k in range(3):
            before = snapshot(model)
            found["sizes"].append(plain(parameter_norms(model)))
            optimizer.zero_grad()
            F.cross_entropy(model(X[batch]), Y[batch]).backward()
            found["gradients"].append(plain(gradient_norms(model)))
            monitor.log()
            nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
            optimizer.step()
            found["ratios"].append(plain(update_ratios(model, before)))
    found["watched"] = watcher.history.to_dict()
    return found | {"monitored": monitor.history.to_dict()}

makers = {
    "DDP": lambda: DistributedDataParallel(network()),
    "FSDP2": lambda: fully_shard(network()),
    "FSDP2 by layer": sharded_by_layer,
}
def clipped(model, batch=slice(None)):
    told = {}
    for name, clip in CLIPPERS.items():
        model.zero_grad()
        F.cross_entropy(model(X[batch]), Y[batch]).backward()
        try:
            before = float(clip(list(model.parameters())))
        except ValueError as error:
            told[name] = str(error)
        else:
            told[name] = [before, *plain(gradient_norms(model)).values()]
    return told

CLIPPERS = {
    "value": lambda ps: clip_value_(ps, 0.01),
    "norm": lambda ps: clip_norm_(ps, 0.01),
    "largest": lambda ps: clip_norm_(ps, 0.01, math.inf),
    "each": lambda ps: clip_each_norm_(ps, 0.01),
    "normalize": normalize_,
    "AutoClip": lambda ps: AutoClip(50)(ps),
    "ZClip": lambda ps: ZClip(max_norm=0.01)(ps),
    "AGC": clip_adaptive_,
}
found = {"whole": train(network(), None), "clipped": clipped(network())}

# A sharded layer, and a plain one of which each process has a copy
def clipped_together(shard):
    model = network()
    F.cross_entropy(model(X), Y).backward()
    gradients = [p.grad for p in model.parameters()]
    if shard:
        model = network()
        fully_shard(model[0])
        F.cross_entropy(model(X), Y).backward()
    before = clip_norm_(model.parameters(), 0.01)
    whole = [getattr(p.grad, "full_tensor", lambda g=p.grad: g)()
             for p in model.parameters()]
    return [float(before)] + [float(g.norm()) for g in whole]

found["mixed"] = [clipped_together(False), clipped_together(True)]
found["clipped in parts"] = clipped(sharded_by_layer(), SHARE)

def broken_in_one_part(nonfinite):
    model = sharded_by_layer()
    F.cross_entropy(model(X[SHARE]), Y[SHARE]).backward()
    if RANK == 1:
        model[2].weight.grad.to_local()[0, 0] = math.nan
    try:
        clip_norm_(model.named_parameters(), 1.0, nonfinite=nonfinite)
    except NonFiniteGradientError as error:
        return [error.name, error.kind]
    return [p.grad is None for p in model.parameters()]

found["broken in one part"] = [broken_in_one_part("raise"), broken_in_one_part("skip")]

def first_broken(model):
    inputs = X[SHARE] * (math.nan if RANK == 1 else 1.0)
    return first_nonfinite(model, lambda: F.cross_entropy(model(inputs), Y[SHARE]))

def refused(function, *arguments, **keywords):
    try:
        return function(*arguments, **keywords)
    except Exception as error:
        return f"{type(error).__name__}: {error}"

found["first broken"] = {
    "DDP": first_broken(DistributedDataParallel(network())),
    "FSDP2": first_broken(sharded_by_layer()),
}

# A gradient that is broken in one process
def broken_in_one(clip):
    model = sharded_by_layer()
    F.cross_entropy(model(X[SHARE]), Y[SHARE]).backward()
    if RANK == 1:
        model[0].weight.grad.to_local()[0, 0] = math.nan
    return str(refused(clip, list(model.named_parameters())))

found["broken in one"] = {
    name: broken_in_one(clip)
    for name, clip in (CLIPPERS | {"checked": checked_gradients}).items()
}

# Units that lie in several processes
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
cut = distribute_tensor(torch.ones(4, 4), init_device_mesh("cpu", (2,)), [Shard(1)])
cut = nn.Parameter(cut)
cut.grad = cut.detach().clone()
found["cut units"] = str(refused(clip_adaptive_, [cut]))

# Curvature and directions
def one_loss(model):
    return F.cross_entropy(model(X), Y)

def angle(model, batch=slice(None)):
    gradients = []
    for sign in (1, -1):
        model.zero_grad()
        F.cross_entropy(model(sign * X[batch]), Y[batch]).backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    return gradient_angle(*gradients)

def spectra(model, batch=SHARE):
    loss = lambda: one_loss(model)
    return {
        "sharpness": refused(sharpness, loss, model.parameters()),
        "jacobian": jacobian_singular_values(model, X[0]).tolist(),
        "angle": angle(model, batch),
    }

found["spectra"] = {
    "whole": spectra(network(), slice(None)),
    "DDP": spectra(DistributedDataParallel(network())),
    "FSDP2": spectra(sharded_by_layer()),
}

# What the scale of weights does
def tokens(shard):
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Embedding(7, 5), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 3)
    )
    return fully_shard(model) if shard else model

def audited(model, batch):
    told = audit(model, batch, generator=torch.Generator().manual_seed(0),
                 activation="tanh")
    rows = [(r.gain, *r.predicted, *r.measured, r.verdict) for r in (*told, told.total)]
    model(batch).sum().backward()  # nothing is left over
    return [str(row) for row in rows]

ids = torch.arange(6).view(2, 3)
found["audits"] = {
    "whole": audited(network(), X),
    "DDP": audited(DistributedDataParallel(network()), X),
    "FSDP2": audited(sharded_by_layer(), X),
    "whole, of tokens": audited(tokens(False), ids),
    "FSDP2, of tokens": audited(tokens(True), ids),
}

# Runs that end early, end together
def ends(make):
    batch = [(X[SHARE] * (1 + 30 * RANK), Y[SHARE])]
    told = lr_range_test(make(), batch, steps=30, lr_max=1e4).losses
    run = fit(make(), batch, lr=1e3, steps=30, stop_at_divergence="stop",
              diverged_above=100.0)
    return told, run["loss"], run.diverged_at

found["ends"] = {kind: ends(make) for kind, make in makers.items()}

# What would have to try things together
def examined(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=100.0)
    return str(refused(diagnose, model, optimizer, [(X, Y)], loss_fn=F.cross_entropy))

found["examined"] = {
    "DDP": examined(DistributedDataParallel(network())),
    "FSDP2": examined(sharded_by_layer()),
}
for kind, make in makers.items():
    found[kind] = train(make(), f"{FOLDER}/{kind}", SHARE)
answer(found)
"""
KINDS = ("DDP", "FSDP2", "FSDP2 by layer")
QUANTITIES = {
    "gradients": "gradient_norm",
    "ratios": "update_ratio",
    "sizes": "parameter_norm",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def answers(folder):
    return run_two(PROGRAM, folder)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_all_processes_see_the_norms_of_the_whole(kind, rank, answers):
    found, whole = answers[rank][kind], answers[rank]["whole"]
    for quantity, column in QUANTITIES.items():
        for k, expected in enumerate(whole[quantity]):
            assert found[quantity][k] == pytest.approx(expected, rel=1e-3)
            for record in ("watched", "monitored"):
                told = {n: found[record][f"{column}/{n}"][k] for n in expected}
                assert told == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_one_process_writes_the_file(kind, answers, folder):
    lines = (folder / kind).read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 1, 2]


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize(
    "clip",
    ["value", "norm", "largest", "each", "normalize", "AutoClip", "ZClip", "AGC"],
)
def test_clippers_treat_a_sharded_model_as_a_whole(clip, rank, answers):
    whole = answers[rank]["clipped"][clip]
    assert answers[rank]["clipped in parts"][clip] == pytest.approx(whole, rel=1e-3)


def test_sharded_and_plain_gradients_are_clipped_as_one_vector(answers):
    for answer in answers:
        whole, mixed = answer["mixed"]
        assert mixed == pytest.approx(whole, rel=1e-3)


def test_units_in_several_processes_are_refused(answers):
    for answer in answers:
        assert "cut along another axis than the first" in answer["cut units"]


@pytest.mark.parametrize(
    "clip", ["norm", "largest", "each", "AGC", "AutoClip", "checked"]
)
def test_a_gradient_that_is_broken_in_one_process_is_refused_in_both(clip, answers):
    for answer in answers:
        told = answer["broken in one"][clip]
        assert told.startswith("NonFiniteGradientError: expected finite gradients, got")
        assert "nan in the gradient of 0.weight" in told


def test_all_processes_refuse_or_skip_a_gradient_that_is_broken_in_one(answers):
    for answer in answers:
        assert answer["broken in one part"] == [["2.weight", "nan"], [True] * 4]


@pytest.mark.parametrize("kind", ["DDP", "FSDP2"])
def test_no_process_waits_for_one_whose_batch_is_broken(kind, answers):
    first, second = (answer["first broken"][kind] for answer in answers)
    assert first == second
    assert second[1:] == ["input", "nan", 1], "where, what, and in which process"


@pytest.mark.parametrize("kind", ["DDP", "FSDP2"])
def test_spectra_and_angles_are_those_of_the_whole_or_refused(kind, answers):
    for answer in answers:
        whole, told = answer["spectra"]["whole"], answer["spectra"][kind]
        assert told["angle"] == pytest.approx(whole["angle"], rel=1e-4)
        assert told["jacobian"] == pytest.approx(whole["jacobian"], rel=1e-4)
        if kind == "FSDP2":
            assert "Take the sharpness of a plain copy" in told["sharpness"]
        else:
            assert told["sharpness"] == pytest.approx(whole["sharpness"], rel=1e-4)


@pytest.mark.parametrize(
    ("kind", "whole"),
    [("DDP", "whole"), ("FSDP2", "whole"), ("FSDP2, of tokens", "whole, of tokens")],
)
def test_an_audit_sees_whole_weights(kind, whole, answers):
    for answer in answers:
        assert answer["audits"][kind] == answer["audits"][whole]
        assert "nan" not in answer["audits"][kind][1], "the second layer"


@pytest.mark.parametrize("kind", KINDS)
def test_runs_end_in_all_processes_at_the_same_step(kind, answers):
    first, second = (answer["ends"][kind] for answer in answers)
    assert first == second
    rates, losses, diverged_at = first
    assert len(rates) < 30, "it went on to the end"
    assert diverged_at == len(losses) - 1 < 29


@pytest.mark.parametrize("kind", ["DDP", "FSDP2"])
def test_a_diagnosis_of_several_processes_is_refused(kind, answers):
    for answer in answers:
        told = answer["examined"][kind]
        assert told.startswith("ValueError: model: expected a model on one process")


LOST = """
import math, os, signal, time
from datetime import timedelta
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from gradlib import first_nonfinite

def waited(group):
    model = DistributedDataParallel(nn.Linear(3, 1), process_group=group)
    distributed.barrier()
    start = time.monotonic()
    if RANK == 1:
        lose(group)
        return None
    try:
        first_nonfinite(model, lambda: model(torch.ones(2, 3)).sum())
    except RuntimeError as error:
        return time.monotonic() - start
    return math.inf

def lose(group):
    if group is blocked:
        time.sleep(2 * SECONDS)
    else:
        os.kill(os.getpid(), signal.SIGKILL)

SECONDS = 3
blocked, killed = (
    distributed.new_group(timeout=timedelta(seconds=SECONDS)) for _ in range(2)
)
answer({"blocked": waited(blocked), "killed": waited(killed)})
"""


def test_a_process_that_is_lost_ends_the_waiting_of_the_others(tmp_path):
    (told,) = run_two(LOST, tmp_path, lost=1)
    assert 2 < told["blocked"] < 10, "the group waits for 3 s"
    assert told["killed"] < 10

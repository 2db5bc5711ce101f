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
from gradlib import AutoClip, NonFiniteGradientError, ZClip, watch
from gradlib.clip import clip_adaptive_, clip_each_norm_, clip_norm_, clip_value_
from gradlib.clip import normalize_
from gradlib.measure import first_nonfinite, gradient_norms, parameter_norms
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
    with watch(model, optimizer, updates_every=1, file=file) as watcher:
        for k in range(3):
            before = snapshot(model)
            found["sizes"].append(plain(parameter_norms(model)))
            optimizer.zero_grad()
            F.cross_entropy(model(X[batch]), Y[batch]).backward()
            found["gradients"].append(plain(gradient_norms(model)))
            nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
            optimizer.step()
            found["ratios"].append(plain(update_ratios(model, before)))
    return found | {"watched": watcher.history.to_dict()}

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

found["first broken"] = {
    "DDP": first_broken(DistributedDataParallel(network())),
    "FSDP2": first_broken(sharded_by_layer()),
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
            watched = {n: found["watched"][f"{column}/{n}"][k] for n in expected}
            assert watched == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_one_process_writes_the_file(kind, answers, folder):
    lines = (folder / kind).read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 1, 2]


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize(
    "clip", ["value", "norm", "largest", "each", "normalize", "AutoClip", "ZClip"]
)
def test_clippers_treat_a_sharded_model_as_a_whole(clip, rank, answers):
    whole = answers[rank]["clipped"][clip]
    assert answers[rank]["clipped in parts"][clip] == pytest.approx(whole, rel=1e-3)


def test_units_in_several_processes_are_refused(answers):
    for answer in answers:
        assert "cut over processes" in answer["clipped in parts"]["AGC"]
        assert isinstance(answer["clipped"]["AGC"], list)


def test_all_processes_refuse_or_skip_a_gradient_that_is_broken_in_one(answers):
    for answer in answers:
        assert answer["broken in one part"] == [["2.weight", "nan"], [True] * 4]


@pytest.mark.parametrize("kind", ["DDP", "FSDP2"])
def test_no_process_waits_for_one_whose_batch_is_broken(kind, answers):
    first, second = (answer["first broken"][kind] for answer in answers)
    assert second[1:] == ["input", "nan"]
    assert first[1:] == ["backward", "nan"]

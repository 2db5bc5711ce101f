"""Training, watching, sweeping, diagnosing; data; and what chapters call."""

import contextlib
import io
import math
import os
import tempfile
from functools import partial
from itertools import islice
from pathlib import Path
from unittest import mock

import torch
from hypothesis import strategies as st
from kinds import (
    BATCHES,
    FLAG,
    GENERATOR,
    INF,
    KINDS_OF_NET,
    NAN,
    NETWORK,
    NO_BATCHES,
    NO_MODEL,
    PAIR,
    PAIRS,
    SIZE_OF_GRADIENT,
    SMALL_SEED,
    TEXT,
    Entry,
    Kind,
    choice,
    count,
    entry,
    network,
    pair,
    positive,
    refused,
)
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gradlib import chapter, data
from gradlib.attention import AttentionMonitor
from gradlib.checkpoint import examine_checkpoint
from gradlib.clip import clip_norm_, normalize_
from gradlib.diagnosis import diagnose, diagnose_history, diagnose_log
from gradlib.errors import DivergenceError
from gradlib.guard import SpikeGuard, agree
from gradlib.history import History
from gradlib.logs import read_log
from gradlib.models import small_transformer
from gradlib.monitor import GradientMonitor
from gradlib.recorder import FlightRecorder
from gradlib.replay import replay
from gradlib.sweep import Ensemble, build, sweep
from gradlib.training import accuracy, fit, lr_range_test
from gradlib.watcher import watch

NO_TRAINABLE = (*NO_MODEL, nn.ReLU())
RATES = [0.0, 1e-6, 0.1, 10.0, 1e30]
NO_RATE = (-1.0, NAN, INF, "1", [1.0])
CLIP = Kind(
    st.sampled_from([None, 1.0, INF, partial(clip_norm_, max_norm=1.0), normalize_]),
    (0.0, -1.0, NAN, "norm", [1.0], nn.ReLU),
)
LOSS = Kind(
    st.just(cross_entropy),
    (7, None, lambda x, y: 7.0, lambda x, y: x.sum(dim=1)),
)
MODEL_LOSS = Kind(
    st.none(),
    (7, "loss", lambda model, batch: 7, lambda model, batch: model(batch[0])),
)
LIMIT = Kind(st.sampled_from([None, 1e-3, 10.0, INF]), (0.0, -1.0, NAN, "1", [1.0]))


def optimizer_or_rate(name: str, lr: float) -> dict[str, object]:
    made = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}
    return {"optimizer": made.get(name), "lr": lr}


def watched(
    model: nn.Module, batch: tuple[Tensor, Tensor], steps: int, **settings: object
) -> None:
    with GradientMonitor(model, **settings) as monitor:
        for _ in range(steps):
            model.zero_grad()
            loss = cross_entropy(model(batch[0]), batch[1])
            loss.backward()
            monitor.log(loss)
    assert len(monitor.history) >= 1


def still(model: object) -> torch.optim.Optimizer:
    """An optimizer of the model, if it is one, that moves nothing."""
    parameters = list(model.parameters()) if isinstance(model, nn.Module) else []
    return torch.optim.SGD(parameters or [torch.zeros(1)], lr=0.0)


def replayed(
    model: nn.Module,
    batch: tuple[Tensor, Tensor],
    steps: int,
    optimizer: object,
    path: object,
    loss: object,
    replay_clip: object,
    replay_autocast: object,
    seconds: object,
    **settings: object,
) -> None:
    """What was recorded runs again, and closing leaves no hook."""

    def cost(model: nn.Module, pair: tuple[Tensor, Tensor]) -> Tensor:
        return cross_entropy(model(pair[0]), pair[1])

    if optimizer == "sgd":
        optimizer = still(model)
    with tempfile.TemporaryDirectory() as folder:
        if path == "box.pt":
            path = Path(folder) / path
        with FlightRecorder(model, optimizer, path=path, **settings) as recorder:
            for _ in range(steps):
                model.zero_grad()
                pair = recorder.batch(batch)
                cost(model, pair).backward()
                optimizer.step()
            if recorder.is_open:
                recorder.write()
        if not path.exists():
            return
        found = replay(
            path,
            model,
            loss=cost if loss == "cost" else loss,
            clip=replay_clip,
            autocast=replay_autocast,
            seconds=seconds,
        )
    assert found.differs_at is None


def recorded_by_watch(
    model: nn.Module,
    batch: tuple[Tensor, Tensor],
    steps: int,
    optimizer: object,
    **settings: object,
) -> None:
    """Each due step has a row, and closing leaves no hook."""
    if optimizer == "sgd":
        optimizer = still(model)
    with watch(model, optimizer, **settings) as watcher:
        for _ in range(steps):
            model.zero_grad()
            cross_entropy(model(batch[0]), batch[1]).backward()
            optimizer.step()
    every = settings["every"]
    first = settings["first_step"] or 0
    assert watcher.history["step"] == [
        step for step in range(first, first + steps) if step % every == 0
    ]


def attended(heads: int, seed: int, steps: int, **settings: object) -> None:
    """Each due step has a row of finite numbers."""
    model = settings.pop("model", None) or small_transformer(
        width=2 * heads, heads=heads, depth=1, seed=seed
    )
    with AttentionMonitor(model, **settings) as monitor:
        for _ in range(steps):
            model(torch.zeros(2, 3, dtype=torch.int64))
            monitor.log()
    values = monitor.history["attention_entropy/blocks.0.attention/0"]
    assert len(values) == math.ceil(steps / settings["every"])
    assert all(map(math.isfinite, values))


def logged_by_watcher(value: object) -> None:
    """What is logged comes back."""
    layer = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.0)
    with watch(layer, optimizer) as watcher:
        watcher.log(value=value)
        layer(torch.ones(1, 1)).sum().backward()
        optimizer.step()
    (found,) = watcher.history["value"]
    assert found == value or math.isnan(found)


def guarded(
    model: nn.Module,
    optimizer: object,
    losses: list[object],
    norm: object,
    update_rms: object,
    **settings: object,
) -> None:
    """Each loss is judged; what is not finite never goes."""
    if optimizer == "sgd":
        optimizer = still(model)
    guard = SpikeGuard(model, optimizer, **settings)
    for loss in losses:
        decision = guard.judge(loss, norm, update_rms)
        assert math.isfinite(float(loss)) or decision != "go"
    assert guard.nbytes >= 0


VALUES = st.floats() | st.integers(-(10**6), 10**6)
NAMES = st.sampled_from(["loss", "accuracy", "gradient_norm/0.weight", "梯度"])
ROWS = st.lists(st.dictionaries(NAMES, VALUES, min_size=1), min_size=1, max_size=4)


def recorded(rows: list[dict[str, float]], diverged_at: int | None = None) -> History:
    history = History(diverged_at)
    for step, row in enumerate(rows):
        history.append(2 * step, **row)
    return history


def examined(weights: list[float], path: object) -> None:
    """A checkpoint of these weights, at that path in a new folder."""
    with tempfile.TemporaryDirectory() as folder:
        if isinstance(path, str):
            path = Path(folder) / path
            torch.save({"weight": torch.tensor(weights)}, path)
        assert len(examine_checkpoint(path).rows) == 1


def history_of(rows: list[dict[str, float]], table_rows: int, column: object) -> None:
    """All that a history does; what is written can be read again."""
    history = recorded(rows)
    history.append(100, column=column)
    history.extend(100, ("again", "column"), [column, column])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.json"
        history.save(path)
        again = History.load(path)
    assert str(again.to_dict()) == str(history.to_dict())
    assert history.table(table_rows)
    assert all(history.recorded(name) for name in history.columns)
    history.layers("gradient_norm")
    assert len(History.from_records(rows)) <= len(rows)
    assert history._repr_html_()


LOG = Kind(
    st.lists(st.floats(), min_size=1, max_size=12).map(
        lambda losses: "".join(f"step {k} loss {x!r}\n" for k, x in enumerate(losses))
    ),
    (7, None, [], "nothing\nhere\n"),
)
RUN = st.lists(
    st.fixed_dictionaries(
        {"loss": st.floats(), "gradient_norm": st.floats(0, 1e30)},
        optional={
            "gradient_norm/0.weight": st.floats(0, 1e30),
            "update_ratio/0.weight": st.floats(0, 1e3),
        },
    ),
    min_size=1,
    max_size=8,
).map(recorded)


def training(
    kind: str, seed: int, size: float | None, rate: float, scale: float
) -> dict[str, object]:
    model = network(kind, seed, size, True, False)
    return {
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=rate),
        "batches": [pair(4, seed + k, scale) for k in range(2)],
    }


TINY = partial(nn.Linear, 3, 2)


def made(data_pair: tuple[Tensor, Tensor], batch_size: int, **settings: object) -> None:
    assert list(islice(data.batches(*data_pair, batch_size, **settings), 3))


def with_seed_text(text: str) -> None:
    with mock.patch.dict(os.environ, {"GRADLIB_SEED": text}):
        chapter.base_seed()


def quiet(function: object, *arguments: object, **settings: object) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        function(*arguments, **settings)


def claimed(value: float, above: float, below: float) -> None:
    quiet(chapter.claim, "a claim", value, above=above, below=below)


RECORDING: dict[str, object] = dict(
    model=Kind(NETWORK, (7, None)),
    batch=Kind(PAIR),
    steps=Kind(st.integers(1, 4)),
    optimizer=Kind(st.just("sgd"), (7, None, nn.Linear(1, 1))),
    path=Kind(st.just("box.pt"), (7, None)),
    every=count(1, 3),
    clip=Kind(st.sampled_from([None, 1.0, INF]), (0.0, -1.0, NAN, "1")),
    autocast=Kind(st.none(), ("float16", 7)),
    first_step=count(0, 9),
    in_memory=FLAG,
    loss=Kind(st.just("cost"), (7, None, lambda m, b: m(b[0]).sum(dim=1))),
    replay_clip=Kind(st.none(), (0.0, NAN, "norm")),
    replay_autocast=Kind(st.none(), ("float16", 7)),
    seconds=Kind(st.none(), (0.0, -1.0, "1")),
    named={"replay_clip": "clip", "replay_autocast": "autocast"},
    changes=("weights", "gradients to None", "random state"),
)
TABLE: dict[str, Entry] = {
    "training.fit": entry(
        fit,
        joint=st.builds(
            optimizer_or_rate,
            st.sampled_from(["rate", "sgd", "adam"]),
            st.sampled_from(RATES),
        ),
        model=Kind(NETWORK, NO_TRAINABLE),
        batches=BATCHES,
        lr=refused(*NO_RATE),
        optimizer=refused(7, "sgd", lambda parameters, lr: 7),
        loss_fn=LOSS,
        loss=MODEL_LOSS,
        steps=count(1, 3).or_none(),
        clip=CLIP,
        scheduler=Kind(
            st.sampled_from(
                [None, partial(torch.optim.lr_scheduler.StepLR, step_size=1)]
            ),
            (7, "step"),
        ),
        accumulate=count(1, 1),
        count=Kind(st.just(len), (7, None, "x")),
        monitor=Kind(st.none(), (7, "monitor")),
        autocast=Kind(st.sampled_from([None, torch.bfloat16]), ("float16", 7)),
        scaler=Kind(st.none(), (7, "scaler")),
        stop_at_divergence=choice("raise", "stop"),
        diverged_above=LIMIT,
        errors=(DivergenceError,),
        changes=("weights", "gradients to None", "random state"),
    ),
    "training.accuracy": entry(
        accuracy,
        joint=st.builds(lambda batch: {"x": batch[0], "y": batch[1]}, PAIR),
        model=Kind(NETWORK, NO_MODEL),
        x=refused(7, None, torch.zeros(0, 3), torch.zeros(99, 3)),
        y=refused(7, None, torch.zeros(99)),
        batch_size=count(1, 10),
    ),
    "training.lr_range_test": entry(
        lr_range_test,
        model=Kind(NETWORK, NO_TRAINABLE),
        batches=BATCHES,
        optimizer=Kind(
            st.sampled_from([torch.optim.SGD, torch.optim.Adam]),
            (7, "sgd", lambda parameters: 7),
        ),
        loss_fn=LOSS,
        loss=MODEL_LOSS,
        lr_min=positive(1e-6, 1e-3),
        lr_max=positive(1e-2, 1e6),
        steps=count(2, 4),
        clip=CLIP,
        errors=(DivergenceError,),
    ),
    "monitor.GradientMonitor": entry(
        watched,
        joint=st.builds(
            lambda every, times: {"every": every, "updates_every": every * times},
            st.integers(1, 2),
            st.integers(1, 2),
        ),
        model=Kind(NETWORK, NO_TRAINABLE),
        batch=Kind(PAIR),
        steps=Kind(st.integers(1, 4)),
        every=refused(0, -1, 1.5, "1", None),
        updates_every=refused(0, -1, 1.5, "1"),
        activations=FLAG,
        changes=("weights", "gradients to None", "random state"),
    ),
    "attention.AttentionMonitor": entry(
        attended,
        heads=Kind(st.integers(1, 3)),
        seed=Kind(SMALL_SEED),
        steps=Kind(st.integers(1, 4)),
        model=refused(*(model for model in NO_TRAINABLE if model is not None)),
        every=count(1, 3),
        rows=count(1, 3),
        queries=count(1, 4),
        layers=Kind(st.sampled_from([None, ["blocks.0.attention"]]), (7, [], "none")),
        named={"model": "model|layers"},
        changes=("random state",),
    ),
    "watcher.watch": entry(
        recorded_by_watch,
        joint=st.builds(
            lambda every, times: {"every": every, "updates_every": every * times},
            st.integers(1, 2),
            st.integers(1, 2),
        ),
        model=Kind(NETWORK, (7, None, nn.ReLU())),
        batch=Kind(PAIR),
        steps=Kind(st.integers(1, 4)),
        optimizer=Kind(st.just("sgd"), (7, None, [], nn.Linear(1, 1))),
        every=refused(0, -1, 1.5, "1", None),
        updates_every=refused(0, -1, 1.5, "1"),
        flush_seconds=Kind(st.floats(0.0, 9.0), (-1.0, NAN, "1")),
        first_step=Kind(st.sampled_from([None, 0, 7]), (-1, 1.5, "1")),
        attention=refused(7, "each", nn.Linear(1, 1)),
        named={"model": "model|optimizer"},
        changes=("weights", "gradients to None", "random state"),
    ),
    "watcher.Watcher": entry(
        logged_by_watcher,
        value=Kind(VALUES, ("1", None, [1.0], torch.ones(2))),
        changes=("random state",),
    ),
    "guard.SpikeGuard": entry(
        guarded,
        model=Kind(NETWORK, NO_MODEL),
        optimizer=Kind(st.just("sgd"), (7, None, nn.Linear(1, 1))),
        losses=Kind(
            st.lists(VALUES, min_size=1, max_size=8),
            (["1"], [None], [torch.ones(2)]),
        ),
        norm=Kind(st.sampled_from([None, 0.0, 1.0]), ("1", torch.ones(2))),
        update_rms=Kind(st.sampled_from([None, 1.0]), ("1", torch.ones(2))),
        window=count(3, 9),
        least=count(1, 3),
        threshold=positive(1e-3, 9),
        patience=count(1, 4),
        every=count(1, 4),
        keep=count(1, 3),
        rollbacks=count(1, 3),
        named={"losses": "loss"},
        errors=(DivergenceError,),
        changes=("gradients to None", "random state"),
    ),
    "guard.agree": entry(
        agree,
        flag=Kind(
            st.sampled_from(["go", "skip", "rollback", True, False]),
            (7, None, "stop", 1.0),
        ),
    ),
    "recorder.FlightRecorder": entry(replayed, **RECORDING),
    "replay.replay": entry(replayed, **RECORDING),
    "history.History": entry(
        history_of,
        rows=Kind(ROWS),
        table_rows=count(2, 5),
        column=Kind(VALUES, ("1", None, [1.0], torch.ones(2))),
        named={"table_rows": "rows"},
    ),
    "sweep.Ensemble": entry(
        Ensemble,
        models=Kind(
            st.builds(lambda n: [TINY() for _ in range(n)], st.integers(1, 3)),
            (7, None, [], [7], [nn.Linear(2, 2), nn.Linear(3, 2)]),
        ),
        changes=("random state",),
    ),
    "sweep.build": entry(
        build,
        model=Kind(st.just(TINY), (7, None, nn.Linear(3, 2), lambda: 7, nn.ReLU)),
        seed=count(0, 2**40),
        start=Kind(st.sampled_from([None, "he", "xavier"]), ("no such name", 7)),
        activation=Kind(st.sampled_from(["relu", "tanh"])),
        named={"start": "scheme|start"},
    ),
    "sweep.sweep": entry(
        sweep,
        model=Kind(st.just(TINY), (7, None, nn.Linear(3, 2), lambda: 7, nn.ReLU)),
        batches=Kind(PAIRS, NO_BATCHES),
        lrs=Kind(
            st.lists(st.sampled_from(RATES), min_size=1, max_size=2, unique=True),
            ([], 0.1, [0.1, 0.1], [-1.0], ["1"], None),
        ),
        seeds=Kind(
            st.lists(SMALL_SEED, min_size=1, max_size=2, unique=True),
            ([], 1, [1, 1], [-1], [1.5], None),
        ),
        schemes=Kind(
            st.sampled_from([None, ["he"], {"mine": "xavier"}]),
            ([], "he", ["no such name"], 7),
        ),
        steps=count(1, 3).or_none(),
        loss_fn=LOSS,
        momentum=Kind(st.floats(0, 0.99), (1.0, -0.1, NAN, "1", None)),
        clip=CLIP,
        diverged_above=LIMIT,
        named={"schemes": "scheme(s)?"},
        slow=2,
    ),
    "diagnosis.diagnose": entry(
        diagnose,
        joint=st.builds(
            training,
            KINDS_OF_NET,
            SMALL_SEED,
            SIZE_OF_GRADIENT,
            st.sampled_from([0.0, 0.1, 1e3]),
            st.sampled_from([1.0, 1e4, NAN]),
        ),
        model=refused(*NO_TRAINABLE),
        optimizer=refused(7, None, "sgd", torch.optim.SGD),
        batches=refused([], 7, None, [1]),
        loss_fn=Kind(st.just(cross_entropy), (7, None, "loss")),
        clip=Kind(st.sampled_from([None, 1.0, normalize_]), (0.0, -1.0, "norm")),
        scheduler=Kind(st.none(), (7, "step")),
        max_steps=Kind(st.integers(1, 3), count(1, 3).or_none().bad),
        seconds=positive(1e-3, 10),
        slow=20,
    ),
    "diagnosis.diagnose_history": entry(
        diagnose_history, history=Kind(RUN, (7, None, [], History()))
    ),
    "diagnosis.diagnose_log": entry(
        diagnose_log, path_or_text=LOG, named={"path_or_text": "path_or_text|text"}
    ),
    "logs.read_log": entry(
        read_log, path_or_text=LOG, named={"path_or_text": "path_or_text|text"}
    ),
    "checkpoint.examine_checkpoint": entry(
        examined,
        weights=Kind(st.lists(st.floats(-9, 9), min_size=1, max_size=4)),
        path=Kind(st.just("weights.pt"), (7, None, [])),
    ),
    "data.mnist": entry(
        data.mnist,
        split=choice("train", "test"),
        n=Kind(st.none() | st.integers(1, 1000), (0, -1, 1.5, "2", 10**6)),
        pool=Kind(st.sampled_from([1, 2, 4, 7, 14]), (0, 3, 1.5, "2", None)),
        root=Kind(st.none(), (7,)),
        slow=4,
    ),
    "data.batches": entry(
        made,
        data_pair=Kind(PAIR),
        batch_size=Kind(st.integers(1, 2), (0, -1, 1.5, "2", None, 99)),
        seed=count(0, 2**40),
        epochs=count(1, 2).or_none(),
        drop_last=FLAG,
    ),
    "data.adding_problem": entry(
        data.adding_problem, n=count(1, 4), length=count(2, 9), seed=count(0, 2**40)
    ),
    "data.copy_task": entry(
        data.copy_task,
        n=count(1, 4),
        delay=count(1, 5),
        memory=count(1, 4),
        symbols=count(1, 9),
        seed=count(0, 2**40),
    ),
    "data.repeat_task": entry(
        data.repeat_task,
        n=count(1, 4),
        length=Kind(st.integers(1, 5).map(lambda half: 2 * half), count(2, 9).bad),
        vocab=count(1, 9),
        seed=count(0, 2**40),
    ),
    "data.markov_chain": entry(
        data.markov_chain,
        n=count(1, 4),
        length=count(2, 9),
        transitions=Kind(
            st.sampled_from([torch.eye(3), torch.full((2, 2, 2), 0.5)]),
            (7, None, torch.ones(3, 3), torch.eye(3).long(), torch.tensor(1.0)),
        ),
        seed=count(0, 2**40),
    ),
    "data.heavy_tailed_noise": entry(
        data.heavy_tailed_noise,
        size=Kind(
            st.integers(0, 5) | st.lists(st.integers(0, 3), max_size=3),
            (-1, 1.5, "2", None, [-1], [1.5]),
        ),
        tail_index=Kind(st.floats(0.1, 2.0), positive().bad),
        kind=choice("student", "stable"),
        scale=positive(),
        generator=GENERATOR,
    ),
    "chapter.base_seed": entry(
        with_seed_text,
        text=Kind(st.integers(0, 2**63).map(str), ("", "-1", "1.5", "one", "²")),
        named={"text": "GRADLIB_SEED"},
    ),
    "chapter.begin": entry(
        chapter.begin,
        seed=Kind(st.none() | st.integers(0, 2**32 - 1), (-1, 1.5, "1", 2**80)),
        changes=("random state", "style"),
    ),
    "chapter.say": entry(partial(quiet, chapter.say), text=TEXT),
    "chapter.versions": entry(partial(quiet, chapter.versions)),
    "chapter.table": entry(
        partial(quiet, chapter.table),
        header=Kind(st.just(["a", "b"])),
        rows=Kind(
            st.lists(st.tuples(VALUES, TEXT.good), max_size=3),
            ([[1]], [[1, 2, 3]]),
        ),
        named={"rows": "row"},
    ),
    "chapter.claim": entry(
        claimed,
        value=Kind(st.floats(0, 1)),
        above=Kind(st.floats(-1, 0.5), (2.0, NAN)),
        below=Kind(st.floats(1, 2), (-2.0, NAN)),
        errors=(AssertionError,),
    ),
}

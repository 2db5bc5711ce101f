"""Histories come from files and records, and go to pandas, TensorBoard and HTML."""

import math
import sys

import pytest
from torch import nn
from written import run, write

from gradlib import History, audit, read_log
from gradlib.logs.tensorboard import read_event_file

LOSSES = [round(record.loss, 4) for record in run()]


def test_a_log_is_read(tmp_path):
    path = tmp_path / "train.log"
    path.write_text(write("nanogpt", run()))
    assert History.read(path)["loss"] == LOSSES


def test_what_save_wrote_is_read_exactly(tmp_path):
    history = History(diverged_at=3)
    history.append(3, loss=math.nan)
    history.save(tmp_path / "a.json")
    again = History.read(tmp_path / "a.json")
    assert again.diverged_at == 3
    assert math.isnan(again["loss"][0])


def test_records_of_a_trainer():
    history = History.from_records(
        [
            {
                "loss": 2.5,
                "grad_norm": 1.5,
                "learning_rate": 0.1,
                "step": 10,
                "epoch": 1,
            },
            {"eval_loss": 2.25, "step": 10, "name": "a"},
            {"loss": "nan", "step": 20, "ok": True},
        ]
    )
    assert history["step"] == [10, 20]
    assert history["gradient_norm"][0] == 1.5
    assert history.recorded("eval_loss") == ([10], [2.25])
    assert math.isnan(history["loss"][1])
    assert "ok" not in history


def test_records_without_steps_are_counted():
    history = History.from_records([{"loss": 2.5}, {"nothing": None}, {"loss": 1.5}])
    assert history.recorded("loss") == ([0, 2], [2.5, 1.5])


def test_records_that_go_back_are_refused():
    with pytest.raises(ValueError, match="step: expected 5 or more"):
        History.from_records([{"loss": 1, "step": 5}, {"loss": 1, "step": 4}])


def test_rows_at_once_are_those_one_by_one():
    at_once, one_by_one = History(), History()
    at_once.extend_rows(range(3), ("loss", "norm"), [1, 2, 3, 4, 5, 6])
    for step in range(3):
        one_by_one.append(step, loss=2 * step + 1, norm=2 * step + 2)
    assert at_once.to_dict() == one_by_one.to_dict()
    with pytest.raises(ValueError, match="3 steps times 1 names, got 2"):
        at_once.extend_rows(range(3, 6), ("loss",), [1, 2])
    with pytest.raises(ValueError, match="greater than the one before, from 3 on"):
        at_once.extend_rows([2], ("loss",), [1])


def test_steps_are_given_afterwards():
    history = History()
    history.extend_rows(range(3), ("loss",), [1, 2, 3])
    history.renumber([10, 20, 30])
    assert history.recorded("loss") == ([10, 20, 30], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="as many as rows, 3, got 2"):
        history.renumber([1, 2])
    with pytest.raises(ValueError, match="greater than the one before"):
        history.renumber([1, 1, 2])


def test_pandas(monkeypatch):
    pandas = pytest.importorskip("pandas")
    history = History()
    history.append(3, loss=2.5)
    history.append(5, loss=1.5, norm=0.5)
    frame = history.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert frame.index.name == "step"
    assert frame["loss"].to_dict() == {3: 2.5, 5: 1.5}


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"needs pandas; install gradlib\[logs\]"):
        History().to_pandas()
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setitem(sys.modules, "tensorboard.backend.event_processing", None)
    path = tmp_path / "events.out.tfevents.1.host"
    path.write_bytes(b"")
    with pytest.raises(
        ImportError, match=r"needs tensorboard; install gradlib\[logs\]"
    ):
        read_log(path)


class Writer:
    def __init__(self):
        self.scalars = []

    def add_scalar(self, name, value, step):
        self.scalars.append((name, value, step))


def test_a_writer_gets_every_number():
    history = History()
    history.append(3, loss=2.5)
    history.append(5, loss=1.5, norm=0.5)
    writer = Writer()
    history.to_tensorboard(writer)
    assert writer.scalars == [("loss", 2.5, 3), ("loss", 1.5, 5), ("norm", 0.5, 5)]


def test_an_event_file_is_read(tmp_path):
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path) as writer:
        for k in range(4):
            writer.add_scalar("train/loss", 2.5 - 0.5 * k, 10 * k)
            writer.add_scalar("train/grad_norm", 1.5, 10 * k)
    (path,) = tmp_path.glob("*tfevents*")
    log = read_log(path)
    assert log.format == "tensorboard"
    assert log.history.recorded("loss") == ([0, 10, 20, 30], [2.5, 2.0, 1.5, 1.0])
    assert log.history["gradient_norm"] == [1.5] * 4


def test_an_event_file_without_scalars_is_refused(tmp_path):
    pytest.importorskip("tensorboard")
    path = tmp_path / "events.out.tfevents.1.host"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="found no number"):
        read_event_file(path)


def test_notebooks_show_tables():
    log = read_log(write("nanogpt", run(30)))
    for shown in (log, log.history, audit(nn.Sequential(nn.Linear(4, 4)))):
        html = shown._repr_html_()
        assert "<table><tr><th>" in html
        assert html.count("<tr>") <= 12
    assert "text: 30 lines, format nanogpt" in repr(log)


def test_a_name_from_a_log_is_escaped():
    log = read_log("step: 1 loss: 2.5 loss_a<b: 3.5\n")
    assert "<b" not in log.history._repr_html_()

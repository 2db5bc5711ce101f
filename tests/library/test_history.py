"""The record of a run: rows, columns, files, tables."""

import json
import math
import tracemalloc

import numpy as np
import pytest
import torch

from gradlib.history import History


def rows(*losses, **columns):
    history = History(**columns)
    for step, loss in enumerate(losses):
        history.append(step, loss=loss)
    return history


def test_a_column_is_a_list_with_one_number_a_step():
    history = rows(2.5, 1.5, 0.5)
    assert history["loss"] == [2.5, 1.5, 0.5]
    assert history["step"] == [0, 1, 2]
    assert history.columns == ["step", "loss"]
    assert len(history) == 3


def test_a_step_may_come_from_numpy(tmp_path):
    history = History()
    history.append(np.int64(3), loss=1.0)
    history.save(tmp_path / "run.json")
    assert History.load(tmp_path / "run.json")["step"] == [3]


def test_values_may_be_tensors_integers_and_booleans():
    history = History()
    history.append(0, loss=torch.tensor(0.5), clipped=True, batch=32)
    assert history.to_dict() == {
        "step": [0],
        "loss": [0.5],
        "clipped": [1.0],
        "batch": [32.0],
    }


def test_a_missing_value_is_nan_in_the_column_and_left_out_of_recorded():
    history = rows(1.0, math.nan, 3.0)
    history.append(3, accuracy=0.5)
    assert math.isnan(history["loss"][3])
    steps, losses = history.recorded("loss")
    assert steps == [0, 1, 2]
    assert math.isnan(losses[1])
    assert history.recorded("accuracy") == ([3], [0.5])


def test_the_last_step_again_adds_columns_to_its_row():
    history = rows(1.0, 2.0)
    history.append(1, accuracy=0.5, loss=4.0)
    assert history["loss"] == [1.0, 4.0]
    assert history.recorded("accuracy") == ([1], [0.5])


def test_a_returned_column_is_a_copy():
    history = rows(1.0)
    history["loss"].append(2.0)
    history["step"].append(7)
    assert history.to_dict() == {"step": [0], "loss": [1.0]}


def test_layers_groups_the_columns_of_one_quantity():
    history = History()
    history.append(
        0, **{"norm/a.weight": 1.0, "norm/b": 2.0, "norms/c": 3.0, "norm": 4.0}
    )
    assert history.layers("norm") == {"a.weight": [1.0], "b": [2.0]}
    assert history.layers("angle") == {}


def test_layers_leaves_out_steps_without_a_value():
    history = rows(1.0, 2.0, 3.0)
    history.append(2, **{"norm/a": math.nan})
    history.append(3, **{"norm/a": 5.0})
    assert list(map(str, history.layers("norm")["a"])) == ["nan", "5.0"]


def test_contains_asks_for_a_column():
    history = rows(1.0)
    assert "loss" in history
    assert "step" in history
    assert "angle" not in history


@pytest.mark.parametrize(
    ("column", "message"),
    [("los", "no column 'los'.*it has loss"), ("angle", "it has step, loss")],
)
def test_an_unknown_column_names_the_known_ones(column, message):
    with pytest.raises(KeyError, match=message):
        rows(1.0)[column]


def test_steps_never_go_back():
    history = rows(1.0, 2.0)
    with pytest.raises(ValueError, match=r"step: expected 1 or more.*got 0"):
        history.append(0, loss=1.0)
    assert history["loss"] == [1.0, 2.0]
    with pytest.raises(ValueError, match=r"step: expected a whole number >= 0.*got -1"):
        History().append(-1, loss=1.0)


@pytest.mark.parametrize(
    ("step", "columns", "message"),
    [
        (1.5, {"loss": 1.0}, "step: expected a whole number"),
        (0, {"loss": "1.0"}, "loss: expected a number, got str"),
        (0, {"loss": None}, "loss: expected a number, got NoneType"),
    ],
)
def test_append_refuses_what_is_no_number(step, columns, message):
    history = History()
    with pytest.raises(TypeError, match=message):
        history.append(step, **columns)
    assert len(history) == 0


def test_refused_values_leave_no_column():
    history = rows(1.0)
    with pytest.raises(TypeError):
        history.append(1, accuracy="good")
    assert history.columns == ["step", "loss"]
    assert "accuracy" not in history


def test_extend_is_append_for_many_columns():
    one, other = rows(1.0), rows(1.0)
    names = ("norm/a", "norm/b")
    one.extend(0, names, [0.5, torch.tensor(2.0)])
    other.append(0, **{"norm/a": 0.5, "norm/b": 2})
    assert one.to_dict() == other.to_dict()
    one.extend(0, names[1:], [3.0])
    assert one["norm/b"] == [3.0], "the last value of a step counts"
    one.extend(4, list(names), iter([1.0, 1.0]))
    assert one.recorded("norm/b") == ([0, 4], [3.0, 1.0])


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0, 3.0]])
def test_extend_needs_one_value_a_name(values):
    with pytest.raises(ValueError, match=f"as many as names, 2, got {len(values)}"):
        History().extend(0, ("a", "b"), values)


def test_a_step_takes_eight_bytes_a_column_and_some_two_hundred():
    names = tuple(f"norm/{k}" for k in range(400))
    history, steps = History(), 200
    history.extend(0, names, [0.0] * 400)
    tracemalloc.start()
    for step in range(1, steps + 1):
        history.extend(step, names, [step + k / 7 for k in range(400)])
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 8 * 400 < size / steps < 8 * 400 + 300


def test_a_saved_history_comes_back_exactly(tmp_path):
    history = rows(0.1, math.nan, math.inf, -math.inf, diverged_at=4)
    history.append(7, **{"norm/a.weight": 1 / 3})
    history.save(tmp_path / "run.json")
    loaded = History.load(tmp_path / "run.json")
    assert loaded.diverged_at == 4
    assert loaded.columns == history.columns
    assert loaded["step"] == [0, 1, 2, 3, 7]
    assert loaded.recorded("norm/a.weight") == ([7], [1 / 3])
    for column in history.columns:
        assert list(map(str, loaded[column])) == list(map(str, history[column]))


def test_the_file_is_standard_json(tmp_path):
    rows(1.0, math.nan).save(tmp_path / "run.json")
    text = (tmp_path / "run.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["columns"] == {
        "loss": [1.0, "nan"]
    }


def test_an_empty_history_can_be_saved(tmp_path):
    History().save(tmp_path / "run.json")
    assert History.load(tmp_path / "run.json").columns == ["step"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"format": "other"}',
        '{"format": "gradlib.History/1"}',
        '{"format": "gradlib.History/1", "diverged_at": null, "steps": [0, 1], '
        '"columns": {"loss": [1.0]}}',
    ],
)
def test_load_refuses_other_files(tmp_path, text):
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"run\.json: expected a file written by"):
        History.load(path)


def test_load_says_when_there_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        History.load(tmp_path / "none.json")


def test_the_table_shows_head_and_tail_and_what_it_leaves_out():
    history = rows(*range(100, 0, -1), diverged_at=99)
    history.append(99, **{"norm/a": 1.0, "norm/b": 2.0})
    lines = history.table(rows=5).splitlines()
    assert [line.split() for line in lines] == [
        ["step", "loss"],
        ["0", "100"],
        ["1", "99"],
        ["2", "98"],
        ["..."],
        ["98", "2"],
        ["99", "1"],
        ["and", "2", "columns", "of", "layers"],
        ["diverged", "at", "step", "99"],
    ]


def test_a_short_history_is_shown_whole():
    assert str(rows(2.0, 1.0)) == "step  loss\n   0     2\n   1     1"
    assert "..." not in rows(*range(10)).table(rows=10)


def test_an_empty_history_says_so():
    assert str(History()) == "History without steps"


def test_table_needs_two_rows():
    with pytest.raises(ValueError, match="rows: expected a whole number >= 2, got 1"):
        rows(1.0).table(rows=1)


@pytest.mark.parametrize("other", ["gradlib.History/0", "gradlib.History/2", "", None])
def test_files_of_another_format_are_refused(tmp_path, other):
    path = tmp_path / "run.json"
    history = History()
    history.append(0, loss=1.0)
    history.save(path)
    content = json.loads(path.read_text("utf8")) | {"format": other}
    path.write_text(json.dumps(content), "utf8")
    with pytest.raises(ValueError, match=r"written by History\.save"):
        History.load(path)


def test_a_step_may_be_a_number_of_numpy():
    history = History()
    history.append(np.int64(0), loss=1.0)
    history.append(np.int64(2), loss=0.5)
    assert history["step"] == [0, 2]

"""read_log(): prefixes, quotes, cuts, ranks, bars, encodings, broken files."""

import gzip
import json
import math

import pytest
from written import FORMATS, run, write

from gradlib.logs import read_log
from gradlib.logs.lines import LONGEST
from gradlib.logs.reading import Reader

TRAINER = write("hf_trainer_dict", run())
LOSSES = [round(record.loss, 4) for record in run()]


def losses(text, column="loss"):
    return read_log(text).history.recorded(column)[1]


@pytest.mark.parametrize(
    "prefix",
    ["[rank0]: ", "2001-01-01 10:00:00 INFO ", "10.0.0.1: ", "(trainer pid=9) ", "0: "],
)
def test_a_prefix_is_no_obstacle(prefix):
    text = "".join(f"{prefix}{line}\n" for line in TRAINER.splitlines())
    assert losses(text) == LOSSES


def test_colors_and_curly_quotes_are_removed():
    colored = TRAINER.replace("{", "\x1b[32m{").replace("}", "}\x1b[0m")
    assert losses(colored) == LOSSES
    curly = TRAINER.replace("'loss'", "‘loss’").replace("'epoch'", "“epoch”")
    assert losses(curly) == LOSSES


@pytest.mark.parametrize("ends", ["\r\n", "\r"])
def test_lines_end_in_any_way(ends):
    assert losses(TRAINER.replace("\n", ends)) == LOSSES


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_encodings_are_found(tmp_path, encoding):
    path = tmp_path / "train.log"
    path.write_bytes(TRAINER.encode(encoding))
    assert losses(path) == LOSSES


def test_mixed_encodings_lose_no_number(tmp_path):
    path = tmp_path / "train.log"
    path.write_bytes(
        "größer\n".encode("latin-1") + "größer\n".encode() + TRAINER.encode()
    )
    assert losses(path) == LOSSES


def test_gzip_is_read_also_where_it_is_cut(tmp_path):
    path = tmp_path / "train.log.gz"
    long = "".join(write("nanogpt", run(400)))
    packed = gzip.compress(long.encode())
    path.write_bytes(packed)
    assert len(losses(path)) == 400
    path.write_bytes(packed[: len(packed) // 2])
    assert 10 < len(losses(path)) < 400


def test_a_cut_dictionary_gives_what_is_whole():
    text = TRAINER[: TRAINER.rindex("'grad_norm'")]
    history = read_log(text).history
    assert history["loss"] == LOSSES
    assert math.isnan(history["gradient_norm"][-1])


def test_bare_nan_and_numbers_as_texts_are_read():
    text = '{"loss": NaN, "grad_norm": "1.5", "step": 1}\n{"loss": "2.5", "step": 2}\n'
    history = read_log(text).history
    assert math.isnan(history["loss"][0])
    assert history["loss"][1] == 2.5
    assert history["gradient_norm"][0] == 1.5


def test_a_dictionary_over_several_lines():
    text = '{\n  "loss": 2.5,\n  "grad_norm": nan,\n  "epoch": 0.1,\n}\n'
    log = read_log(text * 2)
    assert log.history["loss"] == [2.5, 2.5]
    assert log.unit == "line"
    assert log.history["step"] == [1, 6]


def test_a_state_of_the_trainer_is_read_pretty_and_in_one_line(tmp_path):
    entries = [{"loss": r.loss, "grad_norm": r.norm, "step": r.step} for r in run()]
    entries.insert(4, {"eval_loss": 1.75, "step": 4})
    state = {"best_metric": None, "global_step": 8, "log_history": entries}
    for indent in (2, None):
        path = tmp_path / "trainer_state.json"
        path.write_text(json.dumps(state, indent=indent))
        history = read_log(path).history
        assert history["step"] == [r.step for r in run()]
        assert history["loss"] == pytest.approx([r.loss for r in run()])
        assert history.recorded("eval_loss") == ([4], [1.75])


def test_the_summary_at_the_end_of_a_run_is_no_record():
    text = TRAINER + "{'train_runtime': 12.5, 'train_loss': 0.001, 'epoch': 1.0}\n"
    assert losses(text) == LOSSES


def test_the_same_line_of_several_ranks_is_one_record():
    ranks = "".join(
        f"10.0.0.{rank}: {line}\n" for line in TRAINER.splitlines() for rank in range(4)
    )
    assert losses(ranks) == LOSSES
    lines = write("torchtitan", run()).splitlines()
    late = [lines[0], lines[1], lines[0].replace("rank0", "rank1"), *lines[2:]]
    assert read_log("\n".join(late) + "\n").history["step"] == list(range(1, 9))


def test_bars_count_the_records_between_them():
    text = "".join(
        f" {k}%|█▎   | {10 * k}/900 [00:10<10:00, 1.5it/s]\n{line}\n"
        for k, line in enumerate(TRAINER.splitlines(), 1)
    )
    log = read_log(text)
    assert log.unit == "step"
    assert log.history["step"] == [10 * k for k in range(1, 9)]


def test_a_bar_that_is_drawn_again_is_one_record():
    bar = "Epoch 0:  11%|█▏ | {}/18 [00:11<01:33, 5.82s/it, loss={}, v_num=1]\r"
    text = bar.format(1, 2.5) + bar.format(2, 2.5) + bar.format(2, 2.25) + "\n"
    log = read_log(text)
    assert log.history["loss"] == [2.5, 2.25]
    assert log.running == ("loss",)


def test_averages_are_known_as_running_means():
    log = read_log(write("metric_logger", run()))
    assert set(log.running) == {"average_loss", "average_gradient_norm"}


def test_epochs_are_counted_where_only_whole_ones_are_shown():
    text = "".join(
        f"Epoch {k}/9\n50/50 [======] - 1s - loss: {3 - 0.1 * k:.2f} - val_loss: 2.5\n"
        for k in range(1, 5)
    )
    log = read_log(text)
    assert (log.unit, log.history["step"]) == ("epoch", [1, 2, 3, 4])


def test_batches_are_counted_through_epochs():
    text = "".join(
        f"Epoch: [{e}][{i}/20]\tTime 0.5 (0.5)\tLoss 2.{9 - e}{i // 10} (2.9)\n"
        for e in range(3)
        for i in (0, 10)
    )
    assert read_log(text).history["step"] == [0, 10, 20, 30, 40, 50]


def test_steps_that_start_again_go_on_and_are_shown_as_in_the_log():
    text = write("nanogpt", run(5, first=10)) + write("nanogpt", run(5, first=10))
    log = read_log(text)
    assert log.history["step"] == list(range(10, 20))
    assert [event.kind for event in log.events] == ["restarted"]
    assert [log.shown(step) for step in log.history["step"]] == [*range(10, 15)] * 2


def test_overflows_come_with_their_step_and_scale():
    text = write("nanogpt", run(3)) + (
        "OVERFLOW! Rank 0 Skipping step. Attempted loss scale: 64, reducing to 32\n"
        "Gradient overflow.  Skipping step, loss scaler 0 reducing loss scale to 16.0\n"
    )
    first, second = read_log(text).events
    assert (first.kind, first.step, first.before, first.value) == (
        "overflow",
        4,
        64,
        32,
    )
    assert (second.before, second.value) == (None, 16.0)


def test_a_log_of_events_alone_is_read():
    text = "OVERFLOW! Skipping step. Attempted loss scale: 65536, reducing to 32768\n"
    log = read_log(text)
    assert len(log.history) == 0
    assert log.events[0].value == 32768


def test_lines_that_could_not_be_read_are_kept():
    log = read_log(TRAINER + "the loss went up 3 times\n")
    assert log.unread == ("the loss went up 3 times",)


def test_configuration_is_no_record():
    text = "loss_scale: 128.0\nlearning_rate: 0.1\nNamespace(lr=0.5, loss_weight=1.0)\n"
    assert losses(text + write("nanogpt", run())) == LOSSES


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no number of a training in 0 lines"),
        (b"nothing to see here\n", "no number of a training in 1 lines"),
        (bytes(range(256)) * 40, "expected text, got a binary file"),
        (b"\x1f\x8bnot really gzip", "no number of a training"),
    ],
)
def test_what_is_no_log_is_refused(tmp_path, content, said):
    path = tmp_path / "train.log"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=said):
        read_log(path)


def test_a_folder_and_a_missing_file_are_named(tmp_path):
    with pytest.raises(ValueError, match="expected a file, got a folder"):
        read_log(tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"none\.log: expected a file, found none"
    ):
        read_log(tmp_path / "none.log")


def test_a_huge_line_is_cut_and_the_rest_is_read(tmp_path):
    path = tmp_path / "train.log"
    path.write_text("x" * (2 * LONGEST) + "\n" + TRAINER)
    assert losses(path) == LOSSES


def test_a_reader_gives_the_log_again_and_again():
    reader, lines = Reader(), TRAINER.splitlines()
    for place, line in enumerate(lines, 1):
        reader.read(line)
        assert reader.log().history["loss"] == LOSSES[:place]


def test_a_metric_per_line_of_mlflow_is_read():
    text = "run,metric,value,step\n" + "".join(
        f"a,{name},{value},{k}\n"
        for k in range(3)
        for name, value in (("train_loss", 2.5 - k), ("lr", 0.1))
    )
    history = read_log(text).history
    assert history["loss"] == [2.5, 1.5, 0.5]
    assert history["learning_rate"] == [0.1, 0.1, 0.1]


@pytest.mark.parametrize("name", ["nanogpt", "hf_trainer_dict", "plain_pairs"])
def test_a_number_cut_at_the_very_end_does_not_count(name):
    text = write(name, run())
    cut = text[: text.rindex(f"{run()[-1].loss:.4f}") + 1]
    assert losses(cut) == LOSSES[:-1]
    assert FORMATS[name].digits == 4


@pytest.mark.parametrize(
    "line",
    [
        " 5%|█▎  | {0}/80 [00:10<10:00, 1.5it/s, G: {1} | D: {2}]\n",
        " 5%|█▎  | {0}/80 [00:10<10:00, 1.5it/s] G: {1} | D: {2}\n",
        "iter {0}: D: {2} G: {1}\n",
    ],
)
def test_two_networks_named_by_a_letter_each_have_a_loss(line):
    text = "".join(line.format(k, 0.5 + k / 100, "nan") for k in range(1, 6))
    history = read_log(text).history
    assert history["step"] == [1, 2, 3, 4, 5]
    assert history["loss_g"] == [0.51, 0.52, 0.53, 0.54, 0.55]
    assert all(map(math.isnan, history["loss_d"]))


@pytest.mark.parametrize(
    "line", ["{{u'ner': {0}}}\n", "{{'ner': {0}}}\n", "Losses {{u'ner': {0}}}\n"]
)
def test_dictionaries_of_spacy_are_losses(line):
    text = "".join(line.format(loss) for loss in (50.5, 40.5, "nan"))
    values = losses(text, "loss_ner")
    assert values[:2] == [50.5, 40.5]
    assert math.isnan(values[2])


def test_what_the_line_calls_losses_is_one_under_any_key():
    line = "Iteration {0} Losses {{'entity': {1}, 'textcat_multilabel': 0.5}}\n"
    history = read_log("".join(line.format(k, 9.5 - k) for k in range(4))).history
    assert history["step"] == [0, 1, 2, 3]
    assert history["loss_entity"] == [9.5, 8.5, 7.5, 6.5]
    assert history["loss_textcat_multilabel"] == [0.5] * 4


METRIC = "".join(f"167888640{k:04d} {2.5 - k} {10 * k}\n" for k in range(3))


@pytest.mark.parametrize(
    ("name", "column"),
    [("train_loss", "loss"), ("grad_norm", "gradient_norm"), ("loss", "loss")],
)
def test_a_metric_file_of_mlflow_has_the_name_of_its_metric(tmp_path, name, column):
    path = tmp_path / name
    path.write_text(METRIC)
    log = read_log(path)
    assert log.format == "mlflow"
    assert log.history.recorded(column) == ([0, 10, 20], [2.5, 1.5, 0.5])


def test_a_pasted_metric_file_of_mlflow_is_a_loss():
    assert losses(METRIC) == [2.5, 1.5, 0.5]


IN_EPOCHS = [
    "Epoch [{e}/9], Step [{b}/600], Loss: {v:.4f}\n",
    "Epoch[{e}],step[{b}/600] loss: {v:.4f}\n",
    "Epoch: [{e}][{b}/600]\tTime 0.5 (0.5)\tLoss {v:.4f} (2.0)\n",
]


@pytest.mark.parametrize("line", IN_EPOCHS)
def test_a_step_that_goes_on_from_epoch_to_epoch_is_the_step(line):
    text = "".join(
        line.format(e=1 + k // 3, b=100 * (k + 1), v=3 - 0.1 * k) for k in range(6)
    )
    log = read_log(text)
    assert log.history["step"] == [100, 200, 300, 400, 500, 600]
    assert log.history["loss"] == [3.0, 2.9, 2.8, 2.7, 2.6, 2.5]


@pytest.mark.parametrize("line", IN_EPOCHS[:2])
def test_a_step_that_starts_again_in_each_epoch_is_a_batch(line):
    text = "".join(
        line.format(e=1 + k // 3, b=200 * (k % 3 + 1), v=3 - 0.1 * k) for k in range(6)
    )
    assert read_log(text).history["step"] == [200, 400, 600, 800, 1000, 1200]


def test_the_epoch_in_brackets_is_no_step():
    log = read_log("".join(f"Epoch [1], Step [{k}/9], Loss: 2.{k}\n" for k in range(5)))
    assert (log.format, log.history["step"]) == ("plain_pairs", [0, 1, 2, 3, 4])


def test_several_losses_in_one_table_stay_apart():
    text = "Itn  Tag Loss    Tag %    Dep Loss    UAS\n" + "".join(
        f"  {k}  {9.5 - k}     12.100  nan     12.1\n" for k in range(3)
    )
    history = read_log(text).history
    assert history["tag_loss"] == [9.5, 8.5, 7.5]
    assert all(map(math.isnan, history["dep_loss"]))


def test_a_bar_of_a_generator_and_two_losses_of_its_rival():
    bar = (
        "Epoch {0}/9: 100%|███| 75/75 [07:11<00:00, 21.73it/s, DR=713, DF={1}, G={1}]\n"
    )
    history = read_log(bar.format(1, 0.5) + bar.format(2, "nan")).history
    assert history["loss_g"][0] == history["loss_df"][0] == 0.5
    assert math.isnan(history["loss_g"][1])


def test_a_heading_with_blanks_counts_the_lines_below_it():
    text = "".join(
        f"progress  epoch 1  step {s}  image/sec 35.7\n"
        f"gen_loss {9.5 - s}\nl1_loss 2.5\n"
        for s in (2, 4, 6)
    )
    history = read_log(text).history
    assert history["step"] == [2, 4, 6]
    assert history["gen_loss"] == [7.5, 5.5, 3.5]


@pytest.mark.parametrize(
    "line",
    [
        "Epoch: [{0}][5/{0}]\tTime 0.5 (0.5)\tLoss 2.5 (2.9)\n",
        "Epoch [{0}/9], Step [5/{0}], Loss: 2.5\n",
        '{{"train_loss": 2.5, "epoch": {0}}}\n',
        '{{"train_loss": 2.5, "epoch": {0}{0}}}\n',
    ],
)
def test_counts_beyond_any_run_are_no_steps(line):
    assert set(losses(line.format(999_999_999_999) * 3)) == {2.5}


def test_a_heading_may_name_its_step_after_the_number():
    text = "".join(f"epoch 1, {s} steps: begin\ngen_loss {9.5 - s}\n" for s in (2, 4))
    assert read_log(text).history["step"] == [2, 4]

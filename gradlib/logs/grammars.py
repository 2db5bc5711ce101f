"""The line formats of training programs: a format is some lines of this table."""

import re
from dataclasses import dataclass, field
from functools import cached_property

from gradlib.logs.numbers import COUNT, NUMBER

_COUNTED = {"step", "steps", "epoch", "epochs", "batch", "batches"}
_PLACE = re.compile(r"<(\w+)>|(\.\.\.)|(\s+)")


@dataclass(frozen=True)
class Grammar:
    """How one training program writes a line.

    Args:
        format: Name of the format; several grammars may share it.
        line: A part of the line as it is printed. ``<loss>`` stands for a number
            that goes into the column ``loss``, ``...`` for anything, a blank for
            blanks or nothing, two blanks for one or more; blanks may also stand before
            a number. ``<step>``
            counts the record; ``<epoch>`` with ``<batch>`` and ``<batches>`` do so
            together; ``<steps>`` and ``<epochs>`` are totals, which are not kept.
        pairs: How more columns are written in the line: ``":"`` for names and
            numbers with a colon or ``=`` between, ``" "`` where also blanks do,
            ``""`` for none.
        first_epoch: Number of the first epoch, where batches are counted in epochs.
        running: Columns that are means over the epoch so far.
        prefix: What goes before each column, for lines on validation data.
        continues: The line belongs to the record before it.
        rename: Names in this format -> columns.

    Example:
        >>> grammar = Grammar("nanogpt", "iter <step>: loss <loss>, time")
        >>> grammar.pattern.search("iter 10: loss 3.5000, time 5.2ms").groupdict()
        {'step': '10', 'loss': '3.5000'}
    """

    format: str
    line: str
    pairs: str = ""
    first_epoch: int = 0
    running: tuple[str, ...] = ()
    prefix: str = ""
    continues: bool = False
    rename: dict[str, str] = field(default_factory=dict)

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """The line as a regular expression."""
        return re.compile(_expression(self.line))

    @cached_property
    def sign(self) -> str:
        """The longest piece of the line that is always there, letter by letter."""
        return max(_PLACE.sub("\0", self.line).split("\0"), key=len)


def _expression(line: str) -> str:
    parts, end = [], 0
    for place in _PLACE.finditer(line):
        parts.append(re.escape(line[end : place.start()]))
        name, anything, blanks = place.groups()
        if name:
            number = COUNT if name in _COUNTED else NUMBER
            parts.append(rf"\s*(?P<{name}>{number})")
        else:
            least = r"\s*" if blanks == " " else r"\s+"
            parts.append(".{0,400}?" if anything else least)
        end = place.end()
    start = r"(?<![\w.])" if line[:1].isalpha() or line[:1] == "<" else ""
    return start + "".join(parts) + re.escape(line[end:])


GRAMMARS: tuple[Grammar, ...] = (
    Grammar("litgpt", "iter <step> step <updates>: loss <loss>, iter time"),
    Grammar("litgpt", "iter <step> step <updates> | loss train: <loss>,"),
    Grammar("litgpt", "iter <step>: loss <loss>, time:"),
    Grammar("nanogpt", "iter <step>: loss <loss>, time"),
    Grammar(
        "nanogpt",
        "step <step>: train loss <estimated_train_loss>, val loss <val_loss>",
    ),
    Grammar("mmcv", "Epoch [<epoch>][<batch>/<batches>] lr:", ":", first_epoch=1),
    Grammar(
        "mmengine", "Epoch(train) [<epoch>][<batch>/<batches>]", ":", first_epoch=1
    ),
    Grammar("mmengine", "Iter(train) [<step>/<steps>]", ":"),
    Grammar("metric_logger", "[<epoch>] [<batch>/<batches>] eta:", ":"),
    Grammar("swin", "Train: [<epoch>/<epochs>][<batch>/<batches>] eta", " "),
    Grammar("megatron", "iteration <step>/ <steps> | consumed samples:", " "),
    Grammar("sat", "iteration <step>/ <steps> | ... | total loss <loss> |", " "),
    Grammar("neox", "iteration <step>/ <steps> | elapsed time", " "),
    Grammar("neox", "steps: <step> loss: <loss> iter time (s):"),
    Grammar("fairseq", "valid on '", " ", prefix="valid_"),
    Grammar("fairseq", "| valid | epoch", " ", prefix="valid_"),
    Grammar("fairseq", "| epoch <epoch>: <batch> / <batches> loss=", ":"),
    Grammar("fairseq", "| epoch <epoch> | loss", " "),
    Grammar("deepspeed", "step=<step>, skipped=<skipped>", ":"),
    Grammar("tacotron", "Train loss <step> <loss> Grad Norm <gradient_norm>"),
    Grammar("tacotron", "Train iter <step> loss <loss> Grad Norm <gradient_norm>"),
    Grammar(
        "dllogger",
        "Training Epoch: <epoch> Training Iteration: <step>",
        ":",
        rename={"average_loss": "average_loss"},
        running=("average_loss",),
    ),
    Grammar("torchtitan", "step: <step> loss: <loss> grad_norm:", ":"),
    Grammar("torchtitan", "step: <step> loss: <loss> memory:", ":"),
    Grammar("torchtune", "Step <step> | loss:<loss>", ":"),
    Grammar("mlx", "Iter <step>: Train loss <loss>,", " "),
    Grammar("mlx", "Iter <step>: Val loss <val_loss>"),
    Grammar(
        "lightning",
        "Epoch <epoch>/<epochs>: ...| <batch>/<batches> [",
        ":",
        running=("loss",),
    ),
    Grammar(
        "lightning",
        "Epoch <epoch>: ...| <batch>/<batches> [",
        ":",
        running=("loss",),
    ),
    Grammar(
        "keras",
        "<batch>/<batches> [=",
        ":",
        first_epoch=1,
        running=("loss", "acc", "accuracy"),
    ),
    Grammar(
        "keras",
        "<batch>/<batches> [>",
        ":",
        first_epoch=1,
        running=("loss", "acc", "accuracy"),
    ),
    Grammar(
        "keras",
        "<batch>/<batches> [.",
        ":",
        first_epoch=1,
        running=("loss", "acc", "accuracy"),
    ),
    Grammar(
        "keras",
        "<batch>/<batches> ━",
        ":",
        first_epoch=1,
        running=("loss", "acc", "accuracy"),
    ),
    Grammar("tqdm_pairs", "| <step>/<steps> [", ":", running=("avr_loss",)),
    Grammar("detectron2", "iter: <step> total_loss: <loss>", ":"),
    Grammar(
        "frcnn_session",
        "[epoch <epoch>][iter <batch>/<batches>] loss:",
        ":",
        first_epoch=1,
    ),
    Grammar("frcnn_session", "rpn_cls: <rpn_cls>, rpn_box: ", ":", continues=True),
    Grammar("caffe", "Iteration <step>, loss = <loss>"),
    Grammar("caffe", "Iteration <step> (...), loss = <loss>"),
    Grammar("caffe", "Iteration <step>, lr = <learning_rate>"),
    Grammar("caffe", "Iteration <step>, Testing net"),
    Grammar("caffe", "Test net output #", ":", prefix="test_", continues=True),
    Grammar("caffe", "Train net output #", ":", prefix="output_", continues=True),
    Grammar(
        "darknet",
        "<step>: <loss>, <average_loss> avg, <learning_rate> rate",
        running=("average_loss",),
    ),
    Grammar(
        "darknet",
        "<step>: <loss>, <average_loss> avg loss, <learning_rate> rate",
        running=("average_loss",),
    ),
    Grammar(
        "darknet",
        "<step>, <epoch_so_far>: <loss>, <average_loss> avg, <learning_rate> rate",
        running=("average_loss",),
    ),
    Grammar("tf_slim", "global step <step>: loss = <loss>"),
    Grammar("tf_estimator", "loss = <loss>, step = <step>"),
    Grammar("opennmt", "Step <step>/<steps>; acc:", ":"),
    Grammar("opennmt", "Epoch <epoch>, <batch>/<batches>; acc:", ":", first_epoch=1),
    Grammar("ppocr", "epoch: [<epoch>/<epochs>], global_step: <step>,", ":"),
    Grammar("ppocr", "epoch: [<epoch>/<epochs>], iter: <step>,", ":"),
    Grammar("espnet", "<epoch>epoch:train:<batch>-<last>batch:", ":", first_epoch=1),
    Grammar("espnet", "<epoch>epoch results: [train]", ":"),
    Grammar("timm", "Train: <epoch> [<batch>/<batches> (", ":"),
    Grammar("coqui", "-- GLOBAL_STEP: <step>"),
    Grammar("coqui", "| > ", ":", continues=True),
    Grammar("pytorch_imagenet", "Epoch: [<epoch>][<batch>/<batches>]", " "),
    Grammar("verl", "step:<step> - ", ":"),
    Grammar("pipe_equals", "| step=<step> |", ":"),
    Grammar("ssd_pytorch", "iter <step> || Loss: <loss> ||"),
    Grammar("mxnet", "Epoch[<epoch>] Batch[<batch>]", ":"),
    Grammar("mxnet", "Epoch[<epoch>] Batch [<batch>]", ":"),
    Grammar("mxnet", "Epoch[<epoch>] Train-", ":"),
    Grammar("slash_pairs", "[<step>] ...  /  ", " "),
)
"""All formats of one line, the more special before the more general.

To add one, write its line as the program prints it, with ``<name>`` for what counts,
and an example in ``tests/library/logs/test_formats.py``.
"""

DICTIONARIES: tuple[tuple[str, str], ...] = (
    ("swift_jsonl", "global_step/max_steps"),
    ("fairseq_json", "num_updates"),
    ("trl_dict", "reward"),
    ("epoch_jsonl", "train_loss"),
    ("hf_trainer_dict", "learning_rate"),
    ("dictionary", ""),
)
"""Formats of one dictionary a line, with the key that tells them apart."""

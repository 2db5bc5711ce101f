"""The many names of a few quantities, and what a name says about a column."""

import re
from functools import lru_cache

COLUMNS: dict[str, str] = {
    "step": "step steps global_step num_updates iter iters iteration it itr itn itn. "
    "update updates total_timesteps time/total_timesteps totalenvinteracts "
    "training_iteration optimizer_step current_step trainer/global_step",
    "epoch": "epoch epochs ep current_epoch",
    "loss": "loss total_loss loss_total lm_loss step_loss avr_loss average_loss "
    "avg_loss batch_loss mean_loss cost xent losses/total_loss loss/total loss/train "
    "current_loss loss_step running_loss reduced_train_loss crossentropyloss",
    "gradient_norm": "grad_norm gnorm gradient_norm gradnorm global_norm total_norm "
    "total_grad_norm grad_total_norm global_grad_norm global_gradient_norm "
    "gradient_norm/total grad_norm_total optim/total_grad_norm grdn",
    "learning_rate": "lr learning_rate learningrate optim0_lr0 lr0 base_lr lr/group0 "
    "learning_rate/group0 lr_group0 train/learning_rate",
    "loss_scale": "loss_scale lossscale grad_scale loss_scaler amp_scale",
    "perplexity": "ppl perplexity",
}
"""Column -> the names under which it comes, in small letters, blanks as ``_``.

A name with ``train/``, ``train_``, ``training_`` or ``train.`` before it is the same.
"""

PIPES = frozenset(
    (
        *("ner", "tagger", "parser", "textcat", "textcat_multilabel", "tok2vec"),
        *("transformer", "senter", "sentrec", "spancat", "morphologizer"),
        *("entity_linker", "trainable_lemmatizer"),
    )
)
"""Parts of a spaCy pipeline; a dictionary with these keys alone holds their losses."""

IGNORED = re.compile(
    r"^(?:(?:data|iter|batch|step|train|eval|elapsed|remaining|forward|backward|reader|"
    r"avg_reader|avg_batch|epoch|samples|iteration|total|update|optim_step|optim)?_?"
    r"(?:time|cost|runtime|wall|duration|seconds?|sec|ms)s?"
    r"|eta|.*mem(?:ory)?|memory.*|max_mem|mem.*|peak.*|.*tok(?:en)?s?_?/?.*sec.*|tps|"
    r"tflops|.*/sec|mfu|fps|ips|speed|.*speed.*|wps|ups|wpb|bsz|.*/s|it/sec|.*per_second.*|"
    r".*\.py|v_num|training_progress|progress|oom|approx_flops.*|iterations|images|instances|size|img_size|targets|percentage|.*samples|tokens|"
    r"toks|world_size|seed|rank|n_parameters|num_input_tokens_seen|lr_per_sample|"
    r"wd|weight_decay|train_wd|momentum|mom|time_elapsed|time/.*|perf/.*|timing.*|"
    r"global_seqlen/.*|prompt_length/.*|batches|epochs|steps_total|session|"
    r"number_of_.*|consumed_.*|elapsed_time.*|global_batch_size|actual_seqlen)$"
)
"""Names that say nothing about the health of a training."""

_KNOWN = {alias: column for column, names in COLUMNS.items() for alias in names.split()}
_PLAIN = frozenset(
    (
        *("lm", "total", "mean", "average", "avg", "train", "training", "current"),
        *("batch", "step", "running", "overall"),
    )
)
_TRAIN = re.compile(r"^train(?:ing)?[/_.]|^(?:actor|policy|model)/(?=lr$)")
_VALID = re.compile(r"(?:^|[/_. ])(?:val|valid|validation|test|eval|dev)(?:[/_. ]|$)")
_LOSS = re.compile(r"(?:^|[/_.:0-9])(?:loss|losses|nll|xent)(?:[/_.0-9]|$)|loss$|^loss")
_NO_LOSS = re.compile(r"weight|coef|scale|_fn|lambda|type|alpha|reduction|clip|filter")
_NAMES_LOSS = re.compile(r"(?i)loss|gpu_mem|perplexity")
_RL = re.compile(
    r"(?:^|[/_])(?:rewards?(?!/(?:chosen|rejected|accuracies|margins))|reward_std|approx_kl|ppo_kl|ep_rew_mean|"
    r"averageepret|advantages?|explained_variance)(?:[/_]|$)"
)


@lru_cache(maxsize=4096)
def column_of(name: str) -> str:
    """The column that a name in a log stands for; ``""`` if it is of no interest.

    Example:
        >>> column_of("lm loss"), column_of("Grad Norm"), column_of("train_lr")
        ('loss', 'gradient_norm', 'learning_rate')
        >>> column_of("loss_rpn_cls"), column_of("eta")
        ('loss_rpn_cls', '')
    """
    key = re.sub(r"[\s\-]+", "_", name.strip().lower())
    if key in _KNOWN:
        return _KNOWN[key]
    bare = _TRAIN.sub("", key)
    if bare in _KNOWN:
        return _KNOWN[bare]
    if IGNORED.match(key):
        return ""
    words = key.split("_")
    if words[-1] == "loss" and " " in name:
        return "loss" if _PLAIN.issuperset(words[:-1]) else key
    if is_validation(key):
        return key
    for start in range(1, len(words)):
        tail = "_".join(words[start:])
        if tail in _KNOWN and " " in name and start == len(words) - tail.count("_") - 1:
            return _KNOWN[tail]
    return key


def is_loss(column: str) -> bool:
    """Whether a column holds a loss, or a part of one.

    Example:
        >>> is_loss("loss_cls"), is_loss("loss_scale"), is_loss("val_loss")
        (True, False, True)
    """
    return bool(_LOSS.search(column)) and not _NO_LOSS.search(column)


def is_validation(column: str) -> bool:
    """Whether a column was measured on other data than the training's."""
    return bool(_VALID.search(column))


def is_reinforcement(column: str) -> bool:
    """Whether a column is only found in reinforcement learning.

    Example:
        >>> is_reinforcement("rollout/ep_rew_mean"), is_reinforcement("loss_kl")
        (True, False)
    """
    return bool(_RL.search(column))


def is_quantity(column: str) -> bool:
    """Whether a column alone makes a line a record of training."""
    return (
        column in ("loss", "gradient_norm", "perplexity")
        or is_loss(column)
        or column.endswith("grad_norm")
        or bool(re.search(r"(?:^|[/_])(?:reward|ep_rew_mean)$", column))
    )


def speaks_of_loss(text: str) -> bool:
    """Whether a line names a loss, or heads a table that has one.

    Example:
        >>> speaks_of_loss("Epoch GPU_mem box obj"), speaks_of_loss("Saving model")
        (True, False)
    """
    return bool(_NAMES_LOSS.search(text))

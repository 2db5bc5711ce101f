"""Small models for experiments: seconds on one core, layers with plain names.

A model starts with torch's default weights; `gradlib.initialize_` draws others.
"""

from gradlib.models.feedforward import Feedforward, deep_mlp, small_cnn
from gradlib.models.recurrent import (
    Recurrent,
    initialize_hidden_,
    recurrent_classifier,
    recurrent_lm,
)
from gradlib.models.side_by_side import SideBySide
from gradlib.models.transformer import (
    Transformer,
    qk_clip_,
    query_key_groups,
    small_transformer,
    token_loss,
    z_loss,
)
from gradlib.models.vision import resnet18, vgg11

__all__ = [
    "Feedforward",
    "Recurrent",
    "SideBySide",
    "Transformer",
    "deep_mlp",
    "initialize_hidden_",
    "qk_clip_",
    "query_key_groups",
    "recurrent_classifier",
    "recurrent_lm",
    "resnet18",
    "small_cnn",
    "small_transformer",
    "token_loss",
    "vgg11",
    "z_loss",
]

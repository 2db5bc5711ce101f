"""Train a model, test a range of learning rates, measure accuracy."""

from gradlib.training.evaluation import accuracy
from gradlib.training.fit import fit
from gradlib.training.learning_rate_range import RangeTest, lr_range_test

__all__ = [
    "RangeTest",
    "accuracy",
    "fit",
    "lr_range_test",
]

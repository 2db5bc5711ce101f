"""What saved weights tell: broken tensors, and where in them."""

import math

import pytest
import torch

from gradlib.checkpoint import examine_checkpoint


def examined(tmp_path, **tensors):
    path = tmp_path / "weights.pt"
    torch.save(tensors, path)
    return examine_checkpoint(path)


def with_nan(places, shape=(8, 3, 2)):
    tensor = torch.ones(shape)
    tensor[places] = math.nan
    return tensor


def test_the_ill_slices_of_a_stacked_tensor_are_named(tmp_path):
    found = examined(tmp_path, adapters=with_nan([3, 5]))
    (row,) = found.broken
    assert (row.nans, row.slices) == (12, (3, 5))
    assert "[3], [5]" in repr(found)
    assert found.to_dict()["broken"][0]["slices"] == [3, 5]


@pytest.mark.parametrize(
    "tensor",
    [
        with_nan([0, 1, 2, 3]),
        with_nan(slice(None)),
        with_nan([0], shape=(1, 2)),
        torch.tensor(math.nan),
        torch.ones(4, 2),
    ],
    ids=["many", "all", "the only one", "a number", "none"],
)
def test_no_slices_are_named_where_they_tell_nothing(tensor, tmp_path):
    found = examined(tmp_path, weight=tensor)
    assert [row.slices for row in found.rows] == [()]

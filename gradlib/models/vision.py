"""Two networks that people use, without torchvision: VGG11 and ResNet18.

Layer by layer they are those of torchvision, and start with the same weights: He's
normal scheme over fan-out for convolutions, so that one random state gives both.
"""

from typing import Any

from torch import Tensor, nn

from gradlib.checks import check_count

_STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))


def vgg11(classes: int = 10, *, norm: bool = False) -> nn.Sequential:
    """Eight convolutions in a row with pools between them, and three linear layers.

    Args:
        classes: Numbers in one answer.
        norm: Batch norm after every convolution.

    Example:
        >>> layers = [type(m).__name__ for m in vgg11().modules()]
        >>> layers.count("Conv2d"), layers.count("Linear")
        (8, 3)

    References:
        Simonyan & Zisserman 2015, https://arxiv.org/abs/1409.1556
    """
    check_count(classes, "classes")
    layers: list[nn.Module] = []
    width = 3
    for stage in _STAGES:
        for out in stage:
            layers.append(nn.Conv2d(width, out, 3, padding=1))
            layers += [nn.BatchNorm2d(out), nn.ReLU()] if norm else [nn.ReLU()]
            width = out
        layers.append(nn.MaxPool2d(2))
    layers += [nn.AdaptiveAvgPool2d(7), nn.Flatten()]
    layers += [nn.Linear(width * 49, 4096), nn.ReLU(), nn.Dropout()]
    layers += [nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout()]
    layers += [nn.Linear(4096, classes)]
    return _drawn(nn.Sequential(*layers))


def resnet18(classes: int = 10, *, zero_init: bool = False) -> nn.Sequential:
    """A convolution, eight residual blocks of two more, and a linear layer.

    Args:
        classes: Numbers in one answer.
        zero_init: Start the last batch norm of each block at weight 0, so that every
            block begins as the identity.

    Example:
        >>> layers = [type(m).__name__ for m in resnet18().modules()]
        >>> layers.count("Conv2d"), layers.count("ResidualBlock")
        (20, 8)

    References:
        He et al. 2016, https://arxiv.org/abs/1512.03385
        Goyal et al. 2017 (zero init), https://arxiv.org/abs/1706.02677
    """
    check_count(classes, "classes")
    stem = [_convolution(3, 64, 7, 2), nn.BatchNorm2d(64), nn.ReLU()]
    blocks: list[ResidualBlock] = []
    width = 64
    for out, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        blocks += [ResidualBlock(width, out, stride), ResidualBlock(out, out, 1)]
        width = out
    end = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)]
    net = _drawn(nn.Sequential(*stem, nn.MaxPool2d(3, 2, padding=1), *blocks, *end))
    if zero_init:
        for block in blocks:
            nn.init.zeros_(block.norm2.weight)
    return net


class ResidualBlock(nn.Module):
    """Two convolutions with batch norms, added to the block's input."""

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        shortcut: nn.Module = nn.Identity()
        if width != out:
            convolution = _convolution(width, out, 1, stride)
            shortcut = nn.Sequential(convolution, nn.BatchNorm2d(out))
        self.conv1 = _convolution(width, out, 3, stride)
        self.norm1 = nn.BatchNorm2d(out)
        self.conv2 = _convolution(out, out, 3, 1)
        self.norm2 = nn.BatchNorm2d(out)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        branch = self.norm1(self.conv1(x)).relu()
        answer: Tensor = (self.norm2(self.conv2(branch)) + self.shortcut(x)).relu()
        return answer


def _convolution(width: int, out: int, size: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(width, out, size, stride, padding=size // 2, bias=False)


def _drawn(net: nn.Sequential) -> nn.Sequential:
    """The net with its first weights; VGG's linear layers start small."""
    options: dict[str, Any] = {"mode": "fan_out", "nonlinearity": "relu"}
    linear = [module for module in net if isinstance(module, nn.Linear)]
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, **options)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear) and len(linear) > 1:
            nn.init.normal_(module.weight, 0, 0.01)
            nn.init.zeros_(module.bias)
    return net

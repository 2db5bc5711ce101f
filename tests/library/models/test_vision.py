"""VGG11 and ResNet18 are those of torchvision, weight by weight."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from gradlib.models import resnet18, vgg11

NETS: dict[str, tuple[Callable[[], nn.Module], str, dict[str, bool]]] = {
    "vgg11": (vgg11, "vgg11", {}),
    "vgg11 with norm": (lambda: vgg11(norm=True), "vgg11_bn", {}),
    "resnet18": (resnet18, "resnet18", {}),
    "resnet18, zero init": (
        lambda: resnet18(zero_init=True),
        "resnet18",
        {"zero_init_residual": True},
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_is_that_of_torchvision(name: str) -> None:
    models = pytest.importorskip("torchvision.models")
    make, other, options = NETS[name]
    torch.manual_seed(3)
    ours = make()
    torch.manual_seed(3)
    theirs = getattr(models, other)(num_classes=10, **options)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(p, q)
    x = torch.randn(2, 3, 32, 32)
    answers = []
    for net in (ours, theirs):
        torch.manual_seed(4)  # for dropout
        with torch.no_grad():
            answers.append(net(x))
    torch.testing.assert_close(*answers)


@pytest.mark.parametrize("make", [vgg11, resnet18])
def test_answers_for_any_number_of_classes(make: Callable[..., nn.Module]) -> None:
    assert make(3)(torch.zeros(2, 3, 32, 32)).shape == (2, 3)
    with pytest.raises(ValueError, match="classes: expected"):
        make(0)

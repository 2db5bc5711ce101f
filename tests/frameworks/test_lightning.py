"""The callback under the real Trainer of Lightning."""

from functools import partial

import lightning
import pytest
import torch
from conftest import CLIP
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from gradlib import diagnose
from gradlib.integrations.lightning import WatchCallback


class Classifier(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
        self.norms = []

    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.cross_entropy(self.net(x), y)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def on_before_optimizer_step(self, optimizer):
        """Lightning's own place before clipping, where gradients are unscaled."""
        gradients = [p.grad for p in self.parameters()]
        self.norms.append(float(nn.utils.get_total_norm(gradients)))


def batches():
    x = torch.randn(48, 6, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, x[:, :3].argmax(dim=1)), batch_size=4)


def fit(model, folder, **arguments):
    data, Trainer = batches(), partial(  # noqa: N806
        lightning.Trainer,
        accelerator="cpu", default_root_dir=folder, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, max_steps=6,
        enable_model_summary=False, gradient_clip_val=CLIP, **arguments,
    )  # fmt: skip
    # example
    callback = WatchCallback(file=f"{folder}/run.jsonl")
    Trainer(callbacks=[callback]).fit(model, data)
    # end
    return callback


@pytest.mark.tool("WatchCallback", "six rows equal its norm before clipping")
@pytest.mark.parametrize(
    "arguments",
    [{}, {"accumulate_grad_batches": 2}, {"precision": "bf16-mixed"}],
    ids=lambda a: " ".join(a) or "plain",
)
def test_six_rows_equal_lightnings_norms_before_clipping(tmp_path, arguments):
    model = Classifier()
    callback = fit(model, tmp_path, **arguments)
    assert min(model.norms) > 10 * CLIP
    history = callback.watcher.history
    assert history["gradient_norm"] == pytest.approx(model.norms, rel=1e-5)
    assert len(history.recorded("loss")[0]) == 6
    assert not any(p._post_accumulate_grad_hooks for p in model.parameters())


@pytest.mark.tool("WatchCallback", "an exception ends the watching")
def test_an_exception_ends_the_watching(tmp_path):
    class Breaks(Classifier):
        def training_step(self, batch, batch_idx):
            if batch_idx == 2:
                raise ArithmeticError("broken batch")
            return super().training_step(batch, batch_idx)

    model = Breaks()
    with pytest.raises(ArithmeticError, match="broken batch"):
        fit(model, tmp_path)
    known = model.trainer.callbacks
    (callback,) = [c for c in known if isinstance(c, WatchCallback)]
    assert not callback.watcher.is_open
    assert len(callback.watcher.history) == 2


@pytest.mark.tool("diagnose", "names the cause")
@pytest.mark.parametrize(("lr", "cause"), [(0.5, "healthy"), (100.0, "lr_too_high")])
def test_a_diagnosis_of_its_training_step(lr, cause):
    model = Classifier()
    report = diagnose(
        model,
        torch.optim.SGD(model.parameters(), lr=lr),
        list(batches()) * 4,
        loss=lambda model, batch: model.training_step(batch, 0),
    )
    assert report.cause == cause

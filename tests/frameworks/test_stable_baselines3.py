"""The watcher of PPO, whose loop shows its gradients to no callback."""

import pytest
from conftest import CLIP
from stable_baselines3 import PPO

from gradlib import diagnose, watch


@pytest.fixture
def model():
    return PPO(
        "MlpPolicy", "CartPole-v1", n_steps=16, batch_size=8, n_epochs=3, seed=0,
        device="cpu", max_grad_norm=CLIP, policy_kwargs={"net_arch": [8]},
    )  # fmt: skip


def train(model):
    # example
    with watch(model.policy, model.policy.optimizer) as watcher:
        model.learn(total_timesteps=16)
    # end
    return watcher


@pytest.mark.tool("watch", "six rows equal its norm before clipping")
def test_six_rows_equal_the_norms_before_clipping(model, check_rows):
    history = train(model).history
    check_rows(history)


@pytest.mark.tool("diagnose", "right, with its update as step=")
def test_a_diagnosis_of_its_update_leaves_it_as_it_was(model):
    model.learn(total_timesteps=16)
    before = {n: p.clone() for n, p in model.policy.named_parameters()}

    def step(batch):
        model.train()
        return model.logger.name_to_value["train/loss"]

    policy, rollout = model.policy, [0]  # its own buffer holds the data
    report = diagnose(policy, policy.optimizer, rollout, step=step)
    assert report.verdict in ("healthy", "unclear")
    for name, p in policy.named_parameters():
        assert (p == before[name]).all()
    with pytest.raises(TypeError, match="step: expected it to return the loss, got No"):
        diagnose(policy, policy.optimizer, rollout, step=lambda batch: model.train())

"""Rules on reinforcement learning, whose loss is no measure."""

from gradlib.diagnosis.evidence.training_log import TrainingLog
from gradlib.diagnosis.rules.log.sign import BROKEN, NORMAL, Sign


def reward_without_gradient(log: TrainingLog) -> Sign | None:
    """Rewards differ, and still the gradient is exactly 0."""
    norm, spread = log.norm, log.curves.get("reward_std")
    if norm is None or spread is None or not norm.is_finite or any(norm.values):
        return None
    same = log.curves.get("frac_reward_zero_std")
    if spread.largest > 0 and not (same and min(same.values) >= 1):
        return Sign(
            BROKEN,
            f"The gradient norm is exactly 0 in all {len(norm)} record(s) although the "
            f"rewards differ (standard deviation {spread.largest:.3g}).",
            (("software_version_bug", 0.55), ("detached_graph", 0.5)),
            norm.steps[0],
            norm.name,
            {"reward_std": spread.largest, "records": len(norm)},
            "Run the script with the versions that its authors name, then with the "
            "latest ones: a norm above 0 means that a library loses the gradient.",
        )
    if len(norm) < 3:
        return None
    return Sign(
        BROKEN,
        f"All rewards of a group are the same in all {len(norm)} records, so every "
        "advantage is 0.",
        (("zero_advantage", 0.75),),
        norm.steps[0],
        "data",
        {"reward_std": spread.largest},
        "Print the rewards of one group of completions.",
    )


def reinforcement(log: TrainingLog) -> Sign | None:
    """In reinforcement learning the loss is no measure."""
    if not log.is_reinforcement:
        return None
    norm, loss = log.norm, log.loss
    moving = norm is not None and norm.is_finite and any(norm.values)
    explained = log.curves.get("explained_variance")
    fits = explained is not None and explained.end > 0.5
    if loss is not None and moving and loss.largest < 1e-3:
        return Sign(
            NORMAL,
            f"The loss is about 0 (at most {loss.largest:.1g}) while the gradient norm "
            f"is {norm.typical if norm else 0:.3g}: the advantages of a group sum to "
            "0, so this loss starts at 0 and its gradient does not.",
            assures=True,
        )
    return Sign(
        NORMAL,
        "This log has rewards: the loss of reinforcement learning need not fall, and "
        "is not judged here. Read the reward, the KL divergence and the norm.",
        assures=moving or fits,
    )

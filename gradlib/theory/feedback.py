"""Loops that learn from their own output: policies, bootstrapped values, two players.

Growth is that of the error itself in one step, not squared.
"""

import math

from gradlib.checks import check_positive


def critical_spread(lr: float) -> float:
    """Least standard deviation at which a Gaussian policy still settles.

    sqrt(lr / sqrt(2)). For REINFORCE on the reward -(action - target)^2, divided by
    its standard deviation: near the target the expected gradient of the mean is
    sqrt(2) error / spread^2, so that one step of gradient descent multiplies the error
    by 1 - sqrt(2) lr / spread^2, which is -1 at this spread.

    Args:
        lr: Rate of gradient descent; > 0.

    Returns:
        In units of the action.

    Raises:
        TypeError: ``lr`` is not a number.
        ValueError: it is not finite, or <= 0.

    Example:
        >>> round(critical_spread(lr=0.03), 4)
        0.1456

    References:
        Williams 1992 (REINFORCE), https://doi.org/10.1007/BF00992696
    """
    return math.sqrt(check_positive(lr, "lr") / math.sqrt(2))


def policy_bounce(lr: float, spread: float) -> float:
    """Distance from its target at which the mean of a Gaussian policy swings.

    sqrt(lr^2 - 2 spread^4) / (2 spread) below the critical spread, 0 above. For
    REINFORCE on the reward -(action - target)^2, divided by its standard deviation,
    with many samples: the mean jumps to and fro across the target. Far below it is
    lr / (2 spread): the narrower the policy, the further it misses.

    Args:
        lr: Rate of gradient descent; > 0.
        spread: Standard deviation of the policy, in units of the action; > 0.

    Returns:
        In units of the action.

    Raises:
        TypeError: an argument is not a number.
        ValueError: an argument is not finite, or <= 0.

    Example:
        >>> policy_bounce(lr=0.03, spread=0.2), round(policy_bounce(0.03, 0.03), 2)
        (0.0, 0.5)

    References:
        Williams 1992 (REINFORCE), https://doi.org/10.1007/BF00992696
    """
    lr, spread = check_positive(lr, "lr"), check_positive(spread, "spread")
    ratio = spread / critical_spread(lr)
    if ratio >= 1:
        return 0.0
    return lr / (2 * spread) * math.sqrt(1 - ratio**4)


def bootstrap_growth(lr: float, discount: float, ratio: float = 2.0) -> float:
    """Factor on a value's weight in one step towards its own estimate.

    1 + lr (discount ratio - 1): the state has the value w, the next one ratio w, all
    rewards are 0, and w follows the gradient of (w - discount ratio w')^2 / 2 with the
    target held still. It diverges if discount ratio > 1.

    Args:
        lr: Rate of gradient descent; > 0.
        discount: Discount of the next state's value; in [0, 1].
        ratio: Feature of the next state over that of this one; > 0.

    Raises:
        TypeError: an argument is not a number.
        ValueError: an argument is outside its range.

    Example:
        >>> round(bootstrap_growth(lr=0.1, discount=0.9), 6)
        1.08

    References:
        Tsitsiklis and Van Roy 1996, https://doi.org/10.1007/BF00114724
    """
    discount = check_positive(discount, "discount", zero_ok=True)
    if discount > 1:
        raise ValueError(f"discount: expected a number in [0, 1], got {discount}")
    ratio = check_positive(ratio, "ratio")
    return 1 + check_positive(lr, "lr") * (discount * ratio - 1)


def two_player_growth(lr: float, coupling: float = 0.5, penalty: float = 0.0) -> float:
    """Factor on the distance from equilibrium, two players stepping at once.

    Largest magnitude of an eigenvalue of [[1, -lr c], [lr c, 1 - lr penalty]]: one
    player descends c x w in x, the other climbs it in w and pays penalty w^2 / 2.
    Without a penalty it is sqrt(1 + lr^2 c^2) > 1, at every rate.

    Args:
        lr: Rate of both players; > 0.
        coupling: c, in the Dirac-GAN with the logistic loss 1/2; > 0.
        penalty: Weight of the gradient penalty; >= 0.

    Raises:
        TypeError: an argument is not a number.
        ValueError: an argument is outside its range.

    Example:
        >>> [round(two_player_growth(0.2, penalty=p), 5) for p in (0, 1)]
        [1.00499, 0.9]

    References:
        Mescheder et al. 2018, https://arxiv.org/abs/1801.04406
    """
    turn = check_positive(lr, "lr") * check_positive(coupling, "coupling")
    damping = lr * check_positive(penalty, "penalty", zero_ok=True)
    # Eigenvalues 1 - damping / 2 +- sqrt(damping^2 / 4 - turn^2).
    inside = damping**2 / 4 - turn**2
    if inside < 0:
        return math.sqrt(1 - damping + turn**2)
    middle, half = 1 - damping / 2, math.sqrt(inside)
    return max(abs(middle + half), abs(middle - half))

"""FGSM, BIM and MIM: steps along the sign of a gradient (paper, Eqs. 2 to 5)."""

from functools import partial

import torch
from torch import Tensor, nn

from prlib.attacks.base import by_batch, check_parameters, climb, loss_gradient
from prlib.attacks.directions import Momentum, divide
from prlib.guard import guarded


@guarded
def fgsm(
    model: nn.Module, images: Tensor, labels: Tensor | None = None, *, epsilon: float, batch_size: int = 128
) -> Tensor:
    """Fast gradient sign method: one step of ``epsilon`` (paper, Eq. 2; Goodfellow et al., 2014)."""
    check_parameters(epsilon=epsilon, batch_size=batch_size)

    def attack(clean: Tensor, targets: Tensor) -> Tensor:
        gradient = partial(loss_gradient, model, labels=targets)
        return climb(clean, clean, gradient, torch.sign, epsilon=epsilon, step_size=epsilon, steps=1)

    return torch.cat(by_batch(attack, model, images, labels, batch_size))


@guarded
def bim(
    model: nn.Module,
    images: Tensor,
    labels: Tensor | None = None,
    *,
    epsilon: float,
    step_size: float = 0.05,
    steps: int = 10,
    batch_size: int = 128,
) -> Tensor:
    """Basic iterative method: steps along the gradient's sign, each clipped to the ε-ball (paper, Eq. 3).

    The paper gives no step size; the defaults are the released code's (CleverHans'), larger than ε = 8/256.
    """
    check_parameters(epsilon=epsilon, step_size=step_size, steps=steps, batch_size=batch_size)

    def attack(clean: Tensor, targets: Tensor) -> Tensor:
        gradient = partial(loss_gradient, model, labels=targets)
        return climb(clean, clean, gradient, torch.sign, epsilon=epsilon, step_size=step_size, steps=steps)

    return torch.cat(by_batch(attack, model, images, labels, batch_size))


@guarded
def mim(
    model: nn.Module,
    images: Tensor,
    labels: Tensor | None = None,
    *,
    epsilon: float,
    step_size: float = 0.06,
    steps: int = 10,
    decay: float = 1.0,
    norm: str = "sign",
    batch_size: int = 128,
) -> Tensor:
    """Momentum iterative method, each step clipped to the ε-ball (paper, Eqs. 4 and 5; Dong et al., 2018).

    A gradient joins the momentum divided by its mean absolute value, or as it is if that is zero. (Eq. 5's sum
    instead of the mean would scale the momentum by a constant, which no step sees.)

    Args:
        norm: "sign" steps along the momentum's sign (the released code); "l2" along the momentum divided by its
            L2 norm (Eq. 4 to the letter), ``step_size`` being the step's length.
    """
    check_parameters(epsilon=epsilon, step_size=step_size, steps=steps, batch_size=batch_size, decay=decay, norm=norm)

    def attack(clean: Tensor, targets: Tensor) -> Tensor:
        momentum = Momentum(decay)

        def direction(gradient: Tensor) -> Tensor:
            signs = momentum(gradient)
            length = momentum.sum.square().sum((1, 2, 3), keepdim=True).sqrt()
            return signs if norm == "sign" else divide(momentum.sum, length)

        gradient = partial(loss_gradient, model, labels=targets)
        return climb(clean, clean, gradient, direction, epsilon=epsilon, step_size=step_size, steps=steps)

    return torch.cat(by_batch(attack, model, images, labels, batch_size))

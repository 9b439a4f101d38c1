"""What the steps of an attack follow, made of the gradients as they come."""

from collections.abc import Callable

import torch
from torch import Tensor


def divide(values: Tensor, size: Tensor) -> Tensor:
    """``values / size``, or the values as they are where the size is zero, or too large for a number."""
    return values / torch.where((size > 0) & size.isfinite(), size, 1)


class Sign:
    """Steps along the gradient's sign."""

    def __call__(self, gradient: Tensor) -> Tensor:
        """The direction of the next step, of the gradient there."""
        return gradient.sign()


class Momentum:
    """Steps along the sign of a running sum of gradients, each divided by its mean size (Dong et al., 2018)."""

    def __init__(self, decay: float = 0.9) -> None:
        self.decay, self.sum = decay, torch.zeros(())

    def __call__(self, gradient: Tensor) -> Tensor:
        """The direction of the next step, of the gradient there."""
        self.sum = self.decay * self.sum + divide(gradient, gradient.abs().mean((1, 2, 3), keepdim=True))
        return self.sum.sign()


class Adam:
    """Adam's steps (Kingma & Ba, 2015), each pixel's at most about 1."""

    def __init__(self) -> None:
        self.mean, self.square, self.age = torch.zeros(()), torch.zeros(()), 0

    def __call__(self, gradient: Tensor) -> Tensor:
        """The direction of the next step, of the gradient there."""
        gradient = divide(gradient, gradient.abs().amax((1, 2, 3), keepdim=True))  # of which no square is lost
        self.age += 1
        self.mean = 0.9 * self.mean + 0.1 * gradient
        self.square = 0.99 * self.square + 0.01 * gradient.square()
        size = (self.square / (1 - 0.99**self.age)).sqrt() + 1e-8
        return self.mean / (1 - 0.9**self.age) / size


DIRECTIONS: dict[str, Callable[[], Callable[[Tensor], Tensor]]] = {"sign": Sign, "momentum": Momentum, "adam": Adam}
"""What steps can follow. Each makes a function of the gradients as they come, to the direction of the next step.

:meta hide-value:
"""

"""Adversarial training: the attack that a network is trained against."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from prlib.attacks.base import check_parameters
from prlib.attacks.pgd import pgd, straight_through
from prlib.data import Transform
from prlib.redraw import PixelRedraw, check_sizes


@dataclass(frozen=True)
class Adversary:
    """What adversarial training trains on: each batch attacked by PGD on the network as it is (Madry et al., 2018).

    One step from a random start is the fast variant (Wong et al., 2020). Over the first ``warm_up`` epochs epsilon and
    step grow from zero: attacked at full strength from the start, a network can learn to give one answer to all images.

    Raises:
        ValueError: a field that is not allowed (``prlib.attacks.base.ALLOWED``), in one sentence that names it.
    """

    epsilon: float
    step_size: float
    steps: int
    warm_up: float = 0.0

    def __post_init__(self) -> None:
        check_parameters(epsilon=self.epsilon, step_size=self.step_size, steps=self.steps, warm_up=self.warm_up)

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator, epoch: float
    ) -> Tensor:
        """Attack a batch with its true labels, ``epoch`` epochs after the start of the training (more than 0).

        The model's mode and gradients are left as they are.
        """
        return self.attacked(model, images, labels, generator, epoch)

    def attacked(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        generator: torch.Generator,
        epoch: float,
        defence: Transform | None = None,
    ) -> Tensor:
        """The batch, attacked through a defence that the model is behind."""
        share = min(1.0, epoch / self.warm_up) if self.warm_up else 1.0
        return pgd(
            model,
            images,
            labels,
            epsilon=share * self.epsilon,
            step_size=share * self.step_size,
            steps=self.steps,
            generator=generator,
            defence=defence,
            batch_size=len(images),
        )


@dataclass(frozen=True)
class RedrawnAdversary(Adversary):
    """Adversarial training of a network behind the redraw: attacked straight through it, then redrawn afresh.

    The redraw is that of one model after ``fit_steps`` steps of its own training (``PixelRedraw.fit``).
    """

    fit_steps: int = 5000
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(1, self.fit_steps, self.seed)

    @cached_property
    def redraw(self) -> PixelRedraw:
        """The redraw, fitted when it is first asked for."""
        return PixelRedraw.fit(steps=self.fit_steps, seed=self.seed)

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator, epoch: float
    ) -> Tensor:
        """Attack a batch as ``Adversary`` does, behind the redraw, and redraw it."""
        redraw = self.redraw.to(images.device)
        through = straight_through(redraw)
        return redraw(self.attacked(model, images, labels, generator, epoch, through), generator)

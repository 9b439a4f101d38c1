"""Adversarial training: the attack that a network is trained against."""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from prlib.attacks.base import check_parameters
from prlib.attacks.pgd import pgd


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
        check_parameters(**asdict(self))

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator, epoch: float
    ) -> Tensor:
        """Attack a batch with its true labels, ``epoch`` epochs after the start of the training (more than 0).

        The model's mode and gradients are left as they are.
        """
        share = min(1.0, epoch / self.warm_up) if self.warm_up else 1.0
        return pgd(
            model,
            images,
            labels,
            epsilon=share * self.epsilon,
            step_size=share * self.step_size,
            steps=self.steps,
            generator=generator,
            batch_size=len(images),
        )

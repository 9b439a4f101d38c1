"""AutoAttack's version for random defences."""

import torch
from torch import Tensor, nn

from prlib.attacks.base import (
    BehindDefence,
    by_batch,
    check_arguments,
    torchattacks,
)
from prlib.attacks.choice import strongest
from prlib.attacks.pgd import straight_through
from prlib.data import Transform

LOSSES = ("ce", "dlr")
"""What APGD climbs one after the other, the cross-entropy and the difference-of-logits ratio."""


def auto(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    defence: Transform | None,
    generator: torch.Generator,
    steps: int = 100,
    draws: int = 20,
    batch_size: int = 128,
) -> Tensor:
    """AutoAttack for random defences (Croce and Hein, 2020): APGD on two losses.

    torchattacks' APGD on the mean logits of ``draws``, so that the step with the largest mean loss is kept. (Its own
    option for random models judges steps by a single draw; its AutoAttack takes 10 of them, and stops at the first draw
    that is classified wrongly.)
    """
    check_arguments(images, labels, epsilon=epsilon, steps=steps, draws=draws, batch_size=batch_size)
    seed = int(torch.randint(2**31, (), generator=generator))
    defended = BehindDefence(model, None if defence is None else straight_through(defence), generator, draws)
    found = []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for loss in LOSSES:
            apgd = torchattacks().APGD(defended, eps=epsilon, steps=steps, eot_iter=1, loss=loss)
            parts = by_batch(apgd.attack_single_run, model, images, labels, batch_size)
            found.append(torch.cat([part[0] for part in parts]))
    return strongest(model, found, labels, defence=defence, generator=generator)

"""AutoAttack's version for random defences."""

import torch
import torchattacks
from torch import Tensor, nn

from prlib.attacks.base import (
    BehindDefence,
    by_batch,
    check_arguments,
)
from prlib.attacks.choice import strongest
from prlib.attacks.pgd import straight_through
from prlib.data import Transform


def auto(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    defence: Transform | None,
    generator: torch.Generator,
    batch_size: int = 128,
) -> Tensor:
    """AutoAttack for random defences (Croce and Hein, 2020): APGD on two losses, 100 steps of 20 draws each.

    torchattacks' APGD on the mean logits of 20 draws, so that the step with the largest mean loss is kept. (Its own
    option for random models judges steps by a single draw; its AutoAttack takes 10 of them, and stops at the first draw
    that is classified wrongly.)
    """
    check_arguments(images, labels, epsilon=epsilon, batch_size=batch_size)
    seed = int(torch.randint(2**31, (), generator=generator))
    defended = BehindDefence(model, None if defence is None else straight_through(defence), generator, draws=20)
    found = []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for loss in ("ce", "dlr"):
            apgd = torchattacks.APGD(defended, eps=epsilon, steps=100, eot_iter=1, loss=loss)

            def attack(clean: Tensor, targets: Tensor, apgd: torchattacks.APGD = apgd) -> Tensor:
                return apgd.attack_single_run(clean, targets)[0]

            found.append(torch.cat(by_batch(attack, model, images, labels, batch_size)))
    return strongest(model, found, labels, defence=defence, generator=generator)

"""AutoAttack's version for random defences."""

import torch
from torch import Tensor, nn

from prlib.attacks.base import BehindDefence, by_batch, check_parameters, torchattacks
from prlib.attacks.choice import strongest
from prlib.attacks.pgd import straight_through
from prlib.data import Transform
from prlib.guard import guarded

APGD_LOSSES = ("ce", "dlr")
"""What APGD climbs one after the other, the cross-entropy and the difference-of-logits ratio, which needs 3 classes."""


@guarded
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
    check_parameters(epsilon=epsilon, steps=steps, draws=draws, batch_size=batch_size)
    seed = int(torch.randint(2**31, (), generator=generator))
    defended = BehindDefence(model, images, None if defence is None else straight_through(defence), generator, draws)
    found = []
    with torch.no_grad():
        losses = APGD_LOSSES if model(images[:1]).shape[1] > 2 else APGD_LOSSES[:1]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for loss in losses:
            apgd = torchattacks().APGD(defended, eps=epsilon, steps=steps, eot_iter=1, loss=loss)
            parts = by_batch(apgd.attack_single_run, model, images, labels, batch_size)
            found.append(torch.cat([part[0] for part in parts]))
    return strongest(model, found, labels, defence=defence, generator=generator)

"""How often a random defence is right about an image, and which of several attacked images it is right about least."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from prlib.attacks.base import by_batch, check_parameters, defended
from prlib.attacks.known import is_random
from prlib.data import Transform
from prlib.guard import guarded

CHOOSING_DRAWS = 50
"""On how many draws the strongest of several attacks is chosen, unless told otherwise."""


@guarded
def robust_probability(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    draws: int,
    generator: torch.Generator,
    defence: Transform | None = None,
    votes: int = 1,
    batch_size: int = 128,
) -> Tensor:
    """How often a random defence classifies each image as its label, over fresh ``draws``: float N in [0, 1].

    Success on one draw says little against a random defence, and less on a draw the attack has seen: the defence's
    accuracy is the mean of this over the images. ``generator`` and ``defence`` are as for ``pgd``.

    Args:
        votes: a defender who asks so often for each answer, and takes what most say (the lower class of a tie).
    """
    check_parameters(draws=draws, votes=votes, batch_size=batch_size)
    network = defended(model, defence, generator)
    draws = draws if defence is None or is_random(defence) else 1  # all would be alike

    @torch.no_grad()
    def judge(batch: Tensor, targets: Tensor) -> Tensor:
        correct = [counted([network(batch) for _ in range(votes)]).argmax(1) == targets for _ in range(draws)]
        return torch.stack(correct).float().mean(0)

    return torch.cat(by_batch(judge, model, images, labels, batch_size))


def counted(answers: Sequence[Tensor]) -> Tensor:
    """How many of several logits N×K are for each class, int64 N×K; the arg-max is the majority's answer."""
    return torch.stack([one_hot(a.argmax(1), a.shape[1]) for a in answers]).sum(0)


def strongest(
    model: nn.Module,
    candidates: Sequence[Tensor],
    labels: Tensor,
    *,
    defence: Transform | None,
    generator: torch.Generator,
    draws: int = CHOOSING_DRAWS,
) -> Tensor:
    """Of each image's candidates (all N×C×H×W) the one that is classified correctly least often over ``draws``.

    Whoever judges the choice must do so on fresh draws: these have been used to choose.
    """
    rates = [
        robust_probability(model, images, labels, draws=draws, generator=generator, defence=defence)
        for images in candidates
    ]
    return torch.stack(list(candidates))[torch.stack(rates).argmin(0), torch.arange(len(labels))]

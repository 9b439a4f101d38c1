"""Square: an attack that sees no gradient."""

import torch
from torch import Tensor, nn

from prlib.attacks.base import BehindDefence, by_batch, check_parameters, torchattacks
from prlib.data import Transform
from prlib.guard import guarded


@guarded
def square(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    defence: Transform | None,
    generator: torch.Generator,
    queries: int = 1000,
    draws: int = 5,
) -> Tensor:
    """torchattacks' Square attack (Andriushchenko et al., 2020), which sees no gradient but mean logits over draws."""
    check_parameters(epsilon=epsilon, queries=queries, draws=draws)
    seed = int(torch.randint(2**31, (), generator=generator))
    defended = BehindDefence(model, images, defence, generator, draws)
    attack = torchattacks().Square(defended, eps=epsilon, n_queries=queries, seed=seed)
    with torch.random.fork_rng():  # torchattacks draws from the global generator
        return torch.cat(by_batch(attack, model, images, labels, len(images)))

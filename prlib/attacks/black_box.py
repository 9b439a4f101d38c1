"""Attacks that see no gradient: Square sees logits, HopSkipJump a majority of answers alone."""

from types import ModuleType

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from prlib.attacks.base import BehindDefence, by_batch, check_parameters, library, per_image, project, torchattacks
from prlib.attacks.choice import counted
from prlib.attacks.known import is_random
from prlib.data import Transform
from prlib.guard import guarded

NEVER = 1e6
"""Added to a label's logit, in float64, so that no query seems to succeed."""


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
    lucky: bool = True,
) -> Tensor:
    """torchattacks' Square attack (Andriushchenko et al., 2020), which sees no gradient but mean logits over draws.

    Args:
        lucky: an image is done at the first query that fools the mean of its few draws, which may be luck. Else every
            query is made, and all on the same draws, so that none is better by luck.
    """
    check_parameters(epsilon=epsilon, queries=queries, draws=draws, lucky=lucky)
    seed = int(torch.randint(2**31, (), generator=generator))
    behind = BehindDefence(model, images, defence, generator, draws)
    with torch.random.fork_rng():  # torchattacks draws from the global generator
        if lucky:
            attack = torchattacks().Square(behind, eps=epsilon, n_queries=queries, seed=seed)
            return torch.cat(by_batch(attack, model, images, labels, len(images)))
        torch.manual_seed(seed)
        never = _Never(behind, labels, generator)
        attack = torchattacks().Square(never, eps=epsilon, n_queries=queries)
        attack.init_hyperparam(images)
        return attack.attack_single_run(images, labels)[1]


class _Never(nn.Module):
    """A random model that draws the same for every query, and of which no query is told that it succeeds."""

    def __init__(self, behind: BehindDefence, labels: Tensor, generator: torch.Generator) -> None:
        super().__init__()
        self.behind, self.labels, self.generator = behind, labels, generator
        self.device, self.state = behind.device, generator.get_state()

    def forward(self, images: Tensor) -> Tensor:
        """Float64 logits N×K of as many images as there are labels."""
        self.generator.set_state(self.state)
        logits = self.behind(images).double()
        return logits + NEVER * one_hot(self.labels, logits.shape[1])


@guarded
def hop_skip_jump(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    defence: Transform | None,
    generator: torch.Generator,
    steps: int = 10,
    votes: int = 5,
    evaluations: int = 100,
) -> Tensor:
    """foolbox's HopSkipJump in L∞ (Chen et al., 2020) on the majority of ``votes`` answers, which is all that it sees.

    The draws behind the votes are the same for every query, since it believes a model that it asks twice. An image
    starts from one beside it that the majority takes for another class; where there is none among twenty it stays as it
    is. What is found is brought back to within ``epsilon``.

    Args:
        steps: along the boundary, in the t-th of which it asks about ``evaluations``·√t times.
    """
    check_parameters(epsilon=epsilon, steps=steps, votes=votes, evaluations=evaluations)
    borrowed = foolbox()
    seed = int(torch.randint(2**31, (), generator=generator))
    asked = _Majority(model, images, defence, generator, votes).eval()
    answers = asked(images)
    starts, started = images.clone(), answers.argmax(1) != labels
    for shift in range(1, min(len(images), 20)):
        beside = images.roll(shift, 0)
        other = (asked(beside).argmax(1) != labels) & ~started
        starts, started = torch.where(per_image(other), beside, starts), started | other
    # One without a start is given a label that it has not got: it is there already.
    aims = torch.where(started, labels, (answers.argmax(1) + 1) % answers.shape[1])
    options = {"steps": steps, "initial_gradient_eval_steps": evaluations, "constraint": "linf"}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        attack = borrowed.attacks.HopSkipJumpAttack(**options)
        bounded = borrowed.PyTorchModel(asked, bounds=(0, 1), device=images.device)
        found = attack.run(bounded, images, aims, starting_points=starts)
    return torch.where(per_image(started), project(found, images, epsilon), images)


class _Majority(nn.Module):
    """How many of so many answers are for each class, float N×K: always of the same draws."""

    def __init__(
        self, model: nn.Module, images: Tensor, defence: Transform | None, generator: torch.Generator, votes: int
    ) -> None:
        super().__init__()
        self.behind = BehindDefence(model, images, defence, generator)
        self.votes = votes if is_random(defence) else 1  # all would be alike
        self.generator, self.state = generator, generator.get_state()

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        self.generator.set_state(self.state)
        return counted([self.behind(images.clamp(0, 1)) for _ in range(self.votes)]).float()


def foolbox() -> ModuleType:
    """The library that HopSkipJump is taken from, imported only when it is used.

    Raises:
        ModuleNotFoundError: it is not installed; the message says how to install it.
    """
    return library("foolbox", "HopSkipJump needs", "foolbox")

"""Threshold crossing: an attack of our own on redraws, and on every defence that sorts pixels into cells."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from prlib.attacks.base import LOSSES, aims, by_batch, check_parameters, per_image
from prlib.attacks.known import is_random, staircase_of
from prlib.attacks.staircase import Staircase
from prlib.data import Transform
from prlib.guard import guarded


@dataclass(frozen=True)
class Game:
    """What crossing plays on: the cells (int64 N×C×H×W) of these clean images' pixels, for their expected loss.

    ``draws`` answers of the defence stand for the expectation; ``towards`` is as for ``prlib.attacks.base.LOSSES``.
    """

    model: nn.Module
    defence: Transform
    stairs: Staircase
    clean: Tensor
    labels: Tensor
    generator: torch.Generator
    draws: int
    loss: str
    towards: Tensor | None = None

    def redrawn(self, cells: Tensor) -> Tensor:
        """The draws of the images with these cells, one after the other."""
        return self.defence(self.stairs.image(cells, self.clean).repeat(self.draws, 1, 1, 1), self.generator)

    def values(self, redrawn: Tensor) -> Tensor:
        """The expected loss, float N, of what was redrawn."""
        aim = None if self.towards is None else self.towards.repeat(self.draws)
        losses = LOSSES[self.loss](self.model(redrawn), self.labels.repeat(self.draws), aim)
        return losses.view(self.draws, -1).mean(0)

    def slope(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """The expected loss there, float N, and its gradient by the redrawn values, as large as the images."""
        seen = self.redrawn(cells).requires_grad_()
        value = self.values(seen)
        gradient = torch.autograd.grad(value.sum(), seen)[0].view(self.draws, *self.clean.shape).sum(0)
        return value.detach(), gradient

    @torch.no_grad()
    def left(self, cells: Tensor) -> Tensor:
        """The expected margin on new draws, float N."""
        return replace(self, loss="margin", towards=None).values(self.redrawn(cells)).neg()

    @torch.no_grad()
    def fooled(self, cells: Tensor) -> Tensor:
        """Whether none of new draws is classified correctly, bool N."""
        right = self.model(self.redrawn(cells)).argmax(1) == self.labels.repeat(self.draws)
        return ~right.view(self.draws, -1).any(0)


@guarded
def crossing(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    defence: Transform | None,
    generator: torch.Generator,
    steps: int = 20,
    draws: int = 10,
    loss: str = "cross-entropy",
    restarts: int = 1,
    targets: int = 0,
    batch_size: int = 128,
) -> Tensor:
    """Threshold crossing: move only pixels that can change cell, as far as it takes; our own attack.

    Every step estimates the gradient of the expected loss over ``draws`` redrawn images, finds for each pixel the
    reachable cell whose mean value gains most to first order, and moves the share of pixels that gain most: at first
    all, half as many whenever the expected loss (on draws shared by both images) does not rise. ``loss`` and
    ``targets`` are as for ``attacks.pgd``; of several ``restarts`` the first begins at the clean images and the others
    at random cells, and what ends with the smallest expected margin on new draws is kept.

    Raises:
        ValueError: the defence has no staircase (``prlib.attacks.known.staircase_of``), or its pixels depend.
    """
    check_parameters(epsilon=epsilon, steps=steps, draws=draws, batch_size=batch_size, loss=loss)
    check_parameters(restarts=restarts, targets=targets)
    stairs = staircase_of(defence)
    assert defence is not None  # or staircase_of would have raised
    draws = draws if is_random(defence) else 1  # all would be alike

    def attack(clean: Tensor, labels: Tensor) -> Tensor:
        game = Game(model, defence, stairs, clean, labels, generator, draws, loss)
        low, high = stairs.reach(clean, epsilon)
        towards = aims(model(clean), labels, targets) if targets else [None]
        best, smallest = stairs.cells(clean), clean.new_full((len(clean),), math.inf)
        start = best
        for number in range(restarts):
            if number:
                uniform = torch.rand(clean.shape, generator=generator, device=generator.device).to(clean.device)
                start = (low + uniform * (high - low + 1)).long().minimum(high)
            for aim in towards:
                cells = climb_cells(replace(game, towards=aim), start, low, high, steps)
                if restarts * len(towards) == 1:
                    return stairs.image(cells, clean)
                left = game.left(cells)
                best = torch.where(per_image(left < smallest), cells, best)
                smallest = smallest.minimum(left)
        return stairs.image(best, clean)

    return torch.cat(by_batch(attack, model, images, labels, max(1, batch_size // draws)))


def climb_cells(game: Game, cells: Tensor, low: Tensor, high: Tensor, steps: int) -> Tensor:
    """The cells after so many steps of ``crossing`` from these, between ``low`` and ``high``."""
    mean = game.stairs.mean.to(game.clean)
    most, least = (extreme(mean, low, high, sign) for sign in (1, -1))
    share = torch.ones_like(game.clean[:, 0, 0, 0])
    for _ in range(steps):
        state = game.generator.get_state()
        before, gradient = game.slope(cells)
        wanted = torch.where(gradient > 0, most, least)
        moved = torch.where(_largest(gradient * (mean[wanted] - mean[cells]), share), wanted, cells)
        game.generator.set_state(state)
        with torch.no_grad():
            better = game.values(game.redrawn(moved)) > before
        cells = torch.where(per_image(better), moved, cells)
        share = torch.where(better, share, share / 2)
    return cells


def extreme(mean: Tensor, low: Tensor, high: Tensor, sign: int) -> Tensor:
    """Per pixel, the cell from low to high with the largest (sign 1) or smallest (-1) mean value."""
    best = low
    for cell in range(len(mean)):
        inside = (low <= cell) & (cell <= high)
        best = torch.where(inside & (sign * mean[cell] > sign * mean[best]), cell, best)
    return best


def _largest(gain: Tensor, share: Tensor) -> Tensor:
    """Where the gain is positive and among the largest ``share`` (N) of its image's positive ones, at least one."""
    flat = gain.flatten(1)
    count = ((flat > 0).sum(1) * share).ceil().long().clamp_min(1)
    order = flat.sort(1, descending=True).values
    least = order.gather(1, (count - 1)[:, None])
    return (gain > 0) & (gain >= per_image(least[:, 0]))

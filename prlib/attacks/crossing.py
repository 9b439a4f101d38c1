"""Threshold crossing: an attack of our own on redraws."""

import torch
from torch import Tensor, nn

from prlib.attacks.base import (
    LOSSES,
    by_batch,
    check_parameters,
    per_image,
)
from prlib.attacks.staircase import Staircase, redraw_behind
from prlib.data import Transform
from prlib.guard import guarded
from prlib.redraw import Quantised


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
    batch_size: int = 128,
) -> Tensor:
    """Threshold crossing: move only pixels that can change cell, as far as it takes; our own attack.

    Every step estimates the gradient of the expected loss over ``draws`` redrawn images, finds for each pixel the
    reachable cell whose mean value gains most to first order, and moves the share of pixels that gain most: at first
    all, half as many whenever the expected loss (on draws shared by both images) does not rise. ``loss`` is as for
    ``attacks.pgd``.

    Raises:
        ValueError: the defence is neither a redraw nor a quantised one, or its pixels depend.
    """
    check_parameters(epsilon=epsilon, steps=steps, draws=draws, batch_size=batch_size, loss=loss)
    stairs = Staircase.of(redraw_behind(defence))
    assert defence is not None  # or redraw_behind would have raised
    draws = 1 if isinstance(defence, Quantised) else draws  # all would be alike

    def attack(clean: Tensor, targets: Tensor) -> Tensor:
        mean = stairs.mean.to(clean)
        most, least = (_extreme(mean, *stairs.reach(clean, epsilon), sign) for sign in (1, -1))
        cells, share = stairs.cells(clean), torch.ones_like(clean[:, 0, 0, 0])
        repeated = targets.repeat(draws)

        def redrawn(cells: Tensor) -> Tensor:
            return defence(stairs.image(cells, clean).repeat(draws, 1, 1, 1), generator)

        def expected_loss(images: Tensor) -> Tensor:
            return LOSSES[loss](model(images), repeated).view(draws, -1).mean(0)

        for _ in range(steps):
            state = generator.get_state()
            seen = redrawn(cells).requires_grad_()
            before = expected_loss(seen)
            gradient = torch.autograd.grad(before.sum(), seen)[0].view(draws, *clean.shape).sum(0)
            wanted = torch.where(gradient > 0, most, least)
            moved = torch.where(_largest(gradient * (mean[wanted] - mean[cells]), share), wanted, cells)
            generator.set_state(state)
            with torch.no_grad():
                better = expected_loss(redrawn(moved)) > before
            cells = torch.where(per_image(better), moved, cells)
            share = torch.where(better, share, share / 2)
        return stairs.image(cells, clean)

    return torch.cat(by_batch(attack, model, images, labels, max(1, batch_size // draws)))


def _extreme(mean: Tensor, low: Tensor, high: Tensor, sign: int) -> Tensor:
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

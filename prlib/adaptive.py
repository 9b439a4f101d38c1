"""What an attacker who knows the defence can do, and what nobody can: the staircase as a game on cells.

Redrawing forgets all of a pixel but the cell it lies in, between which two thresholds. An attacker therefore chooses
cells, among those within ε of each pixel; everything else about a perturbation is lost.

The attacks have the call shape of ``prlib.attacks``, want the labels, and take two arguments more: ``defence``, the
preprocessor in front of the model (None if there is none), and ``generator`` of all random numbers. An image's random
numbers depend on its place in the batch, and Square tries one pattern on all images of a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torchattacks
from torch import Tensor, nn

from prlib.attacks import (
    LOSSES,
    _by_batch,
    _check,
    _check_loss,
    _defended,
    _per_image,
    pgd,
    robust_probability,
    straight_through,
)
from prlib.data import Transform
from prlib.redraw import PixelRedraw, Quantised, _rounded_down


@dataclass(frozen=True)
class Staircase:
    """A redraw as its attacker sees it, over all of its k models.

    A pixel x is in cell i, i being how many ``edges`` (M, ascending) lie below it. ``mean`` (M+1) is the expectation of
    what is redrawn in each cell, and ``distance`` (M+1)×(M+1) the total variation between two cells' distributions: the
    least share of redrawn values that must differ.
    """

    edges: Tensor
    mean: Tensor
    distance: Tensor

    @classmethod
    def of(cls, redraw: PixelRedraw) -> "Staircase":
        """The staircase of a redraw; a ValueError where pixels depend, one of k models redrawing a whole image."""
        k, n = redraw.weight.shape
        if k > 1 and redraw.choice != "pixel":
            raise ValueError(f'the models must be drawn for each pixel, choice "pixel"; got {redraw.choice!r}')
        edges = redraw.thresholds.flatten().unique()
        edges = edges[(edges >= 0) & (edges < 1)]
        bounds = torch.cat([edges.new_zeros(1), edges, edges.new_ones(1)])
        middles = (bounds[1:] + bounds[:-1]).div(2)[:, None]
        colours = redraw.sort(middles.expand(-1, k), torch.arange(k).expand(len(middles), k))
        shares = nn.functional.one_hot(colours, n).double().mean(1)  # cells × colours
        odds = shares @ _odds(redraw.ranges, redraw.decimals)
        return cls(edges, shares @ redraw.ranges.mean(1), torch.cdist(odds, odds, p=1) / 2)

    def cells(self, images: Tensor) -> Tensor:
        """The cell of every pixel, int64 of the images' shape."""
        return torch.bucketize(images.contiguous(), _rounded_down(self.edges, images.dtype))

    def reach(self, images: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
        """The lowest and the highest cell that every pixel can be brought to, int64 of the images' shape."""
        return self.cells((images - epsilon).clamp_min(0)), self.cells((images + epsilon).clamp_max(1))

    def exposure(self, images: Tensor, epsilon: float) -> Tensor:
        """Per pixel, how much of its redrawn value's distribution the worst change within ε moves: float in [0, 1].

        Zero says that no change within ε can be seen behind the redraw at all.
        """
        low, high = self.reach(images, epsilon)
        here, worst = self.cells(images), torch.zeros_like(images)
        for cell, distances in enumerate(self.distance.to(images.dtype)):
            worst = torch.where((low <= cell) & (cell <= high), worst.maximum(distances[here]), worst)
        return worst

    def image(self, cells: Tensor, clean: Tensor) -> Tensor:
        """The image closest to ``clean`` whose pixels lie in ``cells``."""
        edges = _rounded_down(self.edges, clean.dtype)
        above = edges.nextafter(torch.ones_like(edges))
        lowest, highest = torch.cat([edges.new_zeros(1), above]), torch.cat([edges, edges.new_ones(1)])
        return clean.clamp(lowest[cells], highest[cells])


def guaranteed(probability: Tensor, exposure: Tensor) -> Tensor:
    """A lower bound on how often attacked images are classified correctly, whatever the attack within ε: float N.

    Pixels are redrawn independently, so clean and attacked image can be redrawn together such that they come out equal
    with probability Π(1 - exposure) (a maximal coupling of each pixel); the classifier then says the same of both.

    Args:
        probability: how often each clean image is classified correctly, float N.
        exposure: ``Staircase.exposure`` of the same images, N×C×H×W.
    """
    return (probability - (1 - (1 - exposure.double()).flatten(1).prod(1))).clamp_min(0)


def soft_mean(redraw: PixelRedraw, images: Tensor) -> Tensor:
    """A smooth stand-in for the redraw: the perceptrons' softmax over colours, times the colours' mean values.

    The redraw takes the arg-max instead, whose derivative is zero.
    """
    middle = redraw.ranges.mean(1).to(images)
    lines = zip(redraw.weight.to(images), redraw.bias.to(images), strict=True)
    return torch.stack([(images[..., None] * weight + bias).softmax(-1) @ middle for weight, bias in lines]).mean(0)


def eot_pgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    defence: Transform | None,
    generator: torch.Generator,
    smooth: bool = False,
    **options: Any,
) -> Tensor:
    """``attacks.pgd`` through the defence, in expectation over its draws (EOT and BPDA; Athalye et al., 2018).

    Args:
        smooth: attack through ``soft_mean`` instead of draws; a redraw alone has one.
        options: of ``attacks.pgd``.
    """
    through = None if defence is None else straight_through(defence)
    if smooth:
        redraw = _redraw(defence)

        def through(x: Tensor, _: torch.Generator) -> Tensor:
            return soft_mean(redraw, x)

    return pgd(model, images, labels, preprocess=through, generator=generator, **options)


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
    _check(images, labels, epsilon=epsilon, queries=queries, draws=draws)
    seed = int(torch.randint(2**31, (), generator=generator))
    defended = _Defended(model, defence, generator, draws)
    attack = torchattacks.Square(defended, eps=epsilon, n_queries=queries, seed=seed)
    with torch.random.fork_rng():  # torchattacks draws from the global generator
        return torch.cat(_by_batch(attack, model, images, labels, len(images)))


def transfer(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    surrogate: nn.Module,
    defence: Transform | None,
    generator: torch.Generator,
    **options: Any,
) -> Tensor:
    """``attacks.pgd`` on another network, the surrogate: it neither sees the model nor its defence."""
    return pgd(surrogate, images, labels, generator=generator, **options)


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
    _check(images, labels, epsilon=epsilon, batch_size=batch_size)
    seed = int(torch.randint(2**31, (), generator=generator))
    defended = _Defended(model, None if defence is None else straight_through(defence), generator, draws=20)
    found = []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for loss in ("ce", "dlr"):
            apgd = torchattacks.APGD(defended, eps=epsilon, steps=100, eot_iter=1, loss=loss)

            def attack(clean: Tensor, targets: Tensor, apgd: torchattacks.APGD = apgd) -> Tensor:
                return apgd.attack_single_run(clean, targets)[0]

            found.append(torch.cat(_by_batch(attack, model, images, labels, batch_size)))
    return strongest(model, found, labels, defence=defence, generator=generator)


def strongest(
    model: nn.Module,
    candidates: Sequence[Tensor],
    labels: Tensor,
    *,
    defence: Transform | None,
    generator: torch.Generator,
    draws: int = 50,
) -> Tensor:
    """Of each image's candidates (all N×C×H×W) the one that is classified correctly least often over ``draws``.

    Whoever judges the choice must do so on fresh draws: these have been used to choose.
    """
    rates = [
        robust_probability(model, images, labels, draws=draws, generator=generator, preprocess=defence)
        for images in candidates
    ]
    return torch.stack(list(candidates))[torch.stack(rates).argmin(0), torch.arange(len(labels))]


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
    _check(images, labels, epsilon=epsilon, steps=steps, draws=draws, batch_size=batch_size)
    _check_loss(loss)
    stairs = Staircase.of(_redraw(defence))
    assert defence is not None  # or _redraw would have raised
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
            cells = torch.where(_per_image(better), moved, cells)
            share = torch.where(better, share, share / 2)
        return stairs.image(cells, clean)

    return torch.cat(_by_batch(attack, model, images, labels, max(1, batch_size // draws)))


class _Defended(nn.Module):
    """A model behind its defence, as torchattacks wants it: mean logits over draws."""

    def __init__(self, model: nn.Module, defence: Transform | None, generator: torch.Generator, draws: int = 1) -> None:
        super().__init__()
        self.model = model  # for its parameters, which tell torchattacks the device
        self.defended = _defended(model, defence, generator)
        self.draws = 1 if defence is None else draws

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([self.defended(images) for _ in range(self.draws)]).mean(0)


def _redraw(defence: Transform | None) -> PixelRedraw:
    if isinstance(defence, Quantised):
        return defence.redraw
    if not isinstance(defence, PixelRedraw):
        raise ValueError(f"the defence must be a PixelRedraw or Quantised; got {type(defence).__name__}")
    return defence


def _odds(ranges: Tensor, decimals: int | None) -> Tensor:
    """Colours × intervals of redrawn values: the probability of each; the intervals are what is told apart."""
    half = 0.0 if decimals is None else 0.5 / 10**decimals
    ends = ranges.flatten().unique() if decimals is None else torch.arange(10**decimals + 2) / 10**decimals - half
    low, high = (ranges[:, i, None] for i in (0, 1))
    parts = [(high.minimum(b) - low.maximum(a)).clamp_min(0) / (high - low) for a, b in pairwise(ends.double())]
    return torch.cat(parts, dim=1)


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
    return (gain > 0) & (gain >= _per_image(least[:, 0]))

"""The redraw as its attacker sees it: a game on cells."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from prlib.data import Transform, check_bytes, to_float
from prlib.redraw import PixelRedraw, Quantised, rounded_down


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

    @classmethod
    def fixed(cls, edges: Tensor, values: Tensor) -> "Staircase":
        """Of what is not random: each cell's pixels become one value, of M+1 for M edges."""
        return cls(edges, values, (values[:, None] != values).double())

    def cells(self, images: Tensor) -> Tensor:
        """The cell of every pixel, int64 of the images' shape."""
        return torch.bucketize(images.contiguous(), rounded_down(self.edges, images.dtype).to(images.device))

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

    def exposure_of_bytes(self, images: Tensor, epsilon: float) -> Tensor:
        """``exposure`` of uint8 images, looked up in that of the 256 values that a pixel can have.

        Raises:
            ValueError: the images are not uint8.
        """
        values = to_float(torch.arange(256, dtype=torch.uint8, device=images.device))
        return self.exposure(values, epsilon)[check_bytes(images).int()]  # an index of uint8 would be a mask

    def image(self, cells: Tensor, clean: Tensor) -> Tensor:
        """The image closest to ``clean`` whose pixels lie in ``cells``."""
        edges = rounded_down(self.edges, clean.dtype).to(clean.device)
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


def redraw_behind(defence: Transform | None) -> PixelRedraw:
    """The redraw of a redrawing or a quantised defence; a ValueError where there is none."""
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

"""What an attacker knows of a defence, found out by trying it: is it random, has it a gradient, is it a staircase?"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from prlib.attacks.staircase import Staircase, redraw_behind
from prlib.data import Transform, check_images
from prlib.guard import settled
from prlib.redraw import PixelRedraw, Quantised
from prlib.rivals import BitDepth, Voted

GRID, PLATEAUS = 1001, 64
"""Grey values that a defence is tried on, and up to how many different answers it is looked at as a staircase."""

SEEDS = 16
"""With so many other seeds a defence is tried that seems not random, since it may change images seldom."""


@dataclass(frozen=True)
class Known:
    """A defence with what its attackers know of it; attacks take it in the place of the defence.

    Args:
        transform: the defence itself, of float images N×C×H×W in [0, 1] and a generator.
        random: whether its answer depends on the generator.
        differentiable: whether attacks follow its own gradient; else they step straight through it.
        staircase: its cells where each pixel's answer depends on the pixel's cell alone; None where that is not so.
        votes: how many draws of it vote, as ``voting`` finds.
    """

    transform: Transform
    random: bool
    differentiable: bool
    staircase: Staircase | None = None
    votes: int = 1

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """What the defence makes of images."""
        return self.transform(images, generator)

    @classmethod
    def of(cls, transform: Transform, images: Tensor, seed: int = 0) -> "Known":
        """Find out by trying it on images N×C×H×W, on black, white and noise.

        Raises:
            ValueError: it returns images of another shape or type, or values outside [0, 1]; it answers differently to
                the same seed; it is not random, and what it makes of an image depends on those beside it.
        """
        if isinstance(transform, Voted):
            return replace(cls.of(transform.transform, images, seed), votes=transform.votes)
        check_images(images)
        uniform = torch.rand(images.shape, generator=_seeded(seed)).to(images)
        tried = torch.cat([images, uniform, torch.zeros_like(images[:1]), torch.ones_like(images[:1])])

        def answer(inputs: Tensor, again: int = seed) -> Tensor:
            with torch.no_grad():
                return settled("the defence", transform(inputs.clone(), _seeded(again)), inputs)

        first = answer(tried)
        if not torch.equal(first, answer(tried)):
            raise ValueError(
                "the defence must draw all that is random in it from the generator that it is given; with the same "
                "seed it answered twice differently, so it has a hidden state"
            )
        random = any(not torch.equal(first, answer(tried, other)) for other in range(seed + 1, seed + 1 + SEEDS))
        alone = answer(tried[:1]) if not random else first[:1]
        if not torch.allclose(alone, first[:1], atol=1e-4):
            raise ValueError(
                "the defence must treat every image by itself; it made something else of an image when others were "
                "beside it"
            )
        if isinstance(transform, PixelRedraw | Quantised):
            redraw = redraw_behind(transform)
            pixelwise = len(redraw.weight) == 1 or redraw.choice == "pixel"
            return cls(transform, random, False, Staircase.of(redraw) if pixelwise else None)
        stairs = None if random else _probed(answer, tried)
        return cls(transform, random, stairs is None and _has_gradient(transform, images, seed), stairs)

    @property
    def described(self) -> str:
        """What was found, in a sentence."""
        kind = "random" if self.random else "not random"
        kind += f" and answers by a vote of {self.votes}" if self.votes > 1 else ""
        if self.staircase is not None:
            cells = len(self.staircase.mean)
            return f"the defence is {kind} and sorts pixels into {cells} cells; attacks cross the thresholds between"
        if self.differentiable:
            return f"the defence is {kind} and differentiable; attacks follow its gradient, or step straight through it"
        return f"the defence is {kind} and has no useful gradient; attacks step straight through it (BPDA)"


def voting(defence: Transform | None) -> tuple[Transform | None, int]:
    """What draws once behind a defence, and how many draws vote; most defences answer to one."""
    if isinstance(defence, Voted):
        return defence.transform, defence.votes
    return defence, defence.votes if isinstance(defence, Known) else 1


def is_random(defence: Transform | None) -> bool:
    """Whether a defence may answer differently when it is asked again; one that does not say so may."""
    return not (defence is None or isinstance(defence, Quantised)) and getattr(defence, "random", True)


def staircase_of(defence: Transform | None) -> Staircase:
    """The cells of a redraw, of fewer bits or of a defence known to have some; a ValueError where there are none."""
    if isinstance(defence, Known):
        if defence.staircase is None:
            raise ValueError("the defence must sort pixels into cells; this one does not, as far as is known")
        return defence.staircase
    if isinstance(defence, BitDepth):
        return Staircase.fixed(defence.edges, defence.values)
    return Staircase.of(redraw_behind(defence))


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _has_gradient(transform: Transform, images: Tensor, seed: int) -> bool:
    """Whether at least a tenth of the pixels of ordinary images have a finite gradient that is not zero."""
    inputs = (0.1 + 0.8 * images).requires_grad_()  # where clipping to [0, 1] has one
    weights = torch.rand(images.shape, generator=_seeded(seed + 2)).to(images)
    with torch.enable_grad():
        output = transform(inputs.clone(), _seeded(seed))
        if not output.requires_grad:
            return False
        (gradient,) = torch.autograd.grad((output * weights).sum(), inputs, allow_unused=True)
    if gradient is None:
        return False
    return float((gradient.isfinite() & (gradient != 0)).float().mean()) >= 0.1


def _probed(answer: Callable[[Tensor], Tensor], tried: Tensor) -> Staircase | None:
    """The staircase of a defence that answers to each pixel by itself with one of a few values; None for any other."""

    def steps(values: Tensor) -> Tensor | None:
        """What becomes of grey images of these values; None if that differs within an image."""
        seen = answer(values[:, None, None, None].expand(-1, *tried.shape[1:]))
        low, high = seen.flatten(1).aminmax(dim=1)
        return low if torch.equal(low, high) else None

    grid = torch.linspace(0, 1, GRID, dtype=tried.dtype)
    values = steps(grid)
    if values is None:
        return None
    changes = values.diff().nonzero().squeeze(1)
    if not 0 < len(changes) < PLATEAUS:
        return None
    low, high, before = grid[changes], grid[changes + 1], values[changes]
    for _ in range(30):  # until the last bit of float32
        middle = (low + high) / 2
        found = steps(middle)
        if found is None:
            return None
        low, high = torch.where(found == before, middle, low), torch.where(found == before, high, middle)
    mean = torch.cat([values[:1], values[changes + 1]]).double()
    stairs = Staircase.fixed(low.double(), mean)
    return stairs if torch.equal(mean[stairs.cells(tried)].to(tried), answer(tried)) else None

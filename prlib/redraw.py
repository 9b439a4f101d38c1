"""The method: pixels redrawn at random within the colour range that tiny perceptrons sort them into.

A Pixel Redrawn (PR) model is a perceptron with one input, the pixel, and one output per colour range (paper,
Section 2.1, Fig. 3). Each output is a line in the pixel's value, so its arg-max is a staircase: it is found once,
exactly, and redrawing compares pixels with thresholds instead of evaluating perceptrons.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prlib.data import check_images
from prlib.files import intact, parse_tensors, save_tensors

RANGES = ((0.0, 0.4), (0.3, 0.7), (0.6, 1.0))
"""The released code's colour ranges, for every dataset."""

_MOST_DECIMALS = 7  # of a float32


class PixelRedraw(nn.Module):
    """Redraw every pixel of an image at random in the colour range of one of k PR models (paper, Section 2).

    ``redraw(images, generator)`` maps float images N×C×H×W in [0, 1] to redrawn images of the same shape and type.

    Args:
        weight, bias: k×n, the k perceptrons' n lines: the logit of colour j at pixel x is weight[j] * x + bias[j].
        ranges: n×2, lowest and highest redrawn value of each colour.
        choice: which model redraws a pixel: "pixel" draws one of the k for each value of each channel
            (paper, Section 2.2), "image" one for each image (the released code).
        decimals: redrawn values are rounded to this many decimals (2 in the released code); None leaves them.

    Raises:
        ValueError: shapes that do not fit, numbers that are not finite, ranges outside [0, 1] or finer than
            ``decimals``, an unknown choice.
    """

    weight: Tensor
    bias: Tensor
    ranges: Tensor

    thresholds: Tensor
    """Where each model's colour changes, exactly, k×(n-1) float64; equal where a colour never wins.

    A pixel x has the colour ``colours[i]``, i being the number of thresholds below x; a pixel that lies exactly on a
    threshold keeps the lower colour. A threshold outside [0, 1] is one that no pixel crosses.
    """

    colours: Tensor
    """The colours of each model from black to white, k×n; 0, 1, …, n-1 for every model that has learnt anything."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        ranges: Sequence[Sequence[float]] | Tensor = RANGES,
        choice: str = "pixel",
        decimals: int | None = 2,
    ) -> None:
        super().__init__()
        ranges = _checked_ranges(ranges, decimals)
        weight, bias = torch.as_tensor(weight), torch.as_tensor(bias)
        if weight.ndim != 2 or not len(weight) or weight.shape != bias.shape or weight.shape[1] != len(ranges):
            raise ValueError(
                f"weight and bias must both be k×{len(ranges)}, one column per colour range; "
                f"got {tuple(weight.shape)} and {tuple(bias.shape)}"
            )
        if choice not in ("pixel", "image"):
            raise ValueError(f'choice must be "pixel" or "image"; got {choice!r}')
        self.choice, self.decimals = choice, decimals
        self.register_buffer("weight", weight.double())
        self.register_buffer("bias", bias.double())
        self.register_buffer("ranges", ranges)
        self.register_buffer("thresholds", None, persistent=False)
        self.register_buffer("colours", None, persistent=False)
        self._find_staircase()
        self.register_load_state_dict_post_hook(_loaded)

    @classmethod
    def fit(
        cls,
        k: int = 1,
        steps: int | tuple[int, int] = 5000,
        init: str = "zeros",
        ranges: Sequence[Sequence[float]] = RANGES,
        seed: int = 0,
        choice: str = "pixel",
        decimals: int | None = 2,
    ) -> "PixelRedraw":
        """Train k PR models on random pixels, by ``perceptrons``, and redraw with them.

        Args:
            k: number of models.
            steps: training steps of every model, or (low, high): each model stops after its own number of steps,
                drawn uniformly from [low, high), so that some are only partially converged (Section 2.2).
            init: "zeros", or "normal" for weights and biases drawn from normal(0, 1).
            seed: of all the randomness of this fit.
        """
        check_sizes(k, steps, seed)
        low, high = steps if isinstance(steps, list | tuple) else (steps, steps + 1)
        if init not in ("zeros", "normal"):
            raise ValueError(f'init must be "zeros" or "normal"; got {init!r}')
        bounds = _checked_ranges(ranges, decimals)
        weight, bias = perceptrons(k, low, high, init, tuple(map(tuple, bounds.tolist())), seed)
        return cls(torch.tensor(weight), torch.tensor(bias), bounds, choice, decimals)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "PixelRedraw":
        """Go to another device, but stay exact where all modules are made shorter, as by ``half()``."""
        exact = dict(self.named_buffers())
        super()._apply(fn, recurse)
        for name, moved in list(self.named_buffers()):
            self._buffers[name] = exact[name].to(moved.device)
        return self

    def _find_staircase(self) -> None:
        if not (self.weight.isfinite().all() and self.bias.isfinite().all()):
            raise ValueError("weight and bias must be finite; got NaN or infinity among them")
        # The arg-max of lines is their upper envelope, whose slopes increase. Between the lines of lower and of higher
        # slope there is one boundary: the first x at which every lower line is beaten by some higher one.
        order = self.weight.argsort(dim=1, stable=True)
        slope, height = self.weight.gather(1, order), self.bias.gather(1, order)
        run = slope[:, None, :] - slope[:, :, None]  # k × lower × higher, never negative for higher ones
        rise = height[:, :, None] - height[:, None, :]
        parallel = torch.where(rise < 0, -torch.inf, torch.inf)
        crossing = torch.where(run > 0, rise / run.clamp_min(torch.finfo(run.dtype).tiny), parallel)
        boundaries = [crossing[:, :i, i:].amin(2).amax(1) for i in range(1, len(self.ranges))]
        self.thresholds, self.colours = torch.stack(boundaries, dim=1), order

    def sort(self, images: Tensor, models: Tensor | int = 0) -> Tensor:
        """The colour of every pixel, int64 of the images' shape, as ``models`` (one of the k for each pixel) see it."""
        if isinstance(models, int):  # filled in there: copied to a GPU, it would make the host wait
            models = torch.full((), models, dtype=torch.int32, device=images.device)
        return _at(self.colours, self._place(images, models.to(images.device, torch.int32)))

    def _place(self, images: Tensor, models: Tensor) -> Tensor:
        """Where each pixel stands in ``colours`` laid out flat: its model's row, and how many thresholds it exceeds."""
        place = models * len(self.ranges)
        for edge in rounded_down(self.thresholds, images.dtype).T:
            place = place + (images > _at(edge, models))
        return place

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Redraw images (float N×C×H×W in [0, 1]); raises ValueError for anything else. See the class."""
        check_images(images)
        k, device = len(self.weight), images.device
        models = torch.zeros((), dtype=torch.int32, device=device)
        if k > 1:
            shape = images.shape if self.choice == "pixel" else (len(images), 1, 1, 1)
            models = torch.randint(k, shape, generator=generator, dtype=torch.int32, device=device)
        place = self._place(images, models)
        low, high = self.ranges.float()[self.colours].unbind(-1)
        redrawn = torch.rand(images.shape, generator=generator, device=device)
        redrawn = redrawn.mul_(_at(high - low, place)).add_(_at(low, place))
        if self.decimals is not None:
            redrawn = redrawn.mul_(10**self.decimals).round_().div_(10**self.decimals)
        return redrawn.to(images.dtype)

    def save(self, path: Path) -> None:
        """Write the models to a safetensors file; ``PixelRedraw.load`` reads it back."""
        save_tensors(self.state_dict(), path, {"choice": self.choice, "decimals": str(self.decimals)})

    @classmethod
    def load(cls, path: Path) -> "PixelRedraw":
        """Read models that ``save`` wrote; a ValueError that names the path if it holds none."""
        with intact(path, "a file of PR models", "save them again"):
            tensors, meta = parse_tensors(path.read_bytes())
            decimals = None if meta["decimals"] == "None" else int(meta["decimals"])
            return cls(tensors["weight"], tensors["bias"], tensors["ranges"], meta["choice"], decimals)


class Quantised(nn.Module):
    """The redraw without its randomness: every pixel becomes what it would be redrawn as on average."""

    def __init__(self, redraw: PixelRedraw) -> None:
        super().__init__()
        self.redraw = redraw

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Quantise images (float N×C×H×W in [0, 1]); ``generator`` is not used."""
        check_images(images)
        middle = self.redraw.ranges.mean(1).to(images)
        return torch.stack([middle[self.redraw.sort(images, i)] for i in range(len(self.redraw.weight))]).mean(0)


class RandomInversion(nn.Module):
    """Invert a batch (1 - x) with probability ½, then redraw it: what one released script trains on (D13)."""

    def __init__(self, redraw: PixelRedraw) -> None:
        super().__init__()
        self.redraw = redraw

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Invert all images (float N×C×H×W in [0, 1]) or none, and redraw them."""
        inverted = torch.rand((), generator=generator, device=images.device) < 0.5
        return self.redraw(torch.where(inverted, 1 - images, images), generator)


def _loaded(module: PixelRedraw, _: object) -> None:
    module._find_staircase()  # a function of the module, unlike a lambda, can be pickled


@lru_cache(maxsize=64)  # a defence is built again for every network and page
def perceptrons(
    k: int, low: int, high: int, init: str, ranges: tuple[tuple[float, ...], ...], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Train k PR models on random pixels (paper, Algorithm 1, line 4; details from the released code).

    Every step shows each model 100 uniform pixels, each labelled with a colour drawn uniformly from those whose range
    holds it, and descends the softmax cross-entropy by plain SGD with learning rate 0.1.

    Args:
        low, high: each model's steps are drawn uniformly from [low, high).
        k, init, ranges, seed: those of ``PixelRedraw.fit``, which checks them.

    Returns:
        Weight and bias, k×colours each, read-only.
    """
    # NumPy, since on arrays this small PyTorch spends its time in overhead and thread barriers.
    rng, bounds = np.random.default_rng(seed), np.array(ranges)
    line = np.zeros((2, k, len(bounds))) if init == "zeros" else rng.standard_normal((2, k, len(bounds)))
    last = rng.integers(low, high, (k, 1))
    for step in range(last.max()):
        pixels, targets = _random_examples(k, 100, bounds, rng)
        odds = np.exp(pixels * line[0][:, None] + line[1][:, None])
        error = odds / odds.sum(2, keepdims=True) - targets
        line -= 0.1 * np.stack([(error * pixels).mean(1), error.mean(1)]) * (step < last)
    line.flags.writeable = False  # the next to ask gets the same arrays
    return line[0], line[1]


def _random_examples(k: int, n: int, bounds: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Pixels k×n×1 and their one-hot labels k×n×colours, drawn among the colours whose range holds the pixel."""
    pixels = rng.random((k, n, 1))
    lottery = rng.random((k, n, len(bounds))) * ((bounds[:, 0] <= pixels) & (pixels <= bounds[:, 1]))
    return pixels, lottery == lottery.max(2, keepdims=True)


def _is_integer(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_sizes(k: Any, steps: Any, seed: Any) -> None:
    """Raise a ValueError for sizes that ``PixelRedraw.fit`` does not take."""
    one = _is_integer(steps) and steps >= 0
    two = isinstance(steps, list | tuple) and len(steps) == 2 and all(map(_is_integer, steps))
    if not (_is_integer(k) and k >= 1 and (one or (two and 0 <= steps[0] < steps[1]))):
        raise ValueError(f"k must be at least 1, steps an integer or (low, high) with low < high; got {k!r}, {steps!r}")
    if not _is_integer(seed) or seed < 0:
        raise ValueError(f"seed must be an integer from 0 up; got {seed!r}")


def _checked_ranges(given: Sequence[Sequence[float]] | Tensor, decimals: int | None) -> Tensor:
    """The ranges as float64 n×2."""
    try:
        ranges = torch.as_tensor(given, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"ranges must be at least two pairs (low, high); got {given!r}") from None
    if decimals is not None and not (_is_integer(decimals) and 0 <= decimals <= _MOST_DECIMALS):
        raise ValueError(f"decimals must be None or an integer from 0 to {_MOST_DECIMALS}; got {decimals!r}")
    if ranges.ndim != 2 or ranges.shape[1] != 2 or len(ranges) < 2:
        raise ValueError(f"ranges must be at least two pairs (low, high); got {ranges.tolist()}")
    low, high = ranges.T
    if not bool(((low >= 0) & (low < high) & (high <= 1)).all()):
        raise ValueError(f"every range must satisfy 0 <= low < high <= 1; got {ranges.tolist()}")
    reach = high.cummax(0).values
    if low[0] > 0 or reach[-1] < 1 or bool((low[1:] > reach[:-1]).any()):
        raise ValueError(f"ranges must be in order and cover [0, 1] without a gap; got {ranges.tolist()}")
    if decimals is not None and not torch.allclose(ranges, (ranges * 10**decimals).round() / 10**decimals):
        raise ValueError(f"ranges must have at most decimals={decimals} decimals; got {ranges.tolist()}")
    return ranges


def _at(table: Tensor, index: Tensor) -> Tensor:
    """``table.flatten()[index]``, several times as fast."""
    return table.flatten().to(index.device).index_select(0, index.flatten()).view(index.shape)


def rounded_down(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Thresholds in a shorter format, such that comparing its numbers with them stays exact."""
    # x > t holds for x in a short format exactly when x > the largest number of that format not above t.
    short = values.to(dtype)
    return torch.where(short > values, short.nextafter(torch.full_like(short, -torch.inf)), short)

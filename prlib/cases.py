"""What the classifier is shown at test time, and what is measured there (paper, Section 3.4)."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from prlib.data import Split, to_float
from prlib.train import Transform

BATCH_SIZE = 250
"""Images judged at a time: fixed, since float32 sums depend on it, and the unit that can be judged again alone."""


@dataclass(frozen=True)
class Outcome:
    """Per example: was the final image classified correctly (bool N), and how far is it from the clean one.

    ``l0`` counts changed values, ``l2`` and ``linf`` are norms of the difference, all float N.
    """

    correct: Tensor
    l0: Tensor
    l2: Tensor
    linf: Tensor


@torch.no_grad()
def judge(
    model: nn.Module,
    split: Split,
    transform: Transform | None,
    seed: int,
    batches: Iterable[int] | None = None,
) -> Outcome:
    """Classify the images of ``split`` after ``transform`` (the Normal case; None shows them as they are).

    Every batch of ``BATCH_SIZE`` images has a generator of its own, seeded with ``seed`` plus the batch's number, so
    that any of them (``batches``; None is all) can be judged again alone.

    Raises:
        ValueError: the network was trained on a full dataset and the split is of the embedded sample, whose MNIST test
            images are training images of the full dataset.
    """
    if split.source == "sample" and getattr(model, "trained_on", None) == "full":
        raise ValueError(
            "weights trained on the full data cannot be judged by the embedded sample; use the full test set"
        )
    device = next(model.parameters()).device
    outcomes = []
    for batch in range(-(-len(split) // BATCH_SIZE)) if batches is None else batches:
        part = slice(batch * BATCH_SIZE, (batch + 1) * BATCH_SIZE)
        clean, labels = to_float(split.images[part].to(device)), split.labels[part].to(device)
        generator = torch.Generator(device).manual_seed(seed + batch)
        final = clean if transform is None else transform(clean, generator)
        change = (final - clean).flatten(1)
        correct = model(final).argmax(1) == labels
        norms = ((change != 0).sum(1).float(), change.norm(dim=1), change.abs().amax(1))
        outcomes.append([value.cpu() for value in (correct, *norms)])
    return Outcome(*(torch.cat(values) for values in zip(*outcomes, strict=True)))


class Estimate(NamedTuple):
    """A measured value with its 95% interval."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2

    def minus(self, other: "Estimate") -> "Estimate":
        """The difference of two independent estimates (Newcombe, 1998, method 10, if both are Wilson's).

        Accuracies on the same test images are not independent; their interval is then a little wider than needed.
        """
        value = self.value - other.value
        low = value - math.hypot(self.value - self.low, other.high - other.value)
        return Estimate(value, low, value + math.hypot(self.high - self.value, other.value - other.low))


def wilson(correct: int, total: int) -> Estimate:
    """An accuracy with Wilson's 95% score interval (Wilson, 1927)."""
    if not 0 <= correct <= total or total < 1:
        raise ValueError(f"an accuracy needs 0 <= correct <= total and total >= 1; got {correct} of {total}")
    z = 1.959964
    p, shrink = correct / total, 1 + z * z / total
    centre = (p + z * z / (2 * total)) / shrink
    half = z / shrink * math.sqrt(p * (1 - p) / total + z * z / (4 * total**2))
    # At 0 and at 1 the bound is the value itself, which rounding would miss by 1e-17.
    return Estimate(p, 0.0 if correct == 0 else centre - half, 1.0 if correct == total else centre + half)

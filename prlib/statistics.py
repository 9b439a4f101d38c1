"""Measured values with their intervals, and what chance does to them: in test images and in trainings."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from scipy.stats import t

LEVEL = 0.95
"""The confidence of every interval of this book."""

Z = statistics.NormalDist().inv_cdf((1 + LEVEL) / 2)
"""The normal distribution's quantile that goes with it."""


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


def wilson(correct: float, total: float) -> Estimate:
    """An accuracy with Wilson's 95% score interval (Wilson, 1927)."""
    if not 0 <= correct <= total or total < 1:
        raise ValueError(f"an accuracy needs 0 <= correct <= total and total >= 1; got {correct} of {total}")
    p, shrink = correct / total, 1 + Z * Z / total
    centre = (p + Z * Z / (2 * total)) / shrink
    half = Z / shrink * math.sqrt(p * (1 - p) / total + Z * Z / (4 * total**2))
    # At 0 and at 1 the bound is the value itself, which rounding would miss by 1e-17.
    return Estimate(p, 0.0 if correct == 0 else centre - half, 1.0 if correct == total else centre + half)


def over_trainings(accuracies: Sequence[float], total: int) -> Estimate:
    """The mean accuracy of several trainings on the same ``total`` test images, with both sources of chance.

    The distances to Wilson's bounds (other test images) and to those of Student's t over trainings (other seeds) are
    added in squares, as if they were independent (Zou and Donner, 2008). The spread over trainings holds a part of the
    chance in images, too, so the interval is a little wider than needed. Of one training it is Wilson's.
    """
    images = wilson(statistics.fmean(accuracies) * total, total)
    reach = _spread(accuracies) / math.sqrt(len(accuracies))
    return _widened(images, reach)


def next_training(accuracies: Sequence[float], total: int, of: int) -> Estimate:
    """What one more training may show on all ``of`` test images of which ours met ``total``: a 95% prediction interval.

    Student's t for one more value of a normal sample of at least two trainings; where ours met a part of the images,
    Wilson's distances are added in squares, shrunk by the part of the images that both have in common.
    """
    if len(accuracies) < 2:
        raise ValueError(f"a prediction needs at least two trainings; got {len(accuracies)}")
    value = statistics.fmean(accuracies)
    images, others = wilson(value * total, total), math.sqrt(max(0.0, 1 - total / of))
    part = Estimate(value, value - others * (value - images.low), value + others * (images.high - value))
    return _widened(part, _spread(accuracies) * math.sqrt(1 + 1 / len(accuracies)))


def _spread(accuracies: Sequence[float]) -> float:
    """Student's quantile times the standard deviation over trainings; 0 of one training."""
    n = len(accuracies)
    return float(t.ppf((1 + LEVEL) / 2, n - 1)) * statistics.stdev(accuracies) if n > 1 else 0.0


def _widened(estimate: Estimate, reach: float) -> Estimate:
    value, low, high = estimate
    return Estimate(
        value, max(0.0, value - math.hypot(value - low, reach)), min(1.0, value + math.hypot(high - value, reach))
    )

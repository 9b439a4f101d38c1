"""Measured values with their intervals, and what chance does to them: in test images and in trainings."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import bdtrc, gammaln, ndtr, ndtri, stdtrit  # scipy.stats takes half a second to import

LEVEL = 0.95
"""The confidence of every interval of this book."""

ALPHA = 0.05
"""What is at most this likely by chance alone is not called chance."""

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

        Accuracies on the same test images are not independent; ``paired`` is for those.
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


def paired(differences: np.ndarray) -> Estimate:
    """The mean difference on the same test images, with a 95% interval.

    Of one training it is Agresti and Min's interval for matched proportions (2005, "Wald+2"): half a test image more in
    each cell of the table of pairs. Of several, the distance to its bound, for the mean over trainings, and that of
    Student's t over trainings are added in squares, as in ``over_trainings``.

    Args:
        differences: trainings × images, each what an image adds: -1, 0 or 1 for right on one side minus right on the
            other, from -2 to 2 for a change minus another.
    """
    spread = _Spread.of(differences)
    limit = max(1.0, float(np.abs(differences).max(initial=0)))
    low, high = (spread.centre + sign * spread.reach(1 - LEVEL) for sign in (-1, 1))
    return Estimate(float(differences.mean()), max(-limit, low), min(limit, high))


def p_value(differences: np.ndarray, bound: float = 0.0) -> float:
    """Two-sided, of the mean difference being ``bound``; arguments as ``paired``'s.

    Of one training, the bound 0 and whole numbers it is exact: each image's difference is as likely to have the other
    sign. Where differences are -1, 0 and 1 that is McNemar's test. Elsewhere it is the level at which ``paired``'s
    interval would end at the bound.
    """
    if bound == 0 and len(differences) == 1 and np.issubdtype(differences.dtype, np.integer):
        return _sign_flips(differences[0])
    spread = _Spread.of(differences)
    gap = abs(spread.centre - bound)
    if not spread.trainings:
        return float(2 * ndtr(-gap / spread.images))
    if gap >= spread.reach(_SMALLEST):
        return _SMALLEST
    from scipy.optimize import brentq  # takes half a second, and few need it

    return float(brentq(lambda p: spread.reach(p) - gap, _SMALLEST, 1.0))


def holm(p_values: Sequence[float]) -> list[float]:
    """Each p-value adjusted for there being several (Holm, 1979), in the order given."""
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


_SMALLEST = 1e-12  # no p-value that rests on several trainings is smaller


class _Spread(NamedTuple):
    """The middle of an interval of differences, and the standard errors of its two sources of chance."""

    centre: float
    images: float
    trainings: float
    n: int

    @classmethod
    def of(cls, differences: np.ndarray) -> "_Spread":
        """Agresti and Min's, for the mean over trainings."""
        mean, n = differences.mean(0), len(differences)
        total = len(mean) + 2
        centre = float(mean.sum()) / total
        variance = ((float(mean @ mean) + 1) / total - centre**2) / total
        trainings = float(differences.mean(1).std(ddof=1)) / math.sqrt(n) if n > 1 else 0.0
        return cls(centre, math.sqrt(variance), trainings, n)

    def reach(self, p: float) -> float:
        """Half the width of the interval that leaves out a share p."""
        trainings = -float(stdtrit(self.n - 1, p / 2)) * self.trainings if self.trainings else 0.0
        return math.hypot(-float(ndtri(p / 2)) * self.images, trainings)


def _sign_flips(differences: np.ndarray) -> float:
    """How likely a sum at least as far from 0 is if each of these -2, -1, 0, 1, 2 could have had the other sign."""
    total = abs(int(differences.sum()))
    ones, twos = (int((np.abs(differences) == size).sum()) for size in (1, 2))
    if not total:
        return 1.0
    positive = np.arange(twos + 1)  # of the twos; the ones must then add up to what is left of the total
    left = total - 2 * (2 * positive - twos)
    of_twos = np.exp(gammaln(twos + 1) - gammaln(positive + 1) - gammaln(twos - positive + 1) - twos * math.log(2))
    return min(1.0, 2 * float(of_twos @ _at_least(np.ceil((left + ones) / 2), ones)))


def _at_least(heads: np.ndarray, n: int) -> np.ndarray:
    """How likely so many heads or more are in n throws of a coin."""
    return np.where(heads > 0, bdtrc(np.clip(heads - 1, 0, n), n, 0.5), 1.0)


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
    return float(stdtrit(n - 1, (1 + LEVEL) / 2)) * statistics.stdev(accuracies) if n > 1 else 0.0


def _widened(estimate: Estimate, reach: float) -> Estimate:
    value, low, high = estimate
    return Estimate(
        value, max(0.0, value - math.hypot(value - low, reach)), min(1.0, value + math.hypot(high - value, reach))
    )

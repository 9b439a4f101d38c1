"""What no attack within an L2 distance can do to a vote over Gaussian noise (Cohen et al., 2019)."""

import math
from numbers import Integral

import numpy as np
from scipy.special import betaincinv, ndtri

CONFIDENCE = 0.999
"""With which each image's radius holds; Cohen et al.'s."""


def certified_radius(right: np.ndarray, draws: int, std: float, confidence: float = CONFIDENCE) -> np.ndarray:
    """How far an image can be moved, by L2, without the majority's answer becoming wrong: float N, 0 where unknown.

    Of ``draws`` answers behind normal noise of ``std``, ``right`` (int N) were right. p is a lower bound (Clopper and
    Pearson) on how often they are; the radius is ``std`` times the normal distribution's quantile of p, where p is
    above one half (Theorem 1, with 1 - p for the other classes together). It is of a vote among ever more draws.

    Cohen et al. first choose the class that most of some other draws are for. Here it is the label, so that no draws
    are needed to choose it, and what is certified is that the majority is right.

    Raises:
        ValueError: an argument that is none of these.
    """
    if not 0 < std < math.inf or not 0 < confidence < 1:
        raise ValueError(f"std must be positive, confidence between 0 and 1; got {std!r} and {confidence!r}")
    if not isinstance(draws, Integral) or isinstance(draws, bool) or draws < 1:
        raise ValueError(f"draws must be a positive integer; got {draws!r}")
    counts, draws = np.asarray(right), int(draws)
    if counts.size and counts.dtype.kind not in "iu":
        raise ValueError(f"the right answers must be counted, in integers; got {counts.dtype}")
    counts = counts.astype(np.int64)  # a short type would overflow below
    if counts.min(initial=0) < 0 or counts.max(initial=0) > draws:
        raise ValueError(
            f"the right answers must be from 0 to {draws}, all draws; got {counts.min()} to {counts.max()}"
        )
    least = betaincinv(np.maximum(counts, 1), draws - counts + 1, 1 - confidence)
    return np.where((counts > 0) & (least > 0.5), std * ndtri(least), 0.0)


def enclosing_l2(epsilon: float, values: int) -> float:
    """The L2 radius around all that differs by at most ε in each of so many values: ε√d."""
    return epsilon * math.sqrt(values)

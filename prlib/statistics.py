"""Measured values with their intervals."""

import math
from typing import NamedTuple


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
    z = 1.959964
    p, shrink = correct / total, 1 + z * z / total
    centre = (p + z * z / (2 * total)) / shrink
    half = z / shrink * math.sqrt(p * (1 - p) / total + z * z / (4 * total**2))
    # At 0 and at 1 the bound is the value itself, which rounding would miss by 1e-17.
    return Estimate(p, 0.0 if correct == 0 else centre - half, 1.0 if correct == total else centre + half)

"""Accuracies that stand side by side in a sentence, and what may be concluded from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from prlib.findings.claims import relate
from prlib.findings.pairs import Term, accuracy_on, common, differences
from prlib.statistics import ALPHA, Estimate


@dataclass(frozen=True)
class Selected:
    """An accuracy: a row of ``measured``, right before and after or not, and the places of the images it is told of."""

    row: Any
    kept: bool = False
    places: np.ndarray = field(default_factory=lambda: np.arange(0))

    @property
    def estimate(self) -> Estimate:
        """The accuracy on these images."""
        return accuracy_on(self.row.trainings, self.places, self.kept)

    @property
    def all_places(self) -> np.ndarray:
        """The places of all images that it was measured on."""
        bits = [b for one in self.row.trainings for b in (one.after, one.before if self.kept else one.after) if b]
        return common([one.images for one in bits])


@dataclass(frozen=True)
class Guard:
    """What a sentence concludes of two of its numbers, or of one and a constant.

    Args:
        relation: "above", "below" or "same" as in ``claims.yaml``; "level" if neither is above by more than chance.
        by: the tolerance: of "same", and what "above" and "below" must exceed.
    """

    left: str
    relation: str
    right: str | float
    by: float = 0.0


def above(left: str, right: str | float, by: float = 0.0) -> Guard:
    """The one is above the other by more than chance, and more than ``by``."""
    return Guard(left, "above", right, by)


def below(left: str, right: str | float, by: float = 0.0) -> Guard:
    """The one is below the other by more than chance, and more than ``by``."""
    return Guard(left, "below", right, by)


def same(left: str, right: str, by: float) -> Guard:
    """They differ by less than ``by``, and more than chance would have to hide more."""
    return Guard(left, "same", right, by)


def level(left: str, right: str) -> Guard:
    """Neither is above the other by more than chance."""
    return Guard(left, "level", right)


def holds(guard: Guard, found: Mapping[str, Selected | None]) -> bool:
    """Whether the numbers found bear a conclusion out, on the same images, at 5%; not if one is missing."""
    left = found[guard.left]
    if left is None:
        return False
    if isinstance(guard.right, float | int):
        low, high = left.estimate.low, left.estimate.high
        return low > guard.right + guard.by if guard.relation == "above" else high < guard.right - guard.by
    if (right := found[guard.right]) is None:
        return False
    pair = differences([Term(1, left.row.trainings), Term(-1, right.row.trainings)], left.kept or right.kept)
    if not pair.size:
        return False
    if guard.relation == "level":
        return relate("above", pair, 0.0)[1] > ALPHA
    if guard.relation == "below":
        pair = -pair
    outcome, p = relate("same" if guard.relation == "same" else "clearly above", pair, guard.by)
    return outcome == "holds" and p <= ALPHA


def on_the_same_images(candidates: Mapping[str, Sequence[Selected]]) -> dict[str, Selected | None]:
    """Of each name's candidates, the first preferred, one, on the images that all names of a dataset have in common.

    One that was measured on these images and no others goes before one that is restricted to them.
    """
    found: dict[str, Selected | None] = dict.fromkeys(candidates)
    groups: dict[str, list[str]] = {}
    for name, rows in candidates.items():
        if rows:
            groups.setdefault(rows[0].row.dataset.removesuffix("-gray"), []).append(name)
    for names in groups.values():
        images = {
            bits.images
            for name in names
            for one in candidates[name][0].row.trainings
            for bits in (one.after, one.before if candidates[name][0].kept else None)
            if bits
        }
        places = common(list(images))
        for name in names:
            exact = [one for one in candidates[name] if np.array_equal(one.all_places, places)]
            chosen = (exact or candidates[name])[0]
            if len(places) and np.isin(places, chosen.all_places).all():
                found[name] = replace(chosen, places=places)
    return found

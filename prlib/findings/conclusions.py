"""Accuracies that stand side by side in a sentence, and what may be concluded from them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from prlib.chosen import Chosen
from prlib.findings.cells import preferred, select
from prlib.findings.claims import relate
from prlib.findings.pairs import Term, accuracy_on, common, differences
from prlib.statistics import ALPHA, Estimate, p_value


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
    def all_images(self) -> list[Chosen]:
        """The images that each training's network was judged on; with ``kept`` those before the attack, too."""
        bits = [b for one in self.row.trainings for b in (one.after, one.before if self.kept else None) if b]
        return [one.images for one in bits]

    @property
    def all_places(self) -> np.ndarray:
        """The places of all images that it was measured on."""
        return common(self.all_images)

    def of_seeds(self, seeds: Collection[int]) -> "Selected | None":
        """The same of the trainings with these seeds alone; None unless it has all of them."""
        trainings = tuple(one for one in self.row.trainings if one.seed in seeds)
        return replace(self, row=self.row._replace(trainings=trainings)) if 0 < len(trainings) == len(seeds) else None


@dataclass(frozen=True)
class Guard:
    """What a sentence concludes of a sum of its numbers with signs.

    Args:
        terms: the signs and names of the numbers.
        relation: "above", "below" or "same" as in ``claims.yaml``; "level" if the sum is not told from 0.
        bound: of "above" and "below", what the sum lies beyond; of "same", its distance from 0 at most.
    """

    terms: tuple[tuple[int, str], ...]
    relation: str
    bound: float = 0.0


def above(left: str, right: str | float, by: float = 0.0) -> Guard:
    """The one is above the other, or a constant, by more than chance, and more than ``by``."""
    if isinstance(right, str):
        return Guard(((1, left), (-1, right)), "above", by)
    return Guard(((1, left),), "above", right + by)


def below(left: str, right: str | float, by: float = 0.0) -> Guard:
    """The one is below the other, or a constant, by more than chance, and more than ``by``."""
    return above(right, left, by) if isinstance(right, str) else Guard(((1, left),), "below", right - by)


def same(left: str, right: str, by: float) -> Guard:
    """They differ by less than ``by``, and more than chance would have to hide more."""
    return Guard(((1, left), (-1, right)), "same", by)


def level(left: str, right: str) -> Guard:
    """Neither is above the other by more than chance."""
    return Guard(((1, left), (-1, right)), "level")


def falls_more(first: str, last: str, other_first: str, other_last: str) -> Guard:
    """From first to last the one falls more than the other."""
    return Guard(((1, first), (-1, last), (-1, other_first), (1, other_last)), "above")


def falls_undecided(first: str, last: str, other_first: str, other_last: str) -> Guard:
    """Which of the two falls more from first to last is not told from chance."""
    return replace(falls_more(first, last, other_first, other_last), relation="level")


def holds(guard: Guard, found: Mapping[str, Selected | None]) -> bool:
    """Whether the numbers found bear a conclusion out, on the same images, at 5%; not if one is missing."""
    cells = [found[name] for _, name in guard.terms]
    known = [one for one in cells if one is not None]
    if len(known) < len(cells):
        return False
    if len(known) == 1:
        _, low, high = known[0].estimate
        return low > guard.bound if guard.relation == "above" else high < guard.bound
    terms = [Term(sign, one.row.trainings, one.kept) for (sign, _), one in zip(guard.terms, known, strict=True)]
    if not (sums := differences(terms)).size:
        return False
    if guard.relation == "level":
        return p_value(sums) > ALPHA
    outcome, p = relate("same" if guard.relation == "same" else "clearly above", sums, guard.bound)
    return outcome == "holds" and p <= ALPHA


def relation(left: str, right: str, found: Mapping[str, Selected | None]) -> str | None:
    """How one number stands to another on the same images: "above" or "below" it by more than chance, or "level with".

    None if either is missing.
    """
    guards = {"above": above(left, right), "below": below(left, right), "level with": level(left, right)}
    return next((word for word, guard in guards.items() if holds(guard, found)), None)


def selected(cells: pd.DataFrame, where: Mapping[str, Mapping[str, Any]]) -> dict[str, Selected | None]:
    """What each name selects, those of one dataset on the same images and trainings; None where there is nothing."""
    candidates = {}
    for name, columns in where.items():
        kept = bool(columns.get("kept"))
        found = select(cells, {column: value for column, value in columns.items() if column != "kept"})
        found = preferred(found[found.epochs == found.epochs.max()])
        candidates[name] = [Selected(row, kept) for row in found.itertuples()]
    return on_the_same_images(candidates)


def on_the_same_images(candidates: Mapping[str, Sequence[Selected]]) -> dict[str, Selected | None]:
    """Of each name's candidates, the first preferred, one, on what all names of a dataset have in common.

    That is their trainings, by seed, and of the sets of images that candidates were measured on the largest that each
    name has a candidate for: the few that two sets happen to share say nothing. The strongest of most attacks goes
    first, and then one that was measured on these images and no others before one that is restricted to them.
    """
    found: dict[str, Selected | None] = dict.fromkeys(candidates)
    groups: dict[str, list[str]] = {}
    for name, rows in candidates.items():
        if rows:
            groups.setdefault(rows[0].row.dataset.removesuffix("-gray"), []).append(name)
    for names in groups.values():
        seeds = set.intersection(*({one.seed for one in candidates[name][0].row.trainings} for name in names))
        alike = {name: [like for one in candidates[name] if (like := one.of_seeds(seeds))] for name in names}
        if not all(alike.values()):
            continue
        places = _largest([[one.all_places for one in alike[name]] for name in names])
        for name in names if len(places) else ():
            holding = [one for one in alike[name] if np.isin(places, one.all_places).all()]
            # The strongest of one attack is no match for that of four.
            best = max(holding, key=lambda one: (one.row.of, len(one.all_places) == len(places)))
            found[name] = replace(best, places=places)
    return found


def _largest(sets: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """The largest of all these sets of places that each of the sequences has a set around; empty if there is none."""
    for places in sorted((one for some in sets for one in some), key=len, reverse=True):
        if all(any(np.isin(places, one).all() for one in some) for some in sets):
            return places
    return np.arange(0)

"""What each training's network got right, image by image, and differences on the same images."""

from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from prlib.chosen import Chosen
from prlib.record import unpack, unpack_counts
from prlib.statistics import Estimate, over_trainings


class Bits(NamedTuple):
    """Which images were classified correctly: the images, and a bit or a count for each as a record has them.

    Counts are of ``draws`` answers of a random defence.
    """

    images: Chosen
    success: str
    often: str = ""
    draws: int = 1

    def at(self, places: np.ndarray) -> np.ndarray:
        """Of images at these places, which must be among them: 0 or 1, int8 N, or shares of the answers, float N."""
        where, right = _by_place(self)
        return right[np.searchsorted(where, places)]


class OneTraining(NamedTuple):
    """What one training's network showed in a cell: its seed, accuracy, record (a name), and which images it got right.

    ``before`` is of the same network on the clean images, redrawn where the case redraws; None where that is unknown.
    """

    seed: int
    accuracy: float
    record: str
    after: Bits
    before: Bits | None = None


def of_common_seeds(*sides: Sequence[OneTraining]) -> list[tuple[OneTraining, ...]]:
    """Of each side the trainings whose seed all sides have."""
    seeds = set.intersection(*({one.seed for one in side} for side in sides))
    return [tuple(one for one in side if one.seed in seeds) for side in sides]


class Term(NamedTuple):
    """A cell's accuracy in a difference: its trainings, added (1) or taken away (-1).

    With ``kept`` an image counts as right if it was so before the attack, too.
    """

    sign: int
    trainings: tuple[OneTraining, ...]
    kept: bool = False


def differences(terms: Sequence[Term]) -> np.ndarray:
    """What each image adds to a sum of accuracies with signs: trainings × images, empty if none are common.

    Of the trainings those count whose seed all terms have, of the images those that all were judged on.
    """
    by_seed = [{one.seed: one for one in term.trainings if one.before or not term.kept} for term in terms]
    seeds = sorted(set.intersection(*map(set, by_seed)))
    pairs = list(zip(terms, by_seed, strict=True))
    places = common([bits.images for term, found in pairs for s in seeds for bits in _all_bits(found[s], term.kept)])
    if not len(places):
        return np.zeros((0, 0), dtype=np.int8)
    return np.stack([sum(term.sign * _right(found[s], places, term.kept) for term, found in pairs) for s in seeds])


def minus(left: Sequence[OneTraining], right: Sequence[OneTraining], kept: bool = False) -> np.ndarray:
    """The ``differences`` of one cell's accuracy and another's, by their trainings."""
    return differences([Term(1, tuple(left), kept), Term(-1, tuple(right), kept)])


def widest(sides: Sequence[tuple[int, Sequence[Any]]], kept: bool = False) -> tuple[np.ndarray, tuple[Any, ...]]:
    """The differences that the most images have in common, and the cells behind them.

    Args:
        sides: the sign of each term, and the cells (rows of ``measured``) that can stand for it, the first preferred.
    """
    best: tuple[np.ndarray, tuple[Any, ...]] = np.zeros((0, 0), dtype=np.int8), ()
    for cells in product(*(cells for _, cells in sides)):
        found = differences([Term(sign, c.trainings, kept) for (sign, _), c in zip(sides, cells, strict=True)])
        if found.size > best[0].size:
            best = found, cells
    return best


def common(images: Sequence[Chosen]) -> np.ndarray:
    """The places of the images that all have in common, ascending; none if they are of different sets."""
    if not images or not all(one.shares(images[0]) for one in images):
        return np.arange(0)
    return _common(frozenset(images))


def on_places(trainings: Sequence[OneTraining], places: np.ndarray, kept: bool = False) -> Estimate | None:
    """As ``accuracy_on``; None unless every training was judged on all of these images."""
    if kept and any(one.before is None for one in trainings):
        return None
    met = common([bits.images for one in trainings for bits in _all_bits(one, kept)])
    return accuracy_on(trainings, places, kept) if np.isin(places, met).all() else None


def accuracy_on(trainings: Sequence[OneTraining], places: np.ndarray, kept: bool = False) -> Estimate:
    """The accuracy on images at these places, which all trainings met; with ``kept`` of those right before, too."""
    return over_trainings([float(_right(one, places, kept).mean()) for one in trainings], len(places))


@cache
def right_before_and_after(trainings: tuple[OneTraining, ...]) -> Estimate | None:
    """The share of the images that are right before an attack and after it; None where either is unknown."""
    if any(one.before is None for one in trainings):
        return None
    places = common([bits.images for one in trainings for bits in _all_bits(one, True)])
    return accuracy_on(trainings, places, kept=True) if len(places) else None


def _all_bits(one: OneTraining, kept: bool) -> list[Bits]:
    return [one.after, one.before] if kept and one.before else [one.after]


def _right(one: OneTraining, places: np.ndarray, kept: bool) -> np.ndarray:
    return np.multiply.reduce([bits.at(places) for bits in _all_bits(one, kept)])


@cache
def _common(images: frozenset[Chosen]) -> np.ndarray:
    first, *others = (one.places() for one in images)
    for places in others:
        first = np.intersect1d(first, places)
    return _unchanging(np.sort(first))


def _unchanging(values: np.ndarray) -> np.ndarray:
    """The array, which none of those who share it can change."""
    values.flags.writeable = False
    return values


@cache
def _by_place(bits: Bits) -> tuple[np.ndarray, np.ndarray]:
    """The images' places, ascending, and whether each was right."""
    places = bits.images.places()
    order = np.argsort(places)
    if bits.often:
        return places[order], (unpack_counts(bits.often, bits.draws) / bits.draws)[order]
    return places[order], unpack(bits.success, bits.images.n).numpy().astype(np.int8)[order]

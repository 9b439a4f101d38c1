"""The book's rows beside one's own, and the images that both were judged on."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from prlib.chosen import Chosen
from prlib.data import DATASETS, Split, load
from prlib.findings.cells import measured
from prlib.profiles import Parameters, repository_results
from prlib.profiles.protocol import read_protocol
from prlib.record import Record
from prlib.sample.make import N_TEST, SEED
from prlib.statistics import Estimate, paired
from prlib.store import Store


class BookRow(NamedTuple):
    """A published accuracy under the strongest of several attacks, beside one's own on the same images.

    Args:
        defence, phase: what the network was trained or tested with, and where (``prlib.findings.cells.PHASES``).
        of: of how many attacks the strongest is taken.
        n: how many images both were judged on.
        theirs: the published accuracy on them.
        difference: one's own accuracy minus it, with its 95% interval.
        record: the name of the record.
    """

    defence: str
    phase: str
    of: int
    n: int
    theirs: float
    difference: Estimate
    record: str


def records_of(dataset: str) -> list[Record]:
    """The published records of a dataset under adaptive attacks."""
    experiments = Parameters("published", (dataset,)).experiments()
    adaptive = [e for e in experiments if e.cases == ("adaptive",)]
    return Store(repository_results() / "published").records(adaptive)[0]


def strongest_cells(records: Iterable[Record], epsilon: float = 0.0) -> pd.DataFrame:
    """Cells of ``measured`` under the strongest attack of each record; ``epsilon`` is 0 for the paper's."""
    cells = measured(records)
    return cells[(cells.attack == "strongest") & (cells.epsilon == epsilon)]


def shared_images(
    dataset: str, cells: pd.DataFrame, n: int, embedded: bool, root: str | Path | None
) -> tuple[Split, np.ndarray]:
    """Up to n test images that these cells were judged on, and their places in the test set, int N ascending.

    Of the sets of images in the cells that with the most of n images, and of several that which most cells share.

    Args:
        embedded: only those that are part of the repository, so that nothing is downloaded.
        root: of the full data, as for ``prlib.data.load``.
    """
    counted = Counter(one.after.images for trainings in cells.trainings for one in trainings)
    everyones = Chosen("full", dataset.removesuffix("-gray"), DATASETS[dataset].n_test, read_protocol()["drawn"])
    own = Chosen("full", everyones.dataset, N_TEST, SEED).places()

    def reached(images: Chosen) -> tuple[int, int]:
        held = len(np.intersect1d(own, images.places())) if embedded else images.n
        return min(n, held), counted[images]

    everyones = max(counted, key=reached, default=everyones)
    if embedded:
        common, where, _ = np.intersect1d(own, everyones.places(), return_indices=True)
        places, chosen = common[:n], where[:n]
        split = load(dataset, "test", "sample")
    else:
        places = np.sort(everyones._replace(n=min(n, everyones.n)).places())
        split, chosen = load(dataset, "test", root), places
    return Split.of(split.images[chosen], split.labels[chosen], dataset, "test", split.source), places


def book_rows(cells: pd.DataFrame, places: np.ndarray, right: np.ndarray) -> list[BookRow]:
    """The cells beside one's own answers (``right``, float N) to the images at these places, the least robust first.

    Of several cells of a defence that of most common images counts, of these that of most attacks, and of several
    trainings the first. A defence that shares less than half of one's images is left out.
    """
    rows: dict[tuple[str, int, str], BookRow] = {}
    for cell in cells.itertuples():
        bits = cell.trainings[0].after
        shared, ours, _ = np.intersect1d(places, bits.images.places(), return_indices=True)
        known = rows.get(key := (cell.defence, cell.epochs, cell.phase))
        if 2 * len(shared) >= len(places) and (known is None or (known.n, known.of) < (len(shared), cell.of)):
            theirs = bits.at(shared)
            difference = paired((right[ours] - theirs)[None])
            named = cell.defence, cell.phase, cell.of, len(shared)
            rows[key] = BookRow(*named, float(theirs.mean()), difference, cell.record)
    return sorted(rows.values(), key=lambda row: row.theirs)

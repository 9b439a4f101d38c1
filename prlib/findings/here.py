"""What a run on the reader's machine has measured, beside the published numbers and the paper's."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import pandas as pd

from prlib.findings.cells import COLUMNS, best
from prlib.statistics import over_trainings


class Counted(NamedTuple):
    """How many of some accuracies agree with what they are compared with."""

    agree: int
    of: int

    @classmethod
    def among(cls, agrees: Iterable[bool | None]) -> "Counted":
        """Count; None is an accuracy that nothing is compared with."""
        known = [bool(one) for one in agrees if one is not None]
        return cls(sum(known), len(known))


def beside(ours: pd.DataFrame, here: pd.DataFrame) -> pd.DataFrame:
    """The cells of a run with the published ones of the same trainings beside them.

    Args:
        ours, here: the published cells and the run's, as ``prlib.findings.cells.measured`` gives them.

    Returns:
        ``here`` with the columns published (an Estimate), published_trainings, and reproduces: whether the 95% interval
        of the difference, with both sides' chance in test images, holds 0. None where no such training was published.
    """
    keys = [*COLUMNS, "n_train"]
    known = {tuple(getattr(cell, name) for name in keys): cell for cell in best(ours, keys).itertuples()}
    columns: dict[str, list[Any]] = {"published": [], "published_trainings": [], "reproduces": []}
    for cell in here.itertuples():
        theirs: Any = known.get(tuple(getattr(cell, name) for name in keys))
        seeds = {one.seed for one in cell.trainings}
        trainings = tuple(one for one in theirs.trainings if one.seed in seeds) if theirs else ()
        published = over_trainings([one.accuracy for one in trainings], theirs.n_test) if trainings else None
        difference = published and published.minus(cell.ours)
        columns["published"].append(published)
        columns["published_trainings"].append(trainings)
        columns["reproduces"].append(difference and difference.low <= 0 <= difference.high)
    return here.assign(**{name: pd.Series(values, here.index, object) for name, values in columns.items()})

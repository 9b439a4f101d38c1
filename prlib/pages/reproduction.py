"""How much of the paper was measured, at which scale, and how much of that agrees."""

from functools import cache

import pandas as pd
from IPython.display import Markdown

from prlib.data import DATASETS
from prlib.findings.cells import ENOUGH, each_once, judged_by_spread, measured
from prlib.findings.here import Counted
from prlib.pages.content import Number, markdown
from prlib.pages.deviations import in_words
from prlib.pages.names import PHASE_TITLES, defence_title
from prlib.pages.prose import Prose
from prlib.pages.records import committed
from prlib.pages.tables import Table
from prlib.statistics import LEVEL


@cache
def measured_numbers() -> tuple[pd.DataFrame, pd.DataFrame]:
    """The paper's numbers, each once, with ours beside them: trained on all images, and on a tenth of them."""
    full, tenth = (each_once(measured(committed(profile))) for profile in ("published", "tenth"))
    return full, tenth


def coverage() -> Markdown:
    """How many of the paper's numbers were measured at its scale, on a tenth of the images, and not at all."""
    full, tenth = measured_numbers()
    agree, at_scale = Counted.among(full.agrees)
    often = full[full.agrees.notna()]
    often = often[often.trainings.map(len) >= ENOUGH]
    agree_often, n_often = Counted.among(often.agrees)
    otherwise = judged_by_spread(full)
    refused, accepted = (int((otherwise & full.agrees.eq(so)).sum()) for so in (True, False))
    reduced = int((tenth.ours.notna() & full.ours.isna()).sum())
    missing = len(full) - at_scale - reduced
    remaining = f"{reduced} more" if missing else f"the remaining {reduced}"
    on_a_tenth = (
        f" We measured {remaining} on a tenth of the training images{'' if missing else ', so none is missing'}; that "
        "is another experiment, so agreement is not judged."
    )
    tolerance = "within a {term}`tolerance` fixed beforehand"
    n_others = at_scale - n_often
    others = f", and {agree - agree_often} of the other {n_others} {tolerance}" if n_others else ""
    spread = (
        f": {agree_often} of {n_often} lie where one more of our trainings may fall (at {LEVEL:.0%}, so chance alone "
        f"would make about {(1 - LEVEL) * n_often:.0f} miss){others}. Judged by the tolerance alone, {refused} of "
        f"those that agree would not, and {accepted} of those that do not would"
    )
    rest = f" {missing} {'has' if missing == 1 else 'have'} not been measured."
    return Markdown(
        f"The paper prints {len(full)} different accuracies. We measured **{at_scale} at the paper's own scale**, on "
        f"all images and for as many epochs, and **{agree} of these agree** with the paper's"
        f"{spread if n_often else f', {tolerance}'}.{on_a_tenth if reduced else ''}"
        f"{rest if missing else ''}"
    )


def by_spread(table: int) -> Prose:
    """A table's published numbers of which the fixed tolerance would say otherwise than our trainings' spread does."""
    full, _ = measured_numbers()
    cells = list(full[full.table.eq(table) & judged_by_spread(full)].itertuples())
    numbers = [(cell, markdown(Number(cell.ours, cell.trainings).content(3))) for cell in cells if cell.agrees]
    told = [f"{in_words(cell)} (the paper {cell.accuracy:.3f}, ours {ours})" for cell, ours in numbers]
    how_many = "One of our numbers agrees" if len(told) == 1 else f"{len(told)} of our numbers agree"
    agree = (
        f"{how_many} with the paper's only because our own trainings differ so much: {'; '.join(told)}. The paper's is "
        "one training, so the difference may be chance."
    )
    strict = len(cells) - len(told)
    differ = (
        f"{strict} {'does' if strict == 1 else 'do'} not agree although the difference is within the fixed tolerance, "
        "since our own trainings differ by even less."
    )
    return Prose(" ".join([agree] * bool(told) + [differ] * bool(strict)))


def narrower_gaps(gaps: Table) -> Prose:
    """Where the gap of ``training_accuracy`` is narrower after training with redrawing than without, and what it costs.

    Nothing is told unless such a network gets fewer images right, both of those that it was trained on and of new ones.
    """
    rows = {(row["dataset"], row["defence"], row["used"]): row for row in gaps.frame.to_dict("records")}
    kinds = [(defence_title(name), PHASE_TITLES[phase]) for name, phase in (("none", "none"), ("pr", "train"))]
    each = [[rows.get((data.title, *kind)) for kind in kinds] for data in DATASETS.values()]
    narrower = [(plain, redrawn) for plain, redrawn in each if plain and redrawn and redrawn["gap"] < plain["gap"]]
    told = [f"{a['dataset']} from {100 * a['gap']:.1f} to {100 * b['gap']:.1f} percentage points" for a, b in narrower]
    costs = all(
        b[images].estimate.value < a[images].estimate.value
        for a, b in narrower
        for images in ("training images", "test images")
    )
    text = (
        f"Redrawing in training narrows that gap on {'; on '.join(told)}. It does so because the network gets fewer of "
        "its training images right. Of new images it gets fewer right, too."
    )
    return Prose(text if told and costs else "")

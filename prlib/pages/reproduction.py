"""How much of the paper was measured, at which scale, and how much of that agrees."""

from functools import cache

import pandas as pd
from IPython.display import Markdown

from prlib.findings.cells import each_once, measured
from prlib.findings.here import Counted
from prlib.pages.records import committed


@cache
def measured_numbers() -> tuple[pd.DataFrame, pd.DataFrame]:
    """The paper's numbers, each once, with ours beside them: trained on all images, and on a tenth of them."""
    full, tenth = (each_once(measured(committed(profile))) for profile in ("published", "tenth"))
    return full, tenth


def coverage() -> Markdown:
    """How many of the paper's numbers were measured at its scale, on a tenth of the images, and not at all."""
    full, tenth = measured_numbers()
    agree, at_scale = Counted.among(full.agrees)
    reduced = int((tenth.ours.notna() & full.ours.isna()).sum())
    missing = len(full) - at_scale - reduced
    remaining = f"{reduced} more" if missing else f"the remaining {reduced}"
    on_a_tenth = (
        f" We measured {remaining} on a tenth of the training images; that is another experiment, so agreement is not "
        "judged."
    )
    rest = f" {missing} {'has' if missing == 1 else 'have'} not been measured."
    return Markdown(
        f"The paper prints {len(full)} different accuracies. We measured **{at_scale} at the paper's own scale**, on "
        f"all images and for as many epochs, and **{agree} of these agree** with the paper's, within a "
        f"{{term}}`tolerance` fixed beforehand.{on_a_tenth if reduced else ''}{rest if missing else ''}"
    )

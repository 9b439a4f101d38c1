"""Sentences with measured numbers."""

import re
from collections.abc import Iterable, Mapping
from string import Formatter
from typing import Any

import pandas as pd
from IPython.display import Markdown

from prlib.findings.cells import measured, select
from prlib.pages.content import Number, markdown, number
from prlib.record import Record


def tell(records: Iterable[Record], text: str, **where: Mapping[str, Any]) -> Markdown:
    """Prose with numbers: each ``{name}`` in the text becomes the accuracy that ``where[name]`` selects.

    A selection gives values of columns of ``measured``; of several the last epoch's is told, and of these
    that of most images. Numbers are linked to their records. A sentence with a number that was not measured is left
    out, and so are sentences without numbers behind it: what they conclude has nothing to rest on.
    """
    cells = measured(records)
    found = {name: last_accuracy(cells, columns) for name, columns in where.items()}
    told = {name: markdown(accuracy.content(3)) for name, accuracy in found.items() if accuracy}
    kept, rests = [], True
    for sentence in re.split(r"(?<=\.) (?=[A-Z])", text):
        numbers = {name for _, name, _, _ in Formatter().parse(sentence) if name}
        rests = numbers <= set(told) if numbers else rests
        if rests:
            kept.append(sentence.format(**told))
    return Markdown(" ".join(kept))


def last_accuracy(cells: pd.DataFrame, where: Mapping[str, Any]) -> Number | None:
    """The accuracy of the last epoch, and there of most images; None if there is none."""
    found = select(cells, where).sort_values(["epochs", "n_test", "of"], ascending=False, kind="stable")
    return number(found.ours.iloc[0], found.trainings.iloc[0]) if len(found) else None

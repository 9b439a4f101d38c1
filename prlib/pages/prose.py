"""Sentences with measured numbers."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
from IPython.display import Markdown

from prlib.findings.cells import measured, select
from prlib.findings.checks import linked
from prlib.record import Record


def tell(records: Iterable[Record], text: str, **where: Mapping[str, Any]) -> Markdown:
    """Prose with numbers: each ``{name}`` in the text becomes the accuracy that ``where[name]`` selects.

    A selection gives values of columns of ``measured``; of several the last epoch's is told, and of these
    that of most images. Numbers are linked to their records. A sentence with a number that was not measured is left
    out, and so are sentences without numbers behind it: what they conclude has nothing to rest on.
    """
    cells = measured(records)
    told = {name: found for name, columns in where.items() if (found := last_accuracy(cells, columns))}
    kept, rests = [], True
    for sentence in re.split(r"(?<=\.) (?=[A-Z])", text):
        numbers = set(re.findall(r"{(\w+)}", sentence))
        rests = numbers <= set(told) if numbers else rests
        if rests:
            kept.append(sentence.format(**told))
    return Markdown(" ".join(kept))


def last_accuracy(cells: pd.DataFrame, where: Mapping[str, Any]) -> str:
    """The accuracy of the last epoch, and there of most images, linked to its record; empty if there is none."""
    found = select(cells, where).sort_values(["epochs", "n_test", "of"], ascending=False, kind="stable")
    return linked(found.ours.iloc[0], found.record.iloc[0], 3) if len(found) else ""

"""Sentences with measured numbers, and conclusions that are told only where the records bear them out."""

import re
from collections.abc import Iterable, Mapping
from itertools import permutations
from string import Formatter
from typing import Any

from IPython.display import Markdown, display

from prlib.findings.cells import measured
from prlib.findings.conclusions import Guard, Selected, holds, relation, selected
from prlib.findings.pairs import accuracy_on
from prlib.pages.content import Number, markdown
from prlib.record import Record


class Prose(Markdown):
    """Text of which nothing is shown where there is none; of an empty ``Markdown`` Jupyter shows the object's name."""

    def _ipython_display_(self) -> None:
        if self.data:
            display(Markdown(self.data))


def tell(records: Iterable[Record], text: str, *guards: Guard, **where: Mapping[str, Any]) -> Markdown:
    """Prose with numbers: each ``{name}`` in the text becomes the accuracy that ``where[name]`` selects, in percent.

    A selection gives values of columns of ``measured``; of several the last epoch's is told, and of these that of most
    images; with ``kept`` it is the share right before and after the attack. The numbers of one dataset are on the same
    images and of the same trainings; ``{name_images}`` says how many images, ``{name_attacks}`` of how many attacks it
    is the strongest for each image, ``{name_whole}`` is in whole percent, and
    ``{name_to_other}`` becomes "above", "below" or "level with", as differences on these images say at 5%.
    Numbers are linked to their records.
    A sentence with a number that was not measured is left out, and so are sentences without numbers behind it: what
    they conclude has nothing to rest on.

    Args:
        guards: what the text concludes; unless all of it holds, nothing is told.
    """
    found = selected(measured(records), where)
    if not all(holds(guard, found) for guard in guards):
        return Prose("")
    numbers = {name: number_of(one) for name, one in found.items() if one}
    told = {name: markdown(number.percent()) for name, number in numbers.items()}
    told |= {f"{name}_whole": markdown(number.percent(0)) for name, number in numbers.items()}
    told |= {f"{name}_images": f"{number.images:,}" for name, number in numbers.items()}
    told |= {f"{name}_attacks": f"{one.row.of}" for name, one in found.items() if one}
    for one, other in permutations(numbers, 2):
        if f"{{{one}_to_{other}}}" in text and (word := relation(one, other, found)):
            told[f"{one}_to_{other}"] = word
    kept, rests = [], True
    for sentence in re.split(r"(?<=\.) (?=[A-Z])", text):
        names = {name for _, name, _, _ in Formatter().parse(sentence) if name}
        rests = names <= set(told) if names else rests
        if rests:
            kept.append(sentence.format(**told))
    return Prose(" ".join(kept))


def number_of(one: Selected) -> Number:
    """The accuracy that was selected, to be shown."""
    each = [(t, accuracy_on([t], one.places, one.kept).value) for t in one.row.trainings]
    return Number(one.estimate, tuple(t._replace(accuracy=value) for t, value in each), len(one.places))

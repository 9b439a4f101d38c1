"""Whether networks resist an attacker who knows their defence: one of three words for each."""

from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from prlib.data import DATASETS
from prlib.findings.cells import TOLERANCE
from prlib.findings.conclusions import Selected, above, holds, same, selected

DEFENCES = ("pr", "pr-multi")
"""The paper's defences, used in both phases as it prefers."""


class Resistance(NamedTuple):
    """How a network fares against the strongest adaptive attack.

    The three accuracies are on the same images: of the network on clean images and under attack, and of the undefended
    one under attack. ``word`` is "yes", "partly" or "no".
    """

    dataset: str
    defence: str
    word: str
    clean: Selected
    known: Selected
    undefended: Selected


def resistance(cells: pd.DataFrame) -> list[Resistance]:
    """The answer for each dataset and each of ``DEFENCES`` that adaptive attacks have met in both phases.

    "no" unless accuracy under attack is above what guessing a class gives, and above the undefended network's by more
    than the tolerance; "yes" if it is also within the tolerance of the accuracy on clean images; else "partly". Each
    must hold at 5%, on the same images. Images drawn at random go before the first of a set.

    Args:
        cells: as ``prlib.findings.cells.measured`` gives them.
    """
    found = (_of(cells[cells.dataset == dataset], dataset, defence) for dataset in DATASETS for defence in DEFENCES)
    return [one for one in found if one]


def _of(cells: pd.DataFrame, dataset: str, defence: str) -> Resistance | None:
    strongest = {"attack": "strongest", "case": "adaptive"}
    where = {
        "clean": {"defence": defence, "phase": "both", "attack": ""},
        "known": {"defence": defence, "phase": "both", **strongest},
        "undefended": {"defence": "none", **strongest},
    }
    clean, adaptive = cells[cells.attack == ""], cells[cells.attack == "strongest"]
    for at_random in (True, False):
        found = selected(pd.concat([clean, adaptive[(adaptive.drawn > 0) == at_random]]), where)
        known = {name: one for name, one in found.items() if one}
        if len(known) == len(where):
            return Resistance(dataset, defence, _word(found, 1 / len(DATASETS[dataset].classes)), **known)
    return None


def _word(found: Mapping[str, Selected | None], guessing: float) -> str:
    tolerance = TOLERANCE["attacked"]
    if not all(holds(guard, found) for guard in (above("known", "undefended", by=tolerance), above("known", guessing))):
        return "no"
    return "yes" if holds(same("known", "clean", tolerance), found) else "partly"

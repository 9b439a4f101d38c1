"""Whether networks resist an attacker who knows their defence: one of three words for each."""

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

    "no" unless accuracy under attack is above the undefended network's by more than the tolerance; "yes" if it is also
    within the tolerance of the accuracy on clean images; else "partly". Both must hold beyond chance, at 5%, on the
    same images. Images drawn at random go before the first of a set.

    Args:
        cells: as ``prlib.findings.cells.measured`` gives them.
    """
    found = (_of(cells[cells.dataset == dataset], dataset, defence) for dataset in DATASETS for defence in DEFENCES)
    return [one for one in found if one]


def _of(cells: pd.DataFrame, dataset: str, defence: str) -> Resistance | None:
    adaptive = cells[(cells.attack == "strongest") & (cells.case == "adaptive")]
    if (adaptive.drawn > 0).any():
        adaptive = adaptive[adaptive.drawn > 0]
    strongest = {"attack": "strongest", "case": "adaptive"}
    where = {
        "clean": {"defence": defence, "phase": "both", "attack": ""},
        "known": {"defence": defence, "phase": "both", **strongest},
        "undefended": {"defence": "none", **strongest},
    }
    found = selected(pd.concat([cells[cells.attack == ""], adaptive]), where)
    known = {name: one for name, one in found.items() if one}
    if len(known) < len(where):
        return None
    tolerance = TOLERANCE["attacked"]
    word = "partly" if holds(above("known", "undefended", by=tolerance), found) else "no"
    if word == "partly" and holds(same("known", "clean", tolerance), found):
        word = "yes"
    return Resistance(dataset, defence, word, **known)

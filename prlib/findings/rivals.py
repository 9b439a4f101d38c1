"""Defences side by side, on the same images drawn at random: their ranks, their certificates, and draws that vote."""

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from prlib.attacks.smoothing import certified_radius, enclosing_l2
from prlib.chosen import Chosen
from prlib.data import DATASETS
from prlib.experiment import Training
from prlib.findings.cells import best, measured
from prlib.findings.checks import worst_cases
from prlib.findings.pairs import Bits, OneTraining, common, minus, on_places
from prlib.profiles import default_attack
from prlib.record import Record, pack, unpack_counts
from prlib.statistics import ALPHA, Estimate, holm, p_value, wilson

TESTED_WITH = {
    "pr": ("crossing-starts", "eot-pgd-momentum"),
    "quantised-pr": ("crossing-starts-40", "pgd-momentum-16"),
    "majority-pr-5": ("crossing-starts", "eot-pgd-momentum"),
    "majority-pr-25": ("crossing-starts", "eot-pgd-momentum"),
}
"""What networks that were trained redrawn are tested with, and the two attacks of as many gradients on each."""


class Certified(NamedTuple):
    """How far, by L2, each image's answer is certified (float N), of a network that votes over normal noise."""

    training: Training
    epoch: int
    images: Chosen
    std: float
    draws: int
    radii: np.ndarray
    record: str

    def within(self, epsilon: float) -> tuple[Estimate, tuple[OneTraining, ...]]:
        """The accuracy that no attack within ε (L∞) can take away, and the training behind it."""
        shown = DATASETS[self.training.dataset]
        safe = self.radii > enclosing_l2(epsilon, shown.channels * shown.size**2)
        bits = Bits(self.images, pack(torch.from_numpy(safe)))
        one = OneTraining(self.training.seed, float(safe.mean()), self.record, bits)
        return wilson(int(safe.sum()), len(safe)), (one,)


def certificates(records: Iterable[Record]) -> list[Certified]:
    """The certificates of all networks that answered clean images behind noise many times."""
    found = []
    for record in records:
        e, options = record.experiment, {d.name: dict(d.options) for d in record.experiment.tested_with}
        for cell in record.cells if e.draws > 1 and not e.attacks else ():
            if cell.tested_with.startswith("noise") and not options[cell.tested_with].get("truncated"):
                std = options[cell.tested_with]["std"]
                radii = certified_radius(unpack_counts(cell.often, e.draws), e.draws, std)
                found.append(Certified(e.training, cell.epoch, Chosen.of(e), std, e.draws, radii, e.name))
    return found


def papers_epsilon(dataset: str) -> float:
    """The paper's ε for a dataset."""
    return float(dict(default_attack("fgsm", dataset).options)["epsilon"])


def ranks(rivals: Sequence[Sequence[OneTraining]]) -> list[tuple[int, int]]:
    """Between which ranks each of several accuracies is, by differences on the same images.

    The best that it can have is one more than how many are above it by more than chance, the worst as many fewer than
    all as are below it (5%, Holm's method for all pairs).
    """
    pairs = list(combinations(range(len(rivals)), 2))
    found = [minus(rivals[i], rivals[j]) for i, j in pairs]
    decided = holm([p_value(one) if one.size else 1.0 for one in found])
    above = np.zeros((len(rivals), len(rivals)), dtype=bool)
    for (i, j), difference, p in zip(pairs, found, decided, strict=True):
        if p <= ALPHA:
            above[i, j], above[j, i] = difference.mean() > 0, difference.mean() < 0
    return [(1 + int(above[:, i].sum()), len(rivals) - int(above[i].sum())) for i in range(len(rivals))]


def compared(records: Iterable[Record]) -> pd.DataFrame:
    """``worst_cases`` on images drawn at random, of each dataset the most robust first.

    Columns beside: first and last rank (``ranks``), certified (of a vote over noise, at the paper's ε, on the same
    images; an Estimate or None), certified_trainings, training (a ``Training``). Draws that vote before a network that
    was trained to answer one, and its quantised twin, are left to ``randomness``.
    """
    records = list(records)
    cells = measured(records)
    others = [name for name in TESTED_WITH if name != "pr"]
    cells = cells[((cells.attack != "strongest") | (cells.drawn > 0)) & ~cells.defence.isin(others)]
    experiments = {record.experiment.name: record.experiment for record in records}
    found_by: dict[tuple[Any, ...], Certified] = {
        (one.training, one.epoch, one.images, one.std): one for one in certificates(records)
    }
    parts = []
    for dataset, found in worst_cases(cells).groupby("dataset", sort=False):
        order = sorted(found.to_dict("records"), key=lambda row: -row["adaptive"].value)
        for row, (first, last) in zip(order, ranks([row["adaptive_trainings"] for row in order]), strict=True):
            one = row["adaptive_trainings"][0]
            experiment = experiments[one.record]
            row |= {"first": first, "last": last, "training": experiment.training}
            voted = [dict(d.options)["std"] for d in experiment.tested_with if d.kind == "smoothed"]  # not one draw
            certificate = found_by.get((experiment.training, row["epochs"], one.after.images, *voted))
            told = certificate.within(papers_epsilon(str(dataset))) if certificate else (None, ())
            row["certified"], row["certified_trainings"] = told
        parts += order
    return pd.DataFrame(parts, dtype=object)


class Tested(NamedTuple):
    """A network that was trained redrawn, tested with something, under one of two attacks of as many gradients.

    ``difference`` (trainings × images) is its accuracy minus that with one draw, ``p`` adjusted for the dataset's.
    """

    dataset: str
    tested_with: str
    attack: str
    gradients: float
    clean: Estimate | None
    cell: Any
    difference: np.ndarray
    p: float


def randomness(records: Iterable[Record]) -> list[Tested]:
    """One network with its random redraw, its mean and votes over draws, on the same images: each under two attacks.

    A dataset for which nothing but the random redraw was measured has no rows.
    """
    records = list(records)
    cells = measured(records)
    cells = cells[(cells.phase == "both") & ((cells.attack == "") | (cells.drawn > 0))]
    budgets = {
        (record.experiment.name, attack.name): _gradients(record, attack.name)
        for record in records
        for attack in record.experiment.attacks
    }
    rows = []
    for dataset in DATASETS:
        chosen = best(cells[cells.dataset == dataset], ["defence", "epochs", "attack"])
        found = {(cell.defence, cell.attack): cell for cell in chosen.sort_values("epochs").itertuples()}
        pairs = [
            (name, attack, found[name, attack], found["pr", one])
            for name, attacks in TESTED_WITH.items()
            for attack, one in zip(attacks, TESTED_WITH["pr"], strict=True)
            if {(name, attack), ("pr", one)} <= found.keys()
        ]
        gaps = [minus(cell.trainings, one.trainings) for _, _, cell, one in pairs]
        counted = [i for i, (name, *_) in enumerate(pairs) if name != "pr" and gaps[i].size]
        adjusted = dict(zip(counted, holm([p_value(gaps[i]) for i in counted]), strict=True))
        rows += [
            Tested(
                *(dataset, name, attack, budgets[cell.record, attack]),
                *(_clean(found.get((name, "")), cell), cell, gaps[i], adjusted.get(i, 1.0)),
            )
            for i, (name, attack, cell, _) in enumerate(pairs)
        ]
    return [row for row in rows if len({r.tested_with for r in rows if r.dataset == row.dataset}) > 1]


def _clean(clean: Any, attacked: Any) -> Estimate | None:
    """The accuracy on clean images, of those that were attacked."""
    places = common([one.after.images for one in attacked.trainings])
    return on_places(clean.trainings, places) if clean else None


def _gradients(record: Record, attack: str) -> float:
    """How many gradients an attack computes for an image; where nothing is random, one draw at a time."""
    (found,) = (one for one in record.experiment.attacks if one.name == attack)
    options = dict(found.options)
    if "draws" in options and record.experiment.tested_with[0].kind == "quantised":
        options["draws"] = 1
    return found.kind.cost(options).gradients

"""What is suspicious about the numbers, and what must hold of any evaluation under attack."""

from collections.abc import Collection, Iterable
from itertools import pairwise, product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from prlib.data import DATASETS
from prlib.experiment import labelled
from prlib.findings.cells import PHASES, best, measured, select
from prlib.findings.pairs import OneTraining, accuracy_on, common, minus, of_common_seeds, on_places
from prlib.profiles.named import NAMED
from prlib.record import Record, unpack
from prlib.statistics import ALPHA, Estimate, p_value, wilson

BLACK_BOX = [name for name, a in NAMED.items() if a.kind.adaptive and not a.kind.follows_gradient]
"""The adaptive attacks that use no gradient of the network they attack."""

WHITE_BOX = [name for name, a in NAMED.items() if a.baseline]
"""Those of the others that they are compared with."""

MORE = [(a.more_of, name) if a.more_of else (name, a.less_of) for name, a in NAMED.items() if a.more_of or a.less_of]
"""Adaptive attacks and the same with more of something.

:meta hide-value:
"""

PAPERS_CASE = {"none": "B", "train": "B", "both": "A"}
"""The case in which the paper's attackers meet a network that is redrawn there (none is redrawn at test time alone)."""


def checks(records: Iterable[Record]) -> pd.DataFrame:
    """What is suspicious about the numbers, a row a finding: record, attack, finding (in the spirit of AutoAttack's).

    Steps larger than ε, changes outside ε, images without a gradient, clean accuracy below chance, an iterated attack
    that leaves more accuracy than FGSM (by more than chance).
    """
    records = list(records)
    rows = [(record.experiment.name, *finding) for record in records for finding in _findings(record)]
    return pd.DataFrame(rows, columns=["record", "attack", "finding"])


def worst_cases(cells: pd.DataFrame) -> pd.DataFrame:
    """For each network under adaptive attacks: its accuracy clean, under the paper's attacks, under ours.

    Columns: dataset, defence, phase, epochs, n_test, clean, paper (the worst of FGSM, BIM and MIM in the paper's case),
    kept (right before and after the one that leaves least so) and adaptive (the strongest attack per image), each an
    Estimate or None, and their trainings clean_trainings, …. All of a row are on the images of
    ``adaptive``, and of its seeds.
    """
    strongest = best(select(cells, {"attack": "strongest"}), ["dataset", "defence", "phase", "epochs"])
    rows = []
    for cell in strongest.itertuples():
        row = {"dataset": cell.dataset, "defence": cell.defence, "phase": cell.phase, "epochs": cell.epochs}
        same = {"dataset": cell.dataset, "defence": cell.defence, "epochs": cell.epochs}
        case = {"attack": ["fgsm", "bim", "mim"], "case": PAPERS_CASE.get(cell.phase)}
        places = common([one.after.images for one in cell.trainings])
        seeds = {one.seed for one in cell.trainings}
        clean = list(_on(select(cells, {**same, "attack": "", "phase": cell.phase}), seeds, places))
        paper = list(_on(select(cells, {**same, **case}), seeds, places))
        kept = list(_on(select(cells, {**same, **case}), seeds, places, kept=True))
        found = {"clean": clean, "paper": sorted(paper), "kept": sorted(kept)}
        for name, estimates in found.items():
            row[name], row[f"{name}_trainings"] = estimates[0] if estimates else (None, ())
        rows.append({**row, "n_test": cell.n_test, "adaptive": cell.ours, "adaptive_trainings": cell.trainings})
    names = [f"{name}{suffix}" for name in ("clean", "paper", "kept", "adaptive") for suffix in ("", "_trainings")]
    datasets, phases = list(DATASETS), list(PHASES.values())
    # what the paper is about before its rivals
    rows.sort(
        key=lambda r: (datasets.index(r["dataset"]), r["defence"] not in ("none", "pr"), phases.index(r["phase"]))
    )
    return pd.DataFrame(rows, columns=["dataset", "defence", "phase", "epochs", "n_test", *names], dtype=object)


def _on(
    cells: pd.DataFrame, seeds: Collection[int], places: np.ndarray, kept: bool = False
) -> Iterable[tuple[Estimate, tuple[OneTraining, ...]]]:
    """The accuracy on images at these places of each cell that was measured on all of them, fewest others first.

    Of a cell's trainings those with these seeds count.
    """
    for cell in cells.sort_values("n_test", kind="stable").itertuples():
        trainings = tuple(one for one in cell.trainings if one.seed in seeds)
        if trainings and (estimate := on_places(trainings, places, kept)) is not None:
            yield estimate, trainings


class Kept(NamedTuple):
    """Evidence: the accuracy that an attack leaves (``epsilon`` is 0 at the paper's), and the trainings that say so."""

    attack: str
    epsilon: float
    accuracy: Estimate
    trainings: tuple[OneTraining, ...]


def sanity(records: Iterable[Record]) -> pd.DataFrame:
    """The standard checks of a robustness evaluation (Carlini et al., 2019), a row each and dataset.

    Columns: dataset, check, evidence (a tuple of one or two ``Kept``, the weaker attack first), outcome. An outcome is
    "passed", or "failed" if a difference on the same images points the wrong way by more than chance (``p_value`` at
    5%, without correction for their number, which would let more pass); what was not measured has no row.
    """
    cells = measured(records)
    rows = [*_orders(cells.query("case == 'adaptive' and phase == 'both'")), *_unbounded(cells)]
    return pd.DataFrame(rows, columns=["dataset", "check", "evidence", "outcome"], dtype=object)


_NETWORK = ["dataset", "defence", "epochs", "n_train"]


def _orders(cells: pd.DataFrame) -> Iterable[tuple[Any, ...]]:
    """The rows of ``sanity`` that compare attacks which know the defence."""
    for (dataset, *_), found in cells.groupby(_NETWORK, sort=False):
        rows = dict(list(found.groupby(["attack", "epsilon"], sort=False)))
        for check, weak, strong in _expectations(list(rows)):
            for compared in _compared(rows[weak], rows[strong]):
                yield dataset, check, *compared
        if ("strongest", 1) in rows:
            for one in rows["strongest", 1].itertuples():
                evidence = Kept(one.attack, one.epsilon, one.ours, one.trainings)
                yield dataset, "an unbounded attack wins", (evidence,), "passed" if one.ours.low <= 0.01 else "failed"


def _unbounded(cells: pd.DataFrame) -> Iterable[tuple[Any, ...]]:
    """The rows of ``sanity`` about masked gradients: CW, which has no ε, beside PGD, where nothing is redrawn.

    What CW cannot fool can be fooled: its gradient is masked (Athalye et al., 2018). Right before and after, since CW
    flees the network's own prediction.
    """
    for (dataset, *_), found in cells.groupby(_NETWORK, sort=False):
        cw = found[(found.attack == "cw") & (found.case == "B")]
        pgd = found[(found.attack == "strongest") & (found.epsilon == 0) & found.phase.isin(["none", "train"])]
        for compared in _compared(pgd, cw, kept=True):
            yield dataset, UNBOUNDED, *compared


def _compared(weaker: pd.DataFrame, stronger: pd.DataFrame, kept: bool = False) -> Iterable[tuple[Any, str]]:
    """The evidence on the images that two attacks on a network have in common, and its outcome, once for those images.

    One must have met all images of the other: a few in common say nothing. What met these images alone, and then what
    is the strongest of more attacks, goes before the rest.
    """
    met = set()
    pairs = product(weaker.itertuples(), stronger.itertuples())
    for weak, strong in sorted(pairs, key=lambda pair: (sum(row.n_test for row in pair), -sum(row.of for row in pair))):
        less, more = of_common_seeds(weak.trainings, strong.trainings)
        places = common([one.after.images for one in (*less, *more)])
        pair, images = minus(more, less, kept), places.tobytes()
        if pair.size and len(places) == min(weak.n_test, strong.n_test) and images not in met:
            met.add(images)
            yield (
                tuple(
                    Kept(row.attack, row.epsilon, accuracy_on(trainings, places, kept), trainings)
                    for row, trainings in ((weak, less), (strong, more))
                ),
                _outcome(pair),
            )


UNBOUNDED = "an unbounded attack does at least as much harm as a bounded one"
"""The check that finds masked gradients."""


def _outcome(stronger_minus_weaker: np.ndarray) -> str:
    wrong = stronger_minus_weaker.size and stronger_minus_weaker.mean() > 0
    return "failed" if wrong and p_value(stronger_minus_weaker) <= ALPHA else "passed"


Key = tuple[str, float]
"""An attack and its ε (0 is the paper's)."""


def _expectations(keys: list[Key]) -> Iterable[tuple[str, Key, Key]]:
    """Pairs of attacks (weaker, stronger), with what is expected of them on the same images."""
    for attack, epsilon in keys:
        if attack in BLACK_BOX:
            for white in WHITE_BOX:
                if (white, epsilon) in keys:
                    yield "black-box is not stronger than white-box", (attack, epsilon), (white, epsilon)
    for weak, strong in MORE:
        if (weak, 0) in keys and (strong, 0) in keys:
            yield "more steps, draws or starts are not weaker", (weak, 0), (strong, 0)
    for less, more in pairwise(sorted(key for key in keys if key[0] == "strongest" and key[1])):
        yield "a larger ε is not weaker", less, more


def _findings(record: Record) -> Iterable[tuple[str, str]]:
    for attack in record.experiment.attacks:
        options, label = dict(attack.options), labelled(attack.name, attack.epsilon)
        if options.get("step_size", 0) > options.get("epsilon", 1) and options.get("norm") != "l2":
            yield label, f"its step {options['step_size']:g} is larger than ε = {options['epsilon']:g}"
        cells = [cell for cell in record.cells if labelled(cell.attack, cell.epsilon) == label]
        if max(cell.attacked for cell in cells) > options.get("epsilon", 1) + 1e-6:
            yield label, f"it changed a pixel by more than ε = {options['epsilon']:g}"
        if stuck := max(cell.stuck for cell in cells):
            yield label, f"it found no gradient at {stuck:.1%} of the images"
    for cell in record.cells:
        if cell.case == "normal" and wilson(cell.correct, cell.total).high < 0.1:
            yield "", f"clean accuracy {cell.correct / cell.total:.3f} after {cell.epoch} epochs is below chance"
    for cell in record.cells:
        for weaker in record.cells:
            same = (weaker.epoch, weaker.case, weaker.tested_with) == (cell.epoch, cell.case, cell.tested_with)
            same = same and weaker.epsilon == cell.epsilon
            if same and weaker.attack == "fgsm" and cell.attack in ("bim", "mim"):
                right = [unpack(one.success, one.total).numpy().astype(np.int8) for one in (cell, weaker)]
                if _outcome(gap := (right[0] - right[1])[None]) == "failed":
                    yield (
                        labelled(cell.attack, cell.epsilon),
                        f"in case {cell.case} accuracy is {gap.mean():.3f} higher than under FGSM",
                    )

"""What is suspicious about the numbers, and what must hold of any evaluation under attack."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, NamedTuple

import pandas as pd

from prlib.data import DATASETS
from prlib.experiment import labelled
from prlib.findings.cells import COLUMNS, PHASES, OneTraining, best, measured, select
from prlib.profiles.named import NAMED
from prlib.record import Record
from prlib.statistics import Estimate, wilson

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
    """For each network under attacks that know its defence: its accuracy clean, under the paper's attacks, under ours.

    Columns: dataset, defence, phase, epochs, n_test, clean, paper (the worst of FGSM, BIM and MIM in the paper's case,
    on the same images if it was measured on them) and adaptive (the strongest attack per image), each an Estimate or
    None, and their trainings clean_trainings, ….
    """
    strongest = best(select(cells, {"attack": "strongest"}), ["dataset", "defence", "phase", "epochs"])
    rows = []
    for cell in strongest.itertuples():
        row = {"dataset": cell.dataset, "defence": cell.defence, "phase": cell.phase, "epochs": cell.epochs}
        same = {"dataset": cell.dataset, "defence": cell.defence, "epochs": cell.epochs}
        steps = select(cells, {**same, "attack": ["fgsm", "bim", "mim"], "case": PAPERS_CASE.get(cell.phase)})
        if (steps.n_test == cell.n_test).any():
            steps = steps[steps.n_test == cell.n_test]
        before = {
            "clean": best(select(cells, {**same, "attack": "", "phase": cell.phase}), COLUMNS),
            "paper": steps.sort_values("ours", kind="stable"),  # an Estimate's first value is the accuracy
        }
        for name, found in before.items():
            row[name] = found.ours.iloc[0] if len(found) else None
            row[f"{name}_trainings"] = found.trainings.iloc[0] if len(found) else ()
        rows.append({**row, "n_test": cell.n_test, "adaptive": cell.ours, "adaptive_trainings": cell.trainings})
    names = [f"{name}{suffix}" for name in ("clean", "paper", "adaptive") for suffix in ("", "_trainings")]
    datasets, phases = list(DATASETS), list(PHASES.values())
    # what the paper is about before its rivals
    rows.sort(
        key=lambda r: (datasets.index(r["dataset"]), r["defence"] not in ("none", "pr"), phases.index(r["phase"]))
    )
    return pd.DataFrame(rows, columns=["dataset", "defence", "phase", "epochs", "n_test", *names], dtype=object)


class Kept(NamedTuple):
    """Evidence: the accuracy that an attack leaves (``epsilon`` is 0 at the paper's), and the trainings that say so."""

    attack: str
    epsilon: float
    accuracy: Estimate
    trainings: tuple[OneTraining, ...]


class Stuck(NamedTuple):
    """Evidence: the share of the clean images at which a bare network's gradient is zero."""

    share: float
    defence: str


def sanity(records: Iterable[Record]) -> pd.DataFrame:
    """The standard checks of a robustness evaluation (Carlini et al., 2019), a row each and dataset.

    Columns: dataset, check, evidence (``Stuck``, or a tuple of one or two ``Kept``, the weaker attack first), outcome.
    An outcome is "passed", or "failed" if a difference points the wrong way by more than chance; what was not measured
    has no row.
    """
    records = list(records)
    rows = [*_orders(measured(records).query("case == 'adaptive' and phase == 'both'")), *_gradients(records)]
    return pd.DataFrame(rows, columns=["dataset", "check", "evidence", "outcome"], dtype=object).drop_duplicates()


def _orders(cells: pd.DataFrame) -> Iterable[tuple[Any, ...]]:
    """The rows of ``sanity`` that compare accuracies."""
    for (dataset, _), found in cells.groupby(["dataset", "defence"], sort=False):
        kept = {
            (row.attack, row.epsilon, row.n_test): Kept(row.attack, row.epsilon, row.ours, row.trainings)
            for row in found.itertuples()
        }
        for check, weak, strong in _expectations(list(kept)):
            evidence = kept[weak], kept[strong]
            failed = evidence[1].accuracy.minus(evidence[0].accuracy).low > 0
            yield dataset, check, evidence, "failed" if failed else "passed"
        for one in kept.values():
            if (one.attack, one.epsilon) == ("strongest", 1):
                yield dataset, "an unbounded attack wins", (one,), "passed" if one.accuracy.low <= 0.01 else "failed"


def _gradients(records: Iterable[Record]) -> Iterable[tuple[Any, ...]]:
    """The rows of ``sanity`` about the bare networks' gradients."""
    for record in records:
        training, check = record.experiment.training, "the bare network's gradient is zero almost nowhere"
        for cell in record.cells:
            if cell.case == "adaptive" and cell.attack in ("eot-pgd", "pgd"):
                evidence = Stuck(cell.stuck, training.defence.name)
                yield training.dataset, check, evidence, "failed" if cell.stuck > 0.01 else "passed"


Key = tuple[str, float, int]
"""An attack, its ε (0 is the paper's) and how many images it met."""


def _expectations(keys: list[Key]) -> Iterable[tuple[str, Key, Key]]:
    """Pairs of attacks (weaker, stronger), measured on as many images, with what is expected of them."""
    for attack, epsilon, n in keys:
        if attack in BLACK_BOX:
            for white in WHITE_BOX:
                if (white, epsilon, n) in keys:
                    yield "black-box is not stronger than white-box", (attack, epsilon, n), (white, epsilon, n)
    for weak, strong in MORE:
        for n in sorted({n for *_, n in keys}):
            if (weak, 0, n) in keys and (strong, 0, n) in keys:
                yield "more steps, draws or starts are not weaker", (weak, 0, n), (strong, 0, n)
    swept = sorted(key for key in keys if key[0] == "strongest" and key[1])
    for less, more in pairwise(swept):
        if less[2] == more[2]:
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
                gap = wilson(cell.correct, cell.total).minus(wilson(weaker.correct, weaker.total))
                if gap.low > 0:
                    yield (
                        labelled(cell.attack, cell.epsilon),
                        f"in case {cell.case} it leaves {gap.value:.3f} more accuracy than FGSM",
                    )

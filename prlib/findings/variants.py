"""The paper's attacks after the last epoch: beside their variants, and from case to case."""

from collections.abc import Iterable, Sequence
from statistics import fmean

import numpy as np
import pandas as pd

from prlib.findings.cells import COLUMNS, best
from prlib.findings.pairs import OneTraining, common, minus, right_before_and_after
from prlib.statistics import holm, p_value, paired

VARIANTS = ("true", "quarter", "eq4")
"""What an attack's name ends in if it differs from the default in labels, step size or the paper's Eq. 4."""


def attacked(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells of ``measured`` that are under attack and of the last epoch, each once: on the most images."""
    last = cells[(cells.attack != "") & (cells.epochs == cells.epochs.max())]
    return best(last, COLUMNS).sort_index()


def against_default(cells: pd.DataFrame) -> pd.DataFrame:
    """Those under a variant of an attack, with the columns base, variant, difference (Estimate) and p to the default's.

    A row a dataset, attack and case of which the default was measured, too; the difference is paired, ``p`` adjusted by
    Holm's method for all rows of the variant.
    """
    cells = attacked(cells)
    ours = {(c.dataset, c.defence, c.attack, c.case): c.trainings for c in cells.itertuples()}
    rows = []
    for cell in cells.to_dict("records"):
        base, _, variant = cell["attack"].partition("-")
        default = ours.get((cell["dataset"], cell["defence"], base, cell["case"]))
        if variant in VARIANTS and default is not None and (found := minus(cell["trainings"], default)).size:
            rows.append(cell | {"base": base, "variant": variant, "difference": paired(found), "p": p_value(found)})
    frame = pd.DataFrame(rows, columns=[*cells.columns, "base", "variant", "difference", "p"])
    return adjusted(frame, ["variant"])


def adjusted(frame: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """The rows with their column p adjusted by Holm's method for all rows that are alike in these columns."""
    frame = frame.reset_index(drop=True)
    for index in frame.groupby(by, sort=False).indices.values():
        frame.loc[index, "p"] = holm(list(frame.p[index]))
    return frame.astype({"p": float})


def after_longer_training(cells: pd.DataFrame, cases: Iterable[str]) -> pd.DataFrame:
    """What more epochs leave under the paper's attacks beside the fewest: a row a cell and greater number of epochs.

    Columns: dataset, attack, case, epochs, difference (Estimate, on the same images) and p, adjusted by Holm's method
    for all rows of the dataset. ``cells`` are of one defence.
    """
    cells, rows = best(cells[cells.case.isin(list(cases))], COLUMNS), []
    for (dataset, attack, case), found in cells.groupby(["dataset", "attack", "case"], sort=False):
        first, *later = found.sort_values("epochs").itertuples()
        for cell in later:
            pair = minus(cell.trainings, first.trainings)
            rows.append([dataset, attack, case, cell.epochs, paired(pair), p_value(pair)])
    frame = pd.DataFrame(rows, columns=["dataset", "attack", "case", "epochs", "difference", "p"])
    return adjusted(frame, ["dataset"])


def either_label(cells: pd.DataFrame, case: str) -> pd.DataFrame:
    """What true labels change in a case at the last epoch: the shares of the images that are right.

    A row a dataset, defence and attack: the columns of ``measured`` under the attack with predicted labels, and
    predicted, true, only_predicted and only_true, which like ``kept`` are of the trainings that met both;
    ``wrong_before`` and ``right_before`` count the images at which the two differ that the network had got wrong and
    right before the attack (None where that is unknown).
    """
    last, rows = attacked(cells), []
    by_name = {(c.dataset, c.defence, c.attack): c for c in last[last.case == case].itertuples(index=False)}
    for (dataset, defence, attack), cell in by_name.items():
        if (true := by_name.get((dataset, defence, f"{attack}-true"))) is None:
            continue
        seeds = {one.seed for one in cell.trainings} & {one.seed for one in true.trainings}
        predicted, truly = ([one for one in c.trainings if one.seed in seeds] for c in (cell, true))
        pair = minus(predicted, truly)
        shares: dict[str, float | None] = {
            "predicted": fmean(one.accuracy for one in predicted),
            "true": fmean(one.accuracy for one in truly),
            "only_predicted": float((pair > 0).mean()),
            "only_true": float((pair < 0).mean()),
        }
        shares |= _before(predicted, pair)
        rows.append(cell._asdict() | {"kept": right_before_and_after(tuple(predicted))} | shares)
    return pd.DataFrame(rows)


def _before(trainings: Sequence[OneTraining], pair: np.ndarray) -> dict[str, float | None]:
    """Of the images at which two attacks differ, how many the clean networks got wrong, and how many right."""
    before = [one.before for one in trainings if one.before is not None]
    if len(before) < len(trainings):
        return {"wrong_before": None, "right_before": None}
    places = common([bits.images for bits in (*before, *(one.after for one in trainings))])
    right = np.stack([clean.at(places) for clean in before])
    return {"wrong_before": int(((1 - right) * (pair != 0)).sum()), "right_before": int((right * (pair != 0)).sum())}


def farther(cells: pd.DataFrame, case: str, other: str, attacks: Iterable[str]) -> dict[str, int]:
    """In how many pairs of a dataset and an attack a case's final image is farther from the clean one than another's.

    Counted for each of the mean distances l0, l2 and linf; ``pairs`` is how many there are.
    """
    cells = attacked(cells)
    cells = cells[cells.attack.isin(list(attacks))]
    norms, pair = ["l0", "l2", "linf"], ["dataset", "defence", "attack"]
    here, there = (cells[cells.case == name].set_index(pair)[norms] for name in (case, other))
    both = here.join(there, rsuffix="_other", how="inner")
    return {"pairs": len(both)} | {norm: int((both[norm] > both[f"{norm}_other"]).sum()) for norm in norms}

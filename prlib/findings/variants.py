"""The paper's attacks after the last epoch: beside their variants, and from case to case."""

from collections.abc import Iterable

import pandas as pd
import torch
from torch import Tensor

from prlib.record import Record, unpack

VARIANTS = ("true", "quarter", "eq4")
"""What an attack's name ends in if it differs from the default in labels, step size or the paper's Eq. 4."""


def attacked(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells of ``measured`` that are under attack and of the last epoch."""
    return cells[(cells.attack != "") & (cells.epochs == cells.epochs.max())]


def against_default(cells: pd.DataFrame) -> pd.DataFrame:
    """Those under a variant of an attack, with the columns base, variant and difference (Estimate) to the default's.

    A row a dataset, attack and case of which the default was measured, too.
    """
    cells = attacked(cells).drop_duplicates(["dataset", "attack", "case"], keep="last")
    ours = {(cell.dataset, cell.attack, cell.case): cell.ours for cell in cells.itertuples()}
    rows = []
    for cell in cells.to_dict("records"):
        base, _, variant = cell["attack"].partition("-")
        default = ours.get((cell["dataset"], base, cell["case"]))
        if variant in VARIANTS and default is not None:
            rows.append(cell | {"base": base, "variant": variant, "difference": cell["ours"].minus(default)})
    return pd.DataFrame(rows, columns=[*cells.columns, "base", "variant", "difference"])


def correct(records: Iterable[Record], case: str) -> dict[tuple[str, int, str], Tensor]:
    """Which test images are classified correctly in a case, of all seeds, by dataset, epochs and attack: bool (N,)."""
    found: dict[tuple[str, int, str], list[Tensor]] = {}
    for record in records:
        for cell in record.cells:
            if cell.case == case:
                key = record.experiment.training.dataset, cell.epoch, cell.attack
                found.setdefault(key, []).append(unpack(cell.success, cell.total))
    return {key: torch.cat(seeds) for key, seeds in found.items()}


def farther(cells: pd.DataFrame, case: str, other: str, attacks: Iterable[str]) -> dict[str, int]:
    """In how many pairs of a dataset and an attack a case's final image is farther from the clean one than another's.

    Counted for each of the mean distances l0, l2 and linf; ``pairs`` is how many there are.
    """
    cells = attacked(cells)
    cells = cells[cells.attack.isin(list(attacks))].drop_duplicates(["dataset", "attack", "case"], keep="last")
    norms = ["l0", "l2", "linf"]
    here, there = (cells[cells.case == name].set_index(["dataset", "attack"])[norms] for name in (case, other))
    both = here.join(there, rsuffix="_other", how="inner")
    return {"pairs": len(both)} | {norm: int((both[norm] > both[f"{norm}_other"]).sum()) for norm in norms}

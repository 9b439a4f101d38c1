"""Every accuracy of the paper and of this book, a row each, for the page on which a reader filters them."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from prlib.data import DATASETS
from prlib.findings.cells import COLUMNS, agrees, each_once, measured, ours_of, same_experiment
from prlib.pages.content import plain
from prlib.pages.names import PHASE_TITLES, attack_title, defence_title
from prlib.record import Record

UNMEASURED = "not measured"
"""The scale of the paper's numbers that this book has nothing beside."""


def numbers(runs: Mapping[str, Iterable[Record]]) -> list[dict[str, Any]]:
    """A row an accuracy, in words and numbers; None where there is none.

    The paper's number stands beside each of ours that it is comparable with, and whether they agree where the training
    images are all of them, too. Its other numbers have rows of their own.

    Args:
        runs: records by the scale of their trainings, in words.
    """
    theirs = _printed()
    ours = [measured(records).assign(scale=scale) for scale, records in runs.items()]
    rows = pd.concat(ours).merge(theirs, on=COLUMNS, how="outer")
    order = {name: i for i, name in enumerate(DATASETS)}
    rows = rows.assign(place=rows.dataset.map(order), beyond=rows.accuracy.isna())  # first what the paper has, too
    rows = rows.sort_values(["place", "beyond", "defence", "epochs", "attack", "case"])
    return [_row(cell) for cell in rows.astype(object).where(rows.notna(), None).itertuples()]


def _printed() -> pd.DataFrame:
    """The paper's numbers, each once, by what we call them."""
    theirs = each_once(measured([])).infer_objects()
    return ours_of(theirs).assign(table=theirs.table, accuracy=theirs.accuracy).drop_duplicates(COLUMNS)


def _row(cell: Any) -> dict[str, Any]:
    known = cell.ours is not None
    return {
        "dataset": DATASETS[cell.dataset].title,
        "defence": defence_title(cell.defence),
        "used": PHASE_TITLES.get(cell.phase, ""),
        "attack": plain(attack_title(cell.attack, cell.epsilon)) if cell.attack else "none (clean)",
        "case": cell.case,
        "epochs": int(cell.epochs),
        "scale": cell.scale or UNMEASURED,
        "images": int(cell.n_test) if known else None,
        "table": None if cell.table is None else int(cell.table),
        "paper": cell.accuracy,
        "ours": round(cell.ours.value, 4) if known else None,
        "low": round(cell.ours.low, 4) if known else None,
        "high": round(cell.ours.high, 4) if known else None,
        "kept": round(cell.kept.value, 4) if known and cell.kept else None,
        "seeds": len(cell.trainings) if known else None,
        "agrees": agrees(cell, cell.accuracy) if same_experiment(cell) and cell.accuracy is not None else None,
        "record": cell.record or "",
    }

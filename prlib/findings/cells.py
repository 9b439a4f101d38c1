"""Measured cells in one frame, and the paper's beside them."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from prlib import paper
from prlib.record import Cell, Record
from prlib.statistics import Estimate, wilson

TOLERANCE = {"clean": 0.02, "attacked": 0.05}
"""Accuracies agree within this plus the half-width of our 95% interval; fixed before any run."""

PHASES = {(False, False): "none", (True, False): "train", (False, True): "test", (True, True): "both"}
"""Table 2's columns by where the defence is used (in training, at test time)."""

PAPER_EPOCHS = (50, 500, 1000)
"""The epochs of the paper's tables."""

COLUMNS = ["dataset", "defence", "epochs", "phase", "attack", "epsilon", "case"]
"""What tells one accuracy from another, as in ``prlib.paper.tables()``.

A clean accuracy has a phase, one under attack an attack and a case (and a phase in case "adaptive"). The defence of a
network that is neither trained nor tested with one is "none". ``epsilon`` is an attack's where it is not the paper's,
else 0.
"""


def measured(records: Iterable[Record]) -> pd.DataFrame:
    """One row an accuracy: ``COLUMNS``, ours (Estimate), n_train, n_test, mean distances l0, l2, linf, record (a name).

    Where the attack is the strongest of several, ``of`` says of how many; elsewhere it is 0.

    Seeds of the same cell are averaged. The interval stays that of one seed: it is about the choice of test images,
    which are the same for all.
    """
    sizes = ["n_train", "n_test", "of"]
    counts = ["correct", "total", "l0", "l2", "linf", "record"]
    rows = [_row(record, cell) for record in records for cell in record.cells]
    frame = pd.DataFrame(rows, columns=[*COLUMNS, *sizes, *counts]).astype({"epsilon": float})  # even without rows
    how = {"correct": "mean", "total": "mean", "l0": "mean", "l2": "mean", "linf": "mean", "record": "first"}
    pooled = frame.groupby([*COLUMNS, *sizes], sort=False, as_index=False).agg(how)
    pooled["ours"] = [wilson(c, t) for c, t in zip(pooled.correct, pooled.total, strict=True)]
    return pooled.drop(columns=["correct", "total"])


def compare(records: Iterable[Record], **where: Any) -> pd.DataFrame:
    """The paper's cells that match ``where`` with ours beside them: columns ours, difference (Estimates), agrees, ….

    Cells that were not measured have None there. ``where`` gives a value or a list of values for columns of
    ``prlib.paper.tables()``.
    """
    theirs = select(paper.tables().assign(epsilon=0.0), where)
    # The paper prints its no-PR column with PR's, and "normal" for what Table 2 calls both phases.
    normal = theirs.case == "normal"
    key = theirs[COLUMNS].copy()
    key["defence"] = key.defence.where(key.phase != "none", "none")
    key["phase"] = key.phase.where(~normal, "both")
    key[["attack", "case"]] = key[["attack", "case"]].where(~normal, "")
    ours = key.merge(best(measured(records), COLUMNS), on=COLUMNS, how="left").drop(columns=COLUMNS)
    both = pd.concat([theirs.reset_index(drop=True), ours], axis=1).astype(object)
    both = both.where(both.notna(), None)
    pairs = list(zip(both.ours, both.accuracy, strict=True))
    both["difference"] = [None if o is None else Estimate(o.value - a, o.low - a, o.high - a) for o, a in pairs]
    both["agrees"] = [None if o is None else agrees(o, a, case) for (o, a), case in zip(pairs, both.case, strict=True)]
    return both


def best(cells: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """One row for each combination of the columns: that of most images, and the strongest of most attacks."""
    return cells.sort_values(["n_test", "of"], ascending=False, kind="stable").drop_duplicates(columns)


def select(frame: pd.DataFrame, where: Mapping[str, Any]) -> pd.DataFrame:
    """A copy of the rows whose columns have these values, or one of these lists of values.

    Attacks are those at the paper's ε unless ``where`` says otherwise.
    """
    for name, value in ({"epsilon": 0.0} | dict(where)).items():
        frame = frame[frame[name].isin(value if isinstance(value, list | tuple) else [value])]
    return frame.copy()


def agrees(ours: Estimate, theirs: float, case: str) -> bool:
    """Whether the paper's number is within the tolerance and the half-width of our interval."""
    tolerance = TOLERANCE["attacked" if case in ("A", "B", "C") else "clean"]
    return abs(ours.value - theirs) <= tolerance + ours.half_width


def _row(record: Record, cell: Cell) -> list[Any]:
    training = record.experiment.training
    names = [name for name in (training.defence.name, cell.tested_with) if name != "none"] or ["none"]
    clean = cell.case == "normal"
    phased = clean or cell.case == "adaptive"
    phase = PHASES[training.defence.kind != "none", cell.tested_with != "none"] if phased else ""
    what = [phase, cell.attack, cell.epsilon or 0.0, "" if clean else cell.case]
    of = len(record.experiment.attacks) if cell.attack == "strongest" else 0
    sizes = [training.n_train, record.experiment.n_test, of]
    distances = [cell.l0, cell.l2, cell.linf]
    return [
        training.dataset,
        names[0],
        cell.epoch,
        *what,
        *sizes,
        cell.correct,
        cell.total,
        *distances,
        record.experiment.name,
    ]

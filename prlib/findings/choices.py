"""What the other reading of a choice changes, and whether it explains a difference from the paper."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from prlib import paper
from prlib.findings.cells import COLUMNS, ENOUGH, compare, expected
from prlib.findings.pairs import minus, of_common_seeds
from prlib.findings.variants import adjusted
from prlib.statistics import next_training, over_trainings, p_value, paired


def ablations(cells: pd.DataFrame) -> pd.DataFrame:
    """What the other reading of a choice changes: a row a cell that differs from another in a variant alone.

    Columns: ``COLUMNS``, n_train and n_test of the variant's cell, id and topic of the choice
    (``prlib.paper.deviations()``), variant, base (their names), ours and default (Estimates, on common seeds),
    difference (paired), p (adjusted by Holm's method for all rows of the variant), record, trainings and
    default_trainings.
    """
    rows: list[dict[str, Any]] = []
    for entry in paper.deviations():
        for variant, base in entry.get("variants", {}).items():
            names = {"id": entry["id"], "topic": entry["topic"], "variant": variant, "base": base}
            for column in ("defence", "attack", "case"):
                same = [*(c for c in COLUMNS if c != column), "n_train", "n_test", "drawn"]
                bases = cells[cells[column] == base][[*same, "trainings"]].rename(columns={"trainings": "default"})
                for pair in cells[cells[column] == variant].merge(bases, on=same).itertuples(index=False):
                    if (found := minus(pair.trainings, pair.default)).size:
                        rows.append(pair._asdict() | names | _compared(pair, found))
    columns = ["id", "topic", "variant", "base", "ours", "default", "difference", "p"]
    frame = pd.DataFrame(
        rows, columns=[*COLUMNS, "n_train", "n_test", *columns, "record", "trainings", "default_trainings"]
    )
    return adjusted(frame, ["variant"])


def _compared(pair: Any, found: np.ndarray) -> dict[str, Any]:
    """Both accuracies on common seeds, and their difference."""
    ours, default = (
        over_trainings([one.accuracy for one in side], pair.n_test)
        for side in of_common_seeds(pair.trainings, pair.default)
    )
    values = {"ours": ours, "default": default, "default_trainings": pair.default}
    return values | {"difference": paired(found), "p": p_value(found)}


def like_another_seed(ablated: pd.DataFrame) -> tuple[int, int]:
    """How many accuracies of variants lie where one more training of the base would at 95%, and of how many.

    That is known where the variant's network is another one and the base has ``ENOUGH`` trainings. The images are the
    same, so only trainings differ (``prlib.statistics.next_training``).
    """
    within: list[bool] = []
    for row in ablated.to_dict("records"):
        if _is_another_network(row) and len(row["default_trainings"]) >= ENOUGH:
            accuracies = [one.accuracy for one in row["default_trainings"]]
            _, low, high = next_training(accuracies, row["n_test"], row["n_test"])
            within += [low <= one.accuracy <= high for one in row["trainings"]]
    return sum(within), len(within)


def reasons(measured: pd.DataFrame, ablated: pd.DataFrame, **where: Any) -> pd.DataFrame:
    """The paper's numbers that ours do not agree with, and whether the other reading of a choice explains it.

    A row a number and reading, or one with the id "" where no reading was measured. Columns: those of ``compare``, and
    of ``ablations`` id, variant, effect (Estimate: how much the reading changes the accuracy), effect_record,
    effect_n_train, and explains: "no" unless ours, changed so, would come nearer by more than the half-width of the
    effect's interval, "yes" if it would then agree, else "partly"; and "not explained" where the reading needs another
    training and was measured on fewer training images than the paper's, or with one seed, so that the difference may be
    the trainings'. Of a reading that was measured on different numbers of training images the largest counts. ``where``
    is as for ``compare``.
    """
    cells = compare(measured, **where)
    cells = cells[cells.agrees.isin([False])]  # None where nothing was measured
    no_reading = {entry["id"] for entry in paper.deviations() if not entry.get("reading", True)}
    readings, rows = ablated[~ablated.id.isin(no_reading)].to_dict("records"), []
    for cell in cells.to_dict("records"):
        found = [row for row in readings if _base(row) == tuple(cell[name] for name in COLUMNS)]
        most = {row["variant"]: row["n_train"] for row in sorted(found, key=lambda row: row["n_train"])}
        found = [row for row in found if row["n_train"] == most[row["variant"]]]
        for row in found:
            told = {"id": row["id"], "variant": row["variant"], "effect": row["difference"]}
            told |= {"effect_record": row["record"], "effect_n_train": row["n_train"]}
            rows.append(cell | told | {"explains": _explains(cell, row)})
        if not found:
            rows.append(cell | {"id": "", "variant": ""})
    return pd.DataFrame(rows, dtype=object)


def _base(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """The cell that an ablation's row is a variant of, by ``COLUMNS``."""
    return tuple(row["base"] if row[name] == row["variant"] else row[name] for name in COLUMNS)


def _explains(cell: Mapping[str, Any], reading: Mapping[str, Any]) -> str:
    effect = reading["difference"]
    trainings, _ = of_common_seeds(reading["trainings"], reading["default_trainings"])
    if _is_another_network(reading) and (len(trainings) < 2 or reading["n_train"] != cell["n_train"]):
        return "not explained"
    gap = cell["accuracy"] - cell["ours"].value
    if abs(gap) - abs(gap - effect.value) <= effect.half_width:
        return "no"
    _, low, high = expected(SimpleNamespace(**cell))
    return "yes" if low <= cell["accuracy"] - effect.value <= high else "partly"


def _is_another_network(row: Mapping[str, Any]) -> bool:
    """Whether the variant was trained: at test time alone the network is undefended, and new if that is what varies."""
    new = row["phase"] != "test" or row["variant"].partition("-")[0] == "none"
    return bool(row["variant"] == row["defence"] and new)

"""Claims × records: was the number matched, is the claim supported? The words are computed, never typed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from prlib import paper
from prlib.cases import Estimate, wilson
from prlib.experiment import Record

TOLERANCE_CLEAN = 0.02
"""Clean accuracies agree within this plus the half-width of our 95% interval; fixed before any run."""

PHASES = {(False, False): "none", (True, False): "train", (False, True): "test", (True, True): "both"}
"""Table 2's columns: is the defence used (in training, at test time)."""

COLUMNS = ["dataset", "epochs", "phase"]
"""What tells one of Table 2's cells from another."""

PAPER_EPOCHS = (50, 500, 1000)
"""The epochs of the paper's tables."""


@dataclass(frozen=True)
class Verdict:
    """A claim's two verdicts, with the counts behind them.

    ``reproduced`` and ``supported`` are "yes", "partly", "no" or "not testable" (at this profile); ``within`` of
    ``compared`` numbers agree with the paper's; each comparison that the claim makes ``holds``, ``fails`` or is open.
    """

    claim: Mapping[str, Any]
    reproduced: str
    within: int
    compared: int
    supported: str
    holds: int
    fails: int
    open: int


def measured(records: Iterable[Record]) -> pd.DataFrame:
    """One row a cell of the records: the columns of ``COLUMNS``, defense, ours (Estimate), and the record's name.

    Seeds of the same cell are pooled into one accuracy.
    """
    rows = [_row(record, cell) for record in records for cell in record.cells]
    columns = [*COLUMNS, "defense", "n_train", "n_test", "correct", "total", "l2", "record"]
    frame = pd.DataFrame(rows, columns=columns)
    group = frame.groupby([*COLUMNS, "defense", "n_train", "n_test"], sort=False, as_index=False)
    pooled = group.agg(
        correct=("correct", "sum"), total=("total", "sum"), l2=("l2", "mean"), record=("record", "first")
    )
    pooled["ours"] = [wilson(c, t) for c, t in zip(pooled.correct, pooled.total, strict=True)]
    return pooled


def compare(records: Iterable[Record], **where: Any) -> pd.DataFrame:
    """The paper's cells that match ``where`` with ours beside them: columns ours, difference (Estimates), agrees, ….

    Cells that were not measured have None there. ``where`` gives a value or a list of values for columns of
    ``prlib.paper.tables()``.
    """
    theirs = _select(paper.tables(), where)
    theirs["used"] = theirs.defense.where(theirs.phase != "none", "")  # the paper prints its no-PR column with PR's
    both = theirs.merge(measured(records).rename(columns={"defense": "used"}), on=[*COLUMNS, "used"], how="left")
    both = both.astype(object).where(both.notna(), None)
    pairs = list(zip(both.ours, both.accuracy, strict=True))
    both["difference"] = [None if o is None else Estimate(o.value - a, o.low - a, o.high - a) for o, a in pairs]
    both["agrees"] = [None if o is None else abs(o.value - a) <= TOLERANCE_CLEAN + o.half_width for o, a in pairs]
    return both


def judge_claim(claim: Mapping[str, Any], records: Iterable[Record]) -> Verdict:
    """The two verdicts on one claim of ``prlib.paper.claims()``."""
    cells = compare(records, **claim["cells"])
    cells = cells[cells.ours.notna()]
    agrees = [bool(a) for a in cells.agrees]
    outcomes = [_outcome(claim["relation"], left.minus(right)) for left, right in _pairs(claim, cells)]
    counts = {word: outcomes.count(word) for word in ("holds", "fails", "open")}
    return Verdict(
        claim=claim,
        reproduced=_word(sum(agrees), len(agrees) - sum(agrees)),
        within=sum(agrees),
        compared=len(agrees),
        supported=_word(counts["holds"], counts["fails"], counts["open"]),
        **counts,
    )


def judge_claims(records: Iterable[Record], prefix: str) -> list[Verdict]:
    """The verdicts on the claims whose id starts with ``prefix``."""
    records = list(records)
    return [judge_claim(claim, records) for claim in paper.claims() if claim["id"].startswith(prefix)]


def _word(yes: int, no: int, undecided: int = 0) -> str:
    if yes and not no and not undecided:
        return "yes"
    if yes:
        return "partly"
    return "no" if no else "not testable"


def _outcome(relation: str, difference: Estimate) -> str:
    if relation == "same":
        return "holds" if abs(difference.value) <= TOLERANCE_CLEAN + difference.half_width else "fails"
    sign = 1 if relation == "above" else -1
    low, high = sorted((sign * difference.low, sign * difference.high))
    return "holds" if low > 0 else "fails" if high < 0 else "open"


def _pairs(claim: Mapping[str, Any], cells: pd.DataFrame) -> list[tuple[Estimate, Estimate]]:
    fixed = [column for column in COLUMNS if column in claim["left"] or (claim.get("change") and column == "epochs")]
    pairs = []
    for _, group in cells.groupby([column for column in COLUMNS if column not in fixed], sort=False):
        sides = [_side(claim, claim[side], group) for side in ("left", "right")]
        if sides[0] is not None and sides[1] is not None:
            pairs.append((sides[0], sides[1]))
    return pairs


def _side(claim: Mapping[str, Any], where: Mapping[str, Any], group: pd.DataFrame) -> Estimate | None:
    if claim.get("change"):
        last, first = (_side({}, {**where, "epochs": end}, group) for end in ("last", "first"))
        return None if last is None or first is None else last.minus(first)
    ends = {"first": PAPER_EPOCHS[0], "last": PAPER_EPOCHS[-1]}
    found = _select(group, {name: ends.get(value, value) for name, value in where.items()})
    return found.ours.iloc[0] if len(found) else None


def _select(frame: pd.DataFrame, where: Mapping[str, Any]) -> pd.DataFrame:
    for name, value in where.items():
        frame = frame[frame[name].isin(value if isinstance(value, list | tuple) else [value])]
    return frame.copy()


def _row(record: Record, cell: Any) -> list[Any]:
    training = record.experiment.training
    names = {training.defence.name, cell.tested_with} - {"none"}
    phase = PHASES[training.defence.name != "none", cell.tested_with != "none"]
    sizes = [training.n_train, record.experiment.n_test]
    counts = [cell.correct, cell.total, cell.l2, record.experiment.name]
    return [training.dataset, cell.epoch, phase, "/".join(sorted(names)), *sizes, *counts]

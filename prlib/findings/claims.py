"""Claims × records: was the number matched, is the claim supported?"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from prlib import paper
from prlib.findings.cells import COLUMNS, PAPER_EPOCHS, TOLERANCE, best, compare, measured, select
from prlib.record import Record
from prlib.statistics import Estimate


@dataclass(frozen=True)
class Verdict:
    """A claim's two verdicts, with the counts behind them.

    ``reproduced`` and ``supported`` are "yes", "partly", "no", "open" or "not testable" (at this profile); ``within``
    of ``compared`` numbers agree with the paper's; each comparison that the claim makes ``holds``, ``fails`` or is
    ``open``.
    """

    claim: Mapping[str, Any]
    reproduced: str
    within: int
    compared: int
    supported: str
    holds: int
    fails: int
    open: int


def judge_claim(claim: Mapping[str, Any], records: Iterable[Record]) -> Verdict:
    """The two verdicts on one claim of ``prlib.paper.claims()``."""
    records = list(records)
    if "ours" in claim:
        cells = best(select(measured(records), claim["ours"]), COLUMNS)
    else:
        cells = compare(records, **claim["cells"])
        cells = cells[cells.ours.notna()]
    agrees = [] if "ours" in claim or "quantity" in claim else [bool(a) for a in cells.agrees]
    tolerance = TOLERANCE["attacked" if (cells.attack != "").all() else "clean"]
    if "cells" in claim and "none" in (claim["left"].get("defence"), claim["right"].get("defence")):
        cells = pd.concat([cells, select(measured(records), {"defence": "none"})])
    if "quantity" in claim:
        cells["ours"] = [Estimate(value, value, value) for value in cells[claim["quantity"]]]
    outcomes = [_outcome(claim["relation"], left.minus(right), tolerance) for left, right in _pairs(claim, cells)]
    counts = {word: outcomes.count(word) for word in ("holds", "fails", "open")}
    return Verdict(
        claim=claim,
        reproduced=_word(sum(agrees), len(agrees) - sum(agrees)),
        within=sum(agrees),
        compared=len(agrees),
        supported=_word(counts["holds"], counts["fails"], counts["open"]),
        **counts,
    )


def judge_claims(records: Iterable[Record], prefix: str = "") -> list[Verdict]:
    """The verdicts on the claims whose id starts with ``prefix``."""
    records = list(records)
    return [judge_claim(claim, records) for claim in paper.claims() if claim["id"].startswith(prefix)]


def disagreements(prose: str, records: Iterable[Record]) -> list[str]:
    """Where prose states a verdict that the records do not give.

    A sentence that states one is preceded by a comment ``% verdict CLAIM reproduced|supported WORD``, which this reads.
    """
    computed = {v.claim["id"]: v for v in judge_claims(records)}
    stated = re.findall(r"^% verdict (\S+) (reproduced|supported) (.+)$", prose, re.MULTILINE)
    return [
        f"the prose says {claim}: {which} {word}; the records say {getattr(computed[claim], which)}"
        for claim, which, word in stated
        if getattr(computed[claim], which) != word
    ]


def _word(yes: int, no: int, undecided: int = 0) -> str:
    if yes and not no and not undecided:
        return "yes"
    if yes:
        return "partly"
    if no:
        return "no"
    return "open" if undecided else "not testable"


def _outcome(relation: str, difference: Estimate, tolerance: float) -> str:
    if relation == "same":
        return "holds" if abs(difference.value) <= tolerance + difference.half_width else "fails"
    sign, least = {"above": (1, 0.0), "below": (-1, 0.0), "clearly above": (1, tolerance)}[relation]
    low, high = sorted((sign * difference.low, sign * difference.high))
    return "holds" if low > least else "fails" if high < least else "open"


def _pairs(claim: Mapping[str, Any], cells: pd.DataFrame) -> list[tuple[Estimate, Estimate]]:
    fixed = {*claim["left"], *claim["right"], *(["epochs"] if claim.get("change") else [])}
    free = [column for column in COLUMNS if column not in fixed]
    sides = [
        (_side(claim, "left", group), _side(claim, "right", group)) for _, group in cells.groupby(free, sort=False)
    ]
    return [(left, right) for left, right in sides if left is not None and right is not None]


def _side(claim: Mapping[str, Any], side: str, group: pd.DataFrame) -> Estimate | None:
    where = {name: _EPOCHS.get(value, value) for name, value in claim[side].items()}
    if not claim.get("change"):
        return _only(select(group, where))
    last, first = (_only(select(group, {**where, "epochs": _EPOCHS[end]})) for end in ("last", "first"))
    return None if last is None or first is None else last.minus(first)


_EPOCHS: dict[Any, int] = {"first": PAPER_EPOCHS[0], "last": PAPER_EPOCHS[-1]}


def _only(found: pd.DataFrame) -> Estimate | None:
    return found.ours.iloc[0] if len(found) else None

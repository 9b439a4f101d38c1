"""Claims × records: was the number matched, is the claim supported?"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from prlib import paper
from prlib.findings.cells import COLUMNS, PAPER_EPOCHS, TOLERANCE, best, compare, on_common_seeds, select
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


def judge_claim(claim: Mapping[str, Any], measured: pd.DataFrame) -> Verdict:
    """The two verdicts on one claim of ``prlib.paper.claims()``, from the cells measured."""
    if "ours" in claim:
        cells = best(select(measured, claim["ours"]), COLUMNS)
    else:
        cells = compare(measured, **claim["cells"])
        cells = cells[cells.ours.notna()]
    agrees = [] if "ours" in claim or "quantity" in claim else [bool(a) for a in cells.agrees]
    tolerance = TOLERANCE["attacked" if (cells.attack != "").all() else "clean"]
    if "cells" in claim and "none" in (claim["left"].get("defence"), claim["right"].get("defence")):
        cells = pd.concat([cells, select(measured, {"defence": "none"})])
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


def judge_claims(measured: pd.DataFrame, prefix: str = "") -> list[Verdict]:
    """The verdicts on the claims whose id starts with ``prefix``."""
    return [judge_claim(claim, measured) for claim in paper.claims() if claim["id"].startswith(prefix)]


def disagreements(prose: str, measured: pd.DataFrame) -> list[str]:
    """Where prose states a verdict that the records do not give.

    A sentence that states one is preceded by a comment ``% verdict CLAIM reproduced|supported WORD``, which this reads.
    """
    computed = {v.claim["id"]: v for v in judge_claims(measured)}
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


def _pairs(claim: Mapping[str, Any], cells: pd.DataFrame) -> Iterator[tuple[Estimate, Estimate]]:
    """The two sides of each comparison that the claim makes, on common seeds."""
    fixed = {*claim["left"], *claim["right"], *(["epochs"] if claim.get("change") else [])}
    free = [column for column in COLUMNS if column not in fixed]
    for _, group in cells.groupby(free, sort=False):
        left, right = (_rows(claim, side, group) for side in ("left", "right"))
        rows = [*left, *right]
        if None in rows:
            continue
        values = [_point(row, claim["quantity"]) for row in rows] if "quantity" in claim else on_common_seeds(*rows)
        if values:
            yield _change(values[: len(left)]), _change(values[len(left) :])


def _rows(claim: Mapping[str, Any], side: str, group: pd.DataFrame) -> list[Any]:
    """The cells of a side: one, or of a change the last and the first; None stands for one that there is not."""
    where = {name: _EPOCHS.get(value, value) for name, value in claim[side].items()}
    ends = [{"epochs": _EPOCHS[end]} for end in ("last", "first")] if claim.get("change") else [{}]
    return [next(select(group, {**where, **end}).itertuples(), None) for end in ends]


def _point(row: Any, quantity: str) -> Estimate:
    value = getattr(row, quantity)
    return Estimate(value, value, value)


def _change(values: Sequence[Estimate]) -> Estimate:
    return values[0].minus(values[1]) if len(values) > 1 else values[0]


_EPOCHS: dict[Any, int] = {"first": PAPER_EPOCHS[0], "last": PAPER_EPOCHS[-1]}

"""Claims × records: was the number matched, is the claim supported?"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from prlib import paper
from prlib.findings.cells import COLUMNS, PAPER_EPOCHS, TOLERANCE, compare, ours_of, select
from prlib.findings.pairs import widest
from prlib.statistics import ALPHA, Estimate, holm, p_value, paired


@dataclass(frozen=True)
class Comparison:
    """One comparison that a claim makes.

    Args:
        where: values of ``COLUMNS``, of the left side where the two differ.
        difference: left minus right, with its 95% interval on the same images; of distances without one.
        p: two-sided, of the difference lying at the nearest bound of what the claim says; None for distances.
        adjusted: the same by Holm's method for all comparisons of the claim.
        images, trainings: how many both sides have in common.
        records: the names of the records on each side.
        outcome: "holds", "fails" or "open".
    """

    where: Mapping[str, Any]
    difference: Estimate
    p: float | None
    adjusted: float | None
    images: int
    trainings: int
    records: tuple[str, ...]
    outcome: str


@dataclass(frozen=True)
class Verdict:
    """A claim's two verdicts, with what is behind them.

    ``supported`` and ``reproduced`` are as ``word`` says; ``within`` of ``compared`` numbers agree with the paper's.
    """

    claim: Mapping[str, Any]
    reproduced: str
    within: int
    compared: int
    supported: str
    comparisons: tuple[Comparison, ...]

    def count(self, outcome: str) -> int:
        """How many comparisons hold, fail or are open."""
        return sum(one.outcome == outcome for one in self.comparisons)

    @property
    def by_dataset(self) -> dict[str, str]:
        """What ``word`` says of each dataset's comparisons."""
        found: dict[str, list[str]] = {}
        for one in self.comparisons:
            found.setdefault(one.where["dataset"], []).append(one.outcome)
        return {dataset: word(outcomes) for dataset, outcomes in found.items()}


def word(outcomes: Sequence[str]) -> str:
    """Several outcomes in a word that treats "holds" and "fails" alike.

    "yes" if all hold and "no" if all fail; "partly" if some hold and none fails, "partly not" if some fail and none
    holds, the others being open; "mixed" if some hold and some fail; "open" if none is decided; "not testable" if there
    are none.
    """
    holds, fails, undecided = (name in outcomes for name in ("holds", "fails", "open"))
    if holds and fails:
        return "mixed"
    if holds or fails:
        return ("partly" if holds else "partly not") if undecided else ("yes" if holds else "no")
    return "open" if undecided else "not testable"


def judge_claim(claim: Mapping[str, Any], measured: pd.DataFrame, compared: pd.DataFrame | None = None) -> Verdict:
    """The two verdicts on one claim of ``prlib.paper.claims()``, from the cells measured.

    Args:
        compared: the same beside all of the paper's cells (``compare``), where several claims are judged.
    """
    agrees: list[str] = []
    if "cells" in claim:
        theirs = select(compare(measured) if compared is None else compared, claim["cells"])
        if claim.get("quantity") != "l2":  # the paper prints no distances
            agrees = ["holds" if a else "fails" for a in theirs.agrees if a is not None]
        cells = _named_as(theirs, measured)
        if "none" in (claim["left"].get("defence"), claim["right"].get("defence")):
            cells = pd.concat([cells, select(measured, {"defence": "none"})])
    else:
        cells = select(measured, claim["ours"])
    found = decided(list(_comparisons(claim, cells)))
    return Verdict(
        claim=claim,
        reproduced=word(agrees),
        within=agrees.count("holds"),
        compared=len(agrees),
        supported=word([one.outcome for one in found]),
        comparisons=tuple(found),
    )


def decided(found: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with their outcomes, where chance leaves them one.

    That a claim holds everywhere, or fails everywhere, is said if each single comparison says so at 5%: to be wrong one
    of them must be (the intersection-union principle; Berger, 1982). Else each is one of several, and what Holm's
    adjusted p-value leaves above 5% is open.
    """
    if any(one.p is None for one in found):
        return list(found)
    p_values = [one.p for one in found if one.p is not None]
    alike = len({one.outcome for one in found}) == 1 and all(p <= ALPHA for p in p_values)
    return [
        replace(one, adjusted=p, outcome=one.outcome if alike or p <= ALPHA else "open")
        for one, p in zip(found, holm(p_values), strict=True)
    ]


def judge_claims(measured: pd.DataFrame, prefix: str = "") -> list[Verdict]:
    """The verdicts on the claims whose id starts with ``prefix``."""
    compared = compare(measured)
    return [judge_claim(claim, measured, compared) for claim in paper.claims() if claim["id"].startswith(prefix)]


def relate(relation: str, differences: np.ndarray, tolerance: float) -> tuple[str, float]:
    """Whether a relation "holds" or "fails" by the mean difference, and the p-value of its lying at the bound.

    Args:
        relation: as ``claims.yaml`` explains them.
        differences: as ``prlib.statistics.paired``'s.
    """
    value = float(differences.mean())
    if relation == "same":
        bound = tolerance if value > 0 else -tolerance
        holds = abs(value) <= tolerance
    else:
        sign, least = {"above": (1, 0.0), "below": (-1, 0.0), "clearly above": (1, tolerance)}[relation]
        bound, holds = sign * least, sign * value > least
    return "holds" if holds else "fails", p_value(differences, bound)


def _named_as(theirs: pd.DataFrame, measured: pd.DataFrame) -> pd.DataFrame:
    """Our cells of the paper's, called in ``COLUMNS`` as the paper calls them; all that there are of each."""
    theirs = theirs[COLUMNS].reset_index(drop=True)
    paired_with = pd.concat([ours_of(theirs), theirs.add_suffix("_theirs")], axis=1).drop_duplicates()
    cells = measured.merge(paired_with, on=COLUMNS).drop(columns=COLUMNS)
    return cells.rename(columns={f"{name}_theirs": name for name in COLUMNS})


def _comparisons(claim: Mapping[str, Any], cells: pd.DataFrame) -> Iterator[Comparison]:
    """Each on the images that both sides have in common, before Holm's adjustment."""
    quantity = claim.get("quantity")
    fixed = {*claim["left"], *claim["right"], *(["epochs"] if claim.get("change") else [])}
    groups: dict[tuple[Any, ...], list[Any]] = {}
    for cell in cells.itertuples(index=False):
        groups.setdefault(tuple(getattr(cell, name) for name in COLUMNS if name not in fixed), []).append(cell)
    for group in groups.values():
        group.sort(key=lambda cell: (-cell.n_test, -cell.drawn, -cell.of))  # as ``preferred``
        sides = [(sign, [c for c in group if _is(c, where)]) for sign, where in _sides(claim)]
        differences, rows = widest(sides, kept=quantity == "kept")
        if not rows:
            continue
        where = {name: getattr(rows[0], name) for name in COLUMNS}
        n, records = (differences.shape[1], len(differences)), tuple(row.record for row in rows)
        if quantity == "l2":
            left, right = (row.l2 for row in rows)
            outcome = "holds" if (left > right) == (claim["relation"] == "above") else "fails"
            yield Comparison(where, Estimate(*[left - right] * 3), None, None, *n, records, outcome)
        else:
            outcome, p = relate(claim["relation"], differences, TOLERANCE["attacked" if rows[0].attack else "clean"])
            yield Comparison(where, paired(differences), p, p, *n, records, outcome)


def _sides(claim: Mapping[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The sign of each term and what its cell is: two, or of a change the last and the first of both sides."""
    for side, sign in (("left", 1), ("right", -1)):
        where = {"epsilon": 0.0} | {name: _EPOCHS.get(value, value) for name, value in claim[side].items()}
        if claim.get("change"):
            yield sign, where | {"epochs": _EPOCHS["last"]}
            yield -sign, where | {"epochs": _EPOCHS["first"]}
        else:
            yield sign, where


def _is(cell: Any, where: Mapping[str, Any]) -> bool:
    return all(getattr(cell, name) == value for name, value in where.items())


_EPOCHS: dict[Any, int] = {"first": PAPER_EPOCHS[0], "last": PAPER_EPOCHS[-1]}

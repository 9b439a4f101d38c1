"""What the paper says, its tables and its claims, and what it leaves open: as data."""

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import Field, TypeAdapter

from prlib.schema import Checked, Line, parsed, validated

_HERE = Path(__file__).parent


def tables() -> pd.DataFrame:
    """All numbers of Tables 2-7, one a row.

    Columns: table, dataset, defence (pr, pr-multi, noise), epochs, phase (none, train, test, both), attack (fgsm, bim,
    mim, cw), case (normal, A, B, C), accuracy; an empty string where a column does not apply.
    """
    return pd.read_csv(_HERE / "tables.csv", keep_default_na=False)


Where = dict[Literal["dataset", "defence", "epochs", "phase", "attack", "case"], str | int | list[str]]
"""Cells, by values of their columns."""


class _Fixed(Checked):
    commit: Line
    when: Line
    first_record: Line


class _Claim(Checked):
    id: Annotated[str, Field(pattern="^[a-z0-9-]+$")]
    place: Line
    claim: Line
    left: Where
    right: Where
    relation: Literal["same", "below", "above", "clearly above"]
    speaks: Literal["for", "against", "neither"]
    fixed: _Fixed
    cells: dict[Literal["table", "dataset", "phase", "attack", "case"], str | int | list[str] | list[int]] | None = None
    ours: Where | None = None
    quantity: Literal["kept", "l2"] | None = None
    change: bool = False
    changed: Line = "never"


class _Deviation(Checked):
    id: Annotated[str, Field(pattern=r"^D\d+$")]
    group: Literal["method", "training", "attacks", "evaluation"]
    topic: Line
    paper: Line
    code: Line
    ours: Line
    variants: dict[str, str] = Field({})
    reading: bool = True
    other: Line = "none"


@cache
def claims() -> tuple[dict[str, Any], ...]:
    """The testable claims, the paper's and this book's; the head of ``claims.yaml`` explains their fields."""
    return checked_claims(parsed(_HERE / "claims.yaml"))


def checked_claims(found: Any) -> tuple[dict[str, Any], ...]:
    """Claims as they stand; a ValueError of one sentence names what is wrong in them, such as a cell that is none."""
    printed = tables()
    for i, claim in enumerate(validated(TypeAdapter(list[_Claim]), "claims", found)):
        if (claim.cells is None) == (claim.ours is None):
            raise ValueError(f"claims.yaml, {i}: either cells or ours must be given")
        for name, value in (claim.cells or {}).items():
            for one in value if isinstance(value, list) else [value]:
                if one not in (known := [*printed[name].unique()]):
                    raise ValueError(f"claims.yaml, {i}.cells.{name}: must be among {known}; got {one!r}")
    return tuple(found)


@cache
def deviations() -> tuple[dict[str, Any], ...]:
    """What the paper leaves open and what we chose; the head of ``deviations.yaml`` explains the fields."""
    found = parsed(_HERE / "deviations.yaml")
    validated(TypeAdapter(list[_Deviation]), "deviations", found)
    return tuple(found)

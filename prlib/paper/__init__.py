"""What the paper says, its tables and its claims, and what it leaves open: as data."""

from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

_HERE = Path(__file__).parent


def tables() -> pd.DataFrame:
    """All numbers of Tables 2-7, one a row.

    Columns: table, dataset, defence (pr, pr-multi, noise), epochs, phase (none, train, test, both), attack (fgsm, bim,
    mim, cw), case (normal, A, B, C), accuracy; an empty string where a column does not apply.
    """
    return pd.read_csv(_HERE / "tables.csv", keep_default_na=False)


@cache
def claims() -> tuple[dict[str, Any], ...]:
    """The testable claims, the paper's and this book's; the head of ``claims.yaml`` explains their fields."""
    return tuple(yaml.safe_load((_HERE / "claims.yaml").read_text("utf-8")))


@cache
def deviations() -> tuple[dict[str, Any], ...]:
    """What the paper leaves open and what we chose; the head of ``deviations.yaml`` explains the fields."""
    return tuple(yaml.safe_load((_HERE / "deviations.yaml").read_text("utf-8")))

"""Tables and the numbers in them."""

import re
from functools import cache
from typing import Any

import pandas as pd
from IPython.display import Markdown

from prlib.findings.checks import linked
from prlib.profiles import Parameters
from prlib.statistics import Estimate


class Table:
    """A table of Markdown cells: MyST Markdown for the site, HTML where a notebook is read by itself.

    With a caption it is numbered. ``command`` is what measures its numbers again, shown below it.
    """

    def __init__(self, frame: pd.DataFrame, caption: str, name: str, command: str = "") -> None:
        self.frame, self.caption, self.name, self.command = frame, caption, name, command

    def __repr__(self) -> str:
        return f"Table {self.name}: {len(self.frame)} rows"

    def _repr_markdown_(self) -> str:
        if self.frame.empty:
            return f"*{self.caption} There is nothing to show in this profile yet.*"
        columns = list(self.frame.columns)
        rules = ["---:" if _is_numeric(self.frame[column]) else ":---" for column in columns]
        lines = [columns, rules, *self.frame.astype(str).values.tolist()]
        body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        if not self.caption:
            return body
        below = f"\n```bash\n{self.command}\n```\n" if self.command else ""
        return f":::{{table}} {self.caption}\n:name: {self.name}\n\n{body}\n:::\n{below}"

    def _repr_html_(self) -> str:
        cells = self.frame.astype(str).map(plain)
        return cells.style.hide(axis="index").set_caption(self.caption).to_html(table_uuid=self.name)


def note(text: str) -> Markdown:
    """A paragraph set apart."""
    return Markdown(f":::{{note}}\n{text}\n:::\n")


def badge(parameters: Parameters, cell: Any, epochs: bool = True) -> str:
    """Profile, training/test images and epochs of a number, linked to its record: no reduced run passes for full."""
    changed = parameters.recompute or parameters.seeds or cell.record not in _names(parameters.profile)
    profile = "custom" if parameters.custom and changed else parameters.profile
    text = f"{profile} · {cell.n_train:,.0f}/{cell.n_test:,.0f} images"
    return f"[{text}{f' · {cell.epochs:,} epochs' if epochs else ''}](record:{cell.record}){{.badge}}"


def number(ours: Estimate | None, record: str, interval: bool = True) -> str:
    """An accuracy of ours, linked to its record's page, with its 95% interval; a dash if it was not measured."""
    if ours is None:
        return "–"
    return linked(ours, record) + (f" [{ours.low:.3f}, {ours.high:.3f}]" if interval else "")


def signed(difference: Estimate) -> str:
    """A difference of accuracies with its 95% interval."""
    return "{:+.3f} [{:+.3f}, {:+.3f}]".format(*difference)


def significant(value: Any) -> str:
    """Three digits of a fraction, whole thousands with commas, anything else as it is."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def plain(text: str) -> str:
    """Markdown's links, marks and code without their markup."""
    return re.sub(r"\[([^\[\]]*)\](?:\([^)]*\)|\{[^}]*\})+|[`*]", r"\1", text)


def _is_numeric(column: pd.Series) -> bool:
    return bool(column.astype(str).map(plain).str.fullmatch(r"[–−+\-]?[\d,.]*( [✓✗]| \[.*\])?").all())


def mark(word: str) -> str:
    """A verdict's word as Markdown, with the class that colours it."""
    return f"[{word}]{{.verdict .{word.replace(' ', '-')}}}"


@cache
def _names(profile: str) -> set[str]:
    return {experiment.name for experiment in Parameters(profile).experiments()}

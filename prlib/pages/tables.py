"""Tables of typed values, whose columns know their format and alignment."""

import html
import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import pandas as pd
from IPython.display import Markdown

from prlib.pages.content import Content, Span, between, code, markdown, plain
from prlib.profiles import PROFILES, Parameters
from prlib.statistics import Estimate


@dataclass(frozen=True)
class Column:
    """How a column shows its values.

    Args:
        show: gives the content of a value.
        right: whether it is aligned to the right, as numbers are.
        missing: what stands where there is no value.
    """

    show: Callable[[Any], Content]
    right: bool = False
    missing: str = ""

    @classmethod
    def of(cls, values: Iterable[Any]) -> "Column":
        """The column of values that nothing is said about: numbers or content."""
        known = [value for value in values if not _is_missing(value)]
        return NUMBERS if all(isinstance(value, numbers.Real) for value in known) else TEXT

    def content(self, value: Any) -> Content:
        """What the column shows of a value, or of None and NaN."""
        return self.missing if _is_missing(value) else self.show(value)


@dataclass(frozen=True)
class Table:
    """A table: MyST Markdown for the site, HTML where a notebook is read by itself.

    Args:
        frame: its values, None or NaN where there is none.
        caption: with one it is numbered.
        name: what it is referred to by.
        columns: how columns are shown; one that is not named shows numbers or content as they are.
        command: what measures its numbers again, shown below it.
        fold: the line under which a reader finds it; empty if it stands open.
    """

    frame: pd.DataFrame
    caption: str
    name: str
    columns: Mapping[str, Column] = field(default_factory=dict)
    command: str = ""
    fold: str = ""

    def __repr__(self) -> str:
        return f"Table {self.name}: {len(self.frame)} rows"

    def text(self) -> pd.DataFrame:
        """What is shown, without markup."""
        return self._contents().map(plain)

    def _repr_markdown_(self) -> str:
        if self.frame.empty:
            return f"*{self.caption} There is nothing to show in this profile yet.*"
        rules = ["---:" if self._column(name).right else ":---" for name in self.frame]
        lines = [list(self.frame), rules, *self._contents().map(markdown).values.tolist()]
        body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        if not self.caption:
            return body
        below = f"\n```bash\n{self.command}\n```\n" if self.command else ""
        table = f":::{{table}} {self.caption}\n:name: {self.name}\n\n{body}\n:::\n{below}"
        return f"::::{{dropdown}} {self.fold}\n{table}::::\n" if self.fold else table

    def _repr_html_(self) -> str:
        shown = self.text().map(_html).rename(columns=_html)
        return shown.style.hide(axis="index").set_caption(_html(self.caption)).to_html(table_uuid=self.name)

    def _column(self, name: str) -> Column:
        return self.columns.get(name) or Column.of(self.frame[name])

    def _contents(self) -> pd.DataFrame:
        shown = {name: list(map(self._column(name).content, self.frame[name])) for name in self.frame}
        return pd.DataFrame(shown, columns=list(self.frame), dtype=object)


@dataclass(frozen=True)
class Tabs:
    """Tables of which a reader sees one at a time, by their titles; a title is chosen for the whole page."""

    tables: Mapping[str, Table]

    def __repr__(self) -> str:
        return f"Tabs: {', '.join(self.tables)}"

    def _repr_markdown_(self) -> str:
        items = [
            f":::::{{tab-item}} {title}\n:sync: {title}\n\n{table._repr_markdown_()}\n:::::"
            for title, table in self.tables.items()
        ]
        return "\n".join(["::::::{tab-set}", *items, "::::::"]) if items else ""

    def _repr_html_(self) -> str:
        return "".join(table._repr_html_() for table in self.tables.values())


def formatted(spec: str, right: bool = True, missing: str = "") -> Column:
    """A column of numbers in a format of Python's."""
    return Column(lambda value: format(value, spec), right, missing)


def accuracy(digits: int = 4, interval: bool = False) -> Column:
    """A column of ``Number``, each linked to its record's page; a dash where none was measured."""
    return Column(lambda value: value.content(digits, interval), right=True, missing="–")


def folded(table: Table, fold: str) -> Table:
    """The table under a line that opens it."""
    return replace(table, fold=fold)


def frame(rows: Iterable[Mapping[str, Any]], columns: list[str] | None = None) -> pd.DataFrame:
    """Rows as a frame that leaves their values as they are."""
    return pd.DataFrame(list(rows), columns=columns, dtype=object)


def note(text: str) -> Markdown:
    """A paragraph set apart."""
    return Markdown(f":::{{note}}\n{text}\n:::\n")


def badge(cell: Any, epochs: bool = True) -> Span:
    """Profile, training/test images and epochs of a number, linked to its record: no reduced run passes for full."""
    profile = next((name for name in PROFILES if cell.record in _names(name)), "custom")
    text = f"{profile} · {cell.n_train:,.0f}/{cell.n_test:,.0f} images"
    return Span(f"{text}{f' · {cell.epochs:,} epochs' if epochs else ''}", cell.record, ("badge",))


def badged(rows: list[dict[str, Any]], cells: Iterable[Any], epochs: bool = True) -> tuple[list[dict[str, Any]], str]:
    """The rows with the badge of each one's cell; a badge that all of them share is for the caption instead."""
    badges = [badge(cell, epochs) if cell.record else None for cell in cells]
    shared = {one.text for one in badges if one}
    if len(shared) == 1:
        return rows, " " + Span(shared.pop(), classes=("badge",)).markdown()
    return [row | {"measured": one} for row, one in zip(rows, badges, strict=True)], ""


def signed(difference: Estimate) -> str:
    """A difference of accuracies with its 95% interval."""
    return with_minus(f"{difference.value:+.3f} {between(difference, '+.3f')}")


def with_minus(text: str) -> str:
    """A formatted number with a minus sign instead of a hyphen."""
    return text.replace("-", "−")


def significant(value: Any) -> str:
    """Three digits of a fraction, whole numbers with commas, anything else as it is."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


TEXT = Column(lambda value: value if isinstance(value, str | Span | tuple) else significant(value))
"""A column of content, and numbers among it."""

CODE = Column(code)
"""A column of code."""

NUMBERS = Column(significant, right=True)
"""A column of numbers of different sizes."""

COUNT = formatted(",")
"""A column of whole numbers."""

SIGNED = Column(signed, right=True)
"""A column of differences of accuracies (Estimates)."""


P = Column(lambda p: "<0.001" if p < 0.001 else f"{p:.3f}", right=True, missing="–")
"""A column of p-values."""


def _html(text: str) -> str:
    return html.escape(text, quote=False)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


@cache
def _names(profile: str) -> set[str]:
    return {experiment.name for experiment in Parameters(profile).experiments()}

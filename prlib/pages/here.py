"""What the reader's own run adds to the published numbers."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd
from IPython.display import Markdown

from prlib.data import DATASETS
from prlib.findings.cells import each_once, measured
from prlib.findings.here import Counted, beside
from prlib.pages.content import Content, number
from prlib.pages.names import PHASE_TITLES, attack_title, defence_title
from prlib.pages.tables import COUNT, Column, Table, accuracy, badged, folded, frame
from prlib.profiles import OVERRIDES, Parameters
from prlib.record import Record

HERE = "on this machine"
"""The column of the run's numbers."""

OPEN = 12
"""Rows of a run's table that stand open; of a longer one a line with its count does, under which it is folded."""


@dataclass(frozen=True)
class Here:
    """A run of the reader's: its parameters and records; none where what is shown is the published run itself."""

    parameters: Parameters
    records: list[Record]


def just_now(records: Iterable[Record], here: Here, chapter: str) -> Table | None:
    """The run's accuracies, with the published ones of the same networks beside them; None if there is no run.

    A long table is folded under a line that counts them.

    Args:
        records: the published ones.
    """
    if not here.records:
        return None
    judged = beside(measured(records), measured(here.records))
    rows = [
        {
            "dataset": DATASETS[cell.dataset].title,
            "defence": defence_title(cell.defence),
            "epochs": cell.epochs,
            "used": PHASE_TITLES.get(cell.phase, ""),
            "attack": attack_title(cell.attack, cell.epsilon) + f" (of {cell.of})" * (cell.of > 0),
            "case": cell.case,
            "published": number(cell.published, cell.published_trainings),
            HERE: (number(cell.ours, cell.trainings), cell.reproduces),
        }
        for cell in judged.itertuples()
    ]
    rows, conditions = badged(rows, judged.itertuples())
    columns = {"epochs": COUNT, "published": accuracy(), HERE: MARKED}
    caption = (
        "What this run measured. ✓: the published accuracy of the same network, on more images, differs by no more "
        "than the 95% interval of the difference allows; ✗: by more." + conditions
    )
    table = Table(frame(rows), caption, f"just-now-{chapter}", columns)
    return folded(table, _counted(judged)) if len(rows) > OPEN else table


def reproduced(records: Iterable[Record], here: Here) -> Markdown | None:
    """What the reader's machine has reproduced, in a sentence; None if it has judged no published network."""
    judged = [record for record in here.records if record.experiment.embedded]
    if not judged:
        return None
    networks = {record.experiment.training for record in judged}
    tested = {r.experiment.training.dataset: r.experiment.n_test for r in judged if not r.experiment.attacks}
    cells = measured(judged)
    paper = Counted.among(each_once(cells).agrees)
    ours = Counted.among(beside(measured(records), cells).reproduces)
    return Markdown(
        f"**Reproduced here, just now:** this machine judged {len(networks)} published networks on "
        f"{sum(tested.values()):,} test images. {paper.agree} of {paper.of} accuracies agree with the paper's, "
        f"{ours.agree} of {ours.of} with those published here."
    )


def described(parameters: Parameters) -> str:
    """What a run was, in words."""
    changed = {name: getattr(parameters, name) for name in OVERRIDES}
    chosen = ", ".join(f"{name} = {value}" for name, value in changed.items() if value is not None)
    return f"profile `{parameters.profile}`{f' with {chosen}' if chosen else ''}, just now"


def _counted(judged: pd.DataFrame) -> str:
    found = Counted.among(judged.reproduces)
    agree = f": {found.agree} of {found.of} agree with the published ones" if found.of else ""
    return f"{len(judged)} accuracies measured {HERE}, just now{agree}"


def _marked(value: tuple[Any, bool | None]) -> Content:
    ours, agrees = value
    return ("" if agrees is None else "✓ " if agrees else "✗ ", ours.content(interval=True))


MARKED = Column(_marked, right=True, missing="–")
"""A column of accuracies, each with whether it agrees, if with anything."""

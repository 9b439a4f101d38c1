"""Our numbers beside the paper's."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from IPython.display import display

from prlib.data import DATASETS
from prlib.findings.cells import COLUMNS, compare, measured
from prlib.pages.commands import run_command
from prlib.pages.content import number
from prlib.pages.names import PHASE_TITLES, attack_title
from prlib.pages.prose import number_of, selected
from prlib.pages.records import committed
from prlib.pages.tables import COUNT, Column, Table, accuracy, badge, formatted, frame, note, with_minus
from prlib.profiles import Parameters
from prlib.record import Record

OURS = "ours [95% interval]"
"""The column of our numbers beside the paper's."""

KEPT = "right before and after"
"""The column of the images that an attack has not put right (the floor of accuracy, D16)."""


def paper_and_ours(
    records: Iterable[Record],
    table: int,
    dataset: str,
    parameters: Parameters,
    epochs: Sequence[int] | None = None,
    aside: bool = True,
    how: str = "",
) -> Table:
    """The paper's numbers of a table and dataset beside ours, with 95% intervals, differences and links to records.

    Differences are marked where the experiment is the paper's, and not shown where it is another. Beside an accuracy
    under attack stands the share of the images right before and after it. A run of another profile gets the published
    numbers in a column of their own (if ``aside``). ``epochs`` restricts
    the rows; None is all of the table's. Rows that nothing was measured for are left out, unless that is all of them.
    ``how`` is what the caption says of the training.
    """
    aside = aside and (parameters.custom or parameters.profile != "published")
    cells = _side_by_side(records, committed("published") if aside else [], table, dataset, epochs)
    attacked = bool((cells.attack != "").any())
    known = cells.ours.notna() | cells.published.notna()
    shown = cells[known] if known.any() else cells
    published, comparable = shown.published.notna().any(), shown.agrees.notna().any()
    place = "noise in" if table == 5 else "redrawn in"
    rows = [
        {
            "epochs": cell.epochs,
            **({"defence": cell.defence} if shown.defence.nunique() > 1 else {}),
            **(_attacked(cell) if attacked else {place: PHASE_TITLES[cell.phase]}),
            "paper": cell.accuracy,
            OURS: number(cell.ours, cell.trainings),
            **({KEPT: number(cell.kept, cell.trainings)} if attacked else {}),
            **({"difference": (cell.difference.value, cell.agrees) if cell.difference else None} if comparable else {}),
            **({"published": number(cell.published, cell.published_trainings)} if published else {}),
            "measured": None if cell.ours is None else badge(parameters, cell, epochs=False),
        }
        for cell in shown.itertuples()
    ]
    columns = {
        "epochs": COUNT,
        "paper": formatted(".4f"),
        OURS: accuracy(interval=True),
        "difference": Column(_difference, right=True),
        "published": accuracy(interval=True),
        KEPT: accuracy(),
    }
    caption = _caption(table, dataset, attacked, how, len(cells) - len(shown), comparable)
    command = run_command(parameters, dataset)
    return Table(frame(rows), caption, f"paper-table-{table}-{dataset}", columns, command)


def long_training(
    table: int, parameters: Parameters, suites: Collection[str], epochs: Sequence[int] | None = None
) -> None:
    """Show a table of the paper beside the long trainings on a tenth of the images, for each dataset measured."""
    records, missing = committed("tenth", suites), []
    seeds = ", ".join(sorted({f"{record.experiment.training.seed}" for record in records}))
    how = f", trained on a tenth of the images (chosen by seed {seeds})"
    for dataset in parameters.chosen_datasets:
        beside = paper_and_ours(records, table, dataset, Parameters(profile="tenth"), epochs, aside=False, how=how)
        if beside.frame.empty:  # a dataset that the paper leaves out of the table
            continue
        if beside.frame[OURS].isna().all():
            missing.append(DATASETS[dataset].title)
        else:
            display(replace(beside, name=f"{beside.name}-long"))
    if missing:
        display(note(f"Not measured yet on a tenth of the images: {', '.join(missing)}."))


def distances(records: Iterable[Record], parameters: Parameters) -> Table:
    """Mean distances between the clean and the final image, by attack and case."""
    cells = measured(records)
    rows = [
        {
            "dataset": DATASETS[cell.dataset].title,
            "defence": cell.defence,
            "attack": attack_title(cell.attack),
            "case": cell.case,
            "L0": cell.l0,
            "L2": cell.l2,
            "L∞": cell.linf,
            "measured": badge(parameters, cell),
        }
        for cell in cells[cells.attack != ""].itertuples()
    ]
    columns = {"L0": formatted(",.0f"), "L2": formatted(".2f"), "L∞": formatted(".3f")}
    caption = "How far the final image is from the clean one, in each case (means over test images)."
    return Table(frame(rows), caption, "distances", columns)


def noise_distances(cells: pd.DataFrame) -> Table:
    """How far a defence at test time alone takes a clean image, at the last epoch of ``measured``'s cells."""
    last = cells[(cells.phase == "test") & (cells.epochs == cells.epochs.max())]
    rows = [[DATASETS[cell.dataset].title, cell.defence, cell.l2, cell.linf] for cell in last.itertuples()]
    shown = pd.DataFrame(rows, columns=["dataset", "defence", "mean L2", "mean L∞"])
    caption = "Distance between a clean image and the same image with noise, or redrawn."
    return Table(shown, caption, "noise-distance", dict.fromkeys(["mean L2", "mean L∞"], formatted(".2f")))


def accuracies(cells: pd.DataFrame, parameters: Parameters, caption: str, name: str) -> Table:
    """Our accuracies alone, where the paper has none: a row a cell of ``prlib.findings.cells.measured``."""
    column = "accuracy [95% interval]"
    rows = [
        {
            "dataset": DATASETS[cell.dataset].title,
            "defence": cell.defence,
            "used in": PHASE_TITLES.get(cell.phase, ""),
            "attack": attack_title(cell.attack, cell.epsilon) + f" (of {cell.of})" * (cell.of > 0),
            "case": cell.case if cell.case != "adaptive" else "",
            column: number(cell.ours, cell.trainings),
            KEPT: number(cell.kept, cell.trainings) if cell.attack else "",
            "measured": badge(parameters, cell),
        }
        for cell in cells.itertuples()
    ]
    told = [title for title in rows[0] if any(row[title] != "" for row in rows)] if rows else None
    return Table(frame(rows, told), caption, name, {column: accuracy(interval=True), KEPT: accuracy()})


def other_epsilon(records: Iterable[Record], parameters: Parameters) -> None:
    """Show the accuracies at an ε of the reader's, if one was asked for; the paper has none to put beside them."""
    cells = measured(records)
    cells = cells[(cells.epsilon > 0) & (cells.case != "adaptive")]
    if len(cells):
        display(
            accuracies(cells, parameters, f"Accuracy under attacks at ε = {parameters.epsilon:g}.", "other-epsilon")
        )


def glance(records: Iterable[Record], columns: Mapping[str, Mapping[str, Any]], caption: str, name: str) -> Table:
    """A row a dataset: what each column selects, as in ``tell``, all on the same images; a dash for nothing."""
    cells, rows = measured(records), []
    for dataset, data in DATASETS.items():
        found = selected(cells, {title: {**where, "dataset": dataset} for title, where in columns.items()})
        shown = {title: number_of(one) if one else None for title, one in found.items()}
        if any(shown.values()):
            images = {one.images for one in shown.values() if one}
            rows.append({"dataset": data.title, **shown, "images": ", ".join(f"{n:,}" for n in sorted(images))})
    return Table(frame(rows), caption, name, dict.fromkeys(columns, accuracy(digits=3)))


def _side_by_side(
    records: Iterable[Record],
    published: Iterable[Record],
    table: int,
    dataset: str,
    epochs: Sequence[int] | None,
) -> pd.DataFrame:
    """The paper's cells by epochs with ours beside them, and the published ones where there are any."""
    where = {"table": table, "dataset": dataset} | ({"epochs": epochs} if epochs else {})
    cells = compare(measured(records), **where).sort_values("epochs", kind="stable")
    beside = compare(measured(published), **where)
    cells["published"], cells["published_trainings"] = beside.ours, beside.trainings
    cells["attack"] = cells.attack.where(cells.case != "normal", "")  # printed once for each attack
    return cells.drop_duplicates([*COLUMNS, "accuracy"])


def _caption(table: int, dataset: str, attacked: bool, how: str, left_out: int, comparable: bool) -> str:
    accuracy_ = "accuracy under attack" if attacked else "accuracy"
    caption = f"Table {table} of the paper, {DATASETS[dataset].title}{how}: {accuracy_}. "
    if comparable:
        caption += "✓ marks a difference within the tolerance, ✗ one beyond it, "
    caption += "– what this profile does not measure."
    more = f" The paper's other {left_out} rows are not measured in this profile."
    return caption + more if left_out else caption


def _attacked(cell: Any) -> dict[str, str]:
    return {"attack": attack_title(cell.attack), "case": cell.case}


def _difference(difference: tuple[float, bool]) -> str:
    value, agrees = difference
    return with_minus(f"{value:+.4f} {'✓' if agrees else '✗'}")

"""Our numbers beside the paper's."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from IPython.display import display

from prlib.data import DATASETS
from prlib.findings.cells import COLUMNS, compare, measured
from prlib.findings.checks import linked
from prlib.findings.choices import ablations, reasons
from prlib.pages.commands import run_command
from prlib.pages.names import PHASE_TITLES, attack_title
from prlib.pages.prose import last_accuracy
from prlib.pages.records import committed
from prlib.pages.tables import Table, badge, mark, note, number, signed
from prlib.profiles import COMMITTED, Parameters
from prlib.record import Record


def paper_and_ours(
    records: Iterable[Record],
    table: int,
    dataset: str,
    parameters: Parameters,
    epochs: Sequence[int] | None = None,
    aside: bool = True,
) -> Table:
    """The paper's numbers of a table and dataset beside ours, with 95% intervals, differences and links to records.

    A run of another profile gets the published numbers in a column of their own (if ``aside``). ``epochs`` restricts
    the rows; None is all of the table's. Rows that nothing was measured for are left out, unless that is all of them.
    """
    where = {"table": table, "dataset": dataset} | ({"epochs": epochs} if epochs else {})
    cells = compare(records, **where).sort_values("epochs", kind="stable")
    aside = aside and (parameters.custom or parameters.profile != "published")
    attacked = bool((cells.attack != "").any())
    published = compare(committed("published") if aside else [], **where)
    cells["published"], cells["published_record"] = published.ours, published.record
    cells["attack"] = cells.attack.where(cells.case != "normal", "")  # printed once for each attack
    cells = cells.drop_duplicates([*COLUMNS, "accuracy"])
    shown = cells.ours.notna() | cells.published.notna()
    left_out = 0 if not shown.any() else int((~shown).sum())
    cells = cells[shown] if shown.any() else cells
    rows = [
        {
            "epochs": f"{cell.epochs:,}",
            **({"defence": cell.defence} if cells.defence.nunique() > 1 else {}),
            **(_attacked(cell) if attacked else {"noise in" if table == 5 else "redrawn in": PHASE_TITLES[cell.phase]}),
            "paper": f"{cell.accuracy:.4f}",
            "ours [95% interval]": number(cell.ours, cell.record),
            "difference": _difference(cell),
            **({"published": number(cell.published, cell.published_record)} if cells.published.notna().any() else {}),
            "measured": "" if cell.ours is None else badge(parameters, cell, epochs=False),
        }
        for cell in cells.itertuples()
    ]
    caption = (
        f"Table {table} of the paper, {DATASETS[dataset].title}: accuracy{' under attack' * attacked}. "
        "✓ marks a difference within the tolerance, ✗ one beyond it, – what this profile does not measure."
    )
    if left_out:
        caption += f" The paper's other {left_out} rows are not measured in this profile."
    return Table(pd.DataFrame(rows), caption, f"paper-table-{table}-{dataset}", run_command(parameters, dataset))


def long_training(
    table: int, parameters: Parameters, suites: Collection[str], epochs: Sequence[int] | None = None
) -> None:
    """Show a table of the paper beside the long trainings on a tenth of the images, for each dataset measured."""
    records, missing = committed("tenth", suites), []
    seeds = ", ".join(sorted({f"{record.experiment.training.seed}" for record in records}))
    how = f", trained on a tenth of the images (chosen by seed {seeds}): accuracy"
    for dataset in parameters.chosen_datasets:
        beside = paper_and_ours(records, table, dataset, Parameters(profile="tenth"), epochs, aside=False)
        beside.name += "-long"
        beside.caption = beside.caption.replace(": accuracy", how)
        if beside.frame.empty:  # a dataset that the paper leaves out of the table
            continue
        if (beside.frame["ours [95% interval]"] == "–").all():
            missing.append(DATASETS[dataset].title)
        else:
            display(beside)
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
            "L0": f"{cell.l0:,.0f}",
            "L2": f"{cell.l2:.2f}",
            "L∞": f"{cell.linf:.3f}",
            "measured": badge(parameters, cell),
        }
        for cell in cells[cells.attack != ""].itertuples()
    ]
    caption = "How far the final image is from the clean one, in each case (means over test images)."
    return Table(pd.DataFrame(rows), caption, "distances")


def accuracies(cells: pd.DataFrame, parameters: Parameters, caption: str, name: str) -> Table:
    """Our accuracies alone, where the paper has none: a row a cell of ``prlib.findings.cells.measured``."""
    rows = [
        {
            "dataset": DATASETS[cell.dataset].title,
            "defence": cell.defence,
            "used in": PHASE_TITLES.get(cell.phase, ""),
            "attack": attack_title(cell.attack, cell.epsilon) + f" (of {cell.of})" * (cell.of > 0),
            "case": cell.case.replace("adaptive", ""),
            "accuracy [95% interval]": number(cell.ours, cell.record),
            "measured": badge(parameters, cell),
        }
        for cell in cells.itertuples()
    ]
    frame = pd.DataFrame(rows)
    return Table(frame.loc[:, (frame != "").any()] if rows else frame, caption, name)


def explained(table: int) -> Table:
    """A table's published numbers beyond the tolerance, and whether the other reading of a choice explains them."""
    readings = pd.concat([ablations(committed(profile)) for profile in COMMITTED])
    rows = []
    for cell in reasons(committed("published"), readings, table=table).itertuples():
        where = {"none": "no defence", "both": f"{cell.defence} in both phases", "": cell.defence}
        words = [
            DATASETS[cell.dataset].title,
            where.get(cell.phase, f"{cell.defence} in {PHASE_TITLES.get(cell.phase)}"),
        ]
        words += [attack_title(cell.attack), f"case {cell.case}"] if cell.attack else []
        row = {
            "cell": ", ".join(words),
            "paper": f"{cell.accuracy:.4f}",
            "ours": number(cell.ours, cell.record, interval=False),
            "other reading": "none measured",
        }
        if cell.id:
            row["other reading"] = f"**{cell.id}** `{cell.variant}`"
            row["changes ours by [95% interval]"] = signed(cell.effect)
            row["explains it?"] = mark(cell.explains)
            row["measured"] = f"[{cell.effect_n_train:,} training images](record:{cell.effect_record}){{.badge}}"
        rows.append(row)
    caption = (
        "The published numbers that differ from the paper's by more than the tolerance, and what the other reading of "
        "a choice would change ({ref}`ablations`): *yes* if ours would then agree, *partly* if it would come nearer by "
        "more than chance. What was measured on fewer training images is a hint and no more."
    )
    return Table(pd.DataFrame(rows).fillna(""), caption, f"explained-{table}")


def effects(found: pd.DataFrame) -> Table:
    """A row for each other reading of a choice in ``prlib.findings.choices.ablations``: its effect."""
    rows = []
    for (id_, topic, variant, base), group in found.groupby(["id", "topic", "variant", "base"], sort=False):
        beyond = sum(not d.low <= 0 <= d.high for d in group.difference)
        values = [d.value for d in group.difference]
        rows.append(
            {
                "choice": f"**{id_}** {topic}",
                "variant": f"`{variant}`",
                "instead of": f"`{base}`",
                "accuracies": len(group),
                "changed beyond chance": beyond,
                "from … to": f"{min(values):+.3f} … {max(values):+.3f}",
            }
        )
    return Table(pd.DataFrame(rows), "What the other reading of each choice changes.", "effects")


def ablated(found: pd.DataFrame, profile: str) -> Table:
    """The rows of ``prlib.findings.choices.ablations``, each accuracy linked to its record."""
    rows = [
        {
            "choice": f"**{row.id}** {row.topic}",
            "dataset": DATASETS[row.dataset].title,
            "epochs": f"{row.epochs:,}",
            "judged": " ".join(filter(None, [attack_title(row.attack), row.case, PHASE_TITLES.get(row.phase)])),
            "variant": f"`{row.variant}` {linked(row.ours, row.record, 3)}",
            "instead of": f"`{row.base}` {linked(row.default, row.default_record, 3)}",
            "difference [95% interval]": signed(row.difference),
        }
        for row in found.itertuples()
    ]
    return Table(pd.DataFrame(rows), f"Variants and what they change (profile `{profile}`).", f"ablations-{profile}")


def other_epsilon(records: Iterable[Record], parameters: Parameters) -> None:
    """Show the accuracies at an ε of the reader's, if one was asked for; the paper has none to put beside them."""
    cells = measured(records)
    cells = cells[(cells.epsilon > 0) & (cells.case != "adaptive")]
    if len(cells):
        display(
            accuracies(cells, parameters, f"Accuracy under attacks at ε = {parameters.epsilon:g}.", "other-epsilon")
        )


def glance(records: Iterable[Record], columns: Mapping[str, Mapping[str, Any]], caption: str, name: str) -> Table:
    """A row a dataset: the accuracy that each column selects, as in ``tell``; a dash where it was not measured."""
    cells, rows = measured(records), []
    for dataset, data in DATASETS.items():
        found = {title: last_accuracy(cells, {**where, "dataset": dataset}) for title, where in columns.items()}
        if any(found.values()):
            rows.append({"dataset": data.title} | {title: text or "–" for title, text in found.items()})
    return Table(pd.DataFrame(rows), caption, name)


def _attacked(cell: Any) -> dict[str, str]:
    return {"attack": attack_title(cell.attack), "case": cell.case}


def _difference(cell: Any) -> str:
    if cell.difference is None:
        return ""
    return f"{cell.difference.value:+.4f} {'✓' if cell.agrees else '✗'}".replace("-", "−")

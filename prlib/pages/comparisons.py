"""Our numbers beside the paper's."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from prlib.chosen import n_images
from prlib.data import DATASETS
from prlib.findings.cells import COLUMNS, compare, measured, select
from prlib.findings.conclusions import selected
from prlib.findings.here import beside
from prlib.findings.pairs import OneTraining, accuracy_on, of_common_seeds
from prlib.pages.commands import run_command
from prlib.pages.content import Number, kept, number
from prlib.pages.here import HERE, MARKED, Here, described
from prlib.pages.names import ATTACKS, PHASE_TITLES, attack_title, defence_title
from prlib.pages.prose import number_of
from prlib.pages.records import committed
from prlib.pages.tables import COUNT, SIGNED, Column, Table, Tabs, accuracy, badged, formatted, frame, with_minus
from prlib.profiles import Parameters
from prlib.record import Record
from prlib.statistics import over_trainings, wilson

OURS = "ours [95% interval]"
"""The column of our numbers beside the paper's."""

KEPT = "right before and after"
"""The column of the images that an attack has not put right (the floor of accuracy, D16)."""


def paper_and_ours(
    records: Iterable[Record],
    table: int,
    dataset: str,
    here: Here | None = None,
    epochs: Sequence[int] | None = None,
    profile: str = "published",
    how: str = "",
) -> Table:
    """The paper's numbers of a table and dataset beside ours, with 95% intervals, differences and links to records.

    Differences are marked where the experiment is the paper's, and not shown where it is another. Beside an accuracy
    under attack stands the share of the images right before and after it. What a run of the reader's has measured is in
    a column of its own, marked if it is of the same network. Rows that nothing was measured for are left out, unless
    that is all of them.

    Args:
        epochs: the rows to show; None is all of the table's.
        profile: whose records these are.
        how: what the caption says of the training.
    """
    cells = _side_by_side(records, here.records if here else [], table, dataset, epochs)
    attacked = bool((cells.attack != "").any())
    known = cells.ours.notna() | cells.here.notna()
    shown = cells[known] if known.any() else cells
    again, comparable = shown.here.notna().any(), shown.agrees.notna().any()
    place = "noise" if table == 5 else "redrawn"
    rows = [
        {
            "epochs": cell.epochs,
            **({"defence": defence_title(cell.defence)} if shown.defence.nunique() > 1 else {}),
            **(_attacked(cell) if attacked else {place: PHASE_TITLES[cell.phase]}),
            "paper": cell.accuracy,
            OURS: number(cell.ours, cell.trainings),
            **({KEPT: kept(cell.kept, cell.trainings)} if attacked else {}),
            **({"difference": (cell.difference.value, cell.agrees) if cell.difference else None} if comparable else {}),
            **({HERE: cell.here and (number(cell.here, cell.here_trainings), cell.reproduces)} if again else {}),
        }
        for cell in shown.itertuples()
    ]
    rows, conditions = badged(rows, shown.itertuples(), epochs=False)
    columns = {
        "epochs": COUNT,
        "paper": formatted(".4f"),
        OURS: accuracy(interval=True),
        "difference": Column(_difference, right=True),
        HERE: MARKED,
        KEPT: accuracy(),
    }
    caption = _caption(table, dataset, attacked, how, len(cells) - len(shown), comparable) + conditions
    if again and here:
        caption += f" Column “{HERE}”: {described(here.parameters)}."
    command = run_command(Parameters(profile), dataset)
    return Table(frame(rows), caption, f"paper-table-{table}-{dataset}", columns, command)


def by_dataset(
    records: Iterable[Record], table: int, datasets: Collection[str], here: Here, epochs: Sequence[int] | None = None
) -> Tabs:
    """A table of the paper beside ours, a tab for each dataset that is in it."""
    records = list(records)
    shown = [name for name in DATASETS if name in datasets]
    tables = {DATASETS[name].title: paper_and_ours(records, table, name, here, epochs) for name in shown}
    return Tabs({title: table for title, table in tables.items() if not table.frame.empty})


def long_training(
    table: int, datasets: Collection[str], suites: Collection[str], epochs: Sequence[int] | None = None
) -> Tabs:
    """The same for the long trainings on a tenth of the images, as far as they were measured."""
    records = committed("tenth", suites)
    seeds = ", ".join(sorted({f"{record.experiment.training.seed}" for record in records}))
    how = f", trained on a tenth of the images (chosen by seed {seeds})"
    tables = {
        name: paper_and_ours(records, table, name, None, epochs, "tenth", how) for name in DATASETS if name in datasets
    }
    shown = {name: found for name, found in tables.items() if len(found.frame) and found.frame[OURS].notna().any()}
    folded = {
        name: replace(t, name=f"{t.name}-long", fold=f"The paper's Table {table} and ours, {len(t.frame)} rows")
        for name, t in shown.items()
    }
    return Tabs({DATASETS[name].title: table for name, table in folded.items()})


def training_accuracy(records: Iterable[Record]) -> Table:
    """Accuracy on the training images beside that on the test images, a row a network and number of epochs."""
    records = list(records)
    same = ["dataset", "defence", "epochs", "phase", "n_train"]
    new = {tuple(getattr(c, name) for name in same): c for c in measured(records).query("attack == ''").itertuples()}
    rows, judged = [], []
    for cell in measured(records, split="train").itertuples():
        tested = new.get(tuple(getattr(cell, name) for name in same))
        sides = of_common_seeds(cell.trainings, tested.trainings) if tested else [()]
        if tested and sides[0]:
            old, others = (
                Number(over_trainings([one.accuracy for one in side], of), side)
                for side, of in zip(sides, (cell.n_test, tested.n_test), strict=True)
            )
            row: dict[str, Any] = {"dataset": DATASETS[cell.dataset].title, "defence": defence_title(cell.defence)}
            row |= {"used": PHASE_TITLES[cell.phase], "epochs": cell.epochs}
            row |= {"training images": old, "test images": others}
            rows.append(row | {"gap": old.estimate.value - others.estimate.value})
            judged.append(cell)
    rows, conditions = badged(rows, judged)
    columns = {"epochs": COUNT, "gap": formatted("+.4f")}
    columns |= {"training images": accuracy(), "test images": accuracy()}
    caption = "Accuracy on the training images and on new ones, and the gap between them." + conditions
    return Table(frame(rows), caption, "training-accuracy", columns)


def seeds(records: Iterable[Record], dataset: str, defence: str, epochs: int) -> Table:
    """Every training of a network by itself: a row a cell of the paper's attacks, a column a seed, and the paper's."""
    cells = select(measured(records), {"dataset": dataset, "defence": defence, "epochs": epochs})
    several = cells[cells.trainings.map(len) > 1].sort_values("n_test", ascending=False)
    together = compare(several, dataset=dataset, defence=defence, epochs=epochs, table=[2, 6, 7])
    rows = [
        {
            "attack": attack_title(cell.attack) if cell.attack else "none",
            "case": cell.case or PHASE_TITLES[cell.phase],
            **{f"seed {one.seed}": _alone(one, cell.n_test) for one in cell.trainings},
            "paper": cell.accuracy,
            "images": int(cell.n_test),  # a column with gaps holds floats
        }
        for cell in together[(together.case != "normal") & together.ours.notna()].itertuples()
    ]
    numbers = {name: accuracy() for row in rows for name in row if name.startswith("seed")}
    caption = f"{DATASETS[dataset].title}, {defence_title(defence)}, {epochs} epochs: each training by itself."
    columns = numbers | {"paper": formatted(".4f"), "images": COUNT}
    return Table(frame(rows), caption, f"seeds-{dataset}-{defence}", columns, fold="Each training by itself")


def first_and_rest(records: Iterable[Record], n: int = 1000) -> Table:
    """Accuracy under the paper's attacks on the first n test images and the others, a network of redrawn MNIST each."""
    where = {"dataset": "mnist", "defence": "pr", "attack": ATTACKS, "case": list("ABC")}
    cells, rows = select(measured(records), where), []
    for cell in cells[cells.n_test == DATASETS["mnist"].n_test].itertuples():
        all_places = cell.trainings[0].after.images.places()
        first = cell.trainings[0].after.images._replace(n=n).places()
        rest = np.setdiff1d(all_places, first)
        for one in cell.trainings:
            theirs, others = (accuracy_on([one], places) for places in (first, rest))
            row = {"attack": attack_title(cell.attack), "case": cell.case, "epochs": cell.epochs, "seed": one.seed}
            row |= {f"the first {n:,}": theirs, "the others": others}
            rows.append(row | {"difference [95% interval]": theirs.minus(others)})
    value = Column(lambda estimate: f"{estimate.value:.3f}", right=True)
    columns = {f"the first {n:,}": value, "the others": value, "difference [95% interval]": SIGNED, "epochs": COUNT}
    caption = (
        "Accuracy of networks trained on redrawn MNIST, each by itself, on the first test images and on the others. "
        "They are different images, so the interval is Newcombe's for independent ones."
    )
    return Table(frame(rows), caption, "first-and-rest", columns)


def distances(records: Iterable[Record]) -> Table:
    """Mean distances between the clean and the final image, by attack and case."""
    cells = measured(records).query("attack != ''")
    rows = [
        {
            "dataset": DATASETS[cell.dataset].title,
            "defence": defence_title(cell.defence),
            "attack": attack_title(cell.attack),
            "case": cell.case,
            "L0": cell.l0,
            "L2": cell.l2,
            "L∞": cell.linf,
        }
        for cell in cells.itertuples()
    ]
    rows, conditions = badged(rows, cells.itertuples())
    columns = {"L0": formatted(",.0f"), "L2": formatted(".2f"), "L∞": formatted(".3f")}
    caption = "How far the final image is from the clean one, in each case (means over test images)." + conditions
    return Table(frame(rows), caption, "distances", columns)


def noise_distances(cells: pd.DataFrame) -> Table:
    """How far a defence at test time alone takes a clean image, at the last epoch of ``measured``'s cells."""
    last = cells[(cells.phase == "test") & (cells.epochs == cells.epochs.max())]
    rows = [
        [DATASETS[cell.dataset].title, defence_title(cell.defence), cell.l2, cell.linf] for cell in last.itertuples()
    ]
    shown = pd.DataFrame(rows, columns=["dataset", "defence", "mean L2", "mean L∞"])
    caption = "Distance between a clean image and the same image with noise, or redrawn."
    return Table(shown, caption, "noise-distance", dict.fromkeys(["mean L2", "mean L∞"], formatted(".2f")))


def accuracies(cells: pd.DataFrame, caption: str, name: str) -> Table:
    """Our accuracies alone, where the paper has none: a row a cell of ``prlib.findings.cells.measured``."""
    column = "accuracy [95% interval]"
    rows = [
        {
            "dataset": DATASETS[cell.dataset].title,
            "defence": defence_title(cell.defence),
            "used": PHASE_TITLES.get(cell.phase, ""),
            "attack": attack_title(cell.attack, cell.epsilon) + f" (of {cell.of})" * (cell.of > 0),
            "case": cell.case if cell.case != "adaptive" else "",
            "images": _images(cell) if cell.case == "adaptive" else "",
            column: number(cell.ours, cell.trainings),
            KEPT: kept(cell.kept, cell.trainings),
        }
        for cell in cells.itertuples()
    ]
    rows, conditions = badged(rows, cells.itertuples())
    told = [title for title in rows[0] if any(row[title] not in ("", None) for row in rows)] if rows else None
    return Table(frame(rows, told), caption + conditions, name, {column: accuracy(interval=True), KEPT: accuracy()})


def _images(cell: Any) -> str:
    """How many test images a cell is on, and which: the first of a set may be harder or easier than the rest."""
    chosen = cell.trainings[0].after.images
    if chosen.n == n_images(chosen.dataset, chosen.source):
        return f"all {chosen.n:,}"
    return f"{chosen.n:,}, {'the first' if chosen.drawn is None else 'at random'}"


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


def _alone(training: OneTraining, images: int) -> Number:
    return Number(wilson(training.accuracy * images, images), (training,))


def _side_by_side(
    records: Iterable[Record], here: Iterable[Record], table: int, dataset: str, epochs: Sequence[int] | None
) -> pd.DataFrame:
    """The paper's cells by epochs with ours beside them, and those of a run in here, here_trainings and reproduces."""
    where = {"table": table, "dataset": dataset} | ({"epochs": epochs} if epochs else {})
    ours, again = (
        measured(record for record in found if record.experiment.training.dataset == dataset)
        for found in (records, here)
    )
    cells = compare(ours, **where).sort_values("epochs", kind="stable")
    same = compare(beside(ours, again), **where)
    cells["here"], cells["here_trainings"], cells["reproduces"] = same.ours, same.trainings, same.reproduces
    cells["attack"] = cells.attack.where(cells.case != "normal", "")  # printed once for each attack
    return cells.drop_duplicates([*COLUMNS, "accuracy"])


def _caption(table: int, dataset: str, attacked: bool, how: str, left_out: int, comparable: bool) -> str:
    accuracy_ = "accuracy under attack" if attacked else "accuracy"
    caption = f"{DATASETS[dataset].title}, {accuracy_}{how}: the paper's (its Table {table}) and ours. "
    if comparable:
        caption += "✓ marks agreement (see {term}`tolerance`; a mean's interval does not decide it), ✗ none, – what "
        caption += "this profile does not measure."
    else:
        caption += "It is another experiment than the paper's, so agreement is not judged."
    more = f" The paper's other {left_out} rows are not measured in this profile."
    return caption + more if left_out else caption


def _attacked(cell: Any) -> dict[str, str]:
    return {"attack": attack_title(cell.attack), "case": cell.case}


def _difference(difference: tuple[float, bool]) -> str:
    value, agrees = difference
    return with_minus(f"{value:+.4f} {'✓' if agrees else '✗'}")

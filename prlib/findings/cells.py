"""Measured cells in one frame, and the paper's beside them."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from prlib import paper
from prlib.cases import CERTIFIED, EVERY_CASE
from prlib.chosen import Chosen
from prlib.data import DATASETS
from prlib.experiment import Training
from prlib.findings.pairs import Bits, OneTraining, right_before_and_after
from prlib.record import Cell, Record
from prlib.statistics import Estimate, next_training, over_trainings, wilson

TOLERANCE = {"clean": 0.02, "attacked": 0.05}
"""Accuracies agree within this plus the half-width of our 95% interval; fixed before any run."""

ENOUGH = 3
"""From this number of trainings on, agreement with the paper is judged by what one more of them may show."""

PHASES = {(False, False): "none", (True, False): "train", (False, True): "test", (True, True): "both"}
"""Table 2's columns by where the defence is used (in training, at test time)."""

PAPER_EPOCHS = (50, 500, 1000)
"""The epochs of the paper's tables."""

COLUMNS = ["dataset", "defence", "epochs", "phase", "attack", "epsilon", "case"]
"""What tells one accuracy from another, as in ``prlib.paper.tables()``.

A clean accuracy has a phase, one under attack an attack and a case (and a phase in case "adaptive"). What is certified
has the attack "any", the case "certified" and a phase, and is no attack's. The defence of a network that is neither
trained nor tested with one is "none". ``epsilon`` is an attack's where it is not the paper's, else 0.
"""


def measured(records: Iterable[Record], split: str = "test") -> pd.DataFrame:
    """One row an accuracy: ``COLUMNS``, ours and kept (Estimates), sizes, trainings, l0, l2, linf, record.

    The sizes are n_train, n_test, drawn and of. Trainings that differ in their seed alone share a row: ``trainings``
    holds what each one showed, ``ours`` their mean with the interval of ``prlib.statistics.over_trainings``, the
    distances are means, and ``record`` is the name of the first one's. ``kept`` is the share of the images right before
    and after an attack (None on clean images, and where the records have not got the clean ones). ``drawn`` is the seed
    of the test images, 0 for the first or all. Where the attack is the strongest of several, ``of`` says of how many;
    elsewhere it is 0.

    Args:
        split: the images judged on, "test" or "train".
    """
    sizes, distances = ["n_train", "n_test", "drawn", "of"], ["l0", "l2", "linf"]
    records = [record for record in records if record.experiment.split == split]
    clean = _clean(records)
    rows = [_row(record, cell, clean) for record in records for cell in record.cells]
    frame = pd.DataFrame(rows, columns=[*COLUMNS, *sizes, "total", "trainings", *distances])
    frame = frame.astype({"epsilon": float})  # even without rows
    how = {"total": "first", "trainings": tuple} | dict.fromkeys(distances, "mean")
    pooled = frame.groupby([*COLUMNS, *sizes], sort=False, as_index=False).agg(how)
    # A cell that two records of one training hold is the first one's.
    by_seed = [{one.seed: one for one in reversed(found)} for found in pooled.trainings]
    pooled["trainings"] = [tuple(sorted(found.values())) for found in by_seed]
    pooled["record"] = [trainings[0].record for trainings in pooled.trainings]
    pooled["ours"] = [
        over_trainings([one.accuracy for one in trainings], total)
        for trainings, total in zip(pooled.trainings, pooled.total, strict=True)
    ]
    pooled["kept"] = pd.Series([right_before_and_after(trainings) for trainings in pooled.trainings], dtype=object)
    return pooled.drop(columns="total")


def right_before_too(records: Iterable[Record]) -> dict[str, list[Estimate | None]]:
    """By each record's name, of each of its cells the share of images right before the attack and after it.

    None on clean images, and where the records have not got the clean ones.
    """
    records, found = list(records), {}
    for split in ("test", "train"):
        same = [record for record in records if record.experiment.split == split]
        clean = _clean(same)
        for record in same:
            each = [_one_training(record, cell, clean) for cell in record.cells]
            found[record.experiment.name] = [right_before_and_after((one,)) for one in each]
    return found


def compare(cells: pd.DataFrame, **where: Any) -> pd.DataFrame:
    """The paper's cells that match ``where`` with ours beside them: columns ours, difference (Estimates), agrees, ….

    Of several cells of ours that of ``ENOUGH`` trainings counts, else that of most images.
    ``agrees`` is None where the experiment is another than the paper's: on a part of the training images.

    Args:
        cells: ours, as ``measured`` gives them. What was not measured has None in these columns.
        where: a value or a list of values for columns of ``prlib.paper.tables()``.
    """
    theirs = select(paper.tables().assign(epsilon=0.0), where)
    several = cells.trainings.map(len) >= ENOUGH
    preferred = pd.concat([best(cells[several], COLUMNS), best(cells[~several], COLUMNS)]).drop_duplicates(COLUMNS)
    ours = ours_of(theirs).merge(preferred, on=COLUMNS, how="left").drop(columns=COLUMNS)
    theirs = theirs.reset_index(drop=True)
    both = pd.concat([theirs, ours], axis=1).astype(object)
    both = both.where(both.notna(), None)
    pairs = list(zip(both.ours, both.accuracy, strict=True))
    both["difference"] = [None if o is None else Estimate(o.value - a, o.low - a, o.high - a) for o, a in pairs]
    both["agrees"] = [agrees(cell, cell.accuracy) if same_experiment(cell) else None for cell in both.itertuples()]
    return both


def each_once(cells: pd.DataFrame) -> pd.DataFrame:
    """The paper's accuracies, each counted once however often its tables print it, with ours beside them."""
    return compare(cells, table=[2, 5, 6, 7]).query("case != 'normal'").drop_duplicates(COLUMNS)


def ours_of(theirs: pd.DataFrame) -> pd.DataFrame:
    """``COLUMNS`` of our cell for each of the paper's: what it prints under PR's name and we call otherwise."""
    # The paper prints its no-PR column with PR's, and "normal" for what Table 2 calls both phases.
    normal = theirs.case == "normal"
    key = theirs[COLUMNS].copy()
    key["defence"] = key.defence.where(key.phase != "none", "none")
    key["phase"] = key.phase.where(~normal, "both")
    key[["attack", "case"]] = key[["attack", "case"]].where(~normal, "")
    return key


def best(cells: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """One row for each combination of the columns: the first by ``preferred``."""
    return preferred(cells).drop_duplicates(columns)


def preferred(cells: pd.DataFrame) -> pd.DataFrame:
    """The rows with those of most images first; of as many those drawn at random, and the strongest of most attacks."""
    return cells.sort_values(["n_test", "drawn", "of"], ascending=False, kind="stable")


def select(frame: pd.DataFrame, where: Mapping[str, Any]) -> pd.DataFrame:
    """A copy of the rows whose columns have these values, or one of these lists of values.

    Attacks are those at the paper's ε unless ``where`` says otherwise.
    """
    for name, value in ({"epsilon": 0.0} | dict(where)).items():
        frame = frame[frame[name].isin(value if isinstance(value, list | tuple) else [value])]
    return frame.copy()


def expected(cell: Any) -> Estimate:
    """Our accuracy, and between what bounds the paper's number agrees with it.

    The paper's is one training. Where we have at least ``ENOUGH``, the bounds are those of one more training
    (``prlib.statistics.next_training``); elsewhere the tolerance and the half-width of Wilson's interval, which the
    spread of two trainings would make too wide.

    Args:
        cell: a row of ``measured`` or ``compare``, with ``case``, ``ours``, ``trainings``, ``dataset`` and ``n_test``.
    """
    accuracies = [one.accuracy for one in cell.trainings]
    if len(accuracies) >= ENOUGH:
        return next_training(accuracies, cell.n_test, DATASETS[cell.dataset].n_test)
    return tolerated(cell)


def tolerated(cell: Any) -> Estimate:
    """Our accuracy, and the bounds that the fixed tolerance and the half-width of Wilson's interval make, as above."""
    value = cell.ours.value
    reach = TOLERANCE["attacked" if cell.case in ("A", "B", "C") else "clean"]
    reach += wilson(value * cell.n_test, cell.n_test).half_width
    return Estimate(value, value - reach, value + reach)


def agrees(cell: Any, theirs: float) -> bool:
    """Whether the paper's number is ``expected`` of our cell."""
    return _between(expected(cell), theirs)


def judged_by_spread(compared: pd.DataFrame) -> pd.Series:
    """Of which rows of ``compare`` the fixed tolerance would say otherwise than what one more training may show."""
    by_spread = [
        cell.agrees is not None
        and len(cell.trainings) >= ENOUGH
        and cell.agrees != _between(tolerated(cell), cell.accuracy)
        for cell in compared.itertuples()
    ]
    return pd.Series(by_spread, compared.index, bool)


def same_experiment(cell: Any) -> bool:
    """Whether ours was measured, after training on as many images as the paper's."""
    return cell.ours is not None and cell.n_train == DATASETS[cell.dataset].n_train


def _between(bounds: Estimate, value: float) -> bool:
    return bounds.low - 1e-9 <= value <= bounds.high + 1e-9


Clean = dict[tuple[str, Training, str, int], Bits]
"""What a training's network got right of clean images, by where they are from, the defence before it and the epoch."""


def _clean(records: Iterable[Record]) -> Clean:
    """Of several records that of most images counts."""
    found: Clean = {}
    for record in sorted(records, key=lambda record: record.experiment.n_test):
        images = Chosen.of(record.experiment)
        for cell in record.cells:
            if cell.case == "normal":
                found[images.source, record.experiment.training, cell.tested_with, cell.epoch] = Bits(
                    images, cell.success
                )
    return found


def _row(record: Record, cell: Cell, clean: Clean) -> list[Any]:
    experiment, training = record.experiment, record.experiment.training
    attacked = cell.case != "normal"
    phased = not attacked or cell.case in ("adaptive", CERTIFIED)
    phase = PHASES[training.defence.kind != "none", cell.tested_with != "none"] if phased else ""
    what = [phase, cell.attack, cell.epsilon or 0.0, cell.case if attacked else ""]
    of = len(experiment.attacks) if cell.attack == "strongest" else 0
    sizes = [training.n_train, experiment.n_test, experiment.drawn or 0, of]
    distances = [cell.l0, cell.l2, cell.linf]
    return [
        training.dataset,
        _named(training.defence.name, cell.tested_with),
        cell.epoch,
        *what,
        *sizes,
        cell.total,
        _one_training(record, cell, clean),
        *distances,
    ]


def _one_training(record: Record, cell: Cell, clean: Clean) -> OneTraining:
    experiment, training = record.experiment, record.experiment.training
    redrawn = cell.case == CERTIFIED or "defend" in EVERY_CASE[cell.case]
    where = experiment.source, training, cell.tested_with if redrawn else "none", cell.epoch
    before = clean.get(where) if cell.case != "normal" else None
    after = Bits(Chosen.of(experiment), cell.success, cell.often, experiment.draws)
    accuracy = float(after.at(after.images.places()).mean()) if cell.often else cell.correct / cell.total
    return OneTraining(training.seed, accuracy, experiment.name, after, before)


def _named(trained: str, tested: str) -> str:
    """What a network is called: as what it was trained with, or as what is made of that and put before it.

    That is "majority-pr-5" of "pr", while "pr" before a network that was trained with "pr-unsmoothed" is the latter.
    """
    made_of = tested.partition("-")[2]
    return tested if trained == "none" or f"{made_of}-".startswith(f"{trained}-") else trained

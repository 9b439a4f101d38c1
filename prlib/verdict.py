"""Claims × records: was the number matched, is the claim supported? The words are computed, never typed."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pandas as pd

from prlib import paper
from prlib.cases import Estimate, wilson
from prlib.data import DATASETS
from prlib.experiment import Cell, Record

TOLERANCE = {"clean": 0.02, "attacked": 0.05}
"""Accuracies agree within this plus the half-width of our 95% interval; fixed before any run."""

PHASES = {(False, False): "none", (True, False): "train", (False, True): "test", (True, True): "both"}
"""Table 2's columns by where the defence is used (in training, at test time)."""

PAPER_EPOCHS = (50, 500, 1000)
"""The epochs of the paper's tables."""

COLUMNS = ["dataset", "defense", "epochs", "phase", "attack", "case"]
"""What tells one accuracy from another, as in ``prlib.paper.tables()``.

A clean accuracy has a phase, one under attack an attack and a case (and a phase in case "adaptive"). The defence of a
network that is neither trained nor tested with one is "none".
"""


@dataclass(frozen=True)
class Verdict:
    """A claim's two verdicts, with the counts behind them.

    ``reproduced`` and ``supported`` are "yes", "partly", "no", "open" or "not testable" (at this profile); ``within``
    of ``compared`` numbers agree with the paper's; each comparison that the claim makes ``holds``, ``fails`` or is
    ``open``.
    """

    claim: Mapping[str, Any]
    reproduced: str
    within: int
    compared: int
    supported: str
    holds: int
    fails: int
    open: int


def measured(records: Iterable[Record]) -> pd.DataFrame:
    """One row an accuracy: ``COLUMNS``, ours (Estimate), n_train, n_test, mean distances l0, l2, linf, record (a name).

    Where the attack is the strongest of several, ``of`` says of how many; elsewhere it is 0.

    Seeds of the same cell are averaged. The interval stays that of one seed: it is about the choice of test images,
    which are the same for all.
    """
    sizes = ["n_train", "n_test", "of"]
    counts = ["correct", "total", "l0", "l2", "linf", "record"]
    rows = [_row(record, cell) for record in records for cell in record.cells]
    frame = pd.DataFrame(rows, columns=[*COLUMNS, *sizes, *counts])
    how = {"correct": "mean", "total": "mean", "l0": "mean", "l2": "mean", "linf": "mean", "record": "first"}
    pooled = frame.groupby([*COLUMNS, *sizes], sort=False, as_index=False).agg(how)
    pooled["ours"] = [wilson(c, t) for c, t in zip(pooled.correct, pooled.total, strict=True)]
    return pooled.drop(columns=["correct", "total"])


def compare(records: Iterable[Record], **where: Any) -> pd.DataFrame:
    """The paper's cells that match ``where`` with ours beside them: columns ours, difference (Estimates), agrees, ….

    Cells that were not measured have None there. ``where`` gives a value or a list of values for columns of
    ``prlib.paper.tables()``.
    """
    theirs = _select(paper.tables(), where)
    # The paper prints its no-PR column with PR's, and "normal" for what Table 2 calls both phases.
    normal = theirs.case == "normal"
    key = theirs[COLUMNS].copy()
    key["defense"] = key.defense.where(key.phase != "none", "none")
    key["phase"] = key.phase.where(~normal, "both")
    key[["attack", "case"]] = key[["attack", "case"]].where(~normal, "")
    ours = key.merge(_best(measured(records), COLUMNS), on=COLUMNS, how="left").drop(columns=COLUMNS)
    both = pd.concat([theirs.reset_index(drop=True), ours], axis=1).astype(object)
    both = both.where(both.notna(), None)
    pairs = list(zip(both.ours, both.accuracy, strict=True))
    both["difference"] = [None if o is None else Estimate(o.value - a, o.low - a, o.high - a) for o, a in pairs]
    both["agrees"] = [None if o is None else _agrees(o, a, case) for (o, a), case in zip(pairs, both.case, strict=True)]
    return both


def _best(cells: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """One row for each combination of the columns: that of most images, and the strongest of most attacks."""
    return cells.sort_values(["n_test", "of"], ascending=False, kind="stable").drop_duplicates(columns)


def judge_claim(claim: Mapping[str, Any], records: Iterable[Record]) -> Verdict:
    """The two verdicts on one claim of ``prlib.paper.claims()``."""
    records = list(records)
    if "ours" in claim:
        cells = _best(_select(measured(records), claim["ours"]), COLUMNS)
    else:
        cells = compare(records, **claim["cells"])
        cells = cells[cells.ours.notna()]
    agrees = [] if "ours" in claim or "quantity" in claim else [bool(a) for a in cells.agrees]
    tolerance = TOLERANCE["attacked" if (cells.attack != "").all() else "clean"]
    if "cells" in claim and "none" in (claim["left"].get("defense"), claim["right"].get("defense")):
        cells = pd.concat([cells, _select(measured(records), {"defense": "none"})])
    if "quantity" in claim:
        cells["ours"] = [Estimate(value, value, value) for value in cells[claim["quantity"]]]
    outcomes = [_outcome(claim["relation"], left.minus(right), tolerance) for left, right in _pairs(claim, cells)]
    counts = {word: outcomes.count(word) for word in ("holds", "fails", "open")}
    return Verdict(
        claim=claim,
        reproduced=_word(sum(agrees), len(agrees) - sum(agrees)),
        within=sum(agrees),
        compared=len(agrees),
        supported=_word(counts["holds"], counts["fails"], counts["open"]),
        **counts,
    )


def judge_claims(records: Iterable[Record], prefix: str = "") -> list[Verdict]:
    """The verdicts on the claims whose id starts with ``prefix``."""
    records = list(records)
    return [judge_claim(claim, records) for claim in paper.claims() if claim["id"].startswith(prefix)]


def disagreements(prose: str, records: Iterable[Record]) -> list[str]:
    """Where prose states a verdict that the records do not give.

    A sentence that states one is preceded by a comment ``% verdict CLAIM reproduced|supported WORD``, which this reads.
    """
    computed = {v.claim["id"]: v for v in judge_claims(records)}
    stated = re.findall(r"^% verdict (\S+) (reproduced|supported) (.+)$", prose, re.MULTILINE)
    return [
        f"the prose says {claim}: {which} {word}; the records say {getattr(computed[claim], which)}"
        for claim, which, word in stated
        if getattr(computed[claim], which) != word
    ]


def checks(records: Iterable[Record]) -> pd.DataFrame:
    """What is suspicious about the numbers, a row a finding: record, attack, finding (in the spirit of AutoAttack's).

    Steps larger than ε, changes outside ε, images without a gradient, clean accuracy below chance, an iterated attack
    that leaves more accuracy than FGSM (by more than chance).
    """
    records = list(records)
    rows = [(record.experiment.name, *finding) for record in records for finding in _findings(record)]
    return pd.DataFrame(rows, columns=["record", "attack", "finding"])


BLACK_BOX = ("transfer", "square")
"""The adaptive attacks that use no gradient of the network they attack."""


WHITE_BOX = ("eot-pgd", "eot-pgd-margin", "crossing", "crossing-margin", "pgd", "pgd-margin")
"""Those that follow its gradient, behind its defence."""


def ablations(records: Iterable[Record]) -> pd.DataFrame:
    """What the other reading of a choice changes: a row a cell that differs from another in a variant alone.

    Columns: ``COLUMNS``, n_train and n_test of the variant's cell, id and topic of the choice
    (``prlib.paper.deviations()``), variant, base (their names), ours and default (Estimates), difference, record and
    default_record.
    """
    cells, rows = measured(records), []
    for entry in paper.deviations():
        for variant, base in entry.get("variants", {}).items():
            for column in ("defense", "attack", "case"):
                same = [*(c for c in COLUMNS if c != column), "n_train", "n_test"]
                pairs = cells[cells[column] == variant].merge(
                    cells[cells[column] == base][[*same, "ours", "record"]], on=same
                )
                renamed = {"ours_x": "ours", "record_x": "record", "ours_y": "default", "record_y": "default_record"}
                for pair in pairs.rename(columns=renamed).to_dict("records"):
                    names = {"id": entry["id"], "topic": entry["topic"], "variant": variant, "base": base}
                    rows.append(pair | names | {"difference": pair["ours"].minus(pair["default"])})
    columns = ["id", "topic", "variant", "base", "ours", "default", "difference", "record", "default_record"]
    return pd.DataFrame(rows, columns=[*COLUMNS, "n_train", "n_test", *columns])


def reasons(records: Iterable[Record], ablated: pd.DataFrame, **where: Any) -> pd.DataFrame:
    """The paper's numbers that ours do not agree with, and whether the other reading of a choice explains it.

    A row a number and reading, or one with the id "" where no reading was measured. Columns: those of ``compare``, and
    of ``ablations`` id, variant, effect (Estimate: how much the reading changes the accuracy), effect_record,
    effect_n_train, and explains: "no" unless ours, changed so, would come nearer by more than the half-width of the
    effect's interval, "yes" if it would then agree, else "partly". Of a reading that was measured on different numbers
    of training images the largest counts. ``where`` is as for ``compare``.
    """
    cells = compare(records, **where)
    cells = cells[cells.agrees.isin([False])]  # None where nothing was measured
    readings, rows = ablated.to_dict("records"), []
    for cell in cells.to_dict("records"):
        found = [row for row in readings if _base(row) == tuple(cell[name] for name in COLUMNS)]
        most = {row["variant"]: row["n_train"] for row in sorted(found, key=lambda row: row["n_train"])}
        found = [row for row in found if row["n_train"] == most[row["variant"]]]
        for row in found:
            told = {"id": row["id"], "variant": row["variant"], "effect": row["difference"]}
            told |= {"effect_record": row["record"], "effect_n_train": row["n_train"]}
            rows.append(cell | told | {"explains": _explains(cell, row["difference"])})
        if not found:
            rows.append(cell | {"id": "", "variant": ""})
    return pd.DataFrame(rows, dtype=object)


def _base(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """The cell that an ablation's row is a variant of, by ``COLUMNS``."""
    return tuple(row["base"] if row[name] == row["variant"] else row[name] for name in COLUMNS)


def _explains(cell: Mapping[str, Any], effect: Estimate) -> str:
    gap = cell["accuracy"] - cell["ours"].value
    if abs(gap) - abs(gap - effect.value) <= effect.half_width:
        return "no"
    changed = Estimate(*(value + effect.value for value in cell["ours"]))
    return "yes" if _agrees(changed, cell["accuracy"], cell["case"]) else "partly"


PAPERS_CASE = {"none": "B", "train": "B", "both": "A"}
"""The case in which the paper's attackers meet a network that is redrawn there (none is redrawn at test time alone)."""


def worst_cases(records: Iterable[Record]) -> pd.DataFrame:
    """For each network under attacks that know its defence: its accuracy clean, under the paper's attacks, under ours.

    Columns: dataset, defense, phase, epochs, n_test, clean, paper (the worst of FGSM, BIM and MIM in the paper's case,
    on the same images if it was measured on them) and adaptive (the strongest attack per image), each an Estimate or
    None, and their records clean_record, ….
    """
    cells = measured(records)
    strongest = _best(cells[cells.attack == "strongest"], ["dataset", "defense", "phase", "epochs"])
    rows = []
    for cell in strongest.itertuples():
        row = {"dataset": cell.dataset, "defense": cell.defense, "phase": cell.phase, "epochs": cell.epochs}
        same = {"dataset": cell.dataset, "defense": cell.defense, "epochs": cell.epochs}
        steps = _select(cells, {**same, "attack": ["fgsm", "bim", "mim"], "case": PAPERS_CASE.get(cell.phase)})
        if (steps.n_test == cell.n_test).any():
            steps = steps[steps.n_test == cell.n_test]
        before = {
            "clean": _best(_select(cells, {**same, "attack": "", "phase": cell.phase}), COLUMNS),
            "paper": steps.sort_values("ours", kind="stable"),  # an Estimate's first value is the accuracy
        }
        for name, found in before.items():
            row[name] = found.ours.iloc[0] if len(found) else None
            row[f"{name}_record"] = found.record.iloc[0] if len(found) else ""
        rows.append({**row, "n_test": cell.n_test, "adaptive": cell.ours, "adaptive_record": cell.record})
    names = [f"{name}{suffix}" for name in ("clean", "paper", "adaptive") for suffix in ("", "_record")]
    datasets, phases = list(DATASETS), list(PHASES.values())
    # what the paper is about before its rivals
    rows.sort(
        key=lambda r: (datasets.index(r["dataset"]), r["defense"] not in ("none", "pr"), phases.index(r["phase"]))
    )
    return pd.DataFrame(rows, columns=["dataset", "defense", "phase", "epochs", "n_test", *names], dtype=object)


def linked(accuracy: Estimate, record: str, digits: int = 4) -> str:
    """An accuracy as Markdown, linked to its record's page."""
    return f"[{accuracy.value:.{digits}f}](record:{record})"


def sanity(records: Iterable[Record]) -> pd.DataFrame:
    """The standard checks of a robustness evaluation (Carlini et al., 2019), a row each and dataset.

    Columns: dataset, check, evidence (Markdown), outcome. An outcome is "passed", or "failed" if a difference points
    the wrong way by more than chance; what was not measured has no row.
    """
    cells = measured(records).query("case == 'adaptive' and phase == 'both'")
    rows = []
    for (dataset, _), found in cells.groupby(["dataset", "defense"], sort=False):
        ours = {(row.attack, row.n_test): row.ours for row in found.itertuples()}
        shown = {(row.attack, row.n_test): linked(row.ours, row.record, 3) for row in found.itertuples()}
        for check, weak, strong in _expectations(list(ours)):
            failed = ours[strong].minus(ours[weak]).low > 0
            evidence = f"{weak[0]} {shown[weak]}, {strong[0]} {shown[strong]}"
            rows.append([dataset, check, evidence, "failed" if failed else "passed"])
        for (attack, n), accuracy in ours.items():
            if attack == "strongest@1":
                evidence = f"accuracy {shown[attack, n]} at ε = 1, where any image is allowed"
                outcome = "passed" if accuracy.low <= 0.01 else "failed"
                rows.append([dataset, "an unbounded attack wins", evidence, outcome])
    for record in records:
        training, check = record.experiment.training, "the bare network's gradient is zero almost nowhere"
        for cell in record.cells:
            if cell.case == "adaptive" and cell.attack in ("eot-pgd", "pgd"):
                evidence = f"at {cell.stuck:.1%} of the clean images ({training.defence.name})"
                rows.append([training.dataset, check, evidence, "failed" if cell.stuck > 0.01 else "passed"])
    return pd.DataFrame(rows, columns=["dataset", "check", "evidence", "outcome"]).drop_duplicates()


def _expectations(keys: list[tuple[str, int]]) -> Iterable[tuple[str, tuple[str, int], tuple[str, int]]]:
    """Pairs of attacks (weaker, stronger), measured on as many images, with what is expected of them."""
    for attack, n in keys:
        if attack in BLACK_BOX:
            for white in WHITE_BOX:
                if (white, n) in keys:
                    yield "black-box is not stronger than white-box", (attack, n), (white, n)
    for weak, strong in MORE:
        for n in sorted({n for _, n in keys}):
            if (weak, n) in keys and (strong, n) in keys:
                yield "more steps, draws or starts are not weaker", (weak, n), (strong, n)
    swept = sorted((float(a.partition("@")[2]), a, n) for a, n in keys if a.startswith("strongest@"))
    for (_, weak, n), (_, strong, m) in pairwise(swept):
        if n == m:
            yield "a larger ε is not weaker", (weak, n), (strong, m)


MORE = (
    ("eot-pgd-10-steps", "eot-pgd"),
    ("eot-pgd", "eot-pgd-100-steps"),
    ("eot-pgd-1-draw", "eot-pgd"),
    ("eot-pgd", "eot-pgd-30-draws"),
    ("eot-pgd", "eot-pgd-3-starts"),
    ("crossing-margin-5-steps", "crossing-margin"),
    ("crossing-margin", "crossing-margin-40-steps"),
    ("crossing-margin", "crossing-margin-30-draws"),
)
"""Adaptive attacks and the same with more of something."""


def _findings(record: Record) -> Iterable[tuple[str, str]]:
    for attack in record.experiment.attacks:
        options = dict(attack.options)
        if options.get("step_size", 0) > options.get("epsilon", 1) and options.get("norm") != "l2":
            yield attack.name, f"its step {options['step_size']:g} is larger than ε = {options['epsilon']:g}"
        cells = [cell for cell in record.cells if cell.attack == attack.name]
        if max(cell.attacked for cell in cells) > options.get("epsilon", 1) + 1e-6:
            yield attack.name, f"it changed a pixel by more than ε = {options['epsilon']:g}"
        if stuck := max(cell.stuck for cell in cells):
            yield attack.name, f"it found no gradient at {stuck:.1%} of the images"
    for cell in record.cells:
        if cell.case == "normal" and wilson(cell.correct, cell.total).high < 0.1:
            yield "", f"clean accuracy {cell.correct / cell.total:.3f} after {cell.epoch} epochs is below chance"
    for cell in record.cells:
        for weaker in record.cells:
            same = (weaker.epoch, weaker.case, weaker.tested_with) == (cell.epoch, cell.case, cell.tested_with)
            (stronger, _, epsilon), (weak, _, its) = cell.attack.partition("@"), weaker.attack.partition("@")
            if same and epsilon == its and weak == "fgsm" and stronger in ("bim", "mim"):
                gap = wilson(cell.correct, cell.total).minus(wilson(weaker.correct, weaker.total))
                if gap.low > 0:
                    yield cell.attack, f"in case {cell.case} it leaves {gap.value:.3f} more accuracy than FGSM"


def _agrees(ours: Estimate, theirs: float, case: str) -> bool:
    tolerance = TOLERANCE["attacked" if case in ("A", "B", "C") else "clean"]
    return abs(ours.value - theirs) <= tolerance + ours.half_width


def _word(yes: int, no: int, undecided: int = 0) -> str:
    if yes and not no and not undecided:
        return "yes"
    if yes:
        return "partly"
    if no:
        return "no"
    return "open" if undecided else "not testable"


def _outcome(relation: str, difference: Estimate, tolerance: float) -> str:
    if relation == "same":
        return "holds" if abs(difference.value) <= tolerance + difference.half_width else "fails"
    sign, least = {"above": (1, 0.0), "below": (-1, 0.0), "clearly above": (1, tolerance)}[relation]
    low, high = sorted((sign * difference.low, sign * difference.high))
    return "holds" if low > least else "fails" if high < least else "open"


def _pairs(claim: Mapping[str, Any], cells: pd.DataFrame) -> list[tuple[Estimate, Estimate]]:
    fixed = {*claim["left"], *claim["right"], *(["epochs"] if claim.get("change") else [])}
    free = [column for column in COLUMNS if column not in fixed]
    sides = [
        (_side(claim, "left", group), _side(claim, "right", group)) for _, group in cells.groupby(free, sort=False)
    ]
    return [(left, right) for left, right in sides if left is not None and right is not None]


def _side(claim: Mapping[str, Any], side: str, group: pd.DataFrame) -> Estimate | None:
    where = {name: _EPOCHS.get(value, value) for name, value in claim[side].items()}
    if not claim.get("change"):
        return _only(_select(group, where))
    last, first = (_only(_select(group, {**where, "epochs": _EPOCHS[end]})) for end in ("last", "first"))
    return None if last is None or first is None else last.minus(first)


_EPOCHS: dict[Any, int] = {"first": PAPER_EPOCHS[0], "last": PAPER_EPOCHS[-1]}


def _only(found: pd.DataFrame) -> Estimate | None:
    return found.ours.iloc[0] if len(found) else None


def _select(frame: pd.DataFrame, where: Mapping[str, Any]) -> pd.DataFrame:
    for name, value in where.items():
        frame = frame[frame[name].isin(value if isinstance(value, list | tuple) else [value])]
    return frame.copy()


def _row(record: Record, cell: Cell) -> list[Any]:
    training = record.experiment.training
    names = [name for name in (training.defence.name, cell.tested_with) if name != "none"] or ["none"]
    clean = cell.case == "normal"
    phased = clean or cell.case == "adaptive"
    phase = PHASES[training.defence.kind != "none", cell.tested_with != "none"] if phased else ""
    what = [phase, cell.attack, "" if clean else cell.case]
    of = len(record.experiment.attacks) if cell.attack.startswith("strongest") else 0
    sizes = [training.n_train, record.experiment.n_test, of]
    distances = [cell.l0, cell.l2, cell.linf]
    return [
        training.dataset,
        names[0],
        cell.epoch,
        *what,
        *sizes,
        cell.correct,
        cell.total,
        *distances,
        record.experiment.name,
    ]

"""Verdicts on the claims, and what is suspicious."""

from collections.abc import Iterable, Mapping

import pandas as pd
from IPython.display import Markdown

from prlib import paper
from prlib.data import DATASETS
from prlib.findings.cells import COLUMNS, compare
from prlib.findings.checks import MORE, checks, worst_cases
from prlib.findings.claims import Verdict, judge_claims
from prlib.pages.names import PHASE_TITLES, WORDS, attack_title
from prlib.pages.records import committed
from prlib.pages.tables import Table, mark, number, signed
from prlib.record import Record


def answer(records: Iterable[Record], prefix: str) -> Markdown:
    """The claims whose id starts with ``prefix`` and what the records say to each, for a chapter's beginning.

    What they cannot say, the long trainings on a tenth of the images do.
    """
    records = list(records)
    datasets = {record.experiment.training.dataset for record in records}
    asked = any(
        a.epsilon for r in records if "adaptive" not in r.experiment.cases for a in r.experiment.attacks
    )  # for an ε that is not the paper's
    longer = [] if asked else [r for r in committed("tenth") if r.experiment.training.dataset in datasets]
    lines = []
    for v, long in zip(judge_claims(records, prefix), judge_claims(longer, prefix), strict=True):
        told, where = (v, "") if v.supported != "not testable" else (long, " on a tenth of the images")
        evidence = f" {_evidence(told)}{where}" if _evidence(told) else ""
        lines.append(f"- {v.claim['claim']} {mark(told.supported)}{evidence}")
    return Markdown("**Answer**, computed from our own measurements (how is said at the end):\n\n" + "\n".join(lines))


def verdicts(records: Iterable[Record], prefix: str, profile: str = "") -> Table:
    """The computed verdicts on the claims whose id starts with ``prefix``; ``profile`` is whose records these are, if
    not the run's."""
    rows = [
        {
            "claim": f"{v.claim['claim']} ({v.claim['place']})",
            "claim supported?": f"{mark(v.supported)} {_evidence(v)}",
            **(
                {"numbers reproduced?": f"{mark(v.reproduced)} {v.within} of {v.compared}"}
                if "cells" in v.claim
                else {}
            ),
        }
        for v in judge_claims(records, prefix)
    ]
    caption = f"Verdicts, computed from the records of {f'profile `{profile}`' if profile else 'this run'}."
    return Table(pd.DataFrame(rows), caption, f"verdicts-{prefix}{profile and '-' + profile}")


def scoreboard(runs: Mapping[str, Iterable[Record]], questions: Mapping[str, str]) -> Table:
    """How many claims of each question each run supports; ``questions`` gives their texts by the claims' prefix."""
    rows = []
    for prefix, question in questions.items():
        row = {"question": question}
        for run_, records in runs.items():
            found = [v.supported for v in judge_claims(records, prefix)]
            row[run_] = " ".join(f"{mark(word)} {found.count(word)}" for word in WORDS if word in found)
        rows.append(row)
    return Table(pd.DataFrame(rows), "", "scoreboard")


def summary(records: Iterable[Record]) -> Markdown:
    """How many claims are supported, and how many numbers reproduced, in a sentence."""
    found = judge_claims(records, "q")
    counts = ", ".join(f"{mark(word)} {sum(v.supported == word for v in found)}" for word in WORDS)
    cells = compare(records, table=[2, 5, 6, 7]).query("case != 'normal'").drop_duplicates(COLUMNS)
    agrees = [bool(a) for a in cells.agrees if a is not None]
    return Markdown(
        f"Of the paper's {len(found)} claims, supported: {counts}. Of the {len(paper.tables())} numbers in its "
        f"tables {len(cells)} are left if each is counted once. This run measures {len(agrees)} of these, and "
        f"{sum(agrees)} agree with the paper's."
    )


def suspicions(records: Iterable[Record], chapter: str) -> Table:
    """What ``prlib.findings.checks.checks`` finds suspicious about the numbers, by finding."""
    found = checks(records)
    rows = [
        {"attack": attack_title(attack), "finding": finding, "records": len(group)}
        for (attack, finding), group in found.groupby(["attack", "finding"], sort=False)
    ]
    columns = ["attack", "finding", "records"]
    return Table(
        pd.DataFrame(rows, columns=columns), "What the checks beside the numbers have found.", f"checks-{chapter}"
    )


def convergence(cells: pd.DataFrame) -> Table:
    """Attacks that know the defence, and the same with more of something (``prlib.findings.checks.MORE``)."""
    same = ["dataset", "defence", "phase", "epochs", "n_test"]
    found = {(cell.attack, *(getattr(cell, name) for name in same)): cell for cell in cells.itertuples()}
    pairs = [
        (cell, found.get((more, *where)))
        for (attack, *where), cell in found.items()
        for less, more in MORE
        if less == attack
    ]
    rows = [
        {
            "dataset": DATASETS[less.dataset].title,
            "attack": attack_title(less.attack),
            "accuracy": number(less.ours, less.record, interval=False),
            "with more": attack_title(more.attack),
            "accuracy with more": number(more.ours, more.record, interval=False),
            "difference [95% interval]": signed(more.ours.minus(less.ours)),
            "images": f"{less.n_test:,}",
        }
        for less, more in pairs
        if more is not None
    ]
    caption = "Does more of it help the attacker? Negative differences say that it does."
    return Table(pd.DataFrame(rows), caption, "convergence")


def rivals(records: Iterable[Record]) -> Table:
    """Defences side by side: clean, under the paper's attacks, under the strongest that know the defence, and cost."""
    records = list(records)
    # Not seconds, which would compare machines: a defence used at test time alone is put before a plain training.
    gradients = {r.experiment.training.defence.name: r.experiment.training.gradients for r in records}
    rows = [
        {
            "dataset": DATASETS[cell.dataset].title,
            "defence": cell.defence,
            "used in": PHASE_TITLES[cell.phase],
            "clean": number(cell.clean, cell.clean_record, interval=False),
            "the paper's attacks": number(cell.paper, cell.paper_record, interval=False),
            "attacks that know [95% interval]": number(cell.adaptive, cell.adaptive_record),
            "images": f"{cell.n_test:,}",
            "epochs": cell.epochs,
            "gradients an image": cell.epochs * (1 if cell.phase == "test" else gradients[cell.defence]),
        }
        for cell in worst_cases(records).itertuples()
    ]
    caption = (
        "Each network before an attacker: accuracy on clean test images, under the worst of the paper's FGSM, BIM and "
        "MIM (in case A if it is redrawn at test time, else in case B; on the same images if so measured), and under "
        "the strongest attack per image of those that know the defence and the label, with how many images met it. "
        "Training cost its epochs, and as many gradients for each training image as the last column says."
    )
    return Table(pd.DataFrame(rows), caption, "rivals")


def _evidence(verdict: Verdict) -> str:
    counts = {"holds": verdict.holds, "fails": verdict.fails, "is open": verdict.open}
    text = ", ".join(f"{word} in {count}" for word, count in counts.items() if count)
    return f"{text} of {sum(counts.values())} comparisons" if text else ""

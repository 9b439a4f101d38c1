"""Verdicts on the claims, and what is suspicious."""

from collections.abc import Iterable, Mapping

from IPython.display import Markdown

from prlib import paper
from prlib.findings.cells import COLUMNS, compare, measured
from prlib.findings.checks import checks
from prlib.findings.claims import Verdict, judge_claims
from prlib.pages.content import Content, mark, markdown
from prlib.pages.names import WORDS, attack_title
from prlib.pages.records import committed
from prlib.pages.tables import Table, frame
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
    ours, theirs = (judge_claims(measured(found), prefix) for found in (records, longer))
    for v, long in zip(ours, theirs, strict=True):
        told, where = (v, "") if v.supported != "not testable" else (long, " on a tenth of the images")
        evidence = f" {_evidence(told)}{where}" if _evidence(told) else ""
        lines.append(f"- {v.claim['claim']} {markdown(mark(told.supported))}{evidence}")
    return Markdown("**Answer**, computed from our own measurements (how is said at the end):\n\n" + "\n".join(lines))


def verdicts(records: Iterable[Record], prefix: str, profile: str = "", name: str = "") -> Table:
    """The computed verdicts on the claims whose id starts with ``prefix``.

    ``profile`` is whose records these are, if not the run's; ``name`` is the table's, if not made of the two.
    """
    rows = []
    for v in judge_claims(measured(records), prefix):
        row: dict[str, Content] = {"claim": f"{v.claim['claim']} ({v.claim['place']})"}
        row["claim supported?"] = (mark(v.supported), f" {_evidence(v)}")
        if "cells" in v.claim:
            row["numbers reproduced?"] = (mark(v.reproduced), f" {v.within} of {v.compared}")
        rows.append(row)
    caption = f"Verdicts, computed from the records of {f'profile `{profile}`' if profile else 'this run'}."
    return Table(frame(rows), caption, name or f"verdicts-{prefix}{profile and '-' + profile}")


def scoreboard(runs: Mapping[str, Iterable[Record]], questions: Mapping[str, str]) -> Table:
    """How many claims of each question each run supports; ``questions`` gives their texts by the claims' prefix."""
    rows = []
    cells = {name: measured(records) for name, records in runs.items()}
    for prefix, question in questions.items():
        row: dict[str, Content] = {"question": question}
        for run_, found_cells in cells.items():
            found = [v.supported for v in judge_claims(found_cells, prefix)]
            row[run_] = _counted(found, " ", [word for word in WORDS if word in found])
        rows.append(row)
    return Table(frame(rows), "", "scoreboard")


def summary(records: Iterable[Record]) -> Markdown:
    """How many claims are supported, and how many numbers reproduced, in a sentence."""
    cells = measured(records)
    found = judge_claims(cells, "q")
    counts = markdown(_counted([v.supported for v in found], ", "))
    numbers = compare(cells, table=[2, 5, 6, 7]).query("case != 'normal'").drop_duplicates(COLUMNS)
    agrees = [bool(a) for a in numbers.agrees if a is not None]
    return Markdown(
        f"Of the paper's {len(found)} claims, supported: {counts}. Of the {len(paper.tables())} numbers in its "
        f"tables {len(numbers)} are left if each is counted once. This run measures {len(agrees)} of these, and "
        f"{sum(agrees)} agree with the paper's."
    )


def suspicions(records: Iterable[Record], chapter: str) -> Table:
    """What ``prlib.findings.checks.checks`` finds suspicious about the numbers, by finding."""
    found = checks(records)
    rows = [
        {"attack": attack_title(attack), "finding": finding, "records": len(group)}
        for (attack, finding), group in found.groupby(["attack", "finding"], sort=False)
    ]
    shown = frame(rows, ["attack", "finding", "records"])
    return Table(shown, "What the checks beside the numbers have found.", f"checks-{chapter}")


def _counted(found: list[str], separator: str, words: Iterable[str] = WORDS) -> Content:
    """How often each word was found."""
    counts = [(mark(word), f" {found.count(word)}") for word in words]
    return tuple(part for count in counts for part in (separator, count))[1:]


def _evidence(verdict: Verdict) -> str:
    counts = {"holds": verdict.holds, "fails": verdict.fails, "is open": verdict.open}
    text = ", ".join(f"{word} in {count}" for word, count in counts.items() if count)
    return f"{text} of {sum(counts.values())} comparisons" if text else ""

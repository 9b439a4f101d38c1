"""Verdicts on the claims, and what is suspicious."""

from collections.abc import Collection, Iterable, Mapping

from IPython.display import Markdown

from prlib import paper
from prlib.data import DATASETS
from prlib.findings.cells import measured
from prlib.findings.checks import checks
from prlib.findings.claims import Verdict, judge_claims
from prlib.pages.content import Content, code, mark, markdown
from prlib.pages.names import WORDS, attack_title
from prlib.pages.records import committed
from prlib.pages.tables import COUNT, SIGNED, P, Table, Tabs, folded, frame
from prlib.record import Record


def answer(records: Iterable[Record], prefix: str) -> Markdown:
    """The claims whose id starts with ``prefix`` and what the records say to each, for a chapter's beginning."""
    lines = []
    for v, longer in _judged(records, prefix):
        where = " (on a tenth of the images)" if longer else ""
        evidence = f" {markdown(_evidence(v))}{where}" if v.comparisons else ""
        lines.append(f"- {v.claim['claim']} {markdown(mark(v.supported))}{evidence}")
    return Markdown(
        "**Answer**, computed from our own measurements (the end of the chapter says how):\n\n" + "\n".join(lines)
    )


def _judged(records: Iterable[Record], prefix: str) -> list[tuple[Verdict, bool]]:
    """The verdicts, and whether each is by the long trainings on a tenth of the images, as the records have none."""
    records = list(records)
    datasets = {record.experiment.training.dataset for record in records}
    longer = [r for r in committed("tenth") if r.experiment.training.dataset in datasets]
    ours, theirs = (judge_claims(measured(found), prefix) for found in (records, longer))
    return [(v, False) if v.supported != "not testable" else (long, True) for v, long in zip(ours, theirs, strict=True)]


def verdicts(records: Iterable[Record], prefix: str, profile: str = "", name: str = "") -> Table:
    """The computed verdicts on the claims whose id starts with ``prefix``.

    ``profile`` is whose records these are, if not the run's; ``name`` is the table's, if not made of the two. Numbers
    can be reproduced only where the experiment is the paper's: on all training images.
    """
    found = judge_claims(measured(records), prefix)
    reproducible = any(v.compared for v in found)
    rows = []
    for v in found:
        row: dict[str, Content] = {"claim": f"{v.claim['claim']} ({v.claim['place']})"}
        row["claim supported?"] = (mark(v.supported), " ", _evidence(v))
        if reproducible and "cells" in v.claim:
            row["numbers reproduced?"] = (mark(v.reproduced), f" {v.within} of {v.compared}") if v.compared else ""
        rows.append(row)
    caption = f"Verdicts, computed from the records of {f'profile `{profile}`' if profile else 'this run'}."
    return Table(frame(rows), caption, name or f"verdicts-{prefix}{profile and '-' + profile}")


def both_verdicts(
    records: Iterable[Record], prefix: str, suites: Collection[str] | None = None, fold: str = ""
) -> Tabs:
    """The verdicts of a run, and of the long trainings on a tenth of the images, which judge what the run cannot.

    ``fold`` is the line under which a reader finds each; empty if they stand open.
    """
    tenth = verdicts(committed("tenth", suites), prefix, "tenth")
    found = {"all images": verdicts(records, prefix), "a tenth of them, up to 1,000 epochs": tenth}
    return Tabs({title: folded(table, fold) for title, table in found.items()})


def every_comparison(records: Iterable[Record], prefix: str, profile: str) -> Table:
    """Every comparison behind the verdicts: its difference, what chance makes of it, and what is concluded."""
    rows = [
        {
            "claim": code(v.claim["id"]),
            "dataset": DATASETS[one.where["dataset"]].title,
            "epochs": one.where["epochs"],
            "judged": " ".join(filter(None, [attack_title(one.where["attack"]), one.where["case"]])),
            "difference [95% interval]": one.difference if one.p is not None else None,
            "p": one.p,
            "p (Holm)": one.adjusted,
            "images": one.images,
            "seeds": one.trainings,
            "outcome": one.outcome,
        }
        for v in judge_claims(measured(records), prefix)
        for one in v.comparisons
    ]
    columns = {"epochs": COUNT, "difference [95% interval]": SIGNED, "p": P, "p (Holm)": P, "images": COUNT}
    caption = f"Every comparison behind the verdicts (profile `{profile}`). Distances are compared without an interval."
    name = f"comparisons-{prefix or 'all'}-{profile}"
    return Table(frame(rows), caption, name, columns, fold=f"All {len(rows)} comparisons")


def scoreboard(runs: Mapping[str, Iterable[Record]], questions: Mapping[str, str]) -> Table:
    """How each run judges the claims of each question; ``questions`` gives their texts by the claims' prefix.

    Claims that speak for redrawing and those that speak against it, or of something else, are in rows of their own.
    """
    rows = []
    cells = {name: measured(records) for name, records in runs.items()}
    for prefix, question in questions.items():
        judged = {name: judge_claims(found, prefix) for name, found in cells.items()}
        for side, title in SIDES.items():
            row: dict[str, Content] = {"question": question, "claims that speak": title}
            for name, found in judged.items():
                row[name] = _words([v for v in found if _side(v) == side], " ")
            if any(row[name] for name in cells):
                rows.append(row)
    return Table(frame(rows), "", "scoreboard")


SIDES = {"for": "for redrawing", "against": "against it", "neither": "neither for nor against it"}
"""What a claim can speak for, as ``claims.yaml`` has it, and what tables call that."""


def claims_in_short(records: Iterable[Record]) -> Markdown:
    """How many of the paper's claims are supported, by what they speak for."""
    found, lines = _judged(records, "q"), []
    for side, title in SIDES.items():
        speaking = [v for v, _ in found if _side(v) == side]
        lines.append(f"- {len(speaking)} speak {title}: {markdown(_words(speaking, ', '))}.")
    longer = sum(long for _, long in found)
    rest = f"\n\n{longer} of them are about 500 or 1,000 epochs and judged by the trainings on a tenth of the images."
    return Markdown(f"Of the paper's {len(found)} claims:\n\n" + "\n".join(lines) + (rest if longer else ""))


def set_when(prefix: str) -> Table:
    """When the claims whose id starts with ``prefix`` were fixed, and what they rest on was first measured."""
    rows = [
        {
            "claim": claim["claim"],
            "fixed": (claim["fixed"]["when"], " in ", code(claim["fixed"]["commit"])),
            "first record": claim["fixed"]["first_record"],
            "changed since": claim.get("changed", ""),
        }
        for claim in paper.claims()
        if claim["id"].startswith(prefix)
    ]
    return Table(frame(rows), "When each claim was fixed (UTC).", f"fixed-{prefix}")


def suspicions(records: Iterable[Record], chapter: str) -> Table:
    """What ``prlib.findings.checks.checks`` finds suspicious about the numbers, by finding."""
    found = checks(records)
    rows = [
        {"attack": attack_title(attack), "finding": finding, "records": len(group)}
        for (attack, finding), group in found.groupby(["attack", "finding"], sort=False)
    ]
    shown = frame(rows, ["attack", "finding", "records"])
    caption = "What the checks beside the numbers have found."
    return Table(shown, caption, f"checks-{chapter}", fold=f"{len(rows)} findings of the checks")


def _side(verdict: Verdict) -> str:
    return str(verdict.claim["speaks"])


def _words(found: Iterable[Verdict], separator: str) -> Content:
    """How often each word says whether the claims are supported."""
    said = [v.supported for v in found]
    counts = [(mark(word), f" {said.count(word)}") for word in WORDS if word in said]
    return tuple(part for count in counts for part in (separator, count))[1:]


def _evidence(verdict: Verdict) -> Content:
    """The verdict on each dataset, and how many comparisons are behind it."""
    if not verdict.comparisons:
        return ""
    datasets = [f"{DATASETS[name].title} {found}" for name, found in verdict.by_dataset.items()]
    counts = {word: verdict.count(outcome) for word, outcome in _COUNTED.items()}
    text = ", ".join(f"{word} in {count}" for word, count in counts.items() if count)
    return f"{', '.join(datasets)}: {text} of {len(verdict.comparisons)} comparisons"


_COUNTED = {"holds": "holds", "fails": "fails", "is open": "open"}

"""The attacks' settings, variants and distances."""

from typing import Any

import pandas as pd

from prlib import paper
from prlib.cases import CASES
from prlib.data import DATASETS
from prlib.experiment import Attack
from prlib.findings.cells import PAPER_EPOCHS
from prlib.findings.variants import after_longer_training, against_default, either_label
from prlib.pages.names import ATTACK_TITLES, ATTACKS
from prlib.pages.tables import SIGNED, P, Table, badged, formatted, frame
from prlib.profiles import default_attack
from prlib.statistics import ALPHA

VARIANT_TITLES = {"true": "true labels", "quarter": "steps of ε/4", "eq4": "the paper's Eq. 4"}
"""What the chapter calls each of ``prlib.findings.variants.VARIANTS``."""


def attack_settings() -> Table:
    """The settings of the paper's attacks in the default protocol, on grayscale images of digits and in colour."""
    rows: dict[Attack, dict[str, object]] = {}
    for name in ATTACKS:
        for dataset in ("mnist", "cifar10"):
            attack = default_attack(name, dataset)
            options = dict(attack.options)
            epsilon, step = options.pop("epsilon", None), options.pop("step_size", None)
            titles = [rows[attack]["dataset"]] if attack in rows else []
            rows[attack] = {
                "attack": ATTACK_TITLES[name],
                "dataset": ", ".join([*map(str, titles), DATASETS[dataset].title]),
                "ε": epsilon,
                "step": step,
                "step ÷ ε": step and step / epsilon,
                "other settings": ", ".join(f"`{key}`: {value}" for key, value in options.items() if key != "function"),
            }
    short = formatted("g", missing="–")
    columns = {"ε": short, "step": short, "step ÷ ε": formatted(".2f", missing="–")}
    caption = "The attacks of the default protocol (`prlib/profiles/protocol.yaml`)."
    return Table(frame(rows.values()), caption, "attack-settings", columns)


def labels_given(cells: pd.DataFrame) -> Table:
    """What attacks gain from true labels: shares of correctly classified test images in case B with either label."""
    shares = {
        "predicted labels": "predicted",
        "true labels": "true",
        "only with predicted": "only_predicted",
        "only with true": "only_true",
    }
    either = either_label(cells, "B")
    rows = [
        {
            "dataset": DATASETS[cell.dataset].title,
            "attack": ATTACK_TITLES[cell.attack],
            **{title: getattr(cell, column) for title, column in shares.items()},
            "right before and after": cell.kept.value if cell.kept else None,
        }
        for cell in either.itertuples()
    ]
    rows, conditions = badged(rows, either.itertuples())
    columns = dict.fromkeys([*shares, "right before and after"], formatted(".4f", missing="–"))
    caption = (
        "Share of the test images that are classified correctly in case B, with predicted and with true labels; and, "
        "with predicted ones, of those that were right before the attack, too."
    )
    caption += conditions
    return Table(frame(rows), caption, "floor", columns)


def attack_variants(cells: pd.DataFrame) -> Table:
    """What each variant of an attack changes in cases A and B."""
    rows: list[dict[str, Any]] = []
    judged = []
    for _, group in against_default(cells).groupby(["dataset", "attack"], sort=False):
        by_case = {cell.case: cell for cell in group.itertuples()}
        one = by_case["B"]
        row = {
            "variant": VARIANT_TITLES[one.variant],
            "attack": ATTACK_TITLES[one.base],
            "dataset": DATASETS[one.dataset].title,
        }
        for case in "AB":
            row |= {f"case {case}": by_case[case].difference, f"p, {case}": by_case[case].p}
        rows.append(row)
        judged.append(one)
    rows, conditions = badged(rows, judged)
    shown = frame(rows, None if rows else ["variant", "attack"])
    shown = shown.sort_values(["variant", "attack"], ascending=False, kind="stable")
    caption = (
        "Accuracy under each variant of an attack, minus that under the default on the same images; p by McNemar's "
        "test, adjusted by Holm's method for all cells of the variant."
    )
    caption += conditions
    return Table(shown, caption, "variants", {"case A": SIGNED, "case B": SIGNED, "p, A": P, "p, B": P})


def longer(cells: pd.DataFrame, cases: str) -> Table:
    """In how many cells under attack longer trainings leave more or less than the shortest, ours and the paper's."""
    found, theirs = after_longer_training(cells, cases), _paper_longer(cases)
    rows = []
    for dataset, group in found.groupby("dataset", sort=False):
        beyond = group[group.p <= ALPHA].difference.map(lambda difference: difference.value)
        rows.append(
            {
                "dataset": DATASETS[dataset].title,
                "cells": len(group),
                "more": int((beyond > 0).sum()),
                "less": int((beyond < 0).sum()),
                "not told from chance": len(group) - len(beyond),
                "the paper's: more": f"{int((theirs[dataset] > 0).sum())} of {len(theirs[dataset])}",
            }
        )
    caption = (
        f"Accuracy in cases {' and '.join(cases)} after 500 and 1,000 epochs beside that after 50, on the same images; "
        "beyond chance by McNemar's test and Holm's method for each dataset. The paper's numbers have no intervals."
    )
    return Table(frame(rows), caption, "longer")


def _paper_longer(cases: str) -> dict[str, pd.Series]:
    """The paper's changes from its fewest epochs to more, by dataset."""
    theirs = paper.tables().query("table == 6 and case in @cases", local_dict={"cases": list(cases)})
    by_epochs = theirs.pivot_table(index=["dataset", "attack", "case"], columns="epochs", values="accuracy")
    changes = by_epochs[list(PAPER_EPOCHS[1:])].sub(by_epochs[PAPER_EPOCHS[0]], axis=0).stack()
    return {dataset: group for dataset, group in changes.groupby(level="dataset")}


def cases() -> Table:
    """What the network is shown in each case."""
    images = {"defend": "PR image", "attack": "adversarial image"}
    rows = [
        {
            "case": name,
            "steps": ", ".join(f"`{step}`" for step in steps),
            "arrows": " → ".join(["clean image", *(images[step] for step in steps)]),
        }
        for name, steps in CASES.items()
    ]
    return Table(frame(rows), "What the network is shown in each case (Section 3.4 of the paper).", "cases")


def distances_by_case(cells: pd.DataFrame, attack: str) -> Table:
    """L2 distances of what the network classifies from the clean image: only redrawn, and under an attack by case."""
    last = cells[cells.epochs == cells.epochs.max()]
    found = {(cell.dataset, cell.case): cell for cell in last[last.attack == attack].itertuples()}
    redrawn = [c for c in last[last.phase == "both"].itertuples() if (c.dataset, "C") in found]
    rows = [
        {
            "dataset": DATASETS[cell.dataset].title,
            "redrawn only": cell.l2,
            **{f"case {case}": found[cell.dataset, case].l2 for case in "BAC"},
        }
        for cell in redrawn
    ]
    rows, conditions = badged(rows, [found[cell.dataset, "C"] for cell in redrawn])
    distances = ["redrawn only", "case B", "case A", "case C"]
    caption = (
        f"L2 distance of the image that the network classifies from the clean one, under {ATTACK_TITLES[attack]} "
        "(means over test images)."
    )
    return Table(frame(rows), caption + conditions, f"distances-{attack}", dict.fromkeys(distances, formatted(".2f")))

"""The attacks' settings, variants and distances."""

from collections.abc import Iterable

import pandas as pd

from prlib.cases import CASES
from prlib.data import DATASETS
from prlib.experiment import Attack
from prlib.findings.variants import against_default, attacked, correct
from prlib.pages.names import ATTACK_TITLES, ATTACKS
from prlib.pages.tables import Column, Table, badge, formatted, frame, signed, with_minus
from prlib.profiles import Parameters, default_attack
from prlib.record import Record

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


def labels_given(records: Iterable[Record], cells: pd.DataFrame, parameters: Parameters) -> Table:
    """What attacks gain from true labels: shares of correctly classified test images in case B with either label."""
    right, rows = correct(records, "B"), []
    for cell in attacked(cells).itertuples():
        name = cell.attack.removesuffix("-true")
        if cell.case == "B" and name != cell.attack and (cell.dataset, cell.epochs, name) in right:
            predicted, true = (right[cell.dataset, cell.epochs, attack] for attack in (name, cell.attack))
            shares = [s.float().mean().item() for s in (predicted, true, predicted & ~true, true & ~predicted)]
            rows.append([DATASETS[cell.dataset].title, ATTACK_TITLES[name], *shares, badge(parameters, cell)])
    shares_of = ["predicted labels", "true labels", "only with predicted", "only with true"]
    shown = pd.DataFrame(rows, columns=["dataset", "attack", *shares_of, "measured"])
    caption = "Share of the test images that are classified correctly in case B, with predicted and with true labels."
    return Table(shown, caption, "floor", dict.fromkeys(shares_of, formatted(".4f")))


def attack_variants(cells: pd.DataFrame, parameters: Parameters) -> Table:
    """What each variant of an attack changes in cases A and B."""
    rows = []
    for _, group in against_default(cells).groupby(["dataset", "attack"], sort=False):
        by_case = {cell.case: cell for cell in group.itertuples()}
        one = by_case["B"]
        row = {
            "variant": VARIANT_TITLES[one.variant],
            "attack": ATTACK_TITLES[one.base],
            "dataset": DATASETS[one.dataset].title,
        }
        row |= {f"case {case}": by_case[case].difference for case in "AB"}
        rows.append(row | {"measured": badge(parameters, one)})
    shown = frame(rows, ["variant", "attack", "dataset", "case A", "case B", "measured"])
    shown = shown.sort_values(["variant", "attack"], ascending=False, kind="stable")
    difference = Column(lambda value: with_minus(signed(value)), right=True)
    caption = "Accuracy under each variant of an attack, minus that under the default."
    return Table(shown, caption, "variants", {"case A": difference, "case B": difference})


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


def distances_by_case(cells: pd.DataFrame, parameters: Parameters, attack: str) -> Table:
    """L2 distances of what the network classifies from the clean image: only redrawn, and under an attack by case."""
    last = cells[cells.epochs == cells.epochs.max()]
    found = {(cell.dataset, cell.case): cell for cell in last[last.attack == attack].itertuples()}
    rows = [
        {
            "dataset": DATASETS[cell.dataset].title,
            "redrawn only": cell.l2,
            **{f"case {case}": found[cell.dataset, case].l2 for case in "BAC"},
            "measured": badge(parameters, found[cell.dataset, "C"]),
        }
        for cell in last[last.phase == "both"].itertuples()
        if (cell.dataset, "C") in found
    ]
    distances = ["redrawn only", "case B", "case A", "case C"]
    caption = (
        f"L2 distance of the image that the network classifies from the clean one, under {ATTACK_TITLES[attack]} "
        "(means over test images)."
    )
    shown = frame(rows, ["dataset", *distances, "measured"])
    return Table(shown, caption, f"distances-{attack}", dict.fromkeys(distances, formatted(".2f")))

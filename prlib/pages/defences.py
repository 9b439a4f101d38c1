"""Rivals of redrawing in one table, what is certified of them, and what the randomness is worth by itself."""

from collections.abc import Iterable

import numpy as np

from prlib.attacks.smoothing import certified_radius, enclosing_l2
from prlib.data import DATASETS
from prlib.findings import rivals as findings
from prlib.pages.comparisons import KEPT
from prlib.pages.content import kept, number
from prlib.pages.names import PHASE_TITLES, attack_title, defence_title
from prlib.pages.tables import COUNT, SIGNED, P, Table, accuracy, formatted, frame
from prlib.record import Record
from prlib.statistics import paired


def rivals(records: Iterable[Record]) -> Table:
    """Defences side by side, each dataset's most robust first: ranks, accuracies, certificate, cost."""
    known, certified = "adaptive attacks [95% interval]", "certified"
    found = findings.compared(records)
    images = " to ".join(f"{n:,}" for n in sorted({found.n_test.min(), found.n_test.max()})) if len(found) else "no"
    rows = [
        {
            "dataset": DATASETS[row.dataset].title,
            "rank": f"{row.first}" if row.first == row.last else f"{row.first}–{row.last}",
            "defence": defence_title(row.defence),
            "used": PHASE_TITLES[row.phase],
            "clean": number(row.clean, row.clean_trainings),
            "the paper's attacks": number(row.paper, row.paper_trainings),
            KEPT: kept(row.kept, row.kept_trainings),
            known: number(row.adaptive, row.adaptive_trainings),
            certified: number(row.certified, row.certified_trainings),
            "gradients an image": row.epochs * row.training.gradients,
        }
        for row in found.itertuples()
    ]
    columns = dict.fromkeys(["clean", "the paper's attacks", KEPT, certified], accuracy(digits=3))
    columns |= {known: accuracy(digits=3, interval=True), "gradients an image": COUNT, "rank": formatted("")}
    caption = (
        f"Defences before an attacker, on {images} images of each dataset, the most robust first. Accuracy on clean "
        "images, under the worst of the paper's FGSM, BIM and MIM (in case A if it is redrawn at test time, else in "
        "case B), right before and after the worst of these, and under the strongest adaptive attack for each image. "
        "*Certified* is what no attack at all within the paper's ε can take from a vote over noise. A rank is given as "
        "far as differences on the images in common decide it (5%, Holm's method for all pairs of a dataset). The last "
        "column is what training cost, in gradients for each training image."
    )
    return Table(frame(rows), caption, "rivals", columns)


def randomness(records: Iterable[Record]) -> Table:
    """One network, trained redrawn, tested with one draw, with the mean, and with votes, under equal budgets."""
    difference = "minus one draw [95% interval]"
    rows = [
        {
            "dataset": DATASETS[row.dataset].title,
            "tested with": "one draw" if row.tested_with == "pr" else defence_title(row.tested_with).split(", ")[1],
            "clean": None if row.clean is None else row.clean.value,
            "attack": attack_title(row.attack),
            "gradients an image": round(row.gradients),
            "accuracy": number(row.cell.ours, row.cell.trainings),
            difference: paired(row.difference) if row.tested_with != "pr" else None,
            "p (Holm)": row.p if row.tested_with != "pr" else None,
            "images": row.cell.n_test,
        }
        for row in findings.randomness(records)
    ]
    columns = {"clean": formatted(".3f", missing="–"), "accuracy": accuracy(digits=3, interval=True)}
    columns |= {"gradients an image": COUNT, "images": COUNT, difference: SIGNED, "p (Holm)": P}
    caption = (
        "One network, trained with one PR model, tested with what stands in the second column, under two attacks that "
        "compute about as many gradients for each. Differences are on the images in common."
    )
    return Table(frame(rows), caption, "randomness", columns)


def certificates(records: Iterable[Record]) -> Table:
    """What a vote over noise certifies, by L2 and by L∞, at the paper's ε and at a tenth of it."""
    rows = []
    for one in findings.certificates(records):
        shown, epsilon = DATASETS[one.training.dataset], findings.papers_epsilon(one.training.dataset)
        values = shown.channels * shown.size**2
        at_own, at_tenth = (number(*one.within(share * epsilon)) for share in (1, 0.1))
        rows.append(
            {
                "dataset": shown.title,
                "σ": one.std,
                "ε√d": enclosing_l2(epsilon, values),
                "largest radius": float(certified_radius(np.array([one.draws]), one.draws, one.std)[0]),
                "median radius": float(np.median(one.radii)),
                "as an ε of L∞": float(np.median(one.radii)) / enclosing_l2(1, values),
                "certified at ε": at_own,
                "at ε/10": at_tenth,
                "draws": one.draws,
                "images": len(one.radii),
            }
        )
    columns = dict.fromkeys(["certified at ε", "at ε/10"], accuracy(digits=3, interval=True))
    columns |= dict.fromkeys(["ε√d", "largest radius", "median radius"], formatted(".2f"))
    columns |= {"as an ε of L∞": formatted(".3f"), "draws": COUNT, "images": COUNT}
    caption = (
        "Randomised smoothing: the L2 radius around all within the paper's ε, the largest that so many draws can "
        "certify at all, the median of the images' radii, by L2 and by L∞, and the accuracy that is certified."
    )
    return Table(frame(rows), caption, "certificates", columns)

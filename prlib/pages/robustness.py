"""Adaptive attacks: do they converge, do the checks hold, what can be guaranteed?"""

from collections.abc import Iterable, Sequence
from itertools import groupby

import pandas as pd
import torch
from IPython.display import Markdown

from prlib.attacks import Staircase, guaranteed
from prlib.data import DATASETS, Split
from prlib.experiment import labelled
from prlib.findings.cells import best, measured
from prlib.findings.checks import MORE, Kept, sanity
from prlib.findings.conclusions import Selected
from prlib.findings.pairs import minus
from prlib.findings.resistance import resistance
from prlib.pages.comparisons import accuracies
from prlib.pages.content import Content, Number, between, markdown, number
from prlib.pages.names import attack_title, defence_title
from prlib.pages.prose import Prose, number_of
from prlib.pages.tables import COUNT, SIGNED, Column, P, Table, Tabs, accuracy, formatted, frame
from prlib.profiles import default_defence
from prlib.profiles.named import NAMED
from prlib.record import Record
from prlib.redraw import PixelRedraw
from prlib.statistics import p_value, paired

ANSWERS = {
    "yes": "it resists an attacker who knows it",
    "partly": "it partly resists an attacker who knows it",
    "no": "it does not resist an attacker who knows it",
}
"""What each word of ``prlib.findings.resistance`` says of a defence."""


def resists(records: Iterable[Record], splits: Sequence[Split], epsilons: Sequence[float]) -> Markdown:
    """For each dataset whether redrawing in both phases resists adaptive attacks, in percent, and why.

    The reason is how many values of these images one PR model exposes at each dataset's ε.
    """
    exposed = {split.name: _exposed(split, own) for split, own in zip(splits, epsilons, strict=True)}
    lines = []
    for dataset, found in groupby(resistance(measured(records)), key=lambda one: one.dataset):
        networks = list(found)
        first, words = networks[0], list(dict.fromkeys(one.word for one in networks))
        answers = [
            f"{'with one model' if one.defence == 'pr' else 'with twenty'} {ANSWERS[one.word]}" for one in networks
        ]
        known = [f"{_percent(one.known)}{'' if one.defence == 'pr' else ' with twenty models'}" for one in networks]
        lines.append(
            f"- **{DATASETS[dataset].title}: {ANSWERS[first.word] if len(words) == 1 else '; '.join(answers)}.** "
            f"Accuracy falls from {_percent(first.clean)} on clean images to {' and '.join(known)}; without a defence "
            f"it falls to {_percent(first.undefended)}. Within ε an attacker can bring {exposed[dataset]} across a "
            "threshold."
        )
    rule = (
        "*Does not resist* means that accuracy is not above guessing, or not by more than the tolerance above the "
        "undefended network's; *partly*, that it is above both but not within the tolerance of the accuracy on clean "
        "images. Each is judged at 5%, on the same images."
    )
    return Prose("\n".join([*lines, "", rule]) if lines else "")


def _percent(one: Selected) -> str:
    """An accuracy in percent with its interval, linked to its record."""
    told = number_of(one)
    return f"{markdown(told.percent())} {between(told.estimate, '.0%')}"


def _exposed(split: Split, epsilon: float) -> str:
    """How many of an image's values one PR model exposes, in words."""
    exposed = _exposure("pr", split, epsilon).flatten(1) > 0
    return f"{exposed.sum(1).float().mean():.0f} of an image's {exposed.shape[1]:,} values"


def _exposure(kind: str, split: Split, epsilon: float) -> torch.Tensor:
    """How much a default redraw of this kind exposes each value of a split's images, float N×C×H×W."""
    redraw = default_defence(kind, split.name).build()
    assert isinstance(redraw, PixelRedraw)
    return Staircase.of(redraw).exposure_of_bytes(split.images, epsilon)


def guarantees(splits: Sequence[Split], redraws: Sequence[PixelRedraw], epsilons: Sequence[float]) -> Table:
    """What the share of exposed pixels guarantees, for each dataset's images, redraw and ε, and at two small ε."""
    rows = []
    for split, redraw, own in zip(splits, redraws, epsilons, strict=True):
        stairs, n = Staircase.of(redraw), len(split)
        for epsilon in sorted({0.004, 0.01, own}):
            exposure = stairs.exposure_of_bytes(split.images, epsilon).flatten(1)
            rows.append(
                {
                    "dataset": DATASETS[split.name].title,
                    "ε": f"{epsilon:.3f}" + " (the paper's)" * (epsilon == own),
                    "pixels exposed, mean": (exposure > 0).float().mean().item(),
                    "images without any": f"{(exposure.amax(1) == 0).sum():,} of {n:,}",
                    "largest guarantee, mean": guaranteed(torch.ones(n), exposure).mean().item(),
                }
            )
    caption = (
        "What can be guaranteed on the embedded sample's test images: the last column is what the argument "
        "leaves certain for a classifier that is right on every clean one."
    )
    columns = {"pixels exposed, mean": formatted(".1%", right=False), "largest guarantee, mean": formatted(".4f")}
    return Table(frame(rows), caption, "guarantees", columns)


def exposure_of_many(splits: Sequence[Split], epsilons: Sequence[float]) -> Table:
    """The pixels that one PR model and twenty expose at each dataset's ε."""
    rows = []
    for split, own in zip(splits, epsilons, strict=True):
        for kind in ("pr", "pr-multi"):
            exposure = _exposure(kind, split, own)
            exposed = (exposure > 0).float().mean().item()
            rows.append([DATASETS[split.name].title, defence_title(kind), own, exposed, exposure.mean().item()])
    variation = "total variation a pixel, mean"
    shown = pd.DataFrame(rows, columns=["dataset", "redraw", "ε", "pixels exposed", variation])
    columns = {"ε": formatted(".3f"), "pixels exposed": formatted(".1%", right=False), variation: formatted(".3f")}
    caption = "One PR model and twenty, at the paper's ε, on the embedded sample."
    return Table(shown, caption, "exposure-multi", columns)


def strongest(cells: pd.DataFrame) -> Tabs:
    """The accuracy under the strongest adaptive attack of each image, at the paper's ε: a table a dataset.

    A network that met attacks on several parts of the images has a row for all, for the most of the first ones and for
    the most of those drawn at random.
    """
    rows = _at_the_papers_epsilon(cells).query("attack == 'strongest'")
    which = rows.assign(
        random=rows.drawn > 0, whole=[row.n_test == DATASETS[row.dataset].n_test for row in rows.itertuples()]
    )
    rows = rows[rows.index.isin(best(which, ["dataset", "defence", "phase", "epochs", "random", "whole"]).index)]
    titles = {name: DATASETS[name].title for name in rows.dataset.unique()}
    caption = "accuracy under the strongest adaptive attack."
    return Tabs({t: accuracies(rows[rows.dataset == n], f"{t}: {caption}", f"adaptive-{n}") for n, t in titles.items()})


def each_attack(cells: pd.DataFrame) -> Table:
    """The accuracy under each adaptive attack at the paper's ε."""
    return accuracies(_at_the_papers_epsilon(cells), "Accuracy under each adaptive attack.", "adaptive-each")


def _at_the_papers_epsilon(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells of networks with one redraw or none, the most images first.

    Without the variants that ``convergence`` shows, and without a "strongest" of a single attack.
    """
    related = [name for name, attack in NAMED.items() if attack.more_of or attack.less_of]
    shown = cells[cells.defence.isin(["none", "pr"]) & (cells.epsilon == 0) & (cells.of != 1)]
    shown = shown[~shown.attack.isin(related)].assign(order=shown.dataset.map(list(DATASETS).index))
    return shown.sort_values(["order", "defence", "phase", "n_test"], ascending=[True] * 3 + [False], kind="stable")


def convergence(cells: pd.DataFrame) -> Table:
    """Adaptive attacks, and the same with more of something (``prlib.findings.checks.MORE``)."""
    same = ["dataset", "defence", "phase", "epochs", "n_test", "drawn"]
    found = {(cell.attack, *(getattr(cell, name) for name in same)): cell for cell in cells.itertuples()}
    pairs = [
        (cell, found.get((more, *where)))
        for (attack, *where), cell in found.items()
        for less, more in MORE
        if less == attack
    ]
    compared = [(less, more, minus(more.trainings, less.trainings)) for less, more in pairs if more is not None]
    rows = [
        {
            "dataset": DATASETS[less.dataset].title,
            "attack": attack_title(less.attack),
            "accuracy": number(less.ours, less.trainings),
            "with more": attack_title(more.attack),
            "accuracy with more": number(more.ours, more.trainings),
            "difference [95% interval]": paired(found),
            "p": p_value(found),
            "images": less.n_test,
        }
        for less, more, found in compared
    ]
    columns = dict.fromkeys(["accuracy", "accuracy with more"], accuracy())
    columns |= {"difference [95% interval]": SIGNED, "p": P, "images": COUNT}
    caption = (
        "Does more of it help the attacker? Negative differences, on the same images, say that it does. p is of each "
        "pair alone: by McNemar's test where an image is answered once, else from the interval."
    )
    return Table(frame(rows), caption, "convergence", columns)


def sanity_counts(records: Iterable[Record]) -> Table:
    """How often each of the standard checks (``prlib.findings.checks.sanity``) passed and failed."""
    found = _titled(sanity(records)).groupby(["dataset", "check"], sort=False).outcome
    counts = found.value_counts().rename("how often").reset_index()
    return Table(counts, "The standard checks, computed from the records.", "sanity")


def sanity_evidence(records: Iterable[Record]) -> Table:
    """Each of the standard checks with its evidence."""
    columns = {"evidence": Column(_evidence)}
    return Table(_titled(sanity(records)), "Each check with its evidence.", "sanity-evidence", columns)


def _titled(found: pd.DataFrame) -> pd.DataFrame:
    return found.assign(dataset=[DATASETS[name].title for name in found.dataset])


def _evidence(evidence: tuple[Kept, ...]) -> Content:
    """What a check rests on, in words."""
    if len(evidence) == 1:
        return "accuracy ", _kept(evidence[0]), " at ε = 1, where any image is allowed"
    weaker, stronger = ((f"{labelled(one.attack, one.epsilon or None)} ", _kept(one)) for one in evidence)
    return weaker, ", ", stronger


def _kept(one: Kept) -> Content:
    return Number(one.accuracy, one.trainings).content(3)

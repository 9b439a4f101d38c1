"""Figures of measured accuracies."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from prlib import paper
from prlib.data import DATASETS
from prlib.pages.figures.drawing import DASH_CYCLE, DASHES, MARKERS, SHAPES, Series, subplots
from prlib.pages.names import ATTACKS, LABELS, defence_title


def accuracy_over_epochs(cells: pd.DataFrame, table: int = 2, labels: Mapping[str, str] = LABELS) -> Figure:
    """Clean accuracy over epochs by phase: ours (filled, with 95% intervals) and the paper's (hollow).

    Args:
        cells: as ``prlib.findings.cells.measured`` gives them.
        table: the paper's table (2 or 5) whose numbers are drawn beside them.
        labels: what the line of each phase is called.

    Raises:
        ValueError: two accuracies for one point of a line.
    """
    cells = cells[cells.attack == ""]
    if cells.duplicated(["dataset", "phase", "epochs"]).any():
        raise ValueError(f"cells must be of one defence (and none); got {', '.join(dict.fromkeys(cells.defence))}")
    theirs = paper.tables().query("table == @table")
    datasets = [name for name in DATASETS if name in set(cells.dataset) | set(theirs.dataset)]
    rows = -(-len(datasets) // 2)
    figure, axes = subplots(rows, 2, figsize=(7.2, 2.6 * rows), sharex=True, sharey=True, squeeze=False)
    for number, (ax, dataset) in enumerate(zip(axes.flat, datasets, strict=False)):
        ends = []
        for i, phase in enumerate(LABELS):
            ours = cells.query("dataset == @dataset and phase == @phase").sort_values("epochs")
            _with_intervals(ax, ours, phase, f"C{i}")
            paper_points = theirs.query("dataset == @dataset and phase == @phase")
            style = {
                "marker": MARKERS[phase],
                "mfc": "none",
                "mec": f"C{i}",
                "color": f"C{i}",
                "linewidth": 0.5,
            }
            ax.plot(paper_points.epochs, paper_points.accuracy, alpha=0.9, **style)
            values = [e.value for e in ours.ours] + [*paper_points.accuracy]
            ends += [(values[-1], phase, i, labels[phase])] if values else []
        if number % 2 or number == len(datasets) - 1:
            _label_ends(ax, ends)
        ax.set_title(DATASETS[dataset].title, loc="left")
        ax.set(xscale="log", ylim=(0, 1.02))
        ax.axhline(0.1, color="gray", linewidth=0.6)
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xticks([1, 5, 10, 50, 500], ["1", "5", "10", "50", "500"])
    for ax in axes[-1]:
        ax.set_xlabel("epochs (log scale)")
    for ax in axes[:, 0]:
        ax.set_ylabel("accuracy")
    if len(datasets) % 2:
        axes[-1, -1].remove()
        axes[max(rows - 2, 0), -1].tick_params(labelbottom=True)
        axes[max(rows - 2, 0), -1].set_xlabel("epochs (log scale)")
    filled = Line2D([], [], color="black", marker="o", label="filled: ours")
    hollow = Line2D([], [], color="black", marker="o", mfc="none", linewidth=0.5, label="hollow: the paper's")
    figure.legend(handles=[filled, hollow], loc="outside lower center", ncols=2)
    return figure


def under_attack(ours: pd.DataFrame, theirs: pd.DataFrame, series: Sequence[Series]) -> Figure:
    """Accuracy under each attack: ours (filled, with 95% intervals) beside the paper's (hollow), a panel a dataset.

    Args:
        ours: as ``prlib.findings.cells.measured`` gives it; the last epoch of each cell is drawn.
        theirs: rows of ``prlib.paper.tables()``.
        series: what is drawn, each a label with values of the columns defence and case.
    """
    names = [name for name in DATASETS if name in set(ours.dataset) | set(theirs.dataset)]
    rows = -(-len(names) // 2)
    figure, axes = subplots(rows, 2, figsize=(6, 2.6 * rows), sharex=True, sharey=True, squeeze=False)
    for ax, dataset in zip(axes.flat, names, strict=False):
        for i, (_, defence, case) in enumerate(series):
            shift = 0.16 * (i - (len(series) - 1) / 2)
            for attack, row in _last_epoch(ours, dataset, defence, case).items():
                x, y = ATTACKS.index(attack) + shift, row.ours.value
                ax.errorbar(x, y, [[y - row.ours.low], [row.ours.high - y]], fmt=SHAPES[i], color=f"C{i}", markersize=5)
            for attack, row in _last_epoch(theirs, dataset, defence, case).items():
                x = ATTACKS.index(attack) + shift
                ax.plot(x, row.accuracy, SHAPES[i], mfc="none", color=f"C{i}", markersize=5)
        ax.set_title(DATASETS[dataset].title, loc="left")
        ax.set(ylim=(-0.02, 1.02), xticks=range(4), xticklabels=["FGSM", "BIM", "MIM", "CW"])
        ax.axhline(0.1, color="gray", linewidth=0.6)
    for ax in axes[:, 0]:
        ax.set_ylabel("accuracy")
    handles = [Line2D([], [], color=f"C{i}", marker=SHAPES[i], linestyle="", label=s[0]) for i, s in enumerate(series)]
    hollow = Line2D([], [], color="black", marker="o", mfc="none", linestyle="", label="hollow: the paper's")
    figure.legend(handles=[*handles, hollow], loc="outside lower center", ncols=2)
    return figure


def over_steps(cells: pd.DataFrame, steps: Mapping[str, int]) -> Figure:
    """Accuracy against the number of training steps of the PR model: clean in both phases, and in cases A and B.

    Args:
        cells: as ``prlib.findings.cells.measured`` gives them, of one dataset.
        steps: PR training steps of each defence that is drawn.
    """
    figure, ax = subplots(figsize=(5.4, 3.6))
    chosen = cells[cells.defence.isin(list(steps)) & (cells.epochs == cells.epochs.max())]
    lines = [("clean, redrawn in both", "", ""), ("FGSM, case A", "fgsm", "A"), ("BIM, case A", "bim", "A")]
    lines += [("FGSM, case B", "fgsm", "B"), ("BIM, case B", "bim", "B")]
    for i, (label, attack, case) in enumerate(lines):
        rows = chosen[(chosen.attack == attack) & (chosen.case == case) & chosen.phase.isin(["both", ""])]
        rows = rows.assign(steps=[steps[name] for name in rows.defence]).sort_values("steps")
        if rows.empty:
            continue
        value, low, high = np.array([tuple(e) for e in rows.ours]).T
        ax.errorbar(rows.steps, value, [value - low, high - value], marker=SHAPES[i], label=label, markersize=5)
    ax.set(xscale="log", xlabel="training steps of the PR model (log scale)", ylabel="accuracy", ylim=(0, 1.02))
    ax.set_xticks(list(steps.values()), [f"{n:,}" for n in steps.values()])
    ax.xaxis.set_minor_locator(NullLocator())
    if ax.lines:
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def over_epsilon(cells: pd.DataFrame) -> Figure:
    """Accuracy under the strongest adaptive attack over ε, a line a dataset; chance in gray."""
    swept = cells[(cells.attack == "strongest") & (cells.epsilon > 0)].sort_values("epsilon")
    figure, ax = subplots(figsize=(5.6, 3.2))
    ax.axhline(0.1, color="gray", linewidth=0.8)
    for i, (dataset, rows) in enumerate(swept.groupby("dataset", sort=False)):
        values = [e.value for e in rows.ours]
        errors = [[e.value - e.low for e in rows.ours], [e.high - e.value for e in rows.ours]]
        style: dict[str, Any] = {"marker": SHAPES[i], "linestyle": DASH_CYCLE[i], "capsize": 2}
        ax.errorbar(rows.epsilon, values, errors, label=DATASETS[dataset].title, **style)
    ax.set(xlabel="ε (of a range from 0 to 1)", ylabel="accuracy", xlim=(0, 1.02), ylim=(-0.02, 1.02))
    ax.legend()
    return figure


def then_and_now(cells: pd.DataFrame) -> Figure:
    """Accuracy clean, under the paper's attacks and under adaptive ones: a row a network.

    Args:
        cells: rows of ``prlib.findings.checks.worst_cases``.
    """
    figure, ax = subplots(figsize=(6, 0.9 + 0.32 * len(cells)))
    looks = {"clean": ("|", "black"), "kept": ("o", "white"), "adaptive": ("o", "black")}
    labels = {
        "clean": "clean images",
        "kept": "right before and after the worst of the paper's attacks",
        "adaptive": "under attacks designed with the defence in mind",
    }
    for y, cell in enumerate(cells.itertuples()):
        known = {name: getattr(cell, name) for name in looks if getattr(cell, name) is not None}
        values = [estimate.value for estimate in known.values()]
        ax.plot([min(values), max(values)], [y, y], color="gray", linewidth=0.6, linestyle=":", zorder=0)
        for name, estimate in known.items():
            shape, face = looks[name]
            ax.plot([estimate.low, estimate.high], [y, y], color="black", linewidth=1, zorder=1)
            ax.plot(estimate.value, y, shape, color="black", markerfacecolor=face, markersize=7, zorder=2)
    ax.axvline(0.1, color="gray", linewidth=0.8)
    names = [f"{DATASETS[c.dataset].title}, {_network(c.defence, c.phase)}" for c in cells.itertuples()]
    ax.set_yticks(range(len(cells)), names)
    ax.set(xlim=(-0.02, 1.02), ylim=(len(cells) - 0.5, -0.5), xlabel="accuracy (the gray line is chance)")
    handles = [
        Line2D([], [], color="black", linestyle="", marker=shape, markerfacecolor=face, label=labels[name])
        for name, (shape, face) in looks.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=1, fontsize=8)
    return figure


def _last_epoch(cells: pd.DataFrame, dataset: str, defence: str, case: str) -> dict[str, Any]:
    """The row of the last epoch for each of the paper's attacks."""
    cells = cells[(cells.dataset == dataset) & (cells.defence == defence) & (cells.case == case)]
    found = cells[cells.attack.isin(ATTACKS)].sort_values("epochs").drop_duplicates("attack", keep="last")
    return {row.attack: row for row in found.itertuples()}


def _with_intervals(ax: Axes, ours: pd.DataFrame, phase: str, colour: str) -> None:
    if ours.empty:
        return
    value, low, high = (np.array([getattr(e, name) for e in ours.ours]) for name in ("value", "low", "high"))
    ax.fill_between(ours.epochs, low, high, color=colour, alpha=0.15, linewidth=0)
    ax.plot(ours.epochs, value, DASHES[phase], marker=MARKERS[phase], color=colour, markersize=5)


def _label_ends(ax: Axes, ends: Sequence[tuple[float, str, int, str]]) -> None:
    """Name the lines to the right of the axes, each at the height of its end, and no two upon each other.

    Args:
        ends: of each line its last value, its phase, the number of its colour and its name.
    """
    bottom, top = ax.get_ylim()
    lowest = bottom
    for height, phase, i, label in sorted(ends):
        at = max(height, lowest)
        lowest = at + 0.09 * (top - bottom)
        beside = ax.get_yaxis_transform()
        ax.plot(1.05, at, MARKERS[phase], color=f"C{i}", markersize=5, transform=beside, clip_on=False)
        ax.text(1.09, at, label, va="center", fontsize=8, transform=beside)


def _network(defence: str, phase: str) -> str:
    if defence == "none":
        return "undefended"
    return LABELS[phase] if defence == "pr" else defence_title(defence)

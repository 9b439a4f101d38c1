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
from prlib.cases import ANY
from prlib.data import DATASETS
from prlib.findings.pairs import minus
from prlib.pages.figures.drawing import DASH_CYCLE, DASHES, MARKERS, ROW, SHAPES, Layout, Series, legend, subplots
from prlib.pages.names import ATTACKS, LABELS, defence_title
from prlib.statistics import Estimate, paired


def accuracy_over_epochs(
    layout: Layout, cells: pd.DataFrame, table: int = 2, labels: Mapping[str, str] = LABELS
) -> Figure:
    """Clean accuracy over epochs by phase: ours (filled, with 95% intervals) and the paper's (hollow).

    Beneath it is what the defence changes where it is used in training, in percentage points: the lines are too close
    to each other to be told apart above.

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
    theirs = paper.tables().query("table in (2, @table) and (table == @table or phase == 'none')")
    datasets = [name for name in DATASETS if name in set(cells.dataset) | set(theirs[theirs.table == table].dataset)]
    figure, axes = _panels(layout, datasets, heights=(1.7, 1.1))
    for dataset, (above, beneath) in zip(datasets, axes, strict=True):
        ours, printed = (frame[frame.dataset == dataset].sort_values("epochs") for frame in (cells, theirs))
        for i, phase in enumerate(LABELS):
            hollow: dict[str, Any] = {
                "marker": MARKERS[phase],
                "mfc": "none",
                "color": f"C{i}",
                "linewidth": 0.5,
                "markersize": 5,
            }
            one, of_paper = ours[ours.phase == phase], printed[printed.phase == phase]
            _with_intervals(above, dict(zip(one.epochs, one.ours, strict=True)), phase)
            above.plot(of_paper.epochs, of_paper.accuracy, **hollow)
            if phase in ("train", "both"):
                _with_intervals(beneath, _gained(ours, phase), phase)
                gained = (
                    of_paper.set_index("epochs").accuracy
                    - printed[printed.phase == "none"].set_index("epochs").accuracy
                )
                beneath.plot(100 * gained.dropna(), **hollow)
        above.set_ylim(0, 1.02)
        above.axhline(0.1, color="gray", linewidth=0.6)
        beneath.axhline(0, color="gray", linewidth=0.6)
        beneath.set(xscale="log")
        beneath.xaxis.set_minor_locator(NullLocator())
        beneath.set_xticks([1, 5, 10, 50, 500], ["1", "5", "10", "50", "500"])
    _label(layout, axes, "epochs (log scale)", ("accuracy", "change\n(points)"))
    handles = [
        Line2D([], [], color=f"C{i}", linestyle=DASHES[phase], marker=MARKERS[phase], label=labels[phase])
        for i, phase in enumerate(LABELS)
    ]
    handles.append(Line2D([], [], color="black", marker="o", label="filled: ours"))
    handles.append(Line2D([], [], color="black", marker="o", mfc="none", linewidth=0.5, label="hollow: the paper's"))
    legend(figure, layout, handles)
    return figure


def under_attack(layout: Layout, ours: pd.DataFrame, theirs: pd.DataFrame, series: Sequence[Series]) -> Figure:
    """Accuracy under each attack: ours (filled, with 95% intervals) beside the paper's (hollow), a panel a dataset.

    Args:
        ours: as ``prlib.findings.cells.measured`` gives it; the last epoch of each cell is drawn.
        theirs: rows of ``prlib.paper.tables()``.
        series: what is drawn, each a label with values of the columns defence and case.
    """
    names = [name for name in DATASETS if name in set(ours.dataset) | set(theirs.dataset)]
    figure, axes = _panels(layout, names, heights=(2.1,))
    for dataset, (ax,) in zip(names, axes, strict=True):
        for i, (_, defence, case) in enumerate(series):
            shift = 0.16 * (i - (len(series) - 1) / 2)
            for attack, row in _last_epoch(ours, dataset, defence, case).items():
                x, y = ATTACKS.index(attack) + shift, row.ours.value
                ax.errorbar(x, y, [[y - row.ours.low], [row.ours.high - y]], fmt=SHAPES[i], color=f"C{i}", markersize=5)
            for attack, row in _last_epoch(theirs, dataset, defence, case).items():
                x = ATTACKS.index(attack) + shift
                ax.plot(x, row.accuracy, SHAPES[i], mfc="none", color=f"C{i}", markersize=5)
        ax.set(ylim=(-0.02, 1.02), xticks=range(4), xticklabels=["FGSM", "BIM", "MIM", "CW"])
        ax.axhline(0.1, color="gray", linewidth=0.6)
    _label(layout, axes, "", ("accuracy",))
    handles = [Line2D([], [], color=f"C{i}", marker=SHAPES[i], linestyle="", label=s[0]) for i, s in enumerate(series)]
    handles.append(Line2D([], [], color="black", marker="o", mfc="none", linestyle="", label="hollow: the paper's"))
    legend(figure, layout, handles)
    return figure


def over_steps(layout: Layout, cells: pd.DataFrame, steps: Mapping[str, int]) -> Figure:
    """Accuracy against the number of training steps of the PR model: clean in both phases, and in cases A and B.

    Args:
        cells: as ``prlib.findings.cells.measured`` gives them, of one dataset.
        steps: PR training steps of each defence that is drawn.
    """
    figure, ax = subplots(figsize=(layout.fit(5.4), 3.9))
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
        legend(figure, layout, ax.get_legend_handles_labels()[0])
    return figure


def over_epsilon(layout: Layout, cells: pd.DataFrame) -> Figure:
    """Accuracy over ε, a line a dataset and defence: under the strongest adaptive attack, and what is certified.

    Between the two, shaded, lies what is not known; chance is a gray line.
    """
    swept = cells[cells.attack.isin(["strongest", ANY]) & (cells.epsilon > 0)].sort_values("epsilon", kind="stable")
    figure, ax = subplots(figsize=(layout.fit(5.6), 3.4 + ROW * 4))
    ax.axhline(0.1, color="gray", linewidth=0.8)
    groups = swept.groupby(["dataset", "defence", "attack"], sort=False)
    for i, ((dataset, defence, attack), rows) in enumerate(groups):
        value, low, high = np.array([tuple(e) for e in rows.ours]).T
        label = f"{DATASETS[dataset].title}, {defence_title(defence)}" + ", certified" * (attack == ANY)
        style: dict[str, Any] = {"marker": SHAPES[i], "linestyle": DASH_CYCLE[i % len(DASH_CYCLE)], "capsize": 2}
        style |= {"mfc": "white" if attack == ANY else f"C{i}", "color": f"C{i}"}
        ax.errorbar(rows.epsilon, value, [value - low, high - value], label=label, **style)
    for _, rows in swept[swept.defence.isin(swept[swept.attack == ANY].defence)].groupby(["dataset", "defence"]):
        bounds = rows.assign(value=[e.value for e in rows.ours]).groupby("epsilon").value.agg(["min", "max"])
        ax.fill_between(bounds.index, bounds["min"], bounds["max"], color="0.5", alpha=0.25, linewidth=0)
    ax.set(xscale="log", xlabel="ε (of a range from 0 to 1, log scale)", ylabel="accuracy", ylim=(-0.02, 1.02))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks([0.01, 0.03, 0.1, 0.3, 1], ["0.01", "0.03", "0.1", "0.3", "1"])
    legend(figure, layout, ax.get_legend_handles_labels()[0], columns=1)
    return figure


def then_and_now(layout: Layout, cells: pd.DataFrame) -> Figure:
    """Accuracy clean, under the paper's attacks and under adaptive ones: a row a network.

    Args:
        cells: rows of ``prlib.findings.checks.worst_cases``.
    """
    networks = [f"{DATASETS[c.dataset].title}, {_network(c.defence, c.phase)}" for c in cells.itertuples()]
    titles = [layout.wrapped(name) for name in networks]
    height = sum(0.1 + ROW * (1 + title.count("\n")) for title in titles)
    figure, ax = subplots(figsize=(layout.fit(6), 1.3 + height))
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
    ax.set_yticks(range(len(cells)), titles)
    ax.set(xlim=(-0.02, 1.02), ylim=(len(cells) - 0.5, -0.5), xlabel="accuracy (gray line: chance)")
    handles = [
        Line2D([], [], color="black", linestyle="", marker=shape, markerfacecolor=face, label=labels[name])
        for name, (shape, face) in looks.items()
    ]
    legend(figure, layout, handles, "outside upper center", columns=1)
    return figure


def _last_epoch(cells: pd.DataFrame, dataset: str, defence: str, case: str) -> dict[str, Any]:
    """The row of the last epoch for each of the paper's attacks."""
    cells = cells[(cells.dataset == dataset) & (cells.defence == defence) & (cells.case == case)]
    found = cells[cells.attack.isin(ATTACKS)].sort_values("epochs").drop_duplicates("attack", keep="last")
    return {row.attack: row for row in found.itertuples()}


def _panels(layout: Layout, datasets: Sequence[str], heights: Sequence[float]) -> tuple[Figure, list[Sequence[Axes]]]:
    """A figure with a panel for each dataset, each of axes of these heights in inches, one beneath the other."""
    columns = min(layout.panels, len(datasets))
    rows = -(-len(datasets) // columns)
    size = (layout.fit(3.6 * columns), rows * (sum(heights) + 0.5) + ROW * (2 + 6 / layout.panels))
    ratios = [*heights] * rows
    figure, grid = subplots(len(ratios), columns, size, sharex=True, squeeze=False, height_ratios=ratios)
    panels = [axes for i in range(rows) for axes in grid[i * len(heights) : (i + 1) * len(heights)].T]
    for unused in panels[len(datasets) :]:
        for ax in unused:
            ax.remove()
    for dataset, (ax, *_) in zip(datasets, panels, strict=False):
        ax.set_title(DATASETS[dataset].title, loc="left")
    return figure, panels[: len(datasets)]


def _label(layout: Layout, panels: Sequence[Sequence[Axes]], x: str, ys: Sequence[str]) -> None:
    """Name the axes of panels: x beneath the last of each column, the ys beside the first."""
    for i, axes in enumerate(panels):
        axes[-1].set_xlabel(x if i + layout.panels >= len(panels) else "")
        axes[-1].tick_params(labelbottom=True)
        for ax, y in zip(axes, ys, strict=True):
            ax.set_ylabel(y if i % layout.panels == 0 else "")
        axes[0].tick_params(labelleft=i % layout.panels == 0)


def _gained(ours: pd.DataFrame, phase: str) -> dict[int, Estimate]:
    """What a phase has over the undefended network at each epoch, in percentage points on the same images."""
    trainings = {(row.phase, row.epochs): row.trainings for row in ours.itertuples()}
    found = {
        epochs: minus(own, trainings[("none", epochs)])
        for (name, epochs), own in trainings.items()
        if name == phase and ("none", epochs) in trainings
    }
    return {epochs: Estimate(*(100 * x for x in paired(d))) for epochs, d in found.items() if d.size}


def _with_intervals(ax: Axes, line: Mapping[int, Estimate], phase: str) -> None:
    if not line:
        return
    value, low, high = np.array([*line.values()]).T
    colour = f"C{[*LABELS].index(phase)}"
    ax.fill_between([*line], low, high, color=colour, alpha=0.15, linewidth=0)
    ax.plot([*line], value, DASHES[phase], marker=MARKERS[phase], color=colour, markersize=5)


def _network(defence: str, phase: str) -> str:
    if defence == "none":
        return "undefended"
    return LABELS[phase] if defence == "pr" else defence_title(defence) + ", at test time only" * (phase == "test")

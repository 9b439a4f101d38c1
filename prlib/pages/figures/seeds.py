"""How far chance alone moves a number: the trainings of each cell, one more of them, and the paper's."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from prlib.findings.cells import ENOUGH, expected
from prlib.pages.figures.drawing import ROW, Layout, legend, subplots
from prlib.pages.names import LABELS, attack_title, defence_title


def spread(layout: Layout, cells: pd.DataFrame) -> Figure:
    """A row a cell with enough trainings: each training's accuracy, what one more may show, and the paper's number.

    Args:
        cells: rows of ``prlib.findings.cells.compare`` of one dataset and number of epochs.
    """
    rows = [cell for cell in cells.itertuples() if cell.ours is not None and len(cell.trainings) >= ENOUGH]
    titles = [layout.wrapped(_title(cell)) for cell in rows]
    height = sum(0.08 + ROW * (1 + title.count("\n")) for title in titles)
    figure, ax = subplots(figsize=(layout.fit(6), 1.3 + height))
    for y, cell in enumerate(rows):
        _, low, high = expected(cell)
        ax.plot([low, high], [y, y], color="0.75", linewidth=6, solid_capstyle="butt", zorder=0)
        ax.plot([one.accuracy for one in cell.trainings], [y] * len(cell.trainings), "|", color="black", markersize=9)
        ax.plot(cell.accuracy, y, "D", color="C3", markerfacecolor="none", markersize=5)
    ax.set_yticks(range(len(rows)), titles)
    ax.set(xlim=(-0.02, 1.02), ylim=(len(rows) - 0.4, -0.6), xlabel="accuracy")
    handles = [
        Line2D([], [], color="black", linestyle="", marker="|", markersize=9, label="one of our trainings"),
        Line2D([], [], color="0.75", linewidth=6, label="where one more may fall (95%)"),
        Line2D([], [], color="C3", linestyle="", marker="D", markerfacecolor="none", label="the paper's number"),
    ]
    legend(figure, layout, handles, "outside upper center")
    return figure


def _title(cell: pd.Series) -> str:
    models = defence_title(cell.defence)
    if cell.attack:
        return f"{attack_title(cell.attack)}, case {cell.case}, {models}"
    return f"{LABELS[cell.phase]}, {models}" if cell.phase != "none" else LABELS["none"]

"""All of the paper's numbers and ours in one figure."""

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from prlib.findings.cells import ENOUGH, TOLERANCE, expected
from prlib.pages.figures.drawing import ROW, SHAPES, Layout, legend, subplots

TABLES = {2: "clean, redrawn", 5: "clean, noise", 6: "attacked, one model", 7: "attacked, twenty models"}
"""The paper's tables without those that repeat others, and what is in them."""


def all_numbers(layout: Layout, full: pd.DataFrame, tenth: pd.DataFrame) -> Figure:
    """The paper's accuracies on x, ours on y: filled after training on all images, hollow on a tenth of them.

    Args:
        full, tenth: rows of ``prlib.findings.cells.each_once``.
    """
    width = layout.fit(5.6)
    figure, ax = subplots(figsize=(width, width + ROW * len(TABLES) / layout.panels))
    reach = TOLERANCE["attacked"]
    ax.fill_between([0, 1], [-reach, 1 - reach], [reach, 1 + reach], color="0.5", alpha=0.2, linewidth=0)
    ax.plot([0, 1], [0, 1], color="gray", linewidth=0.8)
    for i, table in enumerate(TABLES):
        look = {"marker": SHAPES[i], "linestyle": "", "color": f"C{i}", "markersize": 5}
        for cells, face in ((tenth, "none"), (full, f"C{i}")):
            shown = [cell for cell in cells.itertuples() if cell.table == table and cell.ours is not None]
            for cell in (c for c in shown if len(c.trainings) >= ENOUGH):
                _, low, high = expected(cell)
                ax.plot([cell.accuracy] * 2, [low, high], color=f"C{i}", linewidth=1)
            ax.plot([c.accuracy for c in shown], [c.ours.value for c in shown], markerfacecolor=face, **look)
    ax.set(xlim=(0, 1.01), ylim=(0, 1.01), xlabel="accuracy in the paper", ylabel="accuracy here", aspect="equal")
    handles: list[Artist] = [
        Line2D([], [], marker=SHAPES[i], color=f"C{i}", linestyle="", label=f"Table {table}: {what}")
        for i, (table, what) in enumerate(TABLES.items())
    ]
    handles.append(Line2D([], [], marker="o", color="black", mfc="none", linestyle="", label="a tenth of the images"))
    handles.append(Patch(color="0.5", alpha=0.2, label=f"within {reach:g} of the paper's"))
    legend(figure, layout, handles)
    return figure

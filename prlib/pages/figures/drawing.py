"""What figures share: style, and marks that read without colour."""

from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

MARKERS = {"none": "o", "train": "s", "test": "v", "both": "D"}
"""One marker and one line style for each of Table 2's columns, so that colour is only a second cue."""

DASHES = {"none": "-", "train": "--", "test": ":", "both": "-."}
"""The line styles that go with ``MARKERS``."""

Series = tuple[str, str, str]
"""What a figure of attacks draws, as label, defence and case."""

DASH_CYCLE = ("-", "--", ":", "-.")
"""Line styles of other series, in turn."""

SHAPES = "osvDPX"
"""Markers that tell series apart without colour."""


def style() -> None:
    """Set the common style: colour-blind safe, and the same bytes for the same figure."""
    sns.set_theme(style="ticks", palette="colorblind", font_scale=0.95)
    mpl.rcParams |= {
        "svg.hashsalt": "prlib",
        "figure.facecolor": "none",  # the page's own background, light or dark
        "axes.facecolor": "none",
        "figure.constrained_layout.use": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
    }


def subplots(rows: int = 1, columns: int = 1, figsize: tuple[float, float] = (6, 4), **options: Any) -> Any:
    """A figure and its axes."""
    # Without pyplot, which would show a figure a second time at the end of its cell.
    figure = Figure(figsize=figsize)
    return figure, figure.subplots(rows, columns, **options)


def picture(ax: Axes, image: Tensor) -> None:
    """Show an image C×H×W without axes."""
    ax.imshow(image.permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1)
    ax.set_axis_off()

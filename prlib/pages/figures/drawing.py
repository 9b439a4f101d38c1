"""What figures share: style, two layouts, and marks that read without colour."""

import inspect
import io
import math
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, Literal, NamedTuple, ParamSpec

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler
from torch import Tensor

MARKERS = {"none": "o", "train": "s", "test": "v", "both": "D"}
"""One marker and one line style for each of Table 2's columns, so that colour is only a second cue."""

DASHES: dict[str, Literal["-", "--", ":", "-."]] = {"none": "-", "train": "--", "test": ":", "both": "-."}
"""The line styles that go with ``MARKERS``."""

Series = tuple[str, str, str]
"""What a figure of attacks draws, as label, defence and case."""

DASH_CYCLE = ("-", "--", ":", "-.")
"""Line styles of other series, in turn."""

SHAPES = "osvDPX"
"""Markers that tell series apart without colour."""

UNINVERTED = "uninverted"
"""The id in a figure's SVG whose grays stay as they are on a dark page."""

ROW = 0.19
"""The height of a line of small text, in inches."""

PALETTE = ["#0173b2", "#de8f05", "#029e73", "#cc78bc", "#ca9161", "#fbafe4", "#949494", "#ece133", "#56b4e9", "#d55e00"]
"""Seaborn's colour-blind palette; its fourth comes last, being hard to tell from the second on an inverted page."""

STYLE: dict[Any, Any] = {
    "axes.prop_cycle": cycler(color=PALETTE),
    "axes.axisbelow": True,
    "axes.facecolor": "none",  # the page's own background, light or dark
    "axes.linewidth": 1.25,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "grid.color": "0.8",
    "grid.linewidth": 1,
    "legend.frameon": False,
    "lines.solid_capstyle": "round",
    "patch.edgecolor": "w",
    "patch.force_edgecolor": True,
    "svg.hashsalt": "prlib",  # the same bytes for the same figure
    **dict.fromkeys(["axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color", "ytick.color"], "0.15"),
    **dict.fromkeys(["xtick.major.size", "ytick.major.size"], 6),
    **dict.fromkeys(["xtick.major.width", "ytick.major.width"], 1.25),
    **dict.fromkeys(["xtick.minor.size", "ytick.minor.size"], 4),
    **dict.fromkeys(["xtick.minor.width", "ytick.minor.width"], 1),
}
"""What all figures look like, as matplotlib's parameters."""

_Given = ParamSpec("_Given")  # what a figure is drawn of


class Layout(NamedTuple):
    """The page that a figure is drawn for, and what fits into it.

    Args:
        width: in inches.
        panels: charts side by side, and columns of a legend.
        pictures: small images side by side.
        letters: of a label beside the axes, in a line.
        scale: of the text.
    """

    width: float
    panels: int
    pictures: int
    letters: int
    scale: float

    def fit(self, width: float) -> float:
        """A figure's width, in inches, made narrower if the page is."""
        return min(width, self.width)

    def abreast(self, n: int, each: int = 1) -> int:
        """How many of n things stand side by side, each so many small images wide, in lines of about equal length."""
        lines = math.ceil(n / max(1, self.pictures // each))
        return math.ceil(n / lines)

    def wrapped(self, label: str) -> str:
        """A label beside the axes, broken into lines."""
        return textwrap.fill(label, self.letters)


WIDE = Layout(width=7.2, panels=2, pictures=12, letters=60, scale=0.95)
"""A page as a desk or paper has it."""

NARROW = Layout(width=3.55, panels=1, pictures=6, letters=18, scale=0.8)
"""A phone, which shows this at its natural size if it is 390 pixels wide."""


@dataclass(frozen=True, repr=False)
class Drawn:
    """A figure as SVG, drawn for ``WIDE`` and for ``NARROW`` pages."""

    wide: str
    narrow: str

    def __repr__(self) -> str:
        return "a figure, drawn for wide and for narrow pages"

    def _repr_svg_(self) -> str:
        """The wide drawing, which holds the narrow one unseen: the site makes two files of them."""
        hidden = self.narrow[self.narrow.index("<svg") :].replace("<svg", '<svg class="narrow" display="none"', 1)
        return self.wide.removesuffix("</svg>\n") + hidden + "</svg>\n"


def drawn(draw: Callable[Concatenate[Layout, _Given], Figure]) -> Callable[_Given, Drawn]:
    """A function of what it draws alone, made from one that is also given the layout."""

    @wraps(draw)
    def both(*given: _Given.args, **named: _Given.kwargs) -> Drawn:
        wide, narrow = (_svg(layout, lambda layout: draw(layout, *given, **named)) for layout in (WIDE, NARROW))
        return Drawn(wide, narrow)

    signature = inspect.signature(draw)  # what help and the reference show
    _, *parameters = signature.parameters.values()
    both.__signature__ = signature.replace(parameters=parameters, return_annotation=Drawn)  # type: ignore[attr-defined]
    both.__module__ = __name__.rpartition(".")[0]  # where chapters find it, not where it is drawn
    both.__annotations__ = draw.__annotations__ | {"return": Drawn}
    return both


def style() -> None:
    """Set the common style: colour-blind safe, and the same bytes for the same figure."""
    mpl.rcParams.update(STYLE | letters(WIDE))


def letters(layout: Layout) -> dict[Any, Any]:
    """The sizes of a layout's letters, as matplotlib's parameters: 12 points and 11, times its scale."""
    large = dict.fromkeys(["font.size", "axes.labelsize", "axes.titlesize", "legend.title_fontsize"], 12 * layout.scale)
    return large | dict.fromkeys(["legend.fontsize", "xtick.labelsize", "ytick.labelsize"], 11 * layout.scale)


def subplots(rows: int = 1, columns: int = 1, figsize: tuple[float, float] = (6, 4), **options: Any) -> Any:
    """A figure and its axes."""
    # Without pyplot, which would show a figure a second time at the end of its cell.
    figure = Figure(figsize=figsize, layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def mosaic(
    rows: int, columns: int, width: float, aspect: float = 1, gap: float = 0.06, titled: int = 0, left: float = 0
) -> Any:
    """A figure of so many inches and its axes, rows × columns, for images that nearly touch.

    Args:
        aspect: width by height of what stands in each of the axes.
        gap: inches from one to the next.
        titled: rows with titles above.
        left: inches for titles of the rows.
    """
    height = rows * ((width - left) / columns - gap) / aspect + (rows + titled) * 0.06 + titled * ROW
    figure, axes = subplots(rows, columns, figsize=(width, height), squeeze=False)
    figure.get_layout_engine().set(w_pad=gap / 2, h_pad=0.03, wspace=0, hspace=0)
    for ax in axes.flat:
        ax.set_axis_off()
    return figure, axes


def picture(ax: Axes, image: Tensor) -> None:
    """Show an image C×H×W without axes, its pixels as squares."""
    ax.imshow(image.permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="none")
    ax.set_axis_off()


def legend(
    figure: Figure,
    layout: Layout,
    handles: Iterable[Artist],
    place: Literal["outside lower center", "outside upper center"] = "outside lower center",
    columns: int | None = None,
) -> None:
    """Name what is drawn, outside of the axes: in as many columns as the page has panels, or in so many."""
    figure.legend(handles=list(handles), loc=place, ncols=columns or layout.panels, fontsize="small")


def _svg(layout: Layout, draw: Callable[[Layout], Figure]) -> str:
    file = io.StringIO()
    with mpl.rc_context(letters(layout)):
        figure = draw(layout)
        _settle(figure)
        FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None})  # savefig would draw it once more before
    return file.getvalue()


def _settle(figure: Figure) -> None:
    # The layout's solver orders by memory address, so its last digits vary, and with them the names in an SVG.
    if engine := figure.get_layout_engine():
        engine.execute(figure)
    figure.set_layout_engine("none")
    for ax in figure.axes:
        ax.set_position(ax.get_position().from_bounds(*(round(part, 7) for part in ax.get_position().bounds)))

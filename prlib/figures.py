"""Figures, drawn from records and from the models themselves; every one reads in grayscale."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator
from torch import Tensor, nn

from prlib import paper
from prlib.adaptive import Staircase
from prlib.cases import CASES
from prlib.data import DATASETS, Split, Transform, to_float
from prlib.redraw import PixelRedraw

MARKERS = {"none": "o", "train": "s", "test": "v", "both": "D"}
"""One marker and one line style for each of Table 2's columns, so that colour is only a second cue."""

DASHES = {"none": "-", "train": "--", "test": ":", "both": "-."}
"""The line styles that go with ``MARKERS``."""

Series = tuple[str, str, str]
"""What a figure of attacks draws, as label, defense and case."""

DASH_CYCLE = ("-", "--", ":", "-.")
"""Line styles of other series, in turn."""

SHAPES = "osvDPX"
"""Markers that tell series apart without colour."""

ATTACKS = ["fgsm", "bim", "mim", "cw"]
"""The paper's attacks, in the order of its tables."""

LABELS = {
    "none": "no redrawing",
    "train": "redrawn in training",
    "test": "redrawn at test time",
    "both": "redrawn in both",
}
"""What each of Table 2's columns is called in a figure."""

NOISE_LABELS = {
    phase: label.replace("redrawing", "noise").replace("redrawn", "noise") for phase, label in LABELS.items()
}
"""The same for Table 5."""
"""Table 2's columns in a figure's legend."""


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


def letter_c(redraw: PixelRedraw, seed: int = 0) -> Figure:
    """Fig. 1: a letter C of black and white pixels, and redrawn."""
    letter = torch.zeros(1, 1, 9, 7)
    letter[..., 1:-1, 1], letter[..., 1, 1:-1], letter[..., -2, 1:-1] = 1, 1, 1
    figure, axes = _subplots(1, 2, figsize=(4.4, 2.9))
    redrawn = redraw(letter, torch.Generator().manual_seed(seed))
    for ax, image, title in zip(axes, (letter, redrawn), ("original", "redrawn"), strict=True):
        _picture(ax, image[0])
        ax.set_title(title)
        for (row, column), value in np.ndenumerate(image[0, 0].numpy()):
            ink = "black" if value > 0.5 else "white"
            ax.text(
                column,
                row,
                f"{value:.2f}".replace("0.", "."),
                ha="center",
                va="center",
                color=ink,
                fontsize=6,
            )
    return figure


def pairs(split: Split, redraw: PixelRedraw, rows: int = 2, columns: int = 5, seed: int = 0) -> Figure:
    """Fig. 2: images of a split, each beside its redrawn self."""
    clean = to_float(split.take(rows * columns).images)
    redrawn = redraw(clean, torch.Generator().manual_seed(seed))
    figure, axes = _subplots(rows, columns, figsize=(6, 1.3 * rows))
    for ax, before, after in zip(axes.flat, clean, redrawn, strict=True):
        gap = torch.ones(before.shape[0], before.shape[1], 2)
        _picture(ax, torch.cat([before, gap, after], dim=2))
    return figure


def architecture(redraw: PixelRedraw) -> Figure:
    """Fig. 3: the perceptron of one PR model, with the weights it has learnt."""
    figure, ax = _subplots(figsize=(5.6, 3.2))
    inputs = [("x", 0.5, redraw.weight[0].tolist()), ("1", 0.0, redraw.bias[0].tolist())]
    heights = np.linspace(1, -0.5, len(redraw.ranges))
    middle: dict[str, Any] = {"ha": "center", "va": "center"}
    node = {**middle, "bbox": {"boxstyle": "circle,pad=0.4", "fc": "white", "ec": "black"}}
    number = {**middle, "bbox": {"fc": "white", "ec": "none", "pad": 1}, "fontsize": 8}
    for (name, y, values), place in zip(inputs, (0.68, 0.36), strict=True):
        for height, value in zip(heights, values, strict=True):
            ax.plot([0, 1.5], [y, height], color="black", linewidth=0.8, zorder=0)
            ax.text(1.5 * place, y + place * (height - y), f"{value:+.1f}", **number)
        ax.text(0, y, name, **node)
    for height, (low, high) in zip(heights, redraw.ranges.tolist(), strict=True):
        ax.text(1.5, height, "Σ", **node)
        ax.text(1.72, height, f"[{low:g}, {high:g}]", va="center")
    ax.text(0, 0.72, "pixel", ha="center")
    ax.text(0, -0.3, "bias", ha="center")
    ax.text(1.72, 1.22, "colour range", va="center")
    ax.text(2.5, 0.25, "the largest\nsum wins", va="center")
    ax.set(xlim=(-0.2, 3.1), ylim=(-0.75, 1.35))
    ax.axis("off")
    return figure


def staircase(redraw: PixelRedraw) -> Figure:
    """A PR model's three logits over the pixel's value, and the staircase that their maximum makes."""
    x = torch.linspace(0, 1, 1001, dtype=torch.float64)
    figure, (top, bottom) = _subplots(2, 1, figsize=(5.4, 4.4), sharex=True)
    logits = x[:, None] * redraw.weight[0] + redraw.bias[0]
    for colour, dash in enumerate(("-", "--", "-.")):
        top.plot(x, logits[:, colour], dash, label=f"colour {colour}")
    top.set(ylabel="logit")
    top.legend(ncols=3, loc="lower center")
    low, high = redraw.ranges[redraw.sort(x)].unbind(-1)
    bottom.fill_between(x, low, high, step="mid", alpha=0.3, label="redrawn anywhere in here")
    bottom.plot(x, x, color="black", linewidth=0.8, linestyle=":", label="unchanged")
    bottom.set(xlabel="pixel before", ylabel="pixel after", xlim=(0, 1), ylim=(0, 1))
    bottom.legend(loc="upper left")
    for threshold in redraw.thresholds[0].tolist():
        for ax in (top, bottom):
            ax.axvline(threshold, color="gray", linewidth=0.8)
        bottom.annotate(f"{threshold:.3f}", (threshold, 0.02), xytext=(4, 0), textcoords="offset points")
    return figure


def staircases(redraw: PixelRedraw) -> Figure:
    """The staircases of k PR models, one a row, in the order of their first threshold."""
    thresholds = redraw.thresholds[redraw.thresholds[:, 0].argsort()].clamp(0, 1)
    edges = torch.cat([torch.zeros(len(thresholds), 1), thresholds, torch.ones(len(thresholds), 1)], dim=1)
    figure, ax = _subplots(figsize=(5.4, 3.6))
    grays = np.linspace(0.15, 0.95, edges.shape[1] - 1)
    for colour, gray in enumerate(grays):
        left, width = edges[:, colour], edges[:, colour + 1] - edges[:, colour]
        ax.barh(range(len(edges)), width, left=left, height=0.9, color=str(gray), label=f"colour {colour}")
    ax.set(xlabel="pixel before", ylabel="PR model", xlim=(0, 1), yticks=[])
    ax.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
    return figure


def examples(splits: Sequence[Split], columns: int = 10) -> Figure:
    """One image of each class of each dataset, a dataset a row."""
    figure, axes = _subplots(len(splits), columns, figsize=(6, 0.8 * len(splits)), squeeze=False)
    for row, split in zip(axes, splits, strict=True):
        for label, ax in enumerate(row):
            index = int((split.labels == label).nonzero()[0])
            _picture(ax, to_float(split.images[index]))
        row[0].set_title(DATASETS[split.name].title, loc="left", fontsize=9)
    return figure


def cases(
    split: Split,
    model: nn.Module,
    redraw: Transform,
    attack: Callable[[nn.Module, Tensor, Tensor], Tensor],
    columns: int = 10,
    seed: int = 0,
) -> Figure:
    """Fig. 4: an image of each class as it is and in each case, a case a row; above it what the network reads.

    Args:
        attack: as ``prlib.cases.judge`` calls it.
        seed: of every redraw, so that the case C attacks what the row "normal" shows.
    """
    chosen = [int((split.labels == label).nonzero()[0]) for label in range(columns)]
    clean, labels = to_float(split.images[chosen]), split.labels[chosen]
    rows = {"clean": (), **CASES}
    figure, axes = _subplots(len(rows), columns, figsize=(6, 0.8 * len(rows)), squeeze=False)
    for row, (name, steps) in zip(axes, rows.items(), strict=True):
        images = clean
        for step in steps:
            random = torch.Generator().manual_seed(seed)
            images = attack(model, images, labels) if step == "attack" else redraw(images, random)
        with torch.no_grad():
            read = model(images).argmax(1)
        for ax, image, label, answer in zip(row, images, labels.tolist(), read.tolist(), strict=True):
            _picture(ax, image)
            ax.set_title(f"{answer}" if answer == label else f"{answer} ✗", fontsize=8, pad=2)
        title = f"case {name}" if len(name) == 1 else name
        row[0].text(-0.15, 0.5, title, transform=row[0].transAxes, ha="right", va="center", fontsize=9)
    return figure


def accuracy_over_epochs(cells: pd.DataFrame, table: int = 2, labels: Mapping[str, str] = LABELS) -> Figure:
    """Clean accuracy over epochs by phase: ours (filled, with 95% intervals) and the paper's (hollow).

    Args:
        cells: as ``prlib.verdict.measured`` gives them.
        table: the paper's table (2 or 5) whose numbers are drawn beside them.
        labels: what the line of each phase is called.

    Raises:
        ValueError: two accuracies for one point of a line.
    """
    cells = cells[cells.attack == ""]
    if cells.duplicated(["dataset", "phase", "epochs"]).any():
        raise ValueError(f"cells must be of one defence (and none); got {', '.join(dict.fromkeys(cells.defense))}")
    theirs = paper.tables().query("table == @table")
    datasets = [name for name in DATASETS if name in set(cells.dataset) | set(theirs.dataset)]
    rows = -(-len(datasets) // 2)
    figure, axes = _subplots(rows, 2, figsize=(7.2, 2.6 * rows), sharex=True, sharey=True, squeeze=False)
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
        ours: as ``prlib.verdict.measured`` gives it; the last epoch of each cell is drawn.
        theirs: rows of ``prlib.paper.tables()``.
        series: what is drawn, each a label with values of the columns defense and case.
    """
    names = [name for name in DATASETS if name in set(ours.dataset) | set(theirs.dataset)]
    rows = -(-len(names) // 2)
    figure, axes = _subplots(rows, 2, figsize=(6, 2.6 * rows), sharex=True, sharey=True, squeeze=False)
    for ax, dataset in zip(axes.flat, names, strict=False):
        for i, (_, defense, case) in enumerate(series):
            shift = 0.16 * (i - (len(series) - 1) / 2)
            for attack, row in _last_epoch(ours, dataset, defense, case).items():
                x, y = ATTACKS.index(attack) + shift, row.ours.value
                ax.errorbar(x, y, [[y - row.ours.low], [row.ours.high - y]], fmt=SHAPES[i], color=f"C{i}", markersize=5)
            for attack, row in _last_epoch(theirs, dataset, defense, case).items():
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
        cells: as ``prlib.verdict.measured`` gives them, of one dataset.
        steps: PR training steps of each defence that is drawn.
    """
    figure, ax = _subplots(figsize=(5.4, 3.6))
    chosen = cells[cells.defense.isin(list(steps)) & (cells.epochs == cells.epochs.max())]
    lines = [("clean, redrawn in both", "", ""), ("FGSM, case A", "fgsm", "A"), ("BIM, case A", "bim", "A")]
    lines += [("FGSM, case B", "fgsm", "B"), ("BIM, case B", "bim", "B")]
    for i, (label, attack, case) in enumerate(lines):
        rows = chosen[(chosen.attack == attack) & (chosen.case == case) & chosen.phase.isin(["both", ""])]
        rows = rows.assign(steps=[steps[name] for name in rows.defense]).sort_values("steps")
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


def noise_beside_redraw(
    splits: Sequence[Split], noise: Transform, redraws: Sequence[Transform], seed: int = 0
) -> Figure:
    """Fig. 5: of each dataset three images, each as it is, with noise, and redrawn."""
    figure, axes = _subplots(len(splits), 3, figsize=(6, 0.9 * len(splits)), squeeze=False)
    for row, split, redraw in zip(axes, splits, redraws, strict=True):
        clean = to_float(split.take(3).images)
        generator = torch.Generator().manual_seed(seed)
        gap = torch.ones(clean.shape[1], clean.shape[2], 2)
        for ax, *triple in zip(row, clean, noise(clean, generator), redraw(clean, generator), strict=True):
            _picture(ax, torch.cat([triple[0], gap, triple[1], gap, triple[2]], dim=2))
        row[0].set_title(DATASETS[split.name].title, loc="left", fontsize=9)
    return figure


def _last_epoch(cells: pd.DataFrame, dataset: str, defense: str, case: str) -> dict[str, Any]:
    """The row of the last epoch for each of the paper's attacks."""
    cells = cells[(cells.dataset == dataset) & (cells.defense == defense) & (cells.case == case)]
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


def _subplots(rows: int = 1, columns: int = 1, figsize: tuple[float, float] = (6, 4), **options: Any) -> Any:
    # Without pyplot, which would show a figure a second time at the end of its cell.
    figure = Figure(figsize=figsize)
    return figure, figure.subplots(rows, columns, **options)


def _picture(ax: Axes, image: Tensor) -> None:
    ax.imshow(image.permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1)
    ax.set_axis_off()


def exposure_over_epsilon(splits: Sequence[Split], redraws: Sequence[PixelRedraw], marked: Sequence[float]) -> Figure:
    """Share of pixels that some change within ε makes the redraw see, over ε; a mark at each dataset's own ε."""
    epsilons = torch.linspace(0, 1, 51).tolist()
    figure, ax = _subplots(figsize=(5.6, 3.4))
    for i, (split, redraw, own) in enumerate(zip(splits, redraws, marked, strict=True)):
        stairs, images = Staircase.of(redraw), to_float(split.images)
        shares = [float((stairs.exposure(images, e) > 0).float().mean()) for e in [*epsilons, own]]
        (line,) = ax.plot(epsilons, shares[:-1], linestyle=DASH_CYCLE[i])
        ax.plot(own, shares[-1], SHAPES[i], color=line.get_color(), clip_on=False)
        label = f"{DATASETS[split.name].title}: {shares[-1]:.0%} at ε = {own:.2g}"
        ax.plot([], [], SHAPES[i], color=line.get_color(), linestyle=line.get_linestyle(), label=label)
    ax.set(xlabel="ε (of a range from 0 to 1)", ylabel="share of pixels exposed", xlim=(0, 1), ylim=(0, 1.02))
    ax.legend(loc="lower right", fontsize=8)
    return figure


def exposure_maps(splits: Sequence[Split], redraws: Sequence[PixelRedraw], epsilons: Sequence[float]) -> Figure:
    """Images and, beneath each, its exposed pixels at the dataset's ε (black)."""
    n = 4
    figure, axes = _subplots(2, n * len(splits), figsize=(1.0 * n * len(splits), 2.3))
    for i, (split, redraw, epsilon) in enumerate(zip(splits, redraws, epsilons, strict=True)):
        images = to_float(split.take(10).images[:n])
        exposed = Staircase.of(redraw).exposure(images, epsilon).amax(1, keepdim=True) > 0
        for j in range(n):
            _picture(axes[0, i * n + j], images[j])
            _picture(axes[1, i * n + j], 1 - exposed[j].float())
        axes[0, i * n].set_title(f"{DATASETS[split.name].title}, ε = {epsilon:.2g}", loc="left", fontsize=9)
    return figure


def over_epsilon(cells: pd.DataFrame) -> Figure:
    """Accuracy under the strongest adaptive attack over ε, a line a dataset; chance in gray."""
    swept = cells[cells.attack.str.startswith("strongest@")]
    swept = swept.assign(epsilon=swept.attack.str.partition("@")[2].astype(float)).sort_values("epsilon")
    figure, ax = _subplots(figsize=(5.6, 3.2))
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
    """Accuracy clean, under the paper's attacks and under those that know the defence: a row a network.

    Args:
        cells: rows of ``prlib.verdict.worst_cases``.
    """
    figure, ax = _subplots(figsize=(6, 0.9 + 0.32 * len(cells)))
    looks = {"clean": ("|", "black"), "paper": ("o", "white"), "adaptive": ("o", "black")}
    labels = {
        "clean": "clean images",
        "paper": "under the paper's attacks, the worst of them",
        "adaptive": "under attacks that know the defence",
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
    names = [f"{DATASETS[c.dataset].title}, {_network(c.defense, c.phase)}" for c in cells.itertuples()]
    ax.set_yticks(range(len(cells)), names)
    ax.set(xlim=(-0.02, 1.02), ylim=(len(cells) - 0.5, -0.5), xlabel="accuracy (the gray line is chance)")
    handles = [
        Line2D([], [], color="black", linestyle="", marker=shape, markerfacecolor=face, label=labels[name])
        for name, (shape, face) in looks.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=1, fontsize=8)
    return figure


def _network(defense: str, phase: str) -> str:
    if defense == "none":
        return "undefended"
    return LABELS[phase] if defense == "pr" else defense

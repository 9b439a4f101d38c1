"""Figures of the method and of the cases."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from prlib.attacks.staircase import Staircase
from prlib.cases import CASES
from prlib.data import DATASETS, Split, Transform, to_float
from prlib.pages.figures.drawing import DASH_CYCLE, SHAPES, picture, subplots
from prlib.redraw import PixelRedraw


def letter_c(redraw: PixelRedraw, seed: int = 0) -> Figure:
    """Fig. 1: a letter C of black and white pixels, and redrawn."""
    letter = torch.zeros(1, 1, 9, 7)
    letter[..., 1:-1, 1], letter[..., 1, 1:-1], letter[..., -2, 1:-1] = 1, 1, 1
    figure, axes = subplots(1, 2, figsize=(4.4, 2.9))
    redrawn = redraw(letter, torch.Generator().manual_seed(seed))
    for ax, image, title in zip(axes, (letter, redrawn), ("original", "redrawn"), strict=True):
        picture(ax, image[0])
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
    figure, axes = subplots(rows, columns, figsize=(6, 1.3 * rows))
    for ax, before, after in zip(axes.flat, clean, redrawn, strict=True):
        gap = torch.ones(before.shape[0], before.shape[1], 2)
        picture(ax, torch.cat([before, gap, after], dim=2))
    return figure


def architecture(redraw: PixelRedraw) -> Figure:
    """Fig. 3: the perceptron of one PR model, with the weights it has learnt."""
    figure, ax = subplots(figsize=(5.6, 3.2))
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
    figure, (top, bottom) = subplots(2, 1, figsize=(5.4, 4.4), sharex=True)
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
    figure, ax = subplots(figsize=(5.4, 3.6))
    grays = np.linspace(0.15, 0.95, edges.shape[1] - 1)
    for colour, gray in enumerate(grays):
        left, width = edges[:, colour], edges[:, colour + 1] - edges[:, colour]
        ax.barh(range(len(edges)), width, left=left, height=0.9, color=str(gray), label=f"colour {colour}")
    ax.set(xlabel="pixel before", ylabel="PR model", xlim=(0, 1), yticks=[])
    ax.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
    return figure


def examples(splits: Sequence[Split], columns: int = 10) -> Figure:
    """One image of each class of each dataset, a dataset a row."""
    figure, axes = subplots(len(splits), columns, figsize=(6, 0.8 * len(splits)), squeeze=False)
    for row, split in zip(axes, splits, strict=True):
        for label, ax in enumerate(row):
            index = int((split.labels == label).nonzero()[0])
            picture(ax, to_float(split.images[index]))
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
    figure, axes = subplots(len(rows), columns, figsize=(6, 0.8 * len(rows)), squeeze=False)
    for row, (name, steps) in zip(axes, rows.items(), strict=True):
        images = clean
        for step in steps:
            random = torch.Generator().manual_seed(seed)
            images = attack(model, images, labels) if step == "attack" else redraw(images, random)
        with torch.no_grad():
            read = model(images).argmax(1)
        for ax, image, label, answer in zip(row, images, labels.tolist(), read.tolist(), strict=True):
            picture(ax, image)
            ax.set_title(f"{answer}" if answer == label else f"{answer} ✗", fontsize=8, pad=2)
        title = f"case {name}" if len(name) == 1 else name
        row[0].text(-0.15, 0.5, title, transform=row[0].transAxes, ha="right", va="center", fontsize=9)
    return figure


def noise_beside_redraw(
    splits: Sequence[Split], noise: Transform, redraws: Sequence[Transform], seed: int = 0
) -> Figure:
    """Fig. 5: of each dataset three images, each as it is, with noise, and redrawn."""
    figure, axes = subplots(len(splits), 3, figsize=(6, 0.9 * len(splits)), squeeze=False)
    for row, split, redraw in zip(axes, splits, redraws, strict=True):
        clean = to_float(split.take(3).images)
        generator = torch.Generator().manual_seed(seed)
        gap = torch.ones(clean.shape[1], clean.shape[2], 2)
        for ax, *triple in zip(row, clean, noise(clean, generator), redraw(clean, generator), strict=True):
            picture(ax, torch.cat([triple[0], gap, triple[1], gap, triple[2]], dim=2))
        row[0].set_title(DATASETS[split.name].title, loc="left", fontsize=9)
    return figure


def exposure_over_epsilon(splits: Sequence[Split], redraws: Sequence[PixelRedraw], marked: Sequence[float]) -> Figure:
    """Share of pixels that some change within ε makes the redraw see, over ε; a mark at each dataset's own ε."""
    epsilons = torch.linspace(0, 1, 51).tolist()
    figure, ax = subplots(figsize=(5.6, 3.4))
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
    figure, axes = subplots(2, n * len(splits), figsize=(1.0 * n * len(splits), 2.3))
    for i, (split, redraw, epsilon) in enumerate(zip(splits, redraws, epsilons, strict=True)):
        images = to_float(split.take(10).images[:n])
        exposed = Staircase.of(redraw).exposure(images, epsilon).amax(1, keepdim=True) > 0
        for j in range(n):
            picture(axes[0, i * n + j], images[j])
            picture(axes[1, i * n + j], 1 - exposed[j].float())
        axes[0, i * n].set_title(f"{DATASETS[split.name].title}, ε = {epsilon:.2g}", loc="left", fontsize=9)
    return figure

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
from prlib.pages.figures.drawing import DASH_CYCLE, SHAPES, UNINVERTED, Layout, legend, mosaic, picture, subplots
from prlib.redraw import PixelRedraw


def letter_c(layout: Layout, redraw: PixelRedraw, seed: int = 0) -> Figure:
    """Fig. 1: a letter C of black and white pixels, and redrawn."""
    letter = torch.zeros(1, 1, 9, 7)
    letter[..., 1:-1, 1], letter[..., 1, 1:-1], letter[..., -2, 1:-1] = 1, 1, 1
    width = layout.fit(4.4)
    figure, axes = subplots(1, 2, figsize=(width, 0.7 * width))
    redrawn = redraw(letter, torch.Generator().manual_seed(seed))
    for ax, image, title in zip(axes, (letter, redrawn), ("original", "redrawn"), strict=True):
        picture(ax, image[0])
        ax.set_title(title)
        for (row, column), value in np.ndenumerate(image[0, 0].numpy()):
            ink = "black" if value > 0.5 else "white"
            ax.text(column, row, f"{value:.2f}".replace("0.", "."), ha="center", va="center", color=ink, fontsize=7)
    return figure


def pairs(layout: Layout, split: Split, redraw: PixelRedraw, n: int = 10, seed: int = 0) -> Figure:
    """Fig. 2: images of a split, each beside its redrawn self."""
    clean = to_float(split.take(n).images)
    redrawn = redraw(clean, torch.Generator().manual_seed(seed))
    together = [_side_by_side(before, after) for before, after in zip(clean, redrawn, strict=True)]
    abreast = layout.abreast(n, each=2)
    figure, axes = mosaic(-(-n // abreast), abreast, layout.fit(6), aspect=_aspect(together[0]), gap=0.15)
    for ax, pair in zip(axes.flat, together, strict=False):
        picture(ax, pair)
    return figure


def architecture(layout: Layout, redraw: PixelRedraw) -> Figure:
    """Fig. 3: the perceptron of one PR model, with the weights it has learnt."""
    figure, ax = subplots(figsize=(layout.fit(5.6), 3.2))
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


def staircase(layout: Layout, redraw: PixelRedraw) -> Figure:
    """A PR model's three logits over the pixel's value, and the staircase that their maximum makes."""
    x = torch.linspace(0, 1, 1001, dtype=torch.float64)
    figure, (top, bottom) = subplots(2, 1, figsize=(layout.fit(5.4), 4.4), sharex=True)
    logits = x[:, None] * redraw.weight[0] + redraw.bias[0]
    for colour, dash in enumerate(("-", "--", "-.")):
        top.plot(x, logits[:, colour], dash, label=f"colour {colour}")
    top.set(ylabel="logit")
    top.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
    low, high = redraw.ranges[redraw.sort(x)].unbind(-1)
    bottom.fill_between(x, low, high, step="mid", alpha=0.3, label="redrawn anywhere in here")
    bottom.plot(x, x, color="black", linewidth=0.8, linestyle=":", label="unchanged")
    bottom.set(xlabel="pixel before", ylabel="pixel after", xlim=(0, 1), ylim=(0, 1))
    bottom.legend(ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1))
    for threshold in redraw.thresholds[0].tolist():
        for ax in (top, bottom):
            ax.axvline(threshold, color="gray", linewidth=0.8)
        bottom.annotate(f"{threshold:.3f}", (threshold, 0.02), xytext=(4, 0), textcoords="offset points")
    return figure


def staircases(layout: Layout, redraw: PixelRedraw) -> Figure:
    """The staircases of k PR models, one a row, in the order of their first threshold."""
    thresholds = redraw.thresholds[redraw.thresholds[:, 0].argsort()].clamp(0, 1)
    edges = torch.cat([torch.zeros(len(thresholds), 1), thresholds, torch.ones(len(thresholds), 1)], dim=1)
    figure, ax = subplots(figsize=(layout.fit(5.4), 3.6))
    grays = np.linspace(0.15, 0.95, edges.shape[1] - 1)
    for colour, gray in enumerate(grays):
        left, width = edges[:, colour], edges[:, colour + 1] - edges[:, colour]
        shade = {"color": str(gray), "edgecolor": "gray", "linewidth": 0.4}
        ax.barh(range(len(edges)), width, left=left, height=0.9, label=f"colour {colour}", **shade)
    figure.patch.set_gid(UNINVERTED)  # dark means dark
    ax.set(xlabel="pixel before", ylabel="PR model", xlim=(0, 1), yticks=[])
    ax.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
    return figure


def examples(layout: Layout, splits: Sequence[Split], classes: int = 10) -> Figure:
    """One image of each class of each dataset, a dataset a row, or two on a narrow page."""
    abreast = layout.abreast(classes)
    figure, axes = mosaic(len(splits) * classes // abreast, abreast, layout.fit(6), titled=len(splits))
    for row, split in zip(axes.reshape(len(splits), classes), splits, strict=True):
        for ax, image in zip(row, to_float(split.images[_one_each(split, classes)]), strict=True):
            picture(ax, image)
        row[0].set_title(DATASETS[split.name].title, loc="left", fontsize=9)
    return figure


def cases(
    layout: Layout,
    split: Split,
    model: nn.Module,
    redraw: Transform,
    attack: Callable[[nn.Module, Tensor, Tensor], Tensor],
    classes: int = 10,
    seed: int = 0,
) -> Figure:
    """Fig. 4: an image of each class as it is and in each case, a case a row; above it what the network reads.

    A narrow page shows half of the classes, and the others below.

    Args:
        attack: as ``prlib.cases.judge`` calls it.
        seed: of every redraw, so that the case C attacks what the row "normal" shows.
    """
    chosen = _one_each(split, classes)
    clean, labels = to_float(split.images[chosen]), split.labels[chosen]
    rows = {"clean": (), **CASES}
    abreast = layout.abreast(classes)
    lines = len(rows) * classes // abreast
    figure, axes = mosaic(lines, abreast, layout.fit(6), titled=lines, left=0.6)
    blocks = axes.reshape(-1, len(rows), abreast)  # of classes, each with all cases
    for case, (name, steps) in enumerate(rows.items()):
        images = clean
        for step in steps:
            random = torch.Generator().manual_seed(seed)
            images = attack(model, images, labels) if step == "attack" else redraw(images, random)
        with torch.no_grad():
            read = model(images).argmax(1)
        row = blocks[:, case]
        for ax, image, label, answer in zip(row.flat, images, labels.tolist(), read.tolist(), strict=True):
            picture(ax, image)
            ax.set_title(f"{answer}" if answer == label else f"{answer} ✗", fontsize=8, pad=2)
        title = f"case {name}" if len(name) == 1 else name
        for first in row[:, 0]:
            first.text(-0.15, 0.5, title, transform=first.transAxes, ha="right", va="center", fontsize=9)
    return figure


def noise_beside_redraw(
    layout: Layout, splits: Sequence[Split], noise: Transform, redraws: Sequence[Transform], n: int = 3, seed: int = 0
) -> Figure:
    """Fig. 5: of each dataset n images, each as it is, with noise, and redrawn."""
    abreast = layout.abreast(n, each=3)
    lines = -(-n // abreast)  # of each dataset
    figure, axes = mosaic(lines * len(splits), abreast, layout.fit(6), aspect=3.1, gap=0.15, titled=len(splits))
    for row, split, redraw in zip(axes.reshape(len(splits), -1), splits, redraws, strict=True):
        clean = to_float(split.take(n).images)
        generator = torch.Generator().manual_seed(seed)
        triples = zip(clean, noise(clean, generator), redraw(clean, generator), strict=True)
        for ax, triple in zip(row, triples, strict=False):
            picture(ax, _side_by_side(*triple))
        row[0].set_title(DATASETS[split.name].title, loc="left", fontsize=9)
    return figure


def exposure_over_epsilon(
    layout: Layout, splits: Sequence[Split], redraws: Sequence[PixelRedraw], marked: Sequence[float]
) -> Figure:
    """Share of pixels that some change within ε makes the redraw see, over ε; a mark at each dataset's own ε."""
    epsilons = torch.linspace(0, 1, 51).tolist()
    figure, ax = subplots(figsize=(layout.fit(6.4), 3.9))
    for i, (split, redraw, own) in enumerate(zip(splits, redraws, marked, strict=True)):
        stairs = Staircase.of(redraw)
        exposures = (stairs.exposure_of_bytes(split.images, epsilon) for epsilon in [*epsilons, own])
        shares = [float((exposure > 0).float().mean()) for exposure in exposures]
        (line,) = ax.plot(epsilons, shares[:-1], linestyle=DASH_CYCLE[i])
        ax.plot(own, shares[-1], SHAPES[i], color=line.get_color(), clip_on=False)
        label = f"{DATASETS[split.name].title}: {shares[-1]:.0%} at ε = {own:.2g}"
        ax.plot([], [], SHAPES[i], color=line.get_color(), linestyle=line.get_linestyle(), label=label)
    ax.set(xlabel="ε (of a range from 0 to 1)", ylabel="share of pixels exposed", xlim=(0, 1), ylim=(0, 1.02))
    legend(figure, layout, ax.get_legend_handles_labels()[0])
    return figure


def exposure_maps(
    layout: Layout, splits: Sequence[Split], redraws: Sequence[PixelRedraw], epsilons: Sequence[float], n: int = 4
) -> Figure:
    """n images of each dataset and, beneath each, its exposed pixels at the dataset's ε (black)."""
    abreast = layout.abreast(len(splits), each=n)
    lines = -(-len(splits) // abreast)
    figure, axes = mosaic(2 * lines, n * abreast, layout.width, titled=lines)
    blocks = axes.reshape(lines, 2, abreast, n).swapaxes(1, 2).reshape(-1, 2, n)
    for (above, beneath), split, redraw, epsilon in zip(blocks, splits, redraws, epsilons, strict=False):
        images = to_float(split.take(10).images[:n])
        exposed = Staircase.of(redraw).exposure(images, epsilon).amax(1, keepdim=True) > 0
        for j in range(n):
            picture(above[j], images[j])
            picture(beneath[j], 1 - exposed[j].float())
        title = above[0].set_title(f"{DATASETS[split.name].title}, ε = {epsilon:.2g}", loc="left", fontsize=9)
        title.set_in_layout(False)  # it is wider than its image, which would set the others apart
    return figure


def _one_each(split: Split, classes: int) -> list[int]:
    """Where the first image of each class is."""
    return [int((split.labels == label).nonzero()[0]) for label in range(classes)]


def _side_by_side(*images: Tensor) -> Tensor:
    """Images C×H×W in one, with a white gap of two pixels between them."""
    gap = torch.ones(images[0].shape[0], images[0].shape[1], 2)
    return torch.cat([part for image in images for part in (gap, image)][1:], dim=2)


def _aspect(image: Tensor) -> float:
    return image.shape[2] / image.shape[1]

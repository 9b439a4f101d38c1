"""What attack and redraw do to single images, in pictures with the networks' answers beneath."""

import base64
import html
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn

from prlib.cases import CASES, Batch, follow
from prlib.data import DATASETS, Transform, load, to_float
from prlib.fast import FastCNN
from prlib.pages.names import ATTACK_TITLES, ATTACKS
from prlib.profiles import default_attack, default_defence, published_snapshots
from prlib.snapshot import load_model

DRAWS = 50
"""How often a network answers to an image that is redrawn at random."""

TITLES = ("clean", "attacked", "attacked, then redrawn", "attacked with the redraw in mind")
"""The pictures of a story, in the order in which they are told."""


class Stage(NamedTuple):
    """The same images at one point of the story: as the network is shown them, and all of its answers, draws×N."""

    images: Tensor
    answers: Tensor

    def right(self, labels: Tensor) -> Tensor:
        """Whether most of its answers to each image are right."""
        return (self.answers == labels).float().mean(0) > 0.5


@dataclass(frozen=True)
class Picture:
    """An image C×H×W in [0, 1], what it is, and what a network says of it, if one is asked."""

    image: Tensor
    title: str
    says: str = ""
    right: bool = False

    def html(self) -> str:
        """A figure that keeps its pixels; its caption says what a screen reader needs."""
        title, mark = html.escape(self.title), "✓" if self.right else "✗"
        says = f"<br /><strong>“{html.escape(self.says)}” {mark}</strong>" if self.says else ""
        return (
            f'<figure class="picture"><img src="{data_uri(self.image)}" width="120" height="120" alt="{title}" />'
            f"<figcaption>{title}{says}</figcaption></figure>"
        )


@dataclass(frozen=True)
class Strip:
    """Pictures in rows, each with a title."""

    rows: dict[str, Sequence[Picture]]

    def __repr__(self) -> str:
        return f"Strip: {', '.join(self.rows)}"

    def _repr_html_(self) -> str:
        parts = (
            f'<p class="strip-title">{html.escape(title)}</p><div class="strip">{"".join(p.html() for p in row)}</div>'
            for title, row in self.rows.items()
        )
        return "\n".join(parts)


def strip(datasets: Iterable[str], n: int = 6) -> Strip:
    """The story of an image of each dataset, told by its published networks, undefended and redrawn in both phases.

    The image is the first of the embedded sample's first n test images that fares as most of them do, of those that
    both networks know when they are clean.
    """
    return Strip({DATASETS[name].title: _pictures(name, n) for name in datasets})


def gallery(dataset: str, n: int = 100) -> Strip:
    """A test image under each of the paper's attacks, a row each: clean, in cases A, B and C, and what case B changed.

    The network is the published one that was trained with redrawing, and the image the first of the embedded sample's
    first n test images that it gets right.
    """
    network, redraw = published_network(dataset, "pr"), default_defence("pr", dataset).build()
    split, classes = load(dataset, "test", "sample").take(n), DATASETS[dataset].classes
    place = int(stage(network, to_float(split.images)).right(split.labels).nonzero()[0])
    one = Batch(to_float(split.images[place : place + 1]), split.labels[place : place + 1], seed=0)
    known = classes[int(one.labels)]
    clean = Picture(one.images[0], f"clean, {known}", known, right=True)
    rows: dict[str, Sequence[Picture]] = {}
    for name in ATTACKS:
        after = follow(network, one, redraw, CASES, default_attack(name, dataset).build())
        with torch.no_grad():
            said = {case: int(network(after[steps]).argmax()) for case, steps in CASES.items()}
        row = [
            Picture(after[CASES[case]][0], f"case {case}", classes[said[case]], said[case] == int(one.labels))
            for case in "ABC"
        ]
        change = after[CASES["B"]][0] - one.images[0]
        largest = float(change.abs().max())
        title = f"change in B, largest {largest:.2f}"
        rows[ATTACK_TITLES[name]] = [clean, *row, Picture(0.5 + change / (2 * largest or 1), title)]
    return Strip(rows)


def data_uri(image: Tensor) -> str:
    """An image C×H×W in [0, 1] as a PNG within an address."""
    pixels = (image * 255).round().byte().permute(1, 2, 0).squeeze(-1).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def published_network(dataset: str, defence: str) -> FastCNN:
    """The published network of a dataset that was trained with a defence, after its last epoch."""
    return load_model(published_snapshots(dataset)[defence])


def _pictures(dataset: str, n: int) -> list[Picture]:
    split = load(dataset, "test", "sample").take(n)
    *stages, clean_redrawn = _stages(dataset, Batch.of(split, 0, 0, "cpu"))
    right = torch.stack([one.right(split.labels) for one in stages])
    known = right[0] & clean_redrawn.right(split.labels)
    typical = right[:, known].float().mean(1) > 0.5
    place = next(i for i in known.nonzero().flatten().tolist() if torch.equal(right[:, i], typical))
    said = [DATASETS[dataset].classes[one.answers[:, place].mode().values] for one in stages]
    return [
        Picture(one.images[place], title, says, bool(is_right))
        for one, title, says, is_right in zip(stages, TITLES, said, right[:, place], strict=True)
    ]


def _stages(dataset: str, batch: Batch) -> list[Stage]:
    """The images at each of ``TITLES``, and last the clean ones redrawn."""
    plain, defended = published_network(dataset, "none"), published_network(dataset, "pr")
    redraw = default_defence("pr", dataset).build()
    mim, knowing = (default_attack(name, dataset).build() for name in ("mim", "crossing-margin"))
    undefended = follow(plain, batch, None, ["B"], mim)[("attack",)]
    unknowing = follow(defended, batch, redraw, ["A"], mim)[("attack",)]
    adapted = follow(defended, batch, redraw, ["adaptive"], knowing)[("attack knowing",)]
    return [
        stage(plain, batch.images),
        stage(plain, undefended),
        *(stage(defended, images, redraw) for images in (unknowing, adapted, batch.images)),
    ]


@torch.no_grad()
def stage(model: nn.Module, images: Tensor, redraw: Transform | None = None, draws: int = DRAWS) -> Stage:
    """Images, or the first of so many redraws of them, and all answers of a network."""
    if redraw is None:
        return Stage(images, model(images).argmax(1)[None])
    generator = torch.Generator().manual_seed(0)
    shown = [redraw(images, generator) for _ in range(draws)]
    return Stage(shown[0], torch.stack([model(one).argmax(1) for one in shown]))

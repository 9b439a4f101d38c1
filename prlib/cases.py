"""What the classifier is shown, and what is measured there: the paper's cases (Section 3.4) as data."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from prlib.data import Split, Transform, to_float

CASES: dict[str, tuple[str, ...]] = {
    "normal": ("defend",),
    "A": ("attack", "defend"),
    "B": ("attack",),
    "C": ("defend", "attack"),
}
"""What is done to a clean image before it is classified, step by step (paper, Section 3.4's arrows)."""

MORE_CASES: dict[str, tuple[str, ...]] = {
    "A twice": ("attack", "defend", "defend"),
    "C twice": ("defend", "attack", "defend"),
    "adaptive": ("attack knowing", "defend"),
}
"""Cases beyond the paper, a second redraw (D23) and an attack that is told of the defence that follows."""

BATCH_SIZE = 250
"""Images judged at a time; fixed, since float32 sums depend on it, and the unit that can be judged again alone."""


@dataclass(frozen=True)
class Outcome:
    """Per example: was the final image classified correctly (bool N), and how far is it from the clean one.

    ``l0`` counts changed values, ``l2`` and ``linf`` are norms of the difference, ``attacked`` is the L∞ norm of what
    the attack itself changed, all float N. ``stuck`` (bool N) marks images at which the attack found no gradient.
    """

    correct: Tensor
    l0: Tensor
    l2: Tensor
    linf: Tensor
    attacked: Tensor
    stuck: Tensor


def judge(
    model: nn.Module,
    split: Split,
    transform: Transform | None,
    seed: int,
    cases: Iterable[str] = ("normal",),
    attack: Callable[..., Tensor] | None = None,
    batches: Iterable[int] | None = None,
) -> dict[str, Outcome]:
    """Classify the images of ``split`` in each of ``cases``.

    Cases A and B share one adversarial image. Every batch of ``BATCH_SIZE`` images has random numbers of its own,
    from ``seed``, the batch's number and the step, so that any of them (``batches``; None is all) can be judged again
    alone.

    Args:
        transform: the defence; None leaves images as they are.
        attack: called with the model, images and true labels, returns adversarial images. Needed in all but normal. In
            case "adaptive" it is called with the transform and a generator, too.

    Raises:
        ValueError: the network was trained on a full dataset and the split is of the embedded sample, whose MNIST test
            images are training images of the full dataset.
    """
    if split.source == "sample" and getattr(model, "trained_on", None) == "full":
        raise ValueError(
            "weights trained on the full data cannot be judged by the embedded sample; use the full test set"
        )
    cases = tuple(cases)
    parts: dict[str, list[list[Tensor]]] = {case: [] for case in cases}
    for batch in range(-(-len(split) // BATCH_SIZE)) if batches is None else batches:
        for case, values in _judge_batch(model, split, transform, seed, cases, attack, batch).items():
            parts[case].append(values)
    return {case: Outcome(*(torch.cat(v) for v in zip(*rows, strict=True))) for case, rows in parts.items()}


def _judge_batch(
    model: nn.Module,
    split: Split,
    transform: Transform | None,
    seed: int,
    cases: tuple[str, ...],
    attack: Callable[..., Tensor] | None,
    batch: int,
) -> dict[str, list[Tensor]]:
    device = next(model.parameters()).device
    part = slice(batch * BATCH_SIZE, (batch + 1) * BATCH_SIZE)
    clean, labels = to_float(split.images[part].to(device)), split.labels[part].to(device)
    after: dict[tuple[str, ...], Tensor] = {(): clean}
    paths = {case: (CASES | MORE_CASES)[case] for case in cases}
    for path in sorted({steps[:i] for steps in paths.values() for i in range(1, len(steps) + 1)}, key=len):
        before = after[path[:-1]]
        # Independent numbers for what one case draws: its first redraw, what an attack draws, its second redraw. They
        # differ in the low 32 bits, all that a CPU's generator takes.
        stream = 1 if path[-1] == "attack knowing" else 2 * path[:-1].count("defend")
        generator = torch.Generator(device).manual_seed(seed + batch + stream * 0x9E3779B1)
        if path[-1] == "defend":
            after[path] = before if transform is None else transform(before, generator)
        elif attack is None:
            raise ValueError("every case but normal needs an attack; got None")
        else:
            told = (transform, generator) if path[-1] == "attack knowing" else ()
            after[path] = attack(model, before, labels, *told)
    return {case: _measure(model, path, after, labels) for case, path in paths.items()}


def _measure(
    model: nn.Module, path: tuple[str, ...], after: Mapping[tuple[str, ...], Tensor], labels: Tensor
) -> list[Tensor]:
    final, clean = after[path], after[()]
    change = (final - clean).flatten(1)
    with torch.no_grad():
        correct = model(final).argmax(1) == labels
    attacked, stuck = torch.zeros(len(clean), device=clean.device), torch.zeros_like(correct)
    for i in (i for i, step in enumerate(path) if step != "defend"):
        start = path[:i]
        attacked = (after[path[: i + 1]] - after[start]).flatten(1).abs().amax(1)
        stuck = _gradient(model, after[start]).flatten(1).eq(0).all(1)
    norms = ((change != 0).sum(1).float(), change.norm(dim=1), change.abs().amax(1))
    return [value.cpu() for value in (correct, *norms, attacked, stuck)]


def _gradient(model: nn.Module, images: Tensor) -> Tensor:
    images = images.detach().requires_grad_()
    logits = model(images)
    return torch.autograd.grad(cross_entropy(logits, logits.argmax(1), reduction="sum"), images)[0]

"""What the classifier is shown, and what is measured there: the paper's cases (Section 3.4) as data."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from prlib.attacks.certificate import HOLDS, certificate
from prlib.attacks.choice import counted, robust_probability
from prlib.attacks.known import staircase_of, voting
from prlib.data import Split, Transform, check_images, check_seed, check_split, in_words, to_float
from prlib.guard import check_labels, guard, in_order, settled, unchanged

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

EVERY_CASE = CASES | MORE_CASES
"""The paper's cases and those beyond."""

ATTACKED = tuple(case for case in EVERY_CASE if case != "normal")
"""The cases that an attack can be judged in."""

CERTIFIED = "certified"
"""The case of an accuracy that is no attack's, but proved to be left by every one."""

ANY = "any"
"""What stands for an attack's name there."""

BATCH_SIZE = 250
"""Images judged at a time; fixed, since float32 sums depend on it, and the unit that can be judged again alone."""

ATTACKING = 0x9E3779B1
"""Added to a batch's seed for what an attack draws; an image's first redraw adds nothing, a second one twice this.

Independent numbers for what one case draws: the sums differ in the low 32 bits, all that a CPU's generator takes.
"""

CHOOSING = ATTACKING + 1_000_003
"""Added to a batch's seed where the strongest of several attacks is chosen, on draws that none of them has seen."""

ANSWERING = ATTACKING + 2_000_003
"""Added to a batch's seed where a random defence answers again."""

MOST_DRAWS = 65_535
"""How often a random defence can answer about an image, since records hold counts of two bytes."""

VOTING = ATTACKING + 3_000_003
"""Added to a batch's seed where more draws vote with the first."""

Adversarial = Callable[..., Tensor]
"""An attack of model, images and true labels, to adversarial images; an adaptive one takes defence and generator, too.

:meta hide-value:
"""


@dataclass(frozen=True)
class Batch:
    """Images that are judged together: float N×C×H×W, their labels N, and the seed of all that is drawn for them."""

    images: Tensor
    labels: Tensor
    seed: int

    def __post_init__(self) -> None:
        check_images(self.images)
        check_labels(self.labels, len(self.images))

    @classmethod
    def of(cls, split: Split, number: int, seed: int, device: torch.device | str) -> "Batch":
        """The ``number``-th ``BATCH_SIZE`` images of a split, with random numbers of their own."""
        part = slice(number * BATCH_SIZE, (number + 1) * BATCH_SIZE)
        return cls(to_float(split.images[part].to(device)), split.labels[part].to(device), seed + number)

    def generator(self, purpose: int = 0) -> torch.Generator:
        """A fresh generator for a purpose, such as ``ATTACKING``."""
        return torch.Generator(self.images.device).manual_seed(self.seed + purpose)


@dataclass(frozen=True)
class Outcome:
    """Per example: was the final image classified correctly (bool N), and how far is it from the clean one.

    ``l0`` counts changed values, ``l2`` and ``linf`` are norms of the difference, ``attacked`` is the L∞ norm of what
    the attack itself changed, all float N. ``stuck`` (bool N) marks images at which the attack found no gradient.
    ``often`` (int32 N) counts the right answers where a random defence gave several.
    """

    correct: Tensor
    l0: Tensor
    l2: Tensor
    linf: Tensor
    attacked: Tensor
    stuck: Tensor
    often: Tensor | None = None

    @classmethod
    def joined(cls, outcomes: Iterable["Outcome"]) -> "Outcome":
        """One outcome of the examples of several, in their order."""
        columns: dict[str, list[Any]] = {}
        for outcome in outcomes:
            for name, values in vars(outcome).items():
                columns.setdefault(name, []).append(values)
        return cls(**{name: torch.cat(parts) for name, parts in columns.items() if parts[0] is not None})


def judge(
    model: nn.Module,
    split: Split,
    defence: Transform | None,
    seed: int,
    cases: Iterable[str] = ("normal",),
    attack: Adversarial | None = None,
    batches: Iterable[int] | None = None,
) -> dict[str, Outcome]:
    """Classify the images of ``split`` in each of ``cases``.

    Cases A and B share one adversarial image. Every batch of ``BATCH_SIZE`` images has random numbers of its own,
    from ``seed``, the batch's number and the step, so that any of them (``batches``; None is all) can be judged again
    alone. PyTorch's global random numbers are seeded, too, and left as found.

    Args:
        model: any network, which is judged in eval mode and left as found; so is a defence that is a module.
        defence: None leaves images as they are.
        attack: called with the model, images and true labels, returns adversarial images. Needed in all but normal. In
            case "adaptive" it is called with the defence and a generator, too.

    Raises:
        ValueError: an argument is not allowed; the model's logits are not N×K, or not finite; a step's images are of
            another shape or type than it was given, or not in [0, 1].
    """
    cases, batches = _checked(split, defence, seed, cases, attack, batches)
    with guard(model, split.labels) as network, _seeded(int(seed)):
        network(to_float(split.images[:1].to(network.device)))  # refuses wrong logits before an attack meets them
    found = []
    for number in batches:
        batch = Batch.of(split, number, int(seed), network.device)
        with unchanged(model):
            after = follow(model, batch, defence, cases, attack)
        found.append(measure(model, batch, cases, after, defence))
    return {case: Outcome.joined(outcomes[case] for outcomes in found) for case in cases}


def _checked(
    split: Split,
    defence: Transform | None,
    seed: int,
    cases: Iterable[str],
    attack: Adversarial | None,
    batches: Iterable[int] | None,
) -> tuple[tuple[str, ...], Sequence[int]]:
    """The cases and the numbers of the batches; a ValueError for any argument of ``judge`` that is not allowed."""
    if not isinstance(split, Split):
        raise ValueError(f"split must be a prlib.data.Split; got {in_words(split)}")
    check_split(split.images, split.labels)
    check_seed(seed)
    for what, function in (("the defence", defence), ("the attack", attack)):
        if function is not None and (isinstance(function, type) or not callable(function)):
            raise ValueError(f"{what} must be a function (or a module), or None; got {function!r}")
    listed = list(cases) if isinstance(cases, Iterable) else [cases]
    unknown = [case for case in listed if not isinstance(case, str) or case not in EVERY_CASE]
    if unknown or not listed:
        raise ValueError(f"cases must be a list of {', '.join(EVERY_CASE)}; got {unknown or 'none'}")
    if attack is None and any(step != "defend" for case in listed for step in EVERY_CASE[case]):
        raise ValueError("every case but normal needs an attack; got None")
    every = all_batches(split)
    numbers = every if batches is None else list(batches) if isinstance(batches, Iterable) else [batches]
    if not numbers or not all(isinstance(number, Integral) and number in every for number in numbers):
        raise ValueError(f"batches must be among the split's, 0 to {len(every) - 1}; got {list(numbers)}")
    return tuple(listed), numbers


def all_batches(split: Split, n: int | None = None) -> range:
    """The numbers of a split's batches, or of as many as hold its first n images."""
    images = len(split) if n is None else min(n, len(split))
    return range(-(-images // BATCH_SIZE))


def follow(
    model: nn.Module, batch: Batch, defence: Transform | None, cases: Iterable[str], attack: Adversarial | None = None
) -> dict[tuple[str, ...], Tensor]:
    """The batch's images after every step of every case, by the steps done; () is clean. Arguments as ``judge``'s."""
    paths = [EVERY_CASE[case] for case in cases]
    with guard(model, batch.labels, defence), _seeded(batch.seed):
        after: dict[tuple[str, ...], Tensor] = {(): in_order(batch.images)}
        for path in sorted({steps[:i] for steps in paths for i in range(1, len(steps) + 1)}, key=len):
            before, step = after[path[:-1]], path[-1]
            if step == "defend":
                again = 2 * ATTACKING * path[:-1].count("defend")
                redrawn = before if defence is None else defence(before.clone(), batch.generator(again))
                after[path] = settled("the defence", redrawn, before)
            elif attack is None:
                raise ValueError("every case but normal needs an attack; got None")
            else:
                told = (voting(defence)[0], batch.generator(ATTACKING)) if step == "attack knowing" else ()
                attacked = attack(model, before.clone(), batch.labels.clone(), *told)
                after[path] = settled("the attack", attacked, before)
    return after


def measure(
    model: nn.Module,
    batch: Batch,
    cases: Iterable[str],
    after: Mapping[tuple[str, ...], Tensor],
    defence: Transform | None = None,
) -> dict[str, Outcome]:
    """Classify what each case ends with; ``after`` is what ``follow`` returned.

    Where a defence's draws vote, the last step of ``after`` is the first of them.
    """
    found = {}
    with guard(model, batch.labels, defence) as network, _seeded(batch.seed):
        for case in cases:
            path = EVERY_CASE[case]
            drawn, votes = voting(defence) if path[-1] == "defend" else (None, 1)
            behind, generator = after[path[:-1]], batch.generator(VOTING)
            shown = [after[path], *(drawn(behind.clone(), generator) for _ in range(votes - 1) if drawn)]
            found[case] = _outcome(network, path, after, batch.labels, shown)
    return found


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """PyTorch's global random numbers start at a seed inside, and go on afterwards where they were."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def answered(model: nn.Module, batch: Batch, images: Tensor, defence: Transform | None, draws: int) -> Tensor:
    """How often a random defence before the model is right about images of the batch, of new answers: int32 N."""
    generator = batch.generator(ANSWERING)
    drawn, votes = voting(defence)
    ask = partial(robust_probability, votes=votes, generator=generator, batch_size=BATCH_SIZE)
    rates = ask(model, images, batch.labels, draws=draws, defence=drawn)
    return (rates * draws).round().to(torch.int32).cpu()


def certified(model: nn.Module, batch: Batch, defence: Transform | None, epsilon: float, boxes: int) -> Outcome:
    """Of which images ``prlib.attacks.certificate`` shows that the answer is right whatever an attack does within ε."""
    settled = certificate(model, batch.images, batch.labels, stairs=staircase_of(defence), epsilon=epsilon, boxes=boxes)
    none = torch.zeros(len(settled))
    return Outcome(settled == HOLDS, none, none, none, none, none.bool())


def _outcome(
    model: nn.Module,
    path: tuple[str, ...],
    after: Mapping[tuple[str, ...], Tensor],
    labels: Tensor,
    shown: Sequence[Tensor],
) -> Outcome:
    final, clean = after[path], after[()]
    change = (final - clean).flatten(1)
    with torch.no_grad():
        correct = counted([model(images) for images in shown]).argmax(1) == labels
    attacked, stuck = torch.zeros(len(clean), device=clean.device), torch.zeros_like(correct)
    for i in (i for i, step in enumerate(path) if step != "defend"):
        start = path[:i]
        attacked = (after[path[: i + 1]] - after[start]).flatten(1).abs().amax(1)
        stuck = _gradient(model, after[start]).flatten(1).eq(0).all(1)
    norms = ((change != 0).sum(1).float(), change.norm(dim=1), change.abs().amax(1))
    return Outcome(*(value.cpu() for value in (correct, *norms, attacked, stuck)))


def _gradient(model: nn.Module, images: Tensor) -> Tensor:
    images = images.detach().requires_grad_()
    logits = model(images)
    return torch.autograd.grad(cross_entropy(logits, logits.argmax(1), reduction="sum"), images)[0]

"""What the attacks share: checked parameters, batches, losses, steps and the ε-ball."""

import math
from collections.abc import Callable
from importlib import import_module
from numbers import Integral, Real
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from prlib.attacks.directions import DIRECTIONS
from prlib.data import Transform
from prlib.guard import alike, copied

T = TypeVar("T")

LARGEST = 1e15
"""The largest number that an attack computes with (its square times a gradient's still is a float32)."""


def _cross_entropy(logits: Tensor, labels: Tensor, towards: Tensor | None = None) -> Tensor:
    if towards is not None:
        return -cross_entropy(logits, towards, reduction="none")
    return cross_entropy(logits, labels, reduction="none")


def _excess(logits: Tensor, labels: Tensor, towards: Tensor | None = None) -> Tensor:
    if towards is not None:
        return (logits.gather(1, towards[:, None]) - logits.gather(1, labels[:, None])).squeeze(1)
    return -margin(logits, labels)


LOSSES: dict[str, Callable[..., Tensor]] = {"cross-entropy": _cross_entropy, "margin": _excess}
"""What attacks that are given the label can climb, functions of logits N×K and labels N, to a loss for each image.

With ``towards`` (int64 N) it is of being taken for these classes, without of being taken for any but the label.

:meta hide-value:
"""


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """The label's logit minus the largest other: negative when misclassified."""
    index = labels[:, None]
    return logits.gather(1, index).squeeze(1) - logits.scatter(1, index, -math.inf).amax(1)


def loss_gradient(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    draws: int = 1,
    loss: str = "cross-entropy",
    towards: Tensor | None = None,
) -> Tensor:
    """Gradient of each image's loss, the mean over ``draws`` copies of it."""
    images = images.detach().requires_grad_()
    repeated = None if towards is None else towards.repeat(draws)
    losses = LOSSES[loss](model(images.repeat(draws, 1, 1, 1)), labels.repeat(draws), repeated)
    return torch.autograd.grad(losses.sum() / draws, images)[0]


def aims(logits: Tensor, labels: Tensor, targets: int) -> list[Tensor | None]:
    """The classes to drive images to, one after the other, int64 N each: their likeliest wrong ones of logits N×K.

    With 0 ``targets`` there is one aim, None: any class but the label. No more are given than there are.
    """
    if not targets:
        return [None]
    order = logits.scatter(1, labels[:, None], -math.inf).argsort(1, descending=True)
    return list(order[:, : min(targets, logits.shape[1] - 1)].unbind(1))


def climb(
    start: Tensor,
    clean: Tensor,
    gradient: Callable[[Tensor], Tensor],
    direction: Callable[[Tensor], Tensor],
    *,
    epsilon: float,
    step_size: float,
    steps: int,
) -> Tensor:
    """Steps of ``step_size`` along what ``direction`` makes of the gradient, each clipped to ``clean``'s ε-ball."""
    adversarial = start
    for _ in range(steps):
        adversarial = project(adversarial + step_size * direction(gradient(adversarial)), clean, epsilon)
    return adversarial


def defended(model: nn.Module, defence: Transform | None, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    """The model behind a defence, which gets copies: images N×C×H×W to logits N×K; every call draws afresh."""
    if defence is None:
        return model
    return lambda images: model(alike("the defence", defence(copied(images), generator), images))


def by_batch(
    attack: Callable[[Tensor, Tensor], T],
    model: nn.Module,
    images: Tensor,
    labels: Tensor | None,
    batch_size: int,
    forward: Callable[[Tensor], Tensor] | None = None,
) -> list[T]:
    """``attack(batch, labels)`` of every batch; labels not given are predicted from ``forward``'s logits."""
    results, forward = [], forward or model
    for i in range(0, len(images), batch_size):
        batch = images[i : i + batch_size]
        with torch.no_grad():
            targets = forward(batch).argmax(1) if labels is None else labels[i : i + batch_size]
        results.append(attack(batch, targets))
    return results


def per_image(values: Tensor) -> Tensor:
    """Values N, ready to meet images N×C×H×W."""
    return values[:, None, None, None]


def project(adversarial: Tensor, clean: Tensor, epsilon: float) -> Tensor:
    """The nearest image within ``epsilon`` of ``clean`` in every pixel, and in [0, 1]."""
    return adversarial.clamp(clean - epsilon, clean + epsilon).clamp(0, 1)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and isinstance(value, Real) and not isinstance(value, bool)


Rule = tuple[str, Callable[[Any], bool]]
_FROM_0_TO_1: Rule = "a number from 0 to 1", lambda value: _is_number(value) and 0 <= value <= 1
_NOT_NEGATIVE: Rule = f"a number from 0 to {LARGEST:g}", lambda value: _is_number(value) and 0 <= value <= LARGEST
_POSITIVE: Rule = f"a positive number up to {LARGEST:g}", lambda value: _is_number(value) and 0 < value <= LARGEST
_COUNT: Rule = (
    f"a positive integer up to {LARGEST:g}",
    lambda value: _is_number(value) and isinstance(value, Integral) and 0 < int(value) <= LARGEST,
)
_NATURAL: Rule = (
    f"an integer from 0 to {LARGEST:g}",
    lambda value: _is_number(value) and isinstance(value, Integral) and 0 <= int(value) <= LARGEST,
)

ALLOWED: dict[str, Rule] = {
    "epsilon": _FROM_0_TO_1,
    **dict.fromkeys(("decay", "confidence", "warm_up"), _NOT_NEGATIVE),
    **dict.fromkeys(("step_size", "learning_rate", "initial_const"), _POSITIVE),
    **dict.fromkeys(("steps", "max_steps", "binary_search_steps", "rounds", "queries", "batch_size"), _COUNT),
    **dict.fromkeys(("restarts", "draws", "moves", "width", "votes", "evaluations", "boxes"), _COUNT),
    "direction": ("one of sign, momentum, adam", lambda value: value in DIRECTIONS),
    **dict.fromkeys(("targets", "late_draws"), _NATURAL),
    "loss": (f"one of {', '.join(LOSSES)}", lambda value: value in LOSSES),
    "norm": ('"sign" or "l2"', lambda value: value in ("sign", "l2")),
    **dict.fromkeys(
        ("smooth", "own_gradient", "straight", "every_step", "lucky"),
        ("True or False", lambda value: isinstance(value, bool)),
    ),
}
"""What each parameter of an attack may be, in words and as a test of a value.

:meta hide-value:
"""


def check_parameters(**parameters: Any) -> None:
    """Raise a ValueError that names the first parameter that is not allowed; every one must be in ``ALLOWED``."""
    for name, value in parameters.items():
        if name not in ALLOWED:
            raise TypeError(f"nothing says what {name} may be: it is not in prlib.attacks.base.ALLOWED")
        allowed, holds = ALLOWED[name]
        if not holds(value):
            raise ValueError(f"{name} must be {allowed}; got {value!r}")


def torchattacks() -> ModuleType:
    """The library that some attacks are taken from, imported only when one of them is used.

    It cannot be a declared dependency: it asks for an old requests that excludes the one that prlib needs.

    Raises:
        ModuleNotFoundError: it is not installed; the message says how to install it.
    """
    return library("torchattacks", "Square and AutoAttack need", "--no-deps torchattacks==3.5.1")


def library(name: str, who_needs: str, requirement: str) -> ModuleType:
    """A library that some attacks alone need; a ModuleNotFoundError says who needs it and how to install it."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        text = f"{who_needs} {name} ({error}); install it with: pip install {requirement}"
        raise ModuleNotFoundError(text, name=error.name) from error


class BehindDefence(nn.Module):
    """A model behind its defence, as torchattacks wants it: mean logits over draws; it says the images' device."""

    def __init__(
        self, model: nn.Module, images: Tensor, defence: Transform | None, generator: torch.Generator, draws: int = 1
    ) -> None:
        super().__init__()
        self.device = nn.Parameter(images.new_empty(0), requires_grad=False)  # what torchattacks looks for
        self.defended = defended(model, defence, generator)
        self.draws = 1 if defence is None else draws
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Logits N×K of images N×C×H×W: the mean over draws."""
        return torch.stack([self.defended(images) for _ in range(self.draws)]).mean(0)

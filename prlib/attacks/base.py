"""What the attacks share: checked arguments, frozen networks, batches, losses and the ε-ball."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from prlib.data import Transform, check_images

T = TypeVar("T")

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross-entropy": partial(cross_entropy, reduction="none"),
    "margin": lambda logits, labels: -margin(logits, labels),
}
"""What attacks that know the label can climb, each a function of logits N×K and labels N that gives an image a loss.

:meta hide-value:
"""


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """The label's logit minus the largest other: negative when misclassified."""
    index = labels[:, None]
    return logits.gather(1, index).squeeze(1) - logits.scatter(1, index, -math.inf).amax(1)


def loss_gradient(
    model: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, draws: int = 1, loss: str = "cross-entropy"
) -> Tensor:
    """Gradient of each image's loss, the mean over ``draws`` copies of it."""
    images = images.detach().requires_grad_()
    losses = LOSSES[loss](model(images.repeat(draws, 1, 1, 1)), labels.repeat(draws))
    return torch.autograd.grad(losses.sum() / draws, images)[0]


def defended(model: nn.Module, preprocess: Transform | None, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    """The model behind a preprocessor: images N×C×H×W to logits N×K; every call draws afresh."""
    return model if preprocess is None else lambda images: model(preprocess(images, generator))


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
    with frozen_model(model):
        for i in range(0, len(images), batch_size):
            batch = images[i : i + batch_size].detach()
            with torch.no_grad():
                targets = forward(batch).argmax(1) if labels is None else labels[i : i + batch_size]
            results.append(attack(batch, targets))
    return results


@contextmanager
def frozen_model(model: nn.Module) -> Iterator[None]:
    """Eval mode and no gradients for parameters inside; afterwards every module and parameter is as it was."""
    modes = [(module, module.training) for module in model.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        model.eval().requires_grad_(False)
        with torch.enable_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def per_image(values: Tensor) -> Tensor:
    """Values N, ready to meet images N×C×H×W."""
    return values[:, None, None, None]


def project(adversarial: Tensor, clean: Tensor, epsilon: float) -> Tensor:
    """The nearest image within ``epsilon`` of ``clean`` in every pixel, and in [0, 1]."""
    return adversarial.clamp(clean - epsilon, clean + epsilon).clamp(0, 1)


def divide(values: Tensor, size: Tensor) -> Tensor:
    """``values / size``, or the values as they are where the size is zero."""
    return values / torch.where(size > 0, size, 1)


def check_arguments(images: Tensor, labels: Tensor | None, **parameters: float) -> None:
    """Raise a ValueError that names the first argument that is not allowed."""
    for name, value in parameters.items():
        number = isinstance(value, int | float)
        if name == "epsilon":
            allowed, holds = "a number from 0 to 1", number and 0 <= value <= 1
        elif name in ("decay", "confidence"):
            allowed, holds = "a number, not negative", number and 0 <= value < math.inf
        elif name in ("step_size", "learning_rate", "initial_const"):
            allowed, holds = "a positive number", number and 0 < value < math.inf
        else:
            allowed, holds = "a positive integer", isinstance(value, int) and value > 0
        if not holds:
            raise ValueError(f"{name} must be {allowed}; got {value!r}")
    check_images(images)
    if labels is not None and (labels.dtype != torch.int64 or labels.shape != images.shape[:1]):
        raise ValueError(
            f"labels must be int64, one for each of the {len(images)} images; "
            f"got {labels.dtype} of shape {tuple(labels.shape)}"
        )
    if not len(images) or (labels is not None and labels.min() < 0):
        raise ValueError("there must be at least one image, and labels must not be negative")


def check_loss(loss: str) -> None:
    """Raise a ValueError unless the loss is one of ``LOSSES``."""
    if loss not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}; got {loss!r}")


class BehindDefence(nn.Module):
    """A model behind its defence, as torchattacks wants it: mean logits over draws."""

    def __init__(self, model: nn.Module, defence: Transform | None, generator: torch.Generator, draws: int = 1) -> None:
        super().__init__()
        self.model = model  # for its parameters, which tell torchattacks the device
        self.defended = defended(model, defence, generator)
        self.draws = 1 if defence is None else draws

    def forward(self, images: Tensor) -> Tensor:
        """Logits N×K of images N×C×H×W: the mean over draws."""
        return torch.stack([self.defended(images) for _ in range(self.draws)]).mean(0)

"""PGD, and what random defences call for: expectation over draws (EOT) and a stand-in gradient (BPDA)."""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from prlib.attacks.base import (
    aims,
    by_batch,
    check_parameters,
    climb,
    defended,
    loss_gradient,
    margin,
    per_image,
    project,
)
from prlib.attacks.directions import DIRECTIONS
from prlib.attacks.known import Known
from prlib.attacks.staircase import redraw_behind, soft_mean
from prlib.data import Transform
from prlib.guard import alike, guarded


@guarded
def pgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor | None = None,
    *,
    epsilon: float,
    step_size: float,
    steps: int,
    generator: torch.Generator,
    restarts: int = 1,
    draws: int = 1,
    defence: Transform | None = None,
    loss: str = "cross-entropy",
    direction: str = "sign",
    targets: int = 0,
    late_draws: int = 0,
    every_step: bool = False,
    batch_size: int = 128,
) -> Tensor:
    """Projected gradient descent in the ε-ball from random starts (Madry et al., 2018), through random defences.

    Of an image's restarts the one that ends with the smallest margin is returned, judged on fresh draws.

    Args:
        generator: of the starts and of the defence's draws.
        draws: a random defence is attacked in expectation: predictions, gradients and margins are means over so
            many draws, tiled into one batch (EOT; Athalye et al., 2018).
        defence: in front of the model, made differentiable by ``straight_through`` where it is not so by itself; None
            if there is none, or the model itself is random.
        loss: what is climbed: "cross-entropy", or "margin", the largest other logit minus the label's, whose gradient
            does not vanish where the network is sure of itself (Carlini & Wagner, 2017).
        direction: what each step follows, a key of ``prlib.attacks.directions.DIRECTIONS``.
        targets: from each start towards so many of the likeliest wrong classes in turn; 0 is any class but the label.
        late_draws: draws in the last quarter of the steps, and for judging what they end with; 0 is as many as before.
        every_step: the best of the images after every step is returned, not of those after the last alone: long steps
            can leave what they had found. One more prediction a step.
    """
    check_parameters(epsilon=epsilon, step_size=step_size, steps=steps, batch_size=batch_size)
    check_parameters(restarts=restarts, draws=draws, loss=loss, direction=direction)
    check_parameters(targets=targets, late_draws=late_draws, every_step=every_step)
    network = defended(model, defence, generator)
    most, late = max(draws, late_draws), steps // 4 if late_draws else 0
    phases = [(steps - late, draws), (late, late_draws)]
    if every_step:
        phases = [(1, copies) for count, copies in phases for _ in range(count)]

    def mean_logits(inputs: Tensor) -> Tensor:
        return network(inputs.repeat(most, 1, 1, 1)).unflatten(0, (most, len(inputs))).mean(0)

    def attack(clean: Tensor, labels: Tensor) -> Tensor:
        best, smallest = clean, clean.new_full((len(clean),), math.inf)

        def consider(adversarial: Tensor) -> None:
            nonlocal best, smallest
            with torch.no_grad():
                left = margin(mean_logits(adversarial), labels)
            best = torch.where(per_image(left < smallest), adversarial, best)
            smallest = smallest.minimum(left)

        with torch.no_grad():
            towards = aims(mean_logits(clean), labels, targets) if targets else [None]
        shape = (len(clean), restarts, *clean.shape[1:])  # an image's numbers come together, whatever the batch
        uniform = torch.rand(shape, generator=generator, device=generator.device, dtype=clean.dtype)
        for start in uniform.to(clean.device).unbind(1):
            for aim in towards:
                adversarial = project(clean + epsilon * (2 * start - 1), clean, epsilon)
                follow = DIRECTIONS[direction]()
                for count, copies in phases:
                    climbed = partial(loss_gradient, network, labels=labels, draws=copies, loss=loss, towards=aim)
                    ball: dict[str, Any] = {"epsilon": epsilon, "step_size": step_size, "steps": count}
                    adversarial = climb(adversarial, clean, climbed, follow, **ball)
                    if every_step:
                        consider(adversarial)
                if not every_step:
                    consider(adversarial)
        return best

    return torch.cat(by_batch(attack, model, images, labels, max(1, batch_size // most), mean_logits))


def straight_through(defence: Transform) -> Transform:
    """The defence with the identity as its derivative (straight-through BPDA; Athalye et al., 2018).

    For random or non-differentiable defences whose output stays near the input, such as a redraw. (A smooth
    stand-in that grows with each pixel would give sign steps the same direction.) One that is ``Known`` to be
    differentiable stays as it is.
    """
    if isinstance(defence, Known) and defence.differentiable:
        return defence

    def wrapped(images: Tensor, generator: torch.Generator) -> Tensor:
        with torch.no_grad():
            processed = alike("the defence", defence(images.clone(), generator), images)
        return processed + (images - images.detach())  # plus exactly zero

    return wrapped


def eot_pgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    defence: Transform | None,
    generator: torch.Generator,
    smooth: bool = False,
    own_gradient: bool = False,
    straight: bool = False,
    **options: Any,
) -> Tensor:
    """``attacks.pgd`` through the defence, in expectation over its draws (EOT and BPDA; Athalye et al., 2018).

    Args:
        smooth: attack through ``soft_mean`` instead of draws; a redraw alone has one.
        own_gradient: follow the defence's own gradient, such as noise has, and not straight through it.
        straight: step straight through a defence that is ``Known`` to be differentiable, too: its gradient may mislead.
        options: of ``attacks.pgd``.
    """
    through = defence
    if defence is not None and not own_gradient:
        through = straight_through(defence.transform if straight and isinstance(defence, Known) else defence)
    if smooth:
        redraw = redraw_behind(defence.transform if isinstance(defence, Known) else defence)

        def through(x: Tensor, _: torch.Generator) -> Tensor:
            return soft_mean(redraw, x)

    return pgd(model, images, labels, defence=through, generator=generator, **options)


def transfer(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    surrogate: nn.Module,
    generator: torch.Generator,
    **options: Any,
) -> Tensor:
    """``attacks.pgd`` on another network, the surrogate: it neither sees the model nor its defence."""
    return pgd(surrogate, images, labels, generator=generator, **options)


def transfer_through(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    surrogate: nn.Module,
    defence: Transform | None,
    generator: torch.Generator,
    **options: Any,
) -> Tensor:
    """``attacks.eot_pgd`` on a surrogate behind the same defence: all but the model's weights is known."""
    return eot_pgd(surrogate, images, labels, defence=defence, generator=generator, **options)

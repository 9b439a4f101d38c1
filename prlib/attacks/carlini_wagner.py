"""Carlini and Wagner's L2 attack (paper, Eq. 6)."""

import math
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn

from prlib.attacks.base import LARGEST, BehindDefence, by_batch, check_parameters, margin, per_image
from prlib.attacks.pgd import straight_through
from prlib.data import Transform
from prlib.guard import guarded

WINDOW = 62
"""About how many steps of Adam are summed up before an image's loss is compared with what it was.

A sixteenth of the paper's 1,000 steps: 16 windows of 62 (the 8 steps left over are not taken).
"""


@guarded
def cw_l2(
    model: nn.Module,
    images: Tensor,
    labels: Tensor | None = None,
    *,
    confidence: float = 0.0,
    initial_const: float = 10.0,
    binary_search_steps: int = 1,
    max_steps: int = 1000,
    learning_rate: float = 0.1,
    batch_size: int = 128,
) -> tuple[Tensor, Tensor]:
    """Carlini & Wagner's L2 attack, untargeted: the smallest perturbation that fools the model (paper, Eq. 6).

    Minimises ‖x' - x‖² + c · max(0, f(x') + ``confidence``) over w, where x' = (tanh(w) + 1) / 2 and f is the
    label's logit minus the largest other (Carlini & Wagner, 2017, Section V). The defaults are the paper's setting.

    Args:
        confidence: by how much another logit must exceed the label's.
        initial_const, binary_search_steps: each image's c starts at ``initial_const``; a further step halves the
            interval between a c that failed and one that succeeded, or multiplies c by ten while none has.
        max_steps, learning_rate: of Adam, for each c, at most. A fooled image that no longer gets closer takes
            some finer steps, then makes room in the batch for another.

    Returns:
        The closest successful images, N×C×H×W, and whether there is one, bool N. Where there is none the image is
        the original. An original that is misclassified by more than ``confidence`` is a success as it is.
    """
    check_parameters(confidence=confidence, initial_const=initial_const, learning_rate=learning_rate)
    check_parameters(binary_search_steps=binary_search_steps, max_steps=max_steps, batch_size=batch_size)

    @torch.no_grad()
    def look(clean: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return targets, margin(model(clean), targets) < -confidence

    def search(clean: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        best, distance = clean, clean.new_full((len(clean),), math.inf)
        low, high, const = torch.zeros_like(distance), distance, torch.full_like(distance, initial_const)
        for _ in range(binary_search_steps):
            found, length, held = _cw_descend(
                model, clean, targets, const, confidence, max_steps, learning_rate, batch_size
            )
            best = torch.where(per_image(length < distance), found, best)
            distance = distance.minimum(length)
            low, high = torch.where(held, low, const), torch.where(held, const, high)
            const = torch.where(high.isinf(), (const * 10).clamp_max(LARGEST), (low + high) / 2)
        return best, distance.isfinite()

    targets, success = map(torch.cat, zip(*by_batch(look, model, images, labels, batch_size), strict=True))
    best, rest = images.clone(), (~success).nonzero().squeeze(1)
    best[rest], success[rest] = search(best[rest], targets[rest])
    return best, success


@wraps(cw_l2)
def cw_images(*arguments: Any, **options: Any) -> Tensor:
    """CW's images alone: where it fails they are the originals."""
    return cw_l2(*arguments, **options)[0]


@guarded
def cw_through(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    defence: Transform | None,
    generator: torch.Generator,
    draws: int = 10,
    **options: Any,
) -> Tensor:
    """CW on the mean logits of so many draws; a random defence can still be right now and then: ask for confidence."""
    through = None if defence is None else straight_through(defence)
    return cw_l2(BehindDefence(model, images, through, generator, draws), images, labels, **options)[0]


@guarded
def cw_released(
    model: nn.Module,
    images: Tensor,
    labels: Tensor | None = None,
    *,
    confidence: float = 0.0,
    initial_const: float = 10.0,
    max_steps: int = 1000,
    learning_rate: float = 0.1,
    batch_size: int = 10,
) -> Tensor:
    """The same attack as CleverHans has it, which the released code calls (one search step): N×C×H×W.

    Images enter tanh space scaled by 0.999999. Those of a batch stop together: ten times on the way their summed loss
    is looked at, and if it is more than 0.9999 of what it was, the batch ends. So a result depends on the images beside
    it. Where nothing was found the image is the original.
    """
    check_parameters(confidence=confidence, initial_const=initial_const, learning_rate=learning_rate)
    check_parameters(max_steps=max_steps, batch_size=batch_size)

    def attack(clean: Tensor, targets: Tensor) -> Tensor:
        best, distance = clean.clone(), clean.new_full((len(clean),), math.inf)
        start = torch.atanh((2 * clean - 1) * 0.999999)
        origin, const = (start.tanh() + 1) / 2, clean.new_full((len(clean),), initial_const)
        w = start.requires_grad_()
        adam, previous = torch.optim.Adam([w], lr=learning_rate), 1e6
        for step in range(max_steps):
            adversarial, length, excess, loss, w.grad = _cw_loss(model, w, origin, targets, const, confidence)
            total = float(loss.sum())
            if step % max(1, max_steps // 10) == 0:
                if total > 0.9999 * previous:
                    break
                previous = total
            closer = (excess < 0) & (length < distance)
            best = torch.where(per_image(closer), adversarial, best)
            distance = torch.where(closer, length, distance)
            adam.step()
        return best

    return torch.cat(by_batch(attack, model, images, labels, batch_size))


def _cw_descend(
    model: nn.Module,
    clean: Tensor,
    labels: Tensor,
    const: Tensor,
    confidence: float,
    max_steps: int,
    learning_rate: float,
    batch_size: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Adam (Kingma & Ba, 2015) at each image's c, on a batch that images leave when they are done and others join.

    Returns the closest successes, their squared distances (infinity where there is none), and whether the image was
    fooled to the last: only then is its c large enough, since Adam's first steps overshoot with any.
    """
    best, distance, held = clean.clone(), torch.full_like(const, math.inf), torch.zeros_like(const, dtype=torch.bool)
    windows = max(1, round(max_steps / WINDOW))
    steps = max_steps // windows

    def start(row: Tensor) -> tuple[Tensor, ...]:
        w = torch.atanh((2 * clean[row] - 1) * 0.9999)  # black and white would lie at infinity, where gradients vanish
        zeros = torch.zeros_like(const[row])
        return row, w, torch.zeros_like(w), torch.zeros_like(w), zeros, zeros + learning_rate, zeros + math.inf

    waiting = torch.arange(len(clean), device=clean.device)
    moving = start(waiting[:0])
    while len(waiting) + len(moving[0]):
        joining, waiting = waiting.tensor_split([batch_size - len(moving[0])])
        row, w, mean, square, age, rate, previous = map(torch.cat, zip(moving, start(joining), strict=True))
        total, fooled = torch.zeros_like(previous), torch.zeros_like(previous, dtype=torch.bool)
        given = clean[row], labels[row], const[row]
        for _ in range(steps):
            adversarial, length, excess, loss, gradient = _cw_loss(model, w, *given, confidence)
            closer = (excess < 0) & (length < distance[row])
            best[row] = torch.where(per_image(closer), adversarial, best[row])
            distance[row] = torch.where(closer, length, distance[row])
            total, fooled, age = total + loss, fooled | (excess < 0), age + 1
            mean.lerp_(gradient, 0.1)
            square.lerp_(gradient.square(), 0.001)
            size = per_image(rate / (1 - 0.9**age))
            w = w - size * mean / ((square / per_image(1 - 0.999**age)).sqrt() + 1e-8)
        held[row] = fooled
        # A single loss says little, since they oscillate: compare sums over windows. An image that stalls gets one more
        # window at a tenth of the learning rate, which ends the oscillation. One not fooled yet gets all of its steps:
        # on a flat network the loss may begin to fall after hundreds.
        stalled = distance[row].isfinite() & (total >= 0.99 * previous)
        going = (rate > learning_rate / 2) & (age < steps * windows)
        rate = torch.where(stalled, rate / 10, rate)
        moving = tuple(rows[going] for rows in (row, w, mean, square, age, rate, total))
    return best, distance, held


def _cw_loss(
    model: nn.Module, w: Tensor, clean: Tensor, labels: Tensor, const: Tensor, confidence: float
) -> tuple[Tensor, ...]:
    """The images at w, their squared distances, what they lack for success, Eq. 6's loss and its gradient."""
    w = w.detach().requires_grad_()
    adversarial = (w.tanh() + 1) / 2
    length = (adversarial - clean).square().sum((1, 2, 3))
    excess = margin(model(adversarial), labels) + confidence
    loss = length + const * excess.clamp_min(0)
    # Where all are fooled, the network has no part in the gradient, and need not be gone through.
    gradient = torch.autograd.grad((length if (excess < 0).all() else loss).sum(), w)[0]
    return adversarial.detach(), length.detach(), excess.detach(), loss.detach(), gradient

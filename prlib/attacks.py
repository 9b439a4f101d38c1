"""Attacks on a classifier: the paper's four (Section 3.2), and PGD with what random defences call for.

Every attack is a function ``attack(model, images, labels=None, *, …)``. ``model`` is a module that returns
logits N×K; ``images`` are float N×C×H×W in [0, 1], and so is what comes back; ``labels`` are int64 N, the classes
to be driven away from, and None means the model's own predictions (no label leaking; Kurakin et al., 2017).

The model is attacked in eval mode and left as found: its parameters, their ``grad`` and ``requires_grad``, the mode
of every module. An image's result does not depend on the others in its batch; ``batch_size`` bounds how many the
network sees at a time. Bad arguments raise a ValueError before anything is computed.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
import torchattacks
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from prlib.data import Transform, check_images, values_are_checked

T = TypeVar("T")


def fgsm(
    model: nn.Module, images: Tensor, labels: Tensor | None = None, *, epsilon: float, batch_size: int = 128
) -> Tensor:
    """Fast gradient sign method: one step of ``epsilon`` (paper, Eq. 2; Goodfellow et al., 2014)."""
    _check(images, labels, epsilon=epsilon, batch_size=batch_size)
    attack = torchattacks.FGSM(model, eps=epsilon)
    return torch.cat(_by_batch(attack, model, images, labels, batch_size))


def bim(
    model: nn.Module,
    images: Tensor,
    labels: Tensor | None = None,
    *,
    epsilon: float,
    step_size: float = 0.05,
    steps: int = 10,
    batch_size: int = 128,
) -> Tensor:
    """Basic iterative method: steps along the gradient's sign, each clipped to the ε-ball (paper, Eq. 3).

    The paper gives no step size; the defaults are the released code's (CleverHans'), larger than ε = 8/256.
    """
    _check(images, labels, epsilon=epsilon, step_size=step_size, steps=steps, batch_size=batch_size)
    attack = torchattacks.BIM(model, eps=epsilon, alpha=step_size, steps=steps)
    return torch.cat(_by_batch(attack, model, images, labels, batch_size))


def mim(
    model: nn.Module,
    images: Tensor,
    labels: Tensor | None = None,
    *,
    epsilon: float,
    step_size: float = 0.06,
    steps: int = 10,
    decay: float = 1.0,
    norm: str = "sign",
    batch_size: int = 128,
) -> Tensor:
    """Momentum iterative method, each step clipped to the ε-ball (paper, Eqs. 4 and 5; Dong et al., 2018).

    A gradient joins the momentum divided by its mean absolute value, or as it is if that is zero. (Eq. 5's sum
    instead of the mean would scale the momentum by a constant, which no step sees.)

    Args:
        norm: "sign" steps along the momentum's sign (the released code); "l2" along the momentum divided by its
            L2 norm (Eq. 4 to the letter), ``step_size`` being the step's length.
    """
    _check(images, labels, epsilon=epsilon, step_size=step_size, steps=steps, decay=decay, batch_size=batch_size)
    if norm not in ("sign", "l2"):
        raise ValueError(f'norm must be "sign" or "l2"; got {norm!r}')

    def attack(clean: Tensor, targets: Tensor) -> Tensor:
        adversarial, momentum = clean, torch.zeros_like(clean)
        for _ in range(steps):
            gradient = _loss_gradient(model, adversarial, targets)
            momentum = decay * momentum + _divide(gradient, gradient.abs().mean((1, 2, 3), keepdim=True))
            length = momentum.square().sum((1, 2, 3), keepdim=True).sqrt()
            direction = momentum.sign() if norm == "sign" else _divide(momentum, length)
            adversarial = _clip(adversarial + step_size * direction, clean, epsilon)
        return adversarial

    return torch.cat(_by_batch(attack, model, images, labels, batch_size))


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
    preprocess: Transform | None = None,
    loss: str = "cross-entropy",
    batch_size: int = 128,
) -> Tensor:
    """Projected gradient descent in the ε-ball from random starts (Madry et al., 2018), through random defences.

    Of an image's restarts the one that ends with the smallest margin is returned, judged on fresh draws.

    Args:
        generator: of the starts and of the defence's draws.
        draws: a random defence is attacked in expectation: predictions, gradients and margins are means over so
            many draws, tiled into one batch (EOT; Athalye et al., 2018).
        preprocess: the random defence in front of the model, made differentiable by ``straight_through`` where it
            is not so by itself. None if the model is random by itself, or nothing is.
        loss: what is climbed: "cross-entropy", or "margin", the largest other logit minus the label's, whose gradient
            does not vanish where the network is sure of itself (Carlini & Wagner, 2017).
    """
    _check(images, labels, epsilon=epsilon, step_size=step_size, steps=steps, batch_size=batch_size)
    _check(images, labels, restarts=restarts, draws=draws)
    _check_loss(loss)
    defended = _defended(model, preprocess, generator)

    def mean_logits(inputs: Tensor) -> Tensor:
        return defended(inputs.repeat(draws, 1, 1, 1)).view(draws, len(inputs), -1).mean(0)

    def attack(clean: Tensor, targets: Tensor) -> Tensor:
        best, smallest = clean, clean.new_full((len(clean),), math.inf)
        shape = (len(clean), restarts, *clean.shape[1:])  # an image's numbers come together, whatever the batch
        uniform = torch.rand(shape, generator=generator, device=generator.device, dtype=clean.dtype)
        for start in uniform.to(clean.device).unbind(1):
            adversarial = _clip(clean + epsilon * (2 * start - 1), clean, epsilon)
            for _ in range(steps):
                gradient = _loss_gradient(defended, adversarial, targets, draws, loss)
                adversarial = _clip(adversarial + step_size * gradient.sign(), clean, epsilon)
            with torch.no_grad():
                margin = _margin(mean_logits(adversarial), targets)
            best = torch.where(_per_image(margin < smallest), adversarial, best)
            smallest = smallest.minimum(margin)
        return best

    return torch.cat(_by_batch(attack, model, images, labels, max(1, batch_size // draws), mean_logits))


@dataclass(frozen=True)
class Adversary:
    """What adversarial training trains on: each batch attacked by PGD on the network as it is (Madry et al., 2018).

    One step from a random start is the fast variant (Wong et al., 2020). Over the first ``warm_up`` epochs epsilon and
    step grow from zero: attacked at full strength from the start, a network can learn to give one answer to all images.
    """

    epsilon: float
    step_size: float
    steps: int
    warm_up: float = 0.0

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator, epoch: float
    ) -> Tensor:
        """Attack a batch with its true labels, ``epoch`` epochs after the start of the training (more than 0).

        The model's mode and gradients are left as they are.
        """
        share = min(1.0, epoch / self.warm_up) if self.warm_up else 1.0
        return pgd(
            model,
            images,
            labels,
            epsilon=share * self.epsilon,
            step_size=share * self.step_size,
            steps=self.steps,
            generator=generator,
            batch_size=len(images),
        )


def straight_through(preprocess: Transform) -> Transform:
    """``preprocess`` with the identity as its derivative (straight-through BPDA; Athalye et al., 2018).

    For random or non-differentiable preprocessors whose output stays near the input, such as a redraw. (A smooth
    stand-in that grows with each pixel would give sign steps the same direction.)
    """

    def wrapped(images: Tensor, generator: torch.Generator) -> Tensor:
        with torch.no_grad():
            processed = preprocess(images, generator)
        return processed + (images - images.detach())  # plus exactly zero

    return wrapped


def robust_probability(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    draws: int,
    generator: torch.Generator,
    preprocess: Transform | None = None,
    batch_size: int = 128,
) -> Tensor:
    """How often a random defence classifies each image as its label, over fresh ``draws``: float N in [0, 1].

    Success on one draw says little against a random defence, and less on a draw the attack has seen: the defence's
    accuracy is the mean of this over the images. ``generator`` and ``preprocess`` are as for ``pgd``.
    """
    _check(images, labels, draws=draws, batch_size=batch_size)
    defended = _defended(model, preprocess, generator)

    @torch.no_grad()
    def judge(batch: Tensor, targets: Tensor) -> Tensor:
        correct = [defended(batch).argmax(1) == targets for _ in range(draws)]
        return torch.stack(correct).float().mean(0)

    return torch.cat(_by_batch(judge, model, images, labels, batch_size))


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
    _check(images, labels, confidence=confidence, initial_const=initial_const, learning_rate=learning_rate)
    _check(images, labels, binary_search_steps=binary_search_steps, max_steps=max_steps, batch_size=batch_size)

    @torch.no_grad()
    def look(clean: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return targets, _margin(model(clean), targets) < -confidence

    def search(clean: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        best, distance = clean, clean.new_full((len(clean),), math.inf)
        low, high, const = torch.zeros_like(distance), distance, torch.full_like(distance, initial_const)
        for _ in range(binary_search_steps):
            found, length, held = _cw_descend(
                model, clean, targets, const, confidence, max_steps, learning_rate, batch_size
            )
            best = torch.where(_per_image(length < distance), found, best)
            distance = distance.minimum(length)
            low, high = torch.where(held, low, const), torch.where(held, const, high)
            const = torch.where(high.isinf(), const * 10, (low + high) / 2)
        return best, distance.isfinite()

    targets, success = map(torch.cat, zip(*_by_batch(look, model, images, labels, batch_size), strict=True))
    best, rest = images.detach().clone(), (~success).nonzero().squeeze(1)
    with _frozen(model):
        best[rest], success[rest] = search(best[rest], targets[rest])
    return best, success


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
    windows = max(1, round(max_steps / 62))
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
            best[row] = torch.where(_per_image(closer), adversarial, best[row])
            distance[row] = torch.where(closer, length, distance[row])
            total, fooled, age = total + loss, fooled | (excess < 0), age + 1
            mean.lerp_(gradient, 0.1)
            square.lerp_(gradient.square(), 0.001)
            size = _per_image(rate / (1 - 0.9**age))
            w = w - size * mean / ((square / _per_image(1 - 0.999**age)).sqrt() + 1e-8)
        held[row] = fooled
        # A single loss says little, since they oscillate: compare sums over windows. An image that stalls gets one more
        # window at a tenth of the learning rate, which ends the oscillation. One not fooled yet gets all of its steps:
        # on a flat network the loss may begin to fall after hundreds.
        stalled = distance[row].isfinite() & (total >= 0.99 * previous)
        going = (rate > learning_rate / 2) & (age < steps * windows)
        rate = torch.where(stalled, rate / 10, rate)
        moving = tuple(rows[going] for rows in (row, w, mean, square, age, rate, total))
    return best, distance, held


def _per_image(values: Tensor) -> Tensor:
    """Values N, ready to meet images N×C×H×W."""
    return values[:, None, None, None]


def _cw_loss(
    model: nn.Module, w: Tensor, clean: Tensor, labels: Tensor, const: Tensor, confidence: float
) -> tuple[Tensor, ...]:
    """The images at w, their squared distances, what they lack for success, Eq. 6's loss and its gradient."""
    w = w.detach().requires_grad_()
    adversarial = (w.tanh() + 1) / 2
    length = (adversarial - clean).square().sum((1, 2, 3))
    excess = _margin(model(adversarial), labels) + confidence
    loss = length + const * excess.clamp_min(0)
    gradient = torch.autograd.grad(loss.sum(), w)[0]
    return adversarial.detach(), length.detach(), excess.detach(), loss.detach(), gradient


def _by_batch(
    attack: Callable[[Tensor, Tensor], T],
    model: nn.Module,
    images: Tensor,
    labels: Tensor | None,
    batch_size: int,
    forward: Callable[[Tensor], Tensor] | None = None,
) -> list[T]:
    """``attack(batch, labels)`` of every batch; labels not given are predicted from ``forward``'s logits."""
    results, forward = [], forward or model
    with _frozen(model):
        for i in range(0, len(images), batch_size):
            batch = images[i : i + batch_size].detach()
            with torch.no_grad():
                targets = forward(batch).argmax(1) if labels is None else labels[i : i + batch_size]
            results.append(attack(batch, targets))
    return results


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
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


def _defended(model: nn.Module, preprocess: Transform | None, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    return model if preprocess is None else lambda images: model(preprocess(images, generator))


def _loss_gradient(
    model: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, draws: int = 1, loss: str = "cross-entropy"
) -> Tensor:
    """Gradient of each image's loss, the mean over ``draws`` copies of it."""
    images = images.detach().requires_grad_()
    losses = LOSSES[loss](model(images.repeat(draws, 1, 1, 1)), labels.repeat(draws))
    return torch.autograd.grad(losses.sum() / draws, images)[0]


def _margin(logits: Tensor, labels: Tensor) -> Tensor:
    """The label's logit minus the largest other: negative when misclassified."""
    index = labels[:, None]
    return logits.gather(1, index).squeeze(1) - logits.scatter(1, index, -math.inf).amax(1)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross-entropy": partial(cross_entropy, reduction="none"),
    "margin": lambda logits, labels: -_margin(logits, labels),
}
"""What attacks that know the label can climb, each a function of logits N×K and labels N that gives an image a loss.

:meta hide-value:
"""


def _check_loss(loss: str) -> None:
    if loss not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}; got {loss!r}")


def _clip(adversarial: Tensor, clean: Tensor, epsilon: float) -> Tensor:
    return adversarial.clamp(clean - epsilon, clean + epsilon).clamp(0, 1)


def _divide(values: Tensor, size: Tensor) -> Tensor:
    return values / torch.where(size > 0, size, 1)


def _check(images: Tensor, labels: Tensor | None, **parameters: float) -> None:
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
    if not len(images) or (labels is not None and values_are_checked() and labels.min() < 0):
        raise ValueError("there must be at least one image, and labels must not be negative")

"""What networks, defences and attacks give each other, checked wherever they meet: in ``prlib.cases`` and every attack.

A network is in eval mode and frozen inside, and left as found. It, the defence and the attack get copies, so that none
of them can change what another sees. What they answer must have the right shape and type, and be finite.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from prlib.data import FLOATS, check_images, in_words, is_dense, values_are_checked

Function = TypeVar("Function", bound=Callable[..., Any])


class Guarded(nn.Module):
    """A network whose answers are checked: float N×C×H×W to logits N×K, in float32 at least.

    It computes on copies, in the type of its parameters. In the gradient of images NaN counts as 0, and an infinite
    entry as the image's largest finite one with its own sign (as 1 or -1 where there is none).

    Args:
        labels: int64 N, of which every one must be among its classes; None if they are not known.

    Raises:
        ValueError: it is no module or was made in inference mode; in use, the logits are not N×K with K at least 2.
    """

    def __init__(self, network: nn.Module, labels: Tensor | None = None) -> None:
        super().__init__()
        network = network.network if isinstance(network, Guarded) else network
        if not isinstance(network, nn.Module):
            raise ValueError(f"the network must be a torch.nn.Module; got {type(network).__name__}")
        tensors = [*network.parameters(), *network.buffers()]
        if any(tensor.is_inference() for tensor in tensors):
            raise ValueError("the network must be made outside torch.inference_mode(), where nothing has a gradient")
        if any(tensor.is_meta for tensor in tensors):
            raise ValueError("the network must have weights; it is on the device meta, which holds none")
        self.network: nn.Module = network
        self.classes = 2 if labels is None or not values_are_checked() else max(2, int(labels.max()) + 1)
        self.dtype = next((p.dtype for p in network.parameters() if p.is_floating_point()), None)
        self.device = next((tensor.device for tensor in tensors), torch.device("cpu"))
        self.not_finite: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Logits N×K of images; whether they were finite is said by ``check_finite``, so that no device must wait."""
        inputs = copied(images)
        logits = self.network(inputs.to(self.dtype or inputs.dtype))
        tensor = is_dense(logits) and logits.dtype in FLOATS
        if not tensor or logits.ndim != 2 or len(logits) != len(images) or logits.shape[1] < self.classes:
            raise ValueError(
                f"the network must return logits N×K as one float tensor, here {len(images)}×K with a K of at least "
                f"{self.classes}, the labels' classes; got {in_words(logits)}"
            )
        if values_are_checked():
            not_finite = ~logits.detach().isfinite().all()
            self.not_finite = not_finite if self.not_finite is None else self.not_finite | not_finite
        logits = logits.to(images.device, torch.promote_types(logits.dtype, torch.float32))
        if inputs.requires_grad and not logits.requires_grad:  # nothing to differentiate: a gradient of zeros
            logits = logits + 0 * images.flatten(1).sum(1, keepdim=True)
        return logits

    def check_finite(self) -> None:
        """Raise a ValueError if any logit so far was NaN or infinite."""
        if self.not_finite is not None and bool(self.not_finite):
            raise ValueError("the network's logits must be finite; it (or the defence before it) gave NaN or infinity")


def copied(images: Tensor) -> Tensor:
    """A copy of images N×C×H×W, to be changed at will; the gradient that comes back through it is finite."""
    copy = images.clone()
    if copy.requires_grad:
        copy.register_hook(_finite)
    return copy


def in_order(images: Tensor) -> Tensor:
    """A copy of images without gradient, row after row in memory: sums depend on the order."""
    return images.detach().clone(memory_format=torch.contiguous_format)


def _finite(gradient: Tensor | None) -> Tensor:
    if gradient is None:  # as of a layer in eight bits, behind which nothing has one
        raise ValueError("the network must have a gradient, even if it is zero; a layer of it gives none")
    finite = gradient.nan_to_num(0, 0, 0)
    largest = finite.abs().amax(tuple(range(1, gradient.ndim)), keepdim=True)
    return torch.where(gradient.isinf(), gradient.sign() * torch.where(largest > 0, largest, 1), finite)


@contextmanager
def guard(network: nn.Module, labels: Tensor | None = None, *others: Any) -> Iterator[Guarded]:
    """Gradients inside, even in ``torch.inference_mode``; the network guarded, it and other modules ``frozen``."""
    with torch.inference_mode(False), torch.enable_grad():
        guarded = Guarded(network, labels)
        with frozen(guarded.network, *others):
            yield guarded
        guarded.check_finite()


@contextmanager
def frozen(*parts: Any) -> Iterator[None]:
    """Eval mode and no gradients for the parameters of these modules; afterwards every one is as it was.

    What is no module is left alone.
    """
    modules = [module for part in parts if isinstance(part, nn.Module) for module in part.modules()]
    modes = [(module, module.training) for module in modules]
    parameters = [p for module in modules for p in module.parameters(recurse=False)]
    before = [(parameter, parameter.requires_grad, parameter.grad) for parameter in parameters]
    try:
        for part in parts:
            if isinstance(part, nn.Module):
                part.eval()
        for parameter in parameters:  # which a scripted module cannot be asked for as a whole
            parameter.requires_grad_(False)
        yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, flag, gradient in before:
            parameter.requires_grad_(flag).grad = gradient


@contextmanager
def unchanged(network: nn.Module) -> Iterator[None]:
    """Raise a ValueError if the network's numbers, layers or hooks have changed inside, and change them back."""
    named = *network.named_parameters(), *network.named_buffers()
    before = [(name, tensor, tensor.detach().clone()) for name, tensor in named if tensor.is_floating_point()]
    held = [(what, own, dict(own)) for what, own in _held(network)]
    try:
        yield
    finally:
        exchanged = [(what, own, then) for what, own, then in held if not _same(own, then)]
        for _, own, kept in exchanged:
            own.clear()
            own.update(kept)
        changed = [(name, now, then) for name, now, then in before if not _equal(now, then)]
        with torch.no_grad():
            for _, now, then in changed:
                if (now.dtype, now.shape) == (then.dtype, then.shape):
                    now.copy_(then)
                else:
                    now.data = then
    if found := [what for what, *_ in (*changed, *exchanged)]:
        raise ValueError(f"attacks and defences must leave the network as it is; {found[0]} has been changed")


_HELD = {
    "parameter": ("_parameters",),
    "layer": ("_modules",),
    "hook": ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"),
}


def _held(network: nn.Module) -> Iterator[tuple[str, dict[Any, Any]]]:
    """What each module holds by name, and can be given another of; buffers may be a network's memory of its own."""
    for name, module in network.named_modules():
        for what, keys in _HELD.items():
            for key in keys:
                if isinstance(own := vars(module).get(key), dict):  # a scripted one has none
                    yield f"a {what} of {name or 'the network'}", own


def _same(now: dict[Any, Any], then: dict[Any, Any]) -> bool:
    return now.keys() == then.keys() and all(now[key] is then[key] for key in now)


def _equal(now: Tensor, then: Tensor) -> bool:
    same = (now.dtype, now.shape) == (then.dtype, then.shape)
    return same and torch.allclose(now, then, 0, 0, equal_nan=True)


def guarded(attack: Function) -> Function:
    """An attack ``(model, images, labels, *, …)`` behind the guard: it gets a guarded model and copies in float32.

    (Float64 stays.) Images come back in their own type. Bad images and labels raise a ValueError.
    """

    optional = inspect.signature(attack).parameters["labels"].default is None

    @wraps(attack)
    def behind(model: nn.Module, images: Tensor, labels: Tensor | None = None, **options: Any) -> Any:
        check_images(images)
        if labels is None and not optional:
            raise ValueError(f"labels must be given to {attack.__name__}, which does not predict any; got None")
        if labels is not None:
            check_labels(labels, len(images))
        if not images.numel():
            raise ValueError(f"there must be at least one of the images, with pixels; got {in_words(images)}")
        with guard(model, labels) as network:
            clean = in_order(images).to(torch.promote_types(images.dtype, torch.float32))
            result = attack(network, clean, None if labels is None else labels.clone(), **options)
        parts = result if isinstance(result, tuple) else (result,)
        parts = tuple(part.to(images.dtype) if part.shape == images.shape else part for part in parts)
        return parts if isinstance(result, tuple) else parts[0]

    return cast(Function, behind)


def check_labels(labels: Tensor, n: int) -> None:
    """Raise a ValueError unless labels are int64 N for n images, and not negative."""
    if not is_dense(labels) or labels.dtype != torch.int64 or labels.shape != (n,):
        raise ValueError(f"labels must be an int64 tensor, one for each of the {n} images; got {in_words(labels)}")
    if n and values_are_checked() and labels.min() < 0:
        raise ValueError(f"labels must not be negative; got {int(labels.min())}")


def alike(what: str, after: Tensor, before: Tensor) -> Tensor:
    """``after``, what a defence or an attack has made of images; a ValueError if it is of another shape or type."""
    if not is_dense(after) or (after.shape, after.dtype) != (before.shape, before.dtype):
        raise ValueError(f"{what} must return images as it was given, {in_words(before)}; got {in_words(after)}")
    if after.device != before.device:
        raise ValueError(f"{what} must return images on {before.device}, where it was given them; got {after.device}")
    return after


def settled(what: str, after: Tensor, before: Tensor) -> Tensor:
    """A copy without gradient of what is ``alike``, and in [0, 1] without NaN on any device."""
    after = in_order(alike(what, after, before))
    low, high = (float(value) for value in after.aminmax())
    if not (low >= 0 and high <= 1):
        raise ValueError(f"{what} must return images in [0, 1] without NaN; got values from {low:g} to {high:g}")
    return after

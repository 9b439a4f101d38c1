"""What no attack can do: a certificate for the quantised redraw, which looks at the network."""

import torch
from torch import Tensor, nn

from prlib.attacks.base import check_parameters, margin
from prlib.attacks.crossing import extreme
from prlib.attacks.staircase import Staircase
from prlib.data import check_images
from prlib.guard import Guarded, check_labels, in_order

HOLDS, OPEN, FAILS = 1, 0, -1
"""No change within ε makes the network wrong; that is not known; some change does."""


CHUNK = 64
"""Boxes that are sent through the network together, which bounds the memory that their shapes take."""


def certificate(
    network: nn.Module, images: Tensor, labels: Tensor, *, stairs: Staircase, epsilon: float, boxes: int = 500
) -> Tensor:
    """Whether a network behind a quantised redraw withstands every change within ε: ``HOLDS``, …, int8 N.

    Behind the redraw an image is one of finitely many, since each pixel reaches a few cells. All images of a box are
    sent through the layers at once (``least_margin``); a box that this does not settle is split at the pixel that
    matters most, down to single images. So the answer is exact, up to float32's rounding, where it is not ``OPEN``, and
    with enough boxes it is always.

    Args:
        network: of convolutions, dense layers, ReLU and Flatten.
        stairs: of the redraw, whose cells are shown by their means.
        boxes: looked at for each image, at most about twice so many.

    Raises:
        ValueError: a layer of another kind; logits that are not finite, or lack a label.
    """
    check_parameters(epsilon=epsilon, boxes=boxes)
    check_images(images)
    check_labels(labels, len(images))
    if not images.numel():
        raise ValueError(f"there must be at least one of the images, with pixels; got {tuple(images.shape)}")
    with torch.inference_mode(False), torch.no_grad():
        clean, guarded = in_order(images), Guarded(network, labels)
        reach = stairs.reach(clean, epsilon)
        mean = stairs.mean.to(clean.device, guarded.dtype)
        guarded(clean[:1])  # refuses wrong logits
        cases = zip(*(cells.split(1) for cells in reach), labels.clone().split(1), strict=True)
        found = [_settle(guarded, low, high, label, mean, boxes) for low, high, label in cases]
        guarded.check_finite()
    return torch.tensor(found, dtype=torch.int8)


def least_margin(network: nn.Module, low: Tensor, high: Tensor, labels: Tensor) -> Tensor:
    """A lower bound, float N, of the margins of all images between ``low`` and ``high`` (N×C×H×W each).

    Zonotopes are sent through the layers: a centre, a shift for each pixel that is not fixed, and a radius for what the
    ReLUs between them lose (DeepZ's ReLU, Singh et al., 2018, its errors kept as intervals, Mirman et al., 2018). The
    last layer is joined with the margin: what two logits share cancels.
    """
    if not isinstance(network, nn.Sequential):
        raise ValueError(f"the network must be a Sequential of layers; got {type(network).__name__}")
    *layers, last = network
    if not isinstance(last, nn.Linear):
        raise ValueError(f"the last layer must be a Linear; got {type(last).__name__}")
    centre, radius = (low + high) / 2, torch.zeros_like(low)
    shifts = _shifts((high - low) / 2)
    for layer in layers:
        if isinstance(layer, nn.Conv2d) and layer.padding_mode != "zeros":
            raise ValueError(f"a Conv2d must be padded with zeros; got padding_mode {layer.padding_mode!r}")
        if isinstance(layer, nn.Conv2d | nn.Linear):
            centre, radius = layer(centre), _linear(layer, radius, layer.weight.abs())
            shifts = _linear(layer, shifts.flatten(0, 1), layer.weight).unflatten(0, shifts.shape[:2])
        elif isinstance(layer, nn.ReLU):
            reach = shifts.abs().sum(1) + radius
            below, above = centre - reach, centre + reach
            crosses = (below < 0) & (above > 0)
            slope = torch.where(crosses, above / (above - below), (below >= 0).to(centre))
            error = torch.where(crosses, -slope * below / 2, 0)
            centre, shifts, radius = slope * centre + error, slope[:, None] * shifts, slope * radius + error
        elif isinstance(layer, nn.Flatten):
            centre, shifts, radius = centre.flatten(1), shifts.flatten(2), radius.flatten(1)
        else:
            raise ValueError(f"layers must be Conv2d, Linear, ReLU or Flatten; got {type(layer).__name__}")
    ahead = last.weight[labels][:, None] - last.weight  # N×K×features
    gap = torch.einsum("nkf,nf->nk", ahead, centre) - torch.einsum("nkf,nf->nk", ahead.abs(), radius)
    gap = gap - torch.einsum("nkf,nsf->nks", ahead, shifts).abs().sum(2)
    if last.bias is not None:
        gap = gap + last.bias[labels][:, None] - last.bias
    return gap.scatter(1, labels[:, None], torch.inf).amin(1)


def _shifts(radius: Tensor) -> Tensor:
    """The radius of each pixel that has one in an image of its own: N×S×C×H×W of N×C×H×W, S the most of an image."""
    flat = radius.flatten(1)
    free, at = flat.topk(int((flat > 0).sum(1).max()), dim=1)
    alone = flat.new_zeros(*free.shape, flat.shape[1]).scatter(2, at[..., None], free[..., None])
    return alone.unflatten(2, radius.shape[1:])


def _linear(layer: nn.Conv2d | nn.Linear, values: Tensor, weight: Tensor) -> Tensor:
    """What the layer makes of values with this weight and without bias."""
    if isinstance(layer, nn.Linear):
        return nn.functional.linear(values, weight)
    return nn.functional.conv2d(values, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)


def _settle(network: Guarded, low: Tensor, high: Tensor, label: Tensor, mean: Tensor, boxes: int) -> int:
    """The answer for one image, of which each pixel is in a cell from ``low`` to ``high`` (1×C×H×W)."""
    looked = 0
    while len(low):
        dark, bright = (mean[extreme(mean, low, high, sign)] for sign in (-1, 1))
        chunks = zip(dark.split(CHUNK), bright.split(CHUNK), strict=True)
        bounds = [least_margin(network.network, *chunk, label.expand(len(chunk[0]))) for chunk in chunks]
        unsettled = ~(torch.cat(bounds) > 0)  # among them those without a bound, NaN
        low, high, dark, bright = low[unsettled], high[unsettled], dark[unsettled], bright[unsettled]
        labels = label.expand(len(low))
        with torch.enable_grad():
            middle = ((dark + bright) / 2).requires_grad_()
            gradient = torch.autograd.grad(margin(network(middle), labels).sum(), middle)[0]
        corner = extreme(mean, low, high, -1).where(gradient > 0, extreme(mean, low, high, 1))
        if len(low) and bool((margin(network(mean[corner]), labels) <= 0).any()):
            return FAILS  # there it is wrong; single images that are unsettled are their own corners
        many = (low < high).flatten(1).any(1)
        looked += len(unsettled)
        if many.any() and looked >= boxes:
            return OPEN
        low, high = _halves(low[many], high[many], (gradient.abs() * (bright - dark))[many])
    return HOLDS


def _halves(low: Tensor, high: Tensor, matters: Tensor) -> tuple[Tensor, Tensor]:
    """Each box in two, split at the pixel with more than one cell that matters most."""
    flat = matters.where(low < high, -1).flatten(1)
    at = flat.argmax(1, keepdim=True)
    below, above = low.flatten(1).gather(1, at), high.flatten(1).gather(1, at)
    middle = (below + above) // 2
    first = high.flatten(1).scatter(1, at, middle).view_as(high)
    second = low.flatten(1).scatter(1, at, middle + 1).view_as(low)
    return torch.cat([low, second]), torch.cat([first, high])

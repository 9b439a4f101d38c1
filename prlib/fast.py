"""Table 1's network in less time on a CPU: the layers' weights used in another order, the same numbers to rounding."""

from collections.abc import Callable, MutableMapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv2d, pad, pixel_shuffle, pixel_unshuffle
from torch.nn.grad import conv2d_input
from torch.utils.weak import WeakTensorKeyDictionary

from prlib import winograd
from prlib.model import PaperCNN

threshold_backward = torch.ops.aten.threshold_backward

SMALLEST_BATCH = 8
"""From so many images on the fast way is the faster one; fewer are left to the layers."""


class FastCNN(PaperCNN):
    """``PaperCNN``, faster on a CPU in float32 and float64; elsewhere the layers compute.

    Under autocast a training goes the fast way, too, all of it in the lower precision; the layers do everything else.
    Hooks on a layer see nothing of the fast way.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Logits N×10 of float images N×C×H×W."""
        side = self.size // 4
        known = images.device.type == "cpu" and images.dtype in (torch.float32, torch.float64)
        frozen = not any(weight.requires_grad for weight in self.parameters())
        learns = torch.is_grad_enabled() and not frozen
        known = known and (learns or not torch.is_autocast_enabled("cpu"))
        if not known or len(images) < SMALLEST_BATCH or self.size % 4 or side > winograd.LARGEST:
            return super().forward(images)
        if images.requires_grad and frozen:
            return _Frozen.apply(images, self)
        return self._activations(images, *self._kernels())[-1]

    def _activations(self, images: Tensor, kernels2: Tensor, kernels3: Tensor) -> tuple[Tensor, ...]:
        """The three hidden layers, pixels first (the first as blocks of 2×2), and the logits."""
        conv1, conv2, conv3, dense = self._layers()
        n, side = len(images), self.size // 4
        # A stride-2 convolution is one of stride 1 and half the taps on 2×2 blocks of pixels taken as channels.
        blocks = _channels_last(pixel_unshuffle(pad(images, (3, 3, 3, 3)), 2))
        first = conv2d(blocks, _channels_last(pixel_unshuffle(conv1.weight, 2)), conv1.bias).permute(0, 2, 3, 1)
        # Again 2×2 blocks as channels, and pixels first, so that each pixel's part is a matrix: side² × N × 256
        first = first.unflatten(2, (side, 2)).unflatten(1, (side, 2)).permute(1, 3, 0, 2, 4, 5)
        first = first.reshape(side * side, n, -1).relu_()
        second = winograd.convolve(first, kernels2, taps=3).add_(conv2.bias).relu_()  # type: ignore[arg-type]
        third = winograd.convolve(second, kernels3, taps=5).add_(conv3.bias).relu_()  # type: ignore[arg-type]
        return first, second, third, dense(third.permute(1, 2, 0).flatten(1))

    def _input_gradient(
        self, gradient: Tensor, first: Tensor, second: Tensor, third: Tensor, kernels2: Tensor, kernels3: Tensor
    ) -> Tensor:
        """The images' gradient N×C×H×W from the logits', through the hidden layers; none of the weights'."""
        conv1, *_, dense = self._layers()
        n, side = len(gradient), self.size // 4
        slope = (gradient @ dense.weight).unflatten(1, (-1, len(third))).permute(2, 0, 1)
        slope = winograd.transposed(threshold_backward(slope, third, 0), kernels3, taps=5)
        slope = winograd.transposed(threshold_backward(slope, second, 0), kernels2, taps=3)
        slope = threshold_backward(slope, first, 0).view(side, side, n, 2, 2, -1)
        slope = slope.permute(2, 0, 3, 1, 4, 5).reshape(n, 2 * side, 2 * side, -1).permute(0, 3, 1, 2)
        weight = _channels_last(pixel_unshuffle(conv1.weight, 2))
        blocks = conv2d_input((n, weight.shape[1], 2 * side + 3, 2 * side + 3), weight, slope)
        return pixel_shuffle(blocks, 2)[:, :, 3:-3, 3:-3].contiguous()

    def _layers(self) -> tuple[nn.Conv2d, nn.Conv2d, nn.Conv2d, nn.Linear]:
        return tuple(layer for layer in self if isinstance(layer, nn.Conv2d | nn.Linear))  # type: ignore[return-value]

    def _kernels(self) -> tuple[Tensor, Tensor]:
        """The transformed weights of the second and of the third convolution."""
        _, conv2, conv3, _ = self._layers()
        side = self.size // 4
        return (
            _transformed(conv2.weight, lambda weight: winograd.kernels(_as_blocks(weight), side)),
            _transformed(conv3.weight, lambda weight: winograd.kernels(weight, side - 2)),
        )


class _Frozen(torch.autograd.Function):
    """A network with frozen weights; backwards go only images that have a gradient, since attacks often need few."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, network: FastCNN) -> Tensor:
        ctx.network, kernels = network, network._kernels()
        *hidden, logits = network._activations(images, *kernels)
        ctx.save_for_backward(*hidden, *kernels)
        return logits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        network, (first, second, third, *kernels) = ctx.network, ctx.saved_tensors
        some = gradient.ne(0).any(1)
        if some.all():
            return network._input_gradient(gradient, first, second, third, *kernels), None
        result = gradient.new_zeros(len(gradient), network.channels, network.size, network.size)
        if some.any():
            hidden = (layer[:, some] for layer in (first, second, third))
            result[some] = network._input_gradient(gradient[some], *hidden, *kernels)
        return result, None


def _channels_last(values: Tensor) -> Tensor:
    return values.contiguous(memory_format=torch.channels_last)


def _as_blocks(weight: Tensor) -> Tensor:
    """A weight C'×C×6×6 of stride 2 as one C'×4C×3×3 of stride 1, on blocks."""
    return weight.unflatten(3, (3, 2)).unflatten(2, (3, 2)).permute(0, 3, 5, 1, 2, 4).flatten(1, 3)


_TRANSFORMED: MutableMapping[Tensor, tuple[Tensor, Tensor]] = WeakTensorKeyDictionary()


def _transformed(weight: Tensor, transform: Callable[[Tensor], Tensor]) -> Tensor:
    """``transform(weight)``, done once for as long as the weight keeps its values and needs no gradient."""
    if weight.requires_grad and torch.is_grad_enabled():
        return transform(weight)
    # Values are compared, an eighth of the work: torch's version counter misses steps of fused Adam and ``.data``.
    before, result = _TRANSFORMED.get(weight, (None, None))
    if before is None or result is None or before.dtype != weight.dtype or not torch.equal(before, weight):
        with torch.inference_mode(False), torch.no_grad():  # what is kept must serve attacks, too
            result = transform(weight)
            _TRANSFORMED[weight] = weight.clone(), result
    return result

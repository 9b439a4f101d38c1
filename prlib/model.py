"""Table 1's network."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad, pixel_unshuffle

from prlib import winograd


class PaperCNN(nn.Sequential):
    """The paper's CNN (Table 1): three convolutions and a dense layer; returns logits N×10.

    The paper names the layers only; their sizes are those of CleverHans' basic CNN, which the authors' code trains.
    The softmax of Table 1 is part of the loss.

    Args:
        channels, size: of the input images N×channels×size×size; size must be even and at least 28.
        init: "normal" draws each weight from normal(0, 1/√fan-in) (the released MNIST code), "glorot" uniformly
            (the released CIFAR-10 code); biases start at zero.
        seed: of the initial weights.
    """

    trained_on: str | None = None
    """Where the training images came from ("full", "sample"), once loaded from a snapshot; None if not known."""

    seconds: float = 0.0
    """What the training took, likewise."""

    _kept: tuple[list[tuple[Any, ...]], tuple[Tensor, Tensor]] | None = None

    def __init__(self, channels: int = 1, size: int = 28, init: str = "normal", seed: int = 0) -> None:
        if channels < 1 or size < 28 or size % 2:
            raise ValueError(f"channels must be positive, size even and at least 28; got {channels} and {size}")
        if init not in ("normal", "glorot"):
            raise ValueError(f'init must be "normal" or "glorot"; got {init!r}')
        self.channels, self.size = channels, size
        side = (size // 2 - 6) // 2 + 1 - 4
        super().__init__(
            nn.Conv2d(channels, 64, 8, stride=2, padding=3),
            nn.ReLU(),
            nn.Conv2d(64, 128, 6, stride=2),
            nn.ReLU(),
            nn.Conv2d(128, 128, 5),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(128 * side * side, 10),
        )
        generator = torch.Generator().manual_seed(seed)
        for layer in self:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                _initialise(layer.weight, init, generator)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        """Logits N×10 of float images N×C×H×W.

        On a CPU the layers compute in another order what they compute one by one, to float32 rounding and in half of
        the time: the strided convolutions become plain ones on 2×2 blocks of pixels taken as channels.
        """
        side = self.size // 4
        if images.device.type != "cpu" or self.size % 4 or side > winograd.LARGEST:
            return super().forward(images)
        conv1, conv2, conv3, dense = (layer for layer in self if isinstance(layer, nn.Conv2d | nn.Linear))
        blocks = pixel_unshuffle(pad(images, (3, 3, 3, 3)), 2).contiguous(memory_format=torch.channels_last)
        weight = pixel_unshuffle(conv1.weight, 2).contiguous(memory_format=torch.channels_last)
        hidden = conv2d(blocks, weight, conv1.bias).permute(0, 2, 3, 1).unflatten(2, (side, 2)).unflatten(1, (side, 2))
        hidden = hidden.permute(1, 3, 0, 2, 4, 5).reshape(side * side, len(images), -1).relu_()
        kernels2, kernels3 = self._kernels(conv2.weight, conv3.weight)
        hidden = winograd.convolve(hidden, kernels2, 3).add_(conv2.bias).relu_()  # type: ignore[arg-type]
        hidden = winograd.convolve(hidden, kernels3, 5).add_(conv3.bias).relu_()  # type: ignore[arg-type]
        return dense(hidden.permute(1, 2, 0).flatten(1))

    def _kernels(self, weight2: Tensor, weight3: Tensor) -> tuple[Tensor, Tensor]:
        """The last two convolutions' weights as ``winograd`` takes them; kept while they are frozen, as in attacks."""
        # A fused optimizer leaves the version as it is, but no training goes without a pass that drops what is kept.
        state = [(w.data_ptr(), w._version, w.dtype) for w in (weight2, weight3)]
        frozen = not (weight2.requires_grad or weight3.requires_grad)
        if not frozen or self._kept is None or self._kept[0] != state:
            blocks = weight2.unflatten(3, (3, 2)).unflatten(2, (3, 2)).permute(0, 3, 5, 1, 2, 4).flatten(1, 3)
            side = self.size // 4
            kernels = winograd.kernels(blocks, side), winograd.kernels(weight3, side - 2)
            self._kept = (state, kernels) if frozen else None
            return kernels
        return self._kept[1]


def _initialise(weight: Tensor, init: str, generator: torch.Generator) -> None:
    fan_out, fan_in = weight.shape[0] * weight[0, 0].numel(), weight[0].numel()
    if init == "normal":
        nn.init.normal_(weight, std=1 / math.sqrt(fan_in), generator=generator)
    else:
        limit = math.sqrt(6 / (fan_in + fan_out))
        nn.init.uniform_(weight, -limit, limit, generator=generator)

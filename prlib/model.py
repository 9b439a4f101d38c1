"""Table 1's network."""

import math

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

        In float32 and float64 on a CPU the layers' weights are used in another order than by calling them one by one,
        which takes less time and agrees to rounding. Hooks on a layer then see nothing; ``nn.Sequential.forward``
        calls the layers.
        """
        side = self.size // 4
        fast = images.device.type == "cpu" and images.dtype in (torch.float32, torch.float64) and len(images)
        if not fast or self.size % 4 or side > winograd.LARGEST:
            return super().forward(images)
        conv1, conv2, conv3, dense = (layer for layer in self if isinstance(layer, nn.Conv2d | nn.Linear))
        # A stride-2 convolution is one of stride 1 and half the taps on 2×2 blocks of pixels taken as channels.
        blocks = pixel_unshuffle(pad(images, (3, 3, 3, 3)), 2).contiguous(memory_format=torch.channels_last)
        weight = pixel_unshuffle(conv1.weight, 2).contiguous(memory_format=torch.channels_last)
        hidden = conv2d(blocks, weight, conv1.bias).permute(0, 2, 3, 1)  # N × 2 side × 2 side × 64
        # Again 2×2 blocks as channels, and pixels first, so that each pixel's part is a matrix: side² × N × 256
        hidden = hidden.unflatten(2, (side, 2)).unflatten(1, (side, 2)).permute(1, 3, 0, 2, 4, 5)
        hidden = hidden.reshape(side * side, len(images), -1).relu_()
        weight = conv2.weight.unflatten(3, (3, 2)).unflatten(2, (3, 2)).permute(0, 3, 5, 1, 2, 4).flatten(1, 3)
        hidden = winograd.convolve(hidden, weight).add_(conv2.bias).relu_()  # type: ignore[arg-type]
        hidden = winograd.convolve(hidden, conv3.weight).add_(conv3.bias).relu_()  # type: ignore[arg-type]
        return dense(hidden.permute(1, 2, 0).flatten(1))


def _initialise(weight: Tensor, init: str, generator: torch.Generator) -> None:
    fan_out, fan_in = weight.shape[0] * weight[0, 0].numel(), weight[0].numel()
    if init == "normal":
        nn.init.normal_(weight, std=1 / math.sqrt(fan_in), generator=generator)
    else:
        limit = math.sqrt(6 / (fan_in + fan_out))
        nn.init.uniform_(weight, -limit, limit, generator=generator)

"""Table 1's network."""

import math

import torch
from torch import Tensor, nn

CLASSES = 10
"""Of every dataset in the paper."""


class PaperCNN(nn.Sequential):
    """The paper's CNN (Table 1): three convolutions and a dense layer; returns logits N×10.

    The paper names the layers only; their sizes are those of CleverHans' basic CNN, which the authors' code trains.
    The softmax of Table 1 is part of the loss. Experiments compute it by ``prlib.fast``.

    Args:
        channels, size: of the input images N×channels×size×size; size must be even and at least 28.
        init: "normal" draws each weight from normal(0, 1/√fan-in) (the released MNIST code), "glorot" uniformly
            (the released CIFAR-10 code); biases start at zero.
        seed: of the initial weights.
    """

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
            nn.Linear(128 * side * side, CLASSES),
        )
        generator = torch.Generator().manual_seed(seed)
        for layer in self:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                _initialise(layer.weight, init, generator)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


def _initialise(weight: Tensor, init: str, generator: torch.Generator) -> None:
    fan_out, fan_in = weight.shape[0] * weight[0, 0].numel(), weight[0].numel()
    if init == "normal":
        nn.init.normal_(weight, std=1 / math.sqrt(fan_in), generator=generator)
    else:
        limit = math.sqrt(6 / (fan_in + fan_out))
        nn.init.uniform_(weight, -limit, limit, generator=generator)

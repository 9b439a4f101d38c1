"""Stride-1 convolutions on small images with about a fifth of the multiplications.

On a CPU nearly all of the time goes into multiplying; a convolution of a 7×7 image with 3×3 filters into 5×5 outputs
needs 225 products per pair of channels done naively and 49 by Winograd's minimal filtering (Lavin and Gray, 2016),
here with the whole image as its one tile: products of polynomials are found from their values at 7 points. Going to
the values and back costs a part of what is saved. Rounding errors are several times those of the naive way.
"""

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor

POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)
"""Where polynomials are evaluated, beside infinity: small numbers and their inverses keep rounding small."""

LARGEST = len(POINTS) + 1
"""Side of the largest image; with more points rounding errors grow fast."""


def kernels(weight: Tensor, side: int) -> Tensor:
    """What ``convolve`` multiplies images of side×side pixels by: M×C×C' of a weight C'×C×taps×taps (``nn.Conv2d``)."""
    taps = weight.shape[-1]
    _, filters, _ = _transforms(side, taps, weight.dtype)
    return (filters @ weight.permute(2, 3, 1, 0).reshape(taps * taps, -1)).view(-1, *weight.shape[1::-1])


def convolve(images: Tensor, kernels: Tensor, taps: int) -> Tensor:
    """``conv2d`` at stride 1 without padding, on images whose pixels come first: side²×N×C to side'²×N×C'.

    Args:
        kernels: of a weight with so many ``taps``, for images of this side; side' = side - taps + 1.
    """
    gather, _, spread = _transforms(math.isqrt(len(images)), taps, images.dtype)
    seen = (spread @ images.flatten(1)).unflatten(1, images.shape[1:])
    return (gather @ torch.bmm(seen, kernels).flatten(1)).unflatten(1, (images.shape[1], -1))


def transposed(gradient: Tensor, kernels: Tensor, taps: int) -> Tensor:
    """The gradient of what ``convolve`` was given from that of its result: side'²×N×C' to side²×N×C."""
    side = math.isqrt(len(gradient)) + taps - 1
    gather, _, spread = _transforms(side, taps, gradient.dtype)
    seen = (gather.T @ gradient.flatten(1)).unflatten(1, gradient.shape[1:])
    return (spread.T @ torch.bmm(seen, kernels.transpose(1, 2)).flatten(1)).unflatten(1, (gradient.shape[1], -1))


@cache
@torch.inference_mode(False)
def _transforms(side: int, taps: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Matrices (A, G, B) with conv2d(x, w) = A (G w * B x) for x and w flattened."""
    return tuple(torch.from_numpy(np.kron(m, m)).to(dtype) for m in _one_dimension(side, taps))


def _one_dimension(side: int, taps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if side == taps:  # one output: the products themselves
        return np.ones((1, side)), np.eye(side), np.eye(side)
    # A polynomial with n coefficients has n values, infinity's being its leading coefficient; filtering is the
    # transpose of multiplying two polynomials by their values.
    gather, filters, values = (_values(side, n) for n in (side - taps + 1, taps, side))
    spread = np.linalg.inv(values).T
    # Rows of like size, which loses least to rounding.
    scale = [np.abs(matrix).max(1, keepdims=True) for matrix in (filters, spread)]
    return (gather * scale[0] * scale[1]).T, filters / scale[0], spread / scale[1]


def _values(points: int, coefficients: int) -> np.ndarray:
    """points×coefficients: the powers of each point, the last one being infinity."""
    finite = np.vander(np.array(POINTS[: points - 1]), coefficients, increasing=True)
    return np.vstack([finite, np.eye(coefficients)[-1]])

"""What else images can be prepared with: noise, fewer bits, JPEG, and any random defence with a vote over its draws."""

import math
from io import BytesIO
from numbers import Integral, Real

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from prlib.data import Transform, check_images
from prlib.redraw import rounded_down


class GaussianNoise(nn.Module):
    """The paper's rival (Section 4.4): add normal noise of ``std``, itself clipped to [-1, 1], then clip to [0, 1].

    ``noise(images, generator)`` has the call shape of ``PixelRedraw``. The paper gives no standard deviation; 1 is
    our reading of its sentence. With ``truncated`` the noise is TensorFlow's truncated normal: what lies beyond two
    standard deviations is drawn again.
    """

    def __init__(self, std: float = 1.0, truncated: bool = False) -> None:
        super().__init__()
        if not isinstance(std, Real) or isinstance(std, bool) or not 0 < std < math.inf:
            raise ValueError(f"std must be a positive number; got {std!r}")
        if truncated not in (0, 1):
            raise ValueError(f"truncated must be True or False; got {truncated!r}")
        self.std: float = std
        self.truncated: bool = truncated

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Add noise to images (float N×C×H×W in [0, 1]); raises ValueError for anything else."""
        check_images(images)
        if self.truncated:
            inside = math.erf(2 / math.sqrt(2))  # the share of a normal distribution within two standard deviations
            uniform = torch.rand(images.shape, generator=generator, device=images.device)
            noise = self.std * math.sqrt(2) * torch.erfinv((2 * uniform - 1) * inside)
        else:
            noise = self.std * torch.randn(images.shape, generator=generator, device=images.device)
        return (images + noise.clamp_(-1, 1)).clamp_(0, 1).to(images.dtype)


class BitDepth(nn.Module):
    """Bit-depth reduction, round(x·(2ᵇ-1)) / (2ᵇ-1) (Xu et al., 2018); with one bit the threshold 1[x > 0.5].

    A pixel that lies exactly between two values becomes the lower one; none of an 8-bit image does.

    Raises:
        ValueError: ``bits`` is no integer from 1 to 8.
    """

    random = False

    def __init__(self, bits: int) -> None:
        super().__init__()
        if not isinstance(bits, Integral) or isinstance(bits, bool) or not 1 <= bits <= 8:
            raise ValueError(f"bits must be an integer from 1 to 8; got {bits!r}")
        steps = 2 ** int(bits) - 1  # in a short integer of NumPy's the power would be another
        self.edges: Tensor = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
        self.values: Tensor = torch.arange(steps + 1, dtype=torch.float64) / steps

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Round images (float N×C×H×W in [0, 1]); ``generator`` is not used."""
        check_images(images)
        edges = rounded_down(self.edges, images.dtype).to(images.device)
        return self.values.to(images)[torch.bucketize(images.contiguous(), edges)]


class JPEG(nn.Module):
    """Each image as it is after JPEG compression of this quality (Das et al., 2017; Guo et al., 2018), by Pillow.

    Raises:
        ValueError: ``quality`` is no integer from 1 to 95, what Pillow's documentation asks for.
    """

    random = False

    def __init__(self, quality: int) -> None:
        super().__init__()
        if not isinstance(quality, Integral) or isinstance(quality, bool) or not 1 <= quality <= 95:
            raise ValueError(f"quality must be an integer from 1 to 95; got {quality!r}")
        self.quality: int = int(quality)

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Compress images (float N×C×H×W in [0, 1], C 1 or 3), rounded to 8 bits; ``generator`` is not used."""
        check_images(images)
        if images.shape[1] not in (1, 3):
            raise ValueError(f"images must have 1 or 3 channels for JPEG; got {images.shape[1]}")
        if not images.numel():
            return images.detach().clone()
        rounded = (images.detach() * 255).round().to("cpu", torch.uint8).permute(0, 2, 3, 1)
        decoded = [self._compressed(pixels) for pixels in rounded.numpy()]
        return (torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).to(images) / 255).contiguous()

    def _compressed(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels H×W×C, uint8, written to JPEG and read again."""
        written = BytesIO()
        Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(
            written, "JPEG", quality=self.quality
        )
        with Image.open(written) as image:
            return np.asarray(image).reshape(pixels.shape)


class Voted(nn.Module):
    """A random defence whose network is asked about ``votes`` draws of it and answers what most of them say.

    Called, it draws once, as what it is made of. The votes are counted where the network answers (``prlib.cases``).

    Raises:
        ValueError: ``votes`` is no positive integer, or ``transform`` no function, or one that votes itself.
    """

    def __init__(self, transform: Transform, *, votes: int) -> None:
        super().__init__()
        if not isinstance(votes, Integral) or isinstance(votes, bool) or votes < 1:
            raise ValueError(f"votes must be a positive integer; got {votes!r}")
        if isinstance(transform, type | Voted) or not callable(transform):
            raise ValueError(f"what votes must be a function (or a module) that draws once; got {transform!r}")
        self.transform: Transform = transform
        self.votes: int = int(votes)

    def forward(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """One draw."""
        return self.transform(images, generator)


def smoothed(std: float, votes: int) -> Voted:
    """Randomised smoothing (Cohen et al., 2019): normal noise of ``std``, and a vote over draws.

    What goes beyond [0, 1] is cut off. The theorem holds nevertheless: on images in [0, 1] the noise of
    ``GaussianNoise``, itself clipped to [-1, 1], comes to the same as clipping the sum alone, and clipping the sum is
    the first layer of the network that is smoothed.
    """
    return Voted(GaussianNoise(std), votes=votes)

"""The four datasets: resident uint8 images and int64 labels, from the full data or from the embedded sample.

Full data lies under one root, in the layout of the datasets' own sites and of torchvision's download folder:
``MNIST/raw/*-ubyte``, ``FashionMNIST/raw/*-ubyte`` (idx) and ``cifar-10-batches-bin/*.bin`` (CIFAR-10's binary
version), each file plain or as ``.gz``, or ``cifar-10-batches-py`` (its Python version, of which no code is run). What
is missing is downloaded; every content is checked by SHA-256.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from numbers import Integral
from pathlib import Path
from typing import TypeGuard

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from prlib.originals import FILES, files_of, find, read_original, root_folder


@dataclass(frozen=True)
class Dataset:
    """What a caller needs to know of a dataset before loading it; its images are channels×size×size.

    ``read`` is how a dataset that is none of the paper's is read: of "train" or "test", uint8 images N×C×H×W and int64
    labels N.
    """

    title: str
    channels: int
    size: int
    n_train: int
    n_test: int
    classes: tuple[str, ...]
    source: str
    licence: str
    read: Callable[[str], tuple[Tensor, Tensor]] | None = None


_CLOTHES = "T-shirt/top,trouser,pullover,dress,coat,sandal,shirt,sneaker,bag,ankle boot"
_THINGS = "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck"
_MNIST_LICENCE = "CC BY-SA 3.0 as commonly stated; copyright Yann LeCun and Corinna Cortes"
_MNIST = ("MNIST", 1, 28, 60_000, 10_000, tuple("0123456789"), "http://yann.lecun.com/exdb/mnist/")
_FASHION_SITE = "https://github.com/zalandoresearch/fashion-mnist"
_FASHION = ("Fashion-MNIST", 1, 28, 60_000, 10_000, tuple(_CLOTHES.split(",")), _FASHION_SITE)
_CIFAR_SITE = "https://www.cs.toronto.edu/~kriz"
_CIFAR = (3, 32, 50_000, 10_000, tuple(_THINGS.split(",")), f"{_CIFAR_SITE}/cifar.html", "none stated")
DATASETS = {
    "mnist": Dataset(*_MNIST, _MNIST_LICENCE),
    "fashion-mnist": Dataset(*_FASHION, "MIT; copyright Zalando SE"),
    "cifar10": Dataset("CIFAR-10", *_CIFAR),
    "cifar10-gray": replace(Dataset("Grayscale CIFAR-10", *_CIFAR), channels=1),
}
"""The datasets by the names that ``load`` takes.

:meta hide-value:
"""
SPLITS = ("train", "test")
"""The parts of every dataset."""
Transform = Callable[[Tensor, torch.Generator], Tensor]
"""A random preprocessor, from float images N×C×H×W in [0, 1] and a generator to images of the same shape."""
SAMPLE = Path(__file__).with_name("sample")
"""Where the embedded sample is.

:meta hide-value:
"""


@dataclass(frozen=True)
class Split:
    """Images (uint8 N×C×H×W) with their labels (int64 N) and a digest of both; build it with ``Split.of``.

    The digest is the SHA-256 hex digest of the ASCII text "{N}x{C}x{H}x{W}", the image bytes in that order
    and the labels as little-endian int64. The source is "full" or "sample": what data the images are part of.
    Two splits are equal if all their fields but the tensors are.
    """

    images: Tensor = field(repr=False, compare=False)
    labels: Tensor = field(repr=False, compare=False)
    name: str
    split: str
    digest: str
    source: str = "full"

    @classmethod
    def of(cls, images: Tensor, labels: Tensor, name: str, split: str, source: str = "full") -> "Split":
        """Build the split of these images (uint8 N×C×H×W) and labels (int64 N), with their digest.

        Raises:
            ValueError: they are of another type or shape, not on the CPU, none at all, or a label is negative.
        """
        check_split(images, labels)
        content = hashlib.sha256("x".join(map(str, images.shape)).encode())
        content.update(images.contiguous().numpy().data)
        content.update(labels.numpy().astype("<i8").data)
        return cls(images, labels, name, split, content.hexdigest(), source)

    def __len__(self) -> int:
        """Count the images."""
        return len(self.labels)

    def take(self, n: int, seed: int | None = None) -> "Split":
        """Return n images whose classes' counts differ by at most 1, or all if n is how many there are.

        Without a seed these are the first that fit, in their order; with one, the split is shuffled first.
        A larger n with the same seed contains a smaller one's images. Raises ValueError if n is out of range.
        """
        what = f"n of {self.name} {self.split}"
        if not isinstance(n, Integral) or not 1 <= n <= len(self):
            raise ValueError(f"{what} must be an integer from 1 to {len(self)}; got {n!r}")
        if seed is not None:
            seed = check_seed(seed)
        chosen = balanced(self.labels, n, seed)
        there = self.labels.bincount()
        counts = self.labels[chosen].bincount(minlength=len(there))
        if n < len(self) and counts.max() - counts.min() > 1:
            even = int(there.min() * len(there) + (there > there.min()).sum())
            raise ValueError(f"{what} must be at most {even} (equally many of each class) or {len(self)}; got {n}")
        return Split.of(self.images[chosen], self.labels[chosen], self.name, self.split, self.source)


def check_seed(seed: int) -> int:
    """The seed as PyTorch takes it; a ValueError unless it is an integer of 64 bits."""
    if not isinstance(seed, Integral) or not -(2**63) <= int(seed) < 2**63:
        raise ValueError(f"seed must be an integer of 64 bits; got {seed!r}")
    return int(seed)


def balanced(labels: Tensor, n: int, seed: int | None = None) -> Tensor:
    """The places (int64 n) of the images that ``Split.take`` chooses, in its order, from the labels (int64 N) alone."""
    order = torch.arange(len(labels))
    if seed is not None:
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    # Each image's place within its class: the lowest places deal all classes out in rounds.
    shuffled = labels[order]
    place = torch.nn.functional.one_hot(shuffled).cumsum(0).gather(1, shuffled[:, None])[:, 0]
    return order[place.argsort(stable=True)[:n].sort().values]


def load(name: str, split: str, root: str | Path | None = None) -> Split:
    """Load "train" or "test" of one of ``DATASETS``, in the original order.

    ``root="sample"`` gives the embedded sample (see sample/README.md) and needs no network. Otherwise the full
    data is read from ``root``, else ``$PRLIB_DATA``, else ``~/.cache/prlib``; files that are missing there are
    downloaded. ``cifar10-gray`` is derived from CIFAR-10 by ``to_gray`` and never stored.

    Raises ValueError for an unknown name or split, for a file whose content is not the original and for a root
    that is laid out in another way (nothing is deleted), and OSError if a missing file cannot be downloaded or written.
    """
    stored = _stored(name, split)
    if read := DATASETS[name].read:
        return Split.of(*read(split), name, split)
    parts = _sample(stored, split) if root == "sample" else _full(stored, split, root_folder(root))
    pairs = ((images if name == stored else to_gray(images), labels) for images, labels in parts)
    images, labels = map(torch.cat, zip(*pairs, strict=True))
    return Split.of(images, labels, name, split, "sample" if root == "sample" else "full")


def missing(name: str, split: str, root: str | Path | None = None) -> tuple[str, ...]:
    """Return the files, relative to the full data's root, that ``load`` would have to download."""
    if root == "sample" or DATASETS[name].read:
        return ()
    return tuple(p for p in files_of(_stored(name, split), split) if not find(p, root_folder(root)).is_file())


def to_float(images: Tensor) -> Tensor:
    """Turn uint8 images of any shape into what models take: float32 in [0, 1], each value divided by 255."""
    return check_bytes(images).to(torch.float32) / 255


def check_bytes(images: Tensor) -> Tensor:
    """The images, if they are uint8; else a ValueError."""
    if not isinstance(images, Tensor) or images.dtype != torch.uint8:
        raise ValueError(f"images must be torch.uint8; got {in_words(images)}")
    return images


_VOUCHED_FOR = ContextVar("_VOUCHED_FOR", default=False)


@contextmanager
def vouched_for() -> Iterator[None]:
    """Inside, the caller vouches for the values of images and labels, and only their types and shapes are checked.

    A training makes its images from uint8 itself. To look at their values would make the host wait for the device in
    every step.
    """
    token = _VOUCHED_FOR.set(True)
    try:
        yield
    finally:
        _VOUCHED_FOR.reset(token)


def values_are_checked() -> bool:
    """Whether functions look at the values that they are given: everywhere but inside ``vouched_for``."""
    return not _VOUCHED_FOR.get()


FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""The types of images and logits; with shorter ones PyTorch does not compute.

:meta hide-value:
"""


def is_dense(value: object) -> TypeGuard[Tensor]:
    """Whether it is a tensor that holds every number: neither sparse nor nested, nor on the device meta."""
    return isinstance(value, Tensor) and value.layout == torch.strided and not (value.is_nested or value.is_meta)


def check_images(images: Tensor) -> None:
    """Raise a ValueError unless images are float N×C×H×W, and on the CPU in [0, 1] without NaN.

    Values are looked at on the CPU only, since elsewhere every look would wait for all that the device still has to do,
    and nowhere inside ``vouched_for``.
    """
    if not is_dense(images) or images.ndim != 4 or images.dtype not in FLOATS:
        raise ValueError(f"images must be a float tensor N×C×H×W; got {in_words(images)}")
    if images.numel() and images.device.type == "cpu" and values_are_checked():
        low, high = (float(value) for value in images.detach().aminmax())
        if not (low >= 0 and high <= 1):
            raise ValueError(f"images must lie in [0, 1] without NaN; got values from {low:g} to {high:g}")


def check_split(images: Tensor, labels: Tensor) -> None:
    """Raise a ValueError unless images are uint8 N×C×H×W and labels int64 N, on the CPU, N at least 1."""
    for what, value, dtype, shape in (("images", images, torch.uint8, "N×C×H×W"), ("labels", labels, torch.int64, "N")):
        right = is_dense(value) and (value.dtype, value.ndim) == (dtype, shape.count("×") + 1)
        if not right or value.device.type != "cpu":
            raise ValueError(f"{what} must be a {dtype} tensor {shape} on the CPU; got {in_words(value)}")
    if not images[:1].numel() and len(images):
        raise ValueError(f"images must have pixels; got {in_words(images)}")
    if len(images) != len(labels) or not len(labels):
        raise ValueError(f"there must be one label for each image, and at least one; got {len(labels)}, {len(images)}")
    if labels.min() < 0:
        raise ValueError(f"labels must not be negative; got {int(labels.min())}")


def in_words(value: object) -> str:
    """What a value is, for a sentence that refuses it: a tensor's type and shape, or the name of its class."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    if value.is_nested:
        return f"nested {value.dtype}"
    layout = "" if value.layout == torch.strided else "sparse "
    return f"{layout}{value.dtype} of shape {tuple(value.shape)}" + " on the device meta" * value.is_meta


def to_gray(images: Tensor) -> Tensor:
    """Turn uint8 N×3×H×W into uint8 N×1×H×W: 0.2989 R + 0.5870 G + 0.1140 B, rounded, halves upwards.

    The sum is exact, in integers, so that rounding is the same on every machine.
    """
    red, green, blue = (images[:, channel : channel + 1].to(torch.int32) for channel in range(3))
    return ((2989 * red + 5870 * green + 1140 * blue + 5000) // 10_000).to(torch.uint8)


def _stored(name: str, split: str) -> str:
    """Return the dataset whose files hold this one, after checking both names."""
    for what, value, allowed in (("dataset", name, DATASETS), ("split", split, SPLITS)):
        if value not in allowed:
            raise ValueError(f"{what} must be one of {', '.join(allowed)}; got {value!r}")
    return name.removesuffix("-gray")


def _sample(name: str, split: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Cut the embedded sheet of a split into its images, row by row."""
    entry = json.loads((SAMPLE / "sample.json").read_text("utf-8"))[name][split]
    sheet = torch.from_numpy(np.array(Image.open(SAMPLE / f"{name}-{split}.png")))
    size, channels = DATASETS[name].size, DATASETS[name].channels
    grid = sheet.reshape(sheet.shape[0] // size, size, -1, size, channels)
    images = grid.permute(0, 2, 4, 1, 3).reshape(-1, channels, size, size)
    labels = torch.tensor([int(digit) for digit in entry["labels"]])
    if len(images) != len(labels) or Split.of(images, labels, name, split).digest != entry["digest"]:
        raise ValueError(f"{SAMPLE}/{name}-{split}.png or its labels have changed; the digest is {entry['digest']}")
    yield images, labels


def _full(name: str, split: str, root: Path) -> Iterator[tuple[Tensor, Tensor]]:
    """Read a split part by part; what is missing is downloaded."""
    shape = (-1, DATASETS[name].channels, DATASETS[name].size, DATASETS[name].size)
    for part in FILES[name][split]:
        raw = [torch.frombuffer(read_original(name, path, root), dtype=torch.uint8) for path in part]
        if len(raw) == 2:  # idx: after headers of 16 and 8 bytes, which the digests have checked
            yield raw[0][16:].reshape(shape), raw[1][8:].long()
        else:  # records of a label byte and the planes of red, green and blue
            records = raw[0].reshape(-1, 1 + 3 * 32 * 32)
            yield records[:, 1:].reshape(shape), records[:, 0].long()

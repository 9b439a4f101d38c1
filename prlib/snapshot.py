"""Snapshots: networks after so many epochs, in files that say what they are."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from prlib.data import DATASETS
from prlib.fast import FastCNN
from prlib.files import intact, parse_tensors

_intact = partial(intact, what="a snapshot of a network", advice="restore it, or delete it to train anew")

SUMS = "SHA256SUMS"
"""The file beside networks that lists their SHA-256, as ``sha256sum`` writes it."""

PRECISIONS = {"float32": torch.float32, "float16": torch.float16}
"""In which numbers snapshots can be written; a training's own weights and checkpoints are float32.

:meta hide-value:
"""


@dataclass(frozen=True)
class Snapshot:
    """What a file of weights says about itself.

    ``source`` is where the training images came from ("full", "sample"), ``seconds`` what the training took until
    there. Older files do not say their training ("") and epoch (0).
    """

    path: Path
    dataset: str
    source: str
    seconds: float
    training: str = ""
    epoch: int = 0

    @classmethod
    def read(cls, path: Path) -> "Snapshot":
        """What a file says; one that is damaged, or no snapshot, raises a ValueError that names it."""
        return cls.of(path, _read(path)[1])

    @classmethod
    def of(cls, path: Path, meta: Mapping[str, str]) -> "Snapshot":
        """What a header's ``metadata`` says; one that is not a snapshot's raises a ValueError that names the path."""
        with _intact(path):
            of = meta.get("training", ""), int(meta.get("epoch", 0))
            found = cls(path, meta["dataset"], meta["source"], float(meta["seconds"]), *of)
            if found.dataset not in DATASETS:
                raise ValueError(f"dataset {found.dataset!r}")
            if not 0 <= found.seconds < math.inf:
                raise ValueError(f"a training of {found.seconds} seconds")
            return found

    @property
    def metadata(self) -> dict[str, str]:
        """What ``read`` finds, as a file of weights holds it."""
        said = {"source": self.source, "dataset": self.dataset, "seconds": f"{self.seconds:.1f}"}
        return said | {"training": self.training, "epoch": str(self.epoch)}

    @property
    def precision(self) -> str:
        """In which numbers the file holds the network, a key of ``PRECISIONS``."""
        return _precision(self.path, _read(self.path)[0])


def snapshot_path(directory: Path, epoch: int) -> Path:
    """Where the network is after so many epochs."""
    return directory / f"epoch-{epoch:04d}.safetensors"


def load_model(path: Path, device: str = "cpu") -> FastCNN:
    """The network of a snapshot, in eval mode; weights that are not finite are refused."""
    tensors, meta = _read(path)
    dataset = DATASETS[Snapshot.of(path, meta).dataset]
    _precision(path, tensors)
    model = FastCNN(dataset.channels, dataset.size)
    with _intact(path):
        model.load_state_dict(tensors)
    if not all(torch.isfinite(parameter).all() for parameter in model.parameters()):
        raise ValueError(f"{path} holds weights that are not finite; delete it to train anew")
    return model.to(device).eval()


def _precision(path: Path, tensors: Mapping[str, Tensor]) -> str:
    with _intact(path):
        dtypes = {tensor.dtype for tensor in tensors.values()}
        if precision := next((name for name, dtype in PRECISIONS.items() if dtypes == {dtype}), None):
            return precision
        raise ValueError(f"it must hold {' or '.join(PRECISIONS)}, not {', '.join(sorted(map(str, dtypes)))}")


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A file's tensors and metadata; a published one must have the digest that is published beside it."""
    with _intact(path):
        content = path.read_bytes()
        folder = path.absolute().parent
        sums = folder.parent / SUMS
        lines = sums.read_text("utf-8").splitlines() if sums.exists() else []
        published = {name: digest for digest, name in map(str.split, lines)}
        digest = hashlib.sha256(content).hexdigest()
        if published.get(f"{folder.name}/{path.name}", digest) != digest:
            raise ValueError(f"its SHA-256 is not the one in {sums}")
        return parse_tensors(content)

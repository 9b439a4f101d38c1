"""Snapshots: networks after so many epochs, in files that say what they are."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from prlib.data import DATASETS
from prlib.fast import FastCNN
from prlib.files import intact

_intact = partial(intact, what="a snapshot of a network", advice="restore it, or delete it to train anew")

PRECISIONS = {"float32": torch.float32, "float16": torch.float16}
"""In which numbers snapshots can be written; a training computes, and is interrupted and resumed, in float32.

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
        """Read the header; a file that is not a snapshot raises a ValueError that names it."""
        with _intact(path), safe_open(path, "pt") as file:
            meta = file.metadata()
        return cls.of(path, meta)

    @classmethod
    def of(cls, path: Path, meta: Mapping[str, str]) -> "Snapshot":
        """What a header's ``metadata`` says; one that is not a snapshot's raises a ValueError that names the path."""
        with _intact(path):
            of = meta.get("training", ""), int(meta.get("epoch", 0))
            found = cls(path, meta["dataset"], meta["source"], float(meta["seconds"]), *of)
            if found.dataset not in DATASETS:
                raise ValueError(f"dataset {found.dataset!r}")
            return found

    @property
    def metadata(self) -> dict[str, str]:
        """What ``read`` finds, as a file of weights holds it."""
        said = {"source": self.source, "dataset": self.dataset, "seconds": f"{self.seconds:.1f}"}
        return said | {"training": self.training, "epoch": str(self.epoch)}

    @property
    def precision(self) -> str:
        """In which numbers the file holds the network, a key of ``PRECISIONS``."""
        with _intact(self.path), safe_open(self.path, "pt") as file:
            dtypes = {file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118, it is no mapping
            (precision,) = (name for name, dtype in PRECISIONS.items() if dtypes == {dtype})
        return precision


def snapshot_path(directory: Path, epoch: int) -> Path:
    """Where the network is after so many epochs."""
    return directory / f"epoch-{epoch:04d}.safetensors"


def load_model(path: Path, device: str = "cpu") -> FastCNN:
    """The network of a snapshot, in eval mode; weights that are not finite are refused."""
    dataset = DATASETS[Snapshot.read(path).dataset]
    model = FastCNN(dataset.channels, dataset.size)
    with _intact(path):
        model.load_state_dict(load_file(path))
    if not all(torch.isfinite(parameter).all() for parameter in model.parameters()):
        raise ValueError(f"{path} holds weights that are not finite; delete it to train anew")
    return model.to(device).eval()

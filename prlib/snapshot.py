"""Snapshots: networks after so many epochs, in files that say what they are; and files written all at once."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from prlib.data import DATASETS
from prlib.fast import FastCNN

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
        try:
            with safe_open(path, "pt") as file:
                meta = file.metadata()
        except SafetensorError as error:
            raise _damaged(path, error) from error
        return cls.of(path, meta)

    @classmethod
    def of(cls, path: Path, meta: Mapping[str, str]) -> "Snapshot":
        """What a header's ``metadata`` says; one that is not a snapshot's raises a ValueError that names the path."""
        try:
            of = meta.get("training", ""), int(meta.get("epoch", 0))
            found = cls(path, meta["dataset"], meta["source"], float(meta["seconds"]), *of)
            if found.dataset not in DATASETS:
                raise ValueError(f"dataset {found.dataset!r}")
            return found
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise _damaged(path, error) from error

    @property
    def metadata(self) -> dict[str, str]:
        """What ``read`` finds, as a file of weights holds it."""
        said = {"source": self.source, "dataset": self.dataset, "seconds": f"{self.seconds:.1f}"}
        return said | {"training": self.training, "epoch": str(self.epoch)}

    @property
    def precision(self) -> str:
        """In which numbers the file holds the network, a key of ``PRECISIONS``."""
        with safe_open(self.path, "pt") as file:
            dtypes = {file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118, it is no mapping
        return next(name for name, dtype in PRECISIONS.items() if dtypes == {dtype})


def _damaged(path: Path, why: Exception) -> ValueError:
    return ValueError(f"{path} is not a snapshot of a network ({why!r}); delete it to train anew")


def snapshot_path(directory: Path, epoch: int) -> Path:
    """Where the network is after so many epochs."""
    return directory / f"epoch-{epoch:04d}.safetensors"


def load_model(path: Path, device: str = "cpu") -> FastCNN:
    """The network of a snapshot, in eval mode; weights that are not finite are refused."""
    dataset = DATASETS[Snapshot.read(path).dataset]
    model = FastCNN(dataset.channels, dataset.size)
    model.load_state_dict(load_file(path))
    if not all(torch.isfinite(parameter).all() for parameter in model.parameters()):
        raise ValueError(f"{path} holds weights that are not finite; delete it to train anew")
    return model.to(device).eval()


def save_tensors(tensors: dict[str, Tensor], path: Path, meta: dict[str, str] | None = None) -> None:
    """Write tensors as safetensors, atomically."""
    with atomically(path) as partial:
        save_file({name: value.contiguous() for name, value in tensors.items()}, partial, meta)


@contextmanager
def atomically(path: Path) -> Iterator[Path]:
    """Yield a path to write to that becomes ``path`` only once the block has ended, so that no file is half-written.

    One process at a time may write to ``path``; what a killed one leaves is overwritten by the next.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    yield partial
    partial.replace(path)

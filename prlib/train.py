"""One training loop: resident data, fresh redraws in every step, snapshots at given epochs, resumable to the bit."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from tqdm import tqdm

from prlib.data import Split, Transform, to_float
from prlib.fast import FastCNN
from prlib.snapshot import Snapshot, load_model, save_tensors, snapshot_path

CHECKPOINT_SECONDS = 20.0
"""At the end of an epoch a checkpoint is written if the last one is older than this."""

Preparation = Callable[[nn.Module, Tensor, Tensor, torch.Generator, float], Tensor]
"""What training does to each batch: (model, images, labels, generator, epoch) to the images that are learned from.

``epoch`` is how many epochs of the training have passed with this batch, more than 0.
"""


@dataclass(frozen=True)
class Recipe:
    """How the network is trained: what the released code does where the paper is silent.

    Defaults are the released MNIST script's; ``init`` and ``label_smoothing`` are others in the CIFAR-10 script, and a
    variant of a defence may have a recipe of its own (``prlib/profiles/protocol.yaml``). Smoothing s makes the target
    of the true class 1 - s + s/10 and of each other class s/10.
    """

    init: str = "normal"
    label_smoothing: float = 0.1
    batch_size: int = 128
    learning_rate: float = 1e-3


def transformed(transform: Transform | None) -> Preparation:
    """The images behind a preprocessor, afresh for every batch; None leaves them as they are."""

    def prepare(model: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator, epoch: float) -> Tensor:
        return images if transform is None else transform(images, generator)

    return prepare


def train(
    split: Split,
    recipe: Recipe,
    prepare: Preparation,
    epochs: Iterable[int],
    seed: int,
    directory: Path,
    device: str = "cpu",
    progress: str = "bar",
    name: str = "",
) -> Iterator[tuple[int, FastCNN]]:
    """Train on ``split`` and yield (epoch, network in eval mode) at each of ``epochs``, in ascending order.

    Snapshots are kept in ``directory`` and loaded if they are there; a checkpoint beside them makes an interrupted
    training go on from the last one and end with the very same weights (same kind of CPU, same number of threads).

    Args:
        prepare: what is done to every batch: ``transformed``, or an adversary's attack.
        epochs: at least 1 each; 50, 500 and 1000 are snapshots of one training.
        seed: of initial weights, order of the images and all redraws.
        device: where the data, the network and the random numbers live.
        progress: "bar", "lines" (for logs) or "none".
        name: of the training, said by its snapshots and the bar.
    """
    wanted = sorted(set(epochs))
    if not wanted or wanted[0] < 1:
        raise ValueError(f"epochs must be a non-empty list of positive integers; got {wanted}")
    run = None
    images = wanted[-1] * len(split)
    # The delay: what is only loaded shows no bar.
    with progress_bar(progress, desc=name or directory.name, total=images, unit="img", unit_scale=True, delay=1) as bar:
        for epoch in wanted:
            path = snapshot_path(directory, epoch)
            if not path.exists():
                if run is None:
                    run = _Run(split, recipe, prepare, seed, directory, device, epoch)
                    bar.update(run.epoch * len(split))
                run.advance(epoch, bar)
                snapshot = Snapshot(path, split.name, split.source, run.seconds, name, epoch)
                save_tensors(run.model.state_dict(), path, snapshot.metadata)
            yield epoch, load_model(path, device)


def checkpoint_path(directory: Path) -> Path:
    """Where an interrupted training goes on from."""
    return directory / "checkpoint.safetensors"


class _Run:
    """The state of a training that a checkpoint holds: network, Adam, generator, epoch."""

    def __init__(
        self,
        split: Split,
        recipe: Recipe,
        prepare: Preparation,
        seed: int,
        directory: Path,
        device: str,
        first: int,
    ) -> None:
        self.recipe, self.prepare, self.device = recipe, prepare, device
        self.images, self.labels = split.images.to(device), split.labels.to(device)
        _, channels, size, _ = self.images.shape
        self.model = FastCNN(channels, size, recipe.init, seed).to(device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), recipe.learning_rate, fused=True)
        self.generator = torch.Generator(device).manual_seed(seed)
        self.epoch, self.seconds = 0, 0.0
        self.path = checkpoint_path(directory)
        self.saved_at = time.monotonic()
        if self.path.exists():
            self._restore(load_file(self.path), first)

    def advance(self, epoch: int, bar: tqdm) -> None:
        """Train until ``epoch`` is done, saving a checkpoint there and from time to time before."""
        while self.epoch < epoch:
            started = time.monotonic()
            loss = self._train_one_epoch(bar)
            self.epoch += 1
            self.seconds += time.monotonic() - started
            bar.set_postfix_str(f"epoch {self.epoch}, loss {loss:.3f}", refresh=False)
            if self.epoch == epoch or time.monotonic() - self.saved_at > CHECKPOINT_SECONDS:
                self._save()

    def _train_one_epoch(self, bar: tqdm) -> float:
        self.model.train()
        n, size = len(self.images), min(self.recipe.batch_size, len(self.images))
        order = torch.randperm(n, generator=self.generator, device=self.device)
        total = torch.zeros((), device=self.device)
        for start in range(0, n, size):
            # The last batch is filled up with images taken again (CleverHans' batch_indices).
            batch = order[min(start, n - size) :][:size]
            labels, now = self.labels[batch], self.epoch + min(1.0, (start + size) / n)
            images = self.prepare(self.model, to_float(self.images[batch]), labels, self.generator, now)
            loss = nn.functional.cross_entropy(self.model(images), labels, label_smoothing=self.recipe.label_smoothing)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.detach()
            bar.update(min(size, n - start))
        return float(total) / -(-n // size)

    def _save(self) -> None:
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for i, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{i}.{name}": value for name, value in state.items()}
        tensors["generator"] = self.generator.get_state()
        tensors["epoch"], tensors["seconds"] = torch.tensor(self.epoch), torch.tensor(self.seconds)
        save_tensors(tensors, self.path)
        self.saved_at = time.monotonic()

    def _restore(self, tensors: dict[str, Tensor], first: int) -> None:
        if tensors["epoch"] > first:
            return  # an earlier epoch is wanted than the checkpoint holds: train it again, from the start
        self.epoch, self.seconds = int(tensors["epoch"]), float(tensors["seconds"])
        self.generator.set_state(tensors["generator"])
        adam: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            group, _, rest = name.partition(".")
            if group == "adam":
                index, _, field = rest.partition(".")
                adam.setdefault(int(index), {})[field] = value
        self.model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": adam})


def progress_bar(kind: str, **shown: Any) -> tqdm:
    """A bar that is redrawn ("bar"), lines for a log ("lines") or nothing ("none"); ``shown`` is tqdm's."""
    lines = kind == "lines"
    return tqdm(
        **shown,
        disable=kind == "none",
        leave=False,
        position=0,  # a training that waits while its network is judged gives its line to the judging
        mininterval=10 if lines else 0.2,
        file=_Lines(sys.stderr) if lines else None,
    )


class _Lines:
    """Turns a progress bar's redrawing into lines of a log."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream

    def write(self, text: str) -> None:
        if text.strip():
            self.stream.write(text.strip() + "\n")

    def flush(self) -> None:
        self.stream.flush()

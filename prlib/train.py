"""One training loop: resident data, fresh redraws in every step, snapshots at given epochs, resumable to the bit."""

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal, get_args

import torch
from torch import Tensor, nn
from tqdm import tqdm

from prlib import collector
from prlib.data import Split, Transform, to_float, vouched_for
from prlib.deadline import OutOfTime, check_time, seconds_left
from prlib.fast import FastCNN
from prlib.files import intact, parse_tensors, save_tensors
from prlib.model import CLASSES
from prlib.snapshot import PRECISIONS, Snapshot, load_model, snapshot_path

CHECKPOINT_SECONDS = 20.0
"""At the end of an epoch a checkpoint is written if the last one is older than this."""

Preparation = Callable[[nn.Module, Tensor, Tensor, torch.Generator, float], Tensor]
"""What training does to each batch, of (model, images, labels, generator, epoch) to the images that are learned from.

``epoch`` is how many epochs of the training have passed with this batch, more than 0.
"""


Autocast = Literal["float32", "bfloat16"]
"""In which numbers a step can compute."""


@dataclass(frozen=True)
class Recipe:
    """How the network is trained: what the released code does where the paper is silent.

    Defaults are the released MNIST script's; ``init`` and ``label_smoothing`` are others in the CIFAR-10 script, and a
    variant of a defence may have a recipe of its own (``prlib/profiles/protocol.yaml``). Smoothing s makes the target
    of the true class 1 - s + s/10 and of each other class s/10. ``autocast`` is the precision of the network's passes
    in a step; weights and Adam stay float32 (Kalamkar et al., 2019, arXiv:1905.12322).

    Raises:
        ValueError: ``autocast`` is neither "float32" nor "bfloat16".
    """

    init: str = "normal"
    label_smoothing: float = 0.1
    batch_size: int = 128
    learning_rate: float = 1e-3
    autocast: Autocast = "float32"

    def __post_init__(self) -> None:
        if self.autocast not in get_args(Autocast):
            raise ValueError(f"autocast must be {' or '.join(get_args(Autocast))}; got {self.autocast!r}")


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
    precision: str = "float32",
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
        precision: of the snapshots that are written, a key of ``prlib.snapshot.PRECISIONS``; what is yielded has been
            read back from them.

    Raises:
        OutOfTime: the time limit ends before the next epoch would, and a checkpoint has been written; or it ends within
            an epoch that took longer than foreseen, and what was done since the last checkpoint is done again.
        ValueError: a value is not allowed, a label is none of the network's classes, a file is damaged, or the loss is
            no longer finite.
    """
    wanted = sorted(set(epochs))
    if not wanted or wanted[0] < 1:
        raise ValueError(f"epochs must be a non-empty list of positive integers; got {wanted}")
    if split.labels.max() >= CLASSES:
        raise ValueError(f"labels must be below {CLASSES}, the network's classes; got {int(split.labels.max())}")
    trainer = None
    images = wanted[-1] * len(split)
    # The delay: what is only loaded shows no bar.
    with progress_bar(progress, desc=name or directory.name, total=images, unit="img", unit_scale=True, delay=1) as bar:
        for epoch in wanted:
            path = snapshot_path(directory, epoch)
            if not path.exists():
                if trainer is None:
                    trainer = Trainer(split, recipe, prepare, seed, directory, device, epoch, name)
                    bar.update(trainer.epoch * len(split))
                trainer.advance(epoch, bar)
                snapshot = Snapshot(path, split.name, split.source, trainer.seconds, name, epoch)
                weights = {key: value.to(PRECISIONS[precision]) for key, value in trainer.model.state_dict().items()}
                save_tensors(weights, path, snapshot.metadata)
            yield epoch, load_model(path, device)


def checkpoint_path(directory: Path) -> Path:
    """Where an interrupted training goes on from."""
    return directory / "checkpoint.safetensors"


class Trainer:
    """A training under way, with the state that a checkpoint holds: network, Adam, generator, epoch.

    The arguments are those of ``train``; ``first`` is the first epoch that is wanted: a checkpoint of a later one is
    ignored, and training starts anew.

    Raises:
        ValueError: the checkpoint is damaged, of another training, or of another kind of device.
    """

    def __init__(
        self,
        split: Split,
        recipe: Recipe,
        prepare: Preparation,
        seed: int,
        directory: Path,
        device: str,
        first: int,
        name: str,
    ) -> None:
        self.recipe, self.prepare, self.device, self.name = recipe, prepare, device, name
        self.images, self.labels = split.images.to(device), split.labels.to(device)
        _, channels, size, _ = self.images.shape
        self.model = FastCNN(channels, size, recipe.init, seed).to(device)
        with collector.paused():  # PyTorch imports its compiler with the first of its optimizers
            self.optimizer = torch.optim.Adam(self.model.parameters(), recipe.learning_rate, fused=True)
        self.generator = torch.Generator(device).manual_seed(seed)
        self.epoch, self.seconds = 0, 0.0
        self.path = checkpoint_path(directory)
        self.saved_at = time.monotonic()
        if self.path.exists():
            self._restore(first)

    def advance(self, epoch: int, bar: tqdm) -> None:
        """Train until ``epoch`` is done, saving a checkpoint there, from time to time before, and if time is up.

        Raises:
            OutOfTime: the time limit ends before the next epoch would.
            ValueError: the loss is no longer finite.
        """
        while self.epoch < epoch:
            if self.epoch and seconds_left() < 1 + 1.2 * self.seconds / self.epoch:
                self._save()
                raise OutOfTime
            started = time.monotonic()
            with vouched_for():
                loss = float(self.train_one_epoch(bar)) / -(-len(self.images) // self.recipe.batch_size)
            if not math.isfinite(loss):
                where = f"in {self.path.parent}, in epoch {self.epoch + 1}"
                raise ValueError(f"the training must not diverge; {where}, its loss is {loss}")
            self.epoch += 1
            self.seconds += time.monotonic() - started
            bar.set_postfix_str(f"epoch {self.epoch}, loss {loss:.3f}", refresh=False)
            if self.epoch == epoch or time.monotonic() - self.saved_at > CHECKPOINT_SECONDS:
                self._save()

    def train_one_epoch(self, bar: tqdm) -> Tensor:
        """Train on every image once and return the sum of the steps' losses; the host never waits for the device."""
        self.model.train()
        n, size = len(self.images), min(self.recipe.batch_size, len(self.images))
        order = torch.randperm(n, generator=self.generator, device=self.device)
        total = torch.zeros((), device=self.device)
        for start in range(0, n, size):
            check_time()
            # The last batch is filled up with images taken again (CleverHans' batch_indices).
            batch = order[min(start, n - size) :][:size]
            labels, now = self.labels[batch], self.epoch + min(1.0, (start + size) / n)
            images = self.prepare(self.model, to_float(self.images[batch]), labels, self.generator, now)
            total += self.step(images, labels)
            bar.update(min(size, n - start))
        return total

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """Take one step of Adam on float images N×C×H×W in [0, 1] and labels N, and return the batch's mean loss."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.recipe.autocast == "bfloat16"):
            logits = self.model(images).float()
        loss = nn.functional.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def _save(self) -> None:
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for i, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{i}.{name}": value for name, value in state.items()}
        tensors["generator"] = self.generator.get_state()
        tensors["epoch"], tensors["seconds"] = torch.tensor(self.epoch), torch.tensor(self.seconds)
        save_tensors(tensors, self.path, {"training": self.name})
        self.saved_at = time.monotonic()

    def _restore(self, first: int) -> None:
        checked = partial(intact, self.path, "a checkpoint of this training", "move it away to train anew")
        with checked():
            tensors, meta = parse_tensors(self.path.read_bytes())
            if (said := meta.get("training", self.name)) != self.name:  # older ones say nothing
                raise ValueError(f"it is that of {said}")
            epoch, seconds, generator = (tensors.pop(name) for name in ("epoch", "seconds", "generator"))
        if epoch > first:
            return  # an earlier epoch is wanted than the checkpoint holds: train it again, from the start
        if generator.shape != self.generator.get_state().shape:
            raise ValueError(
                f"{self.path} was written on another kind of device than {self.device!r}; go on there, or move it away"
            )
        with checked():
            if not all(value.isfinite().all() for value in tensors.values()):
                raise ValueError("numbers that are not finite")
            self.model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
            adam: dict[int, dict[str, Tensor]] = {}
            for i, parameter in enumerate(self.model.parameters()):
                fields = {"step": (), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}
                adam[i] = {name: tensors[f"adam.{i}.{name}"].reshape(shape) for name, shape in fields.items()}
            self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": adam})
            self.epoch, self.seconds = int(epoch), float(seconds)
            self.generator.set_state(generator)


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

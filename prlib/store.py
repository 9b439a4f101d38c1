"""The store: records and trained networks on disk."""

import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

from prlib.experiment import Experiment, Training, to_json
from prlib.files import atomically, is_locked, locked
from prlib.record import Record, read_record
from prlib.snapshot import PRECISIONS, Snapshot, snapshot_path


class Store:
    """A folder of records (``records/``, JSON) and trained networks (``weights/``, safetensors).

    A record or a network that it lacks is looked for in the store ``beside`` it, which is never written to. Networks
    are written in ``precision``, a key of ``PRECISIONS``; each is judged as it has been written.
    """

    def __init__(self, root: Path, beside: "Store | None" = None, precision: str = "float32") -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"the precision of snapshots must be one of {', '.join(PRECISIONS)}; got {precision!r}")
        self.root, self.beside, self.precision = Path(root), beside, precision

    def record_path(self, experiment: Experiment) -> Path:
        """Where the experiment's record is, or will be."""
        return self.root / "records" / f"{experiment.name}.json"

    def found(self, experiment: Experiment) -> Path:
        """Where the experiment's record is, here or in the store beside; nothing may be there yet."""
        path = self.record_path(experiment)
        return self.beside.found(experiment) if self.beside and not path.exists() else path

    def load(self, experiment: Experiment) -> Record | None:
        """The stored record, possibly stale, or None; a damaged one raises a ValueError that names it."""
        path = self.found(experiment)
        return read_record(path) if path.exists() else None

    def current(self, experiment: Experiment) -> Record | None:
        """The stored record unless it is stale."""
        record = self.load(experiment)
        return record if record and not record.stale else None

    def is_current(self, experiment: Experiment) -> bool:
        """Whether the experiment has a record that is not stale."""
        return self.current(experiment) is not None

    def save(self, record: Record) -> None:
        """Write the record, in the place of an older one at once."""
        with atomically(self.record_path(record.experiment)) as partial:
            partial.write_text(json.dumps(to_json(record), indent=1) + "\n", "utf-8")

    def records(self, experiments: Iterable[Experiment] | None = None) -> tuple[list[Record], list[str]]:
        """The stored records of the experiments, or all by name, and a sentence about each that is damaged."""
        found: list[Record] = []
        damaged: list[str] = []
        for wanted in sorted(self.root.glob("records/*.json")) if experiments is None else experiments:
            try:
                record = read_record(wanted) if isinstance(wanted, Path) else self.load(wanted)
                found += [record] if record else []
            except ValueError as error:
                damaged.append(str(error))
        return found, damaged

    def weights(self, training: Training, tf32: bool = False) -> Path:
        """The folder of the training's checkpoint and snapshots; networks trained with TF32 have one of their own."""
        return self.root / "weights" / (training.name + ("-tf32" if tf32 else ""))

    def snapshot(self, training: Training, epoch: int, tf32: bool = False) -> Path:
        """Where the network is after so many epochs, here or in the store beside; nothing may be there yet."""
        path = snapshot_path(self.weights(training, tf32), epoch)
        return self.beside.snapshot(training, epoch, tf32) if self.beside and not path.exists() else path

    def snapshots(self, training: Training, epochs: Iterable[int], tf32: bool = False) -> dict[int, Path]:
        """The training's networks at these epochs, in ascending order, that are here or in the store beside.

        Raises:
            ValueError: a file is damaged, or another training's or epoch's by what it says of itself.
        """
        paths = {epoch: self.snapshot(training, epoch, tf32) for epoch in sorted(set(epochs))}
        found = {epoch: path for epoch, path in paths.items() if path.exists()}
        for epoch, path in found.items():
            _check(Snapshot.read(path), training, epoch)
        return found

    def judgeable(self, record: Record) -> dict[int, Path]:
        """The stored networks that can be judged again as the record's were; none if transfer attacks lack theirs."""
        networks = {t: self.snapshots(t, epochs, record.tf32) for t, epochs in record.experiment.networks.items()}
        return networks[record.experiment.training] if all(networks.values()) else {}

    @contextmanager
    def lock(self, training: Training, tf32: bool = False) -> Iterator[Path]:
        """The training's folder, for this process alone while inside."""
        folder = self.weights(training, tf32)
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / ".lock", f"works on {training.name}"):
            yield folder

    def is_busy(self, training: Training, tf32: bool = False) -> bool:
        """Whether another process works on the training (``lock``)."""
        return is_locked(self.weights(training, tf32) / ".lock")

    def gather(self, training: Training, epochs: Iterable[int], tf32: bool = False) -> None:
        """Copy here those of the training's networks that only the store beside has."""
        for epoch, source in self.snapshots(training, epochs, tf32).items():
            if source != (target := snapshot_path(self.weights(training, tf32), epoch)):
                with atomically(target) as partial:
                    shutil.copyfile(source, partial)

    def check_writable(self, trainings: Iterable[Training] = (), tf32: bool = False) -> None:
        """Raise an OSError unless its folders, and those of these trainings as far as they exist, can be written to."""
        networks = {self.weights(training, tf32) for training in trainings}
        for folder in (self.root, self.root / "records", self.root / "weights", *sorted(networks)):
            try:
                if folder == self.root:
                    folder.mkdir(parents=True, exist_ok=True)
                if folder.exists():
                    with NamedTemporaryFile(dir=folder):
                        pass
            except OSError as error:
                raise OSError(f"the store's {folder} must be a folder that can be written to: {error}") from error


def _check(snapshot: Snapshot, training: Training, epoch: int) -> None:
    said = (snapshot.dataset, snapshot.source, snapshot.training or training.name, snapshot.epoch or epoch)
    if said != (training.dataset, training.source, training.name, epoch):
        raise ValueError(
            f"{snapshot.path} must hold the network of {training.name} after {epoch} epochs; "
            f"it says {', '.join(map(str, said))}; delete it to train anew"
        )

"""The store: records and trained networks on disk."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile

from prlib.experiment import Experiment, Training
from prlib.record import Record, read_record
from prlib.train import checkpoint_path, snapshot_path


class Store:
    """A folder of records (``records/``, JSON) and trained networks (``weights/``, safetensors).

    A record or a network that it lacks is looked for in the store ``beside`` it, which is never written to.
    """

    def __init__(self, root: Path, beside: "Store | None" = None) -> None:
        self.root, self.beside = Path(root), beside

    def record_path(self, experiment: Experiment) -> Path:
        """Where the experiment's record is, or will be."""
        return self.root / "records" / f"{experiment.name}.json"

    def weights(self, training: Training, tf32: bool = False) -> Path:
        """The folder of the training's checkpoint and snapshots; networks trained with TF32 have one of their own."""
        return self.root / "weights" / (training.name + ("-tf32" if tf32 else ""))

    def snapshot(self, training: Training, epoch: int, tf32: bool = False) -> Path:
        """Where the network is after so many epochs, here or in the store beside; nothing may be there yet."""
        path = snapshot_path(self.weights(training, tf32), epoch)
        return self.beside.snapshot(training, epoch, tf32) if self.beside and not path.exists() else path

    def snapshots(self, training: Training, epochs: Iterable[int], tf32: bool = False) -> dict[int, Path]:
        """The training's networks at these epochs, in ascending order, that are here or in the store beside."""
        paths = {epoch: self.snapshot(training, epoch, tf32) for epoch in sorted(set(epochs))}
        return {epoch: path for epoch, path in paths.items() if path.exists()}

    def judgeable(self, record: Record) -> dict[int, Path]:
        """The stored networks that can be judged again as the record's were; none if transfer attacks lack theirs."""
        networks = {t: self.snapshots(t, epochs, record.tf32) for t, epochs in record.experiment.networks.items()}
        return networks[record.experiment.training] if all(networks.values()) else {}

    def check_writable(self) -> None:
        """Raise an OSError unless the folder can be written to."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with NamedTemporaryFile(dir=self.root):
                pass
        except OSError as error:
            raise OSError(f"the store {self.root} must be a folder that can be written to: {error}") from error

    def load(self, experiment: Experiment) -> Record | None:
        """The stored record, possibly stale, or None."""
        path = self.record_path(experiment)
        if not path.exists():
            return self.beside.load(experiment) if self.beside else None
        return read_record(path)

    def forget(self, experiments: Iterable[Experiment]) -> None:
        """Delete the experiments' records and the weights at their epochs, so that they are measured anew."""
        self.check_writable()
        for experiment in experiments:
            self.record_path(experiment).unlink(missing_ok=True)
            for folder in (self.weights(experiment.training, tf32) for tf32 in (False, True)):
                for path in (checkpoint_path(folder), *(snapshot_path(folder, e) for e in experiment.epochs)):
                    path.unlink(missing_ok=True)

    def is_current(self, experiment: Experiment) -> bool:
        """Whether the experiment has a record that is not stale."""
        record = self.load(experiment)
        return record is not None and not record.stale

    def records(self) -> Iterator[Record]:
        """All records, in the order of their names."""
        for path in sorted(self.root.glob("records/*.json")):
            yield read_record(path)

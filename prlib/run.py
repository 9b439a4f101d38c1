"""Measuring: an experiment is loaded from the store, or trained, judged and stored.

An experiment's way through ``run``: the store is asked for its record (``Store.current``); its images are loaded
(``_images``); its training is locked (``Store.lock``); the networks come one after the other, trained if they are not
stored (``_networks``, ``train``); each is judged batch by batch and attack by attack (``prlib.judging``: the steps of
the cases and what they come to are ``follow`` and ``measure`` of ``prlib.cases``); the counts become cells
(``Place.cell``), the cells a record, with its provenance (``provenance_of``), and the store writes it (``Store.save``).
Until then judged batches are kept, so that an interrupted experiment goes on (``Halfway``).
From there ``prlib.findings.cells`` reads accuracies (``measured``) and puts the paper's beside them (``compare``).
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from prlib.cases import all_batches
from prlib.chosen import Chosen, images_of
from prlib.data import Split
from prlib.experiment import Experiment, Training
from prlib.halfway import Halfway, code_digest
from prlib.jobs import take
from prlib.judging import cells
from prlib.machine import check_device, device_name, one_thread, tf32_allowed
from prlib.provenance import provenance_of
from prlib.record import RESULTS, Record, Seconds, check_certified, unpack
from prlib.seeds import derive
from prlib.snapshot import Snapshot, load_model
from prlib.store import Store
from prlib.train import train


@dataclass(frozen=True)
class Context:
    """Where and how experiments are measured.

    Args:
        device: "cpu", "cuda" or "cuda:0", ….
        progress: "bar", "lines" (for logs) or "none".
        data: the folder of the full datasets; None is the usual one.
        tf32: lets a GPU multiply with 10 bits of precision; the record says so.

    Raises:
        ValueError: a value that is not allowed on this machine.
    """

    store: Store
    device: str = "cpu"
    progress: str = "bar"
    data: str | Path | None = None
    tf32: bool = False

    def __post_init__(self) -> None:
        check_device(self.device)
        if self.tf32 and self.device == "cpu":
            raise ValueError("tf32 needs a GPU; got device 'cpu'")
        if self.data == "sample":
            raise ValueError(
                'data must be a folder with full data, not "sample"; the experiment says where images come from'
            )

    def is_busy(self, experiment: Experiment) -> bool:
        """Whether another process is at work on a network of the experiment."""
        return any(self.store.is_busy(training, self.tf32) for training in experiment.networks)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """One thread inside, since float32 sums depend on the number, and the precision asked for."""
        with ExitStack() as stack:
            stack.enter_context(one_thread())
            stack.enter_context(tf32_allowed(self.tf32))
            yield


def run(experiment: Experiment, context: Context, anew: bool = False) -> Record:
    """Load the experiment's record, or measure it: train (or load the weights), judge, store.

    A stale record is measured again, and with ``anew`` every record, which stays until its successor is written.

    Raises:
        ValueError, OSError: the data or the store cannot be used; raised before any compute.
        OutOfTime: there is a time limit (``prlib.deadline``), and it ends before the experiment would.
    """
    store = context.store
    if not anew and (stored := store.current(experiment)):
        return stored
    for attack in experiment.attacks:
        attack.kind.check_installed()
    store.check_writable(experiment.networks, context.tf32)
    training, testing = _images(experiment, context)
    with context.computing(), store.lock(experiment.training, context.tf32):
        if not anew and (stored := store.current(experiment)):
            return stored  # another process was faster
        halfway = _halfway(experiment, testing, context)
        if anew:
            halfway.remove()
        record = _measure(experiment, training, testing, context, halfway)
        store.save(record)
        halfway.remove()
    return record


def check(experiments: Sequence[Experiment], context: Context, anew: bool = False) -> list[Experiment]:
    """Check that those that are not measured yet, or with ``anew`` all, can be measured, and return them.

    Raises:
        ValueError, OSError: as ``run``; nothing has been computed or changed.
        ModuleNotFoundError: a library that an attack needs is not installed; says how to install it.
    """
    todo = [e for e in experiments if anew or not context.store.is_current(e)]
    for attack in {attack for e in todo for attack in e.attacks}:
        attack.kind.check_installed()
    if todo:
        context.store.check_writable({training for e in todo for training in e.networks}, context.tf32)
    wanted = {(Chosen.of(e), e.training.dataset, e.training.n_train): e for e in todo if not e.embedded}
    for experiment in (*wanted.values(), *(e for e in todo if e.embedded)):
        _images(experiment, context)
    for training, epochs in () if anew else {pair for e in todo for pair in e.networks.items()}:
        context.store.snapshots(training, epochs, context.tf32)  # refuses damaged ones and another training's
    return todo


def prepare(experiments: Sequence[Experiment], context: Context, anew: bool = False) -> list[Experiment]:
    """What ``check`` does; with ``anew`` train all networks again, which then take the places of the old ones."""
    todo = check(experiments, context, anew)
    if anew:
        _train_anew([e for e in todo if not e.embedded], context)
    return todo


def verify(record: Record, context: Context, n: int) -> tuple[int, int]:
    """Judge the stored weights again on the first n images (whole batches); returns (agreeing, judged) examples.

    Epochs whose weights are not in the store are left out. Nothing is written.

    Raises:
        FileNotFoundError: no weights are in the store, or none of the network that a transfer attack is made on.
    """
    experiment, store = record.experiment, context.store
    split = images_of(experiment, experiment.split, context.data)
    snapshots = store.judgeable(record)
    if not snapshots:
        folders = " and ".join(str(store.weights(training, record.tf32)) for training in experiment.networks)
        raise FileNotFoundError(f"the weights behind {experiment.name} are not all in the store: {folders}")
    stored = [cell for cell in record.cells if cell.epoch in snapshots]
    networks = ((epoch, load_model(path, context.device)) for epoch, path in snapshots.items())
    other, last = experiment.surrogate, max(experiment.epochs)
    surrogate = load_model(store.snapshot(other, last, record.tf32), context.device) if other else None
    agreeing = judged = 0
    with context.computing():
        batches = all_batches(split, n)
        judged_again = cells(
            experiment, networks, split, surrogate, Halfway(None, {}), batches, context.device, context.progress
        )
        for before, again in zip(stored, judged_again, strict=True):
            same = unpack(before.success, before.total)[: again.total] == unpack(again.success, again.total)
            agreeing, judged = agreeing + int(same.sum()), judged + again.total
    return agreeing, judged


def _images(experiment: Experiment, context: Context) -> tuple[Split | None, Split]:
    """Images to train on and to judge; the first are None if nothing is to be trained, and the networks are there."""
    judged = images_of(experiment, experiment.split, context.data)
    if experiment.embedded:
        for needed, epochs in experiment.networks.items():
            if missing := sorted(set(epochs) - context.store.snapshots(needed, epochs, context.tf32).keys()):
                raise FileNotFoundError(
                    f"no network of {needed.name} after {missing[0]} epochs is in {context.store.root} or beside it; "
                    "one trained on all images must be stored to be judged on the embedded ones"
                )
        return None, judged
    return judged if experiment.split == "train" else images_of(experiment, "train", context.data), judged


def _networks(
    training: Training, epochs: Iterable[int], split: Split | None, context: Context, folder: Path | None = None
) -> Iterator[tuple[int, nn.Module]]:
    """A training's networks with their epochs, in ascending order, trained if they are not in the store (or folder).

    Without images to train on they are in the store, or in one beside it.
    """
    if split is None:
        for epoch, path in context.store.snapshots(training, epochs, context.tf32).items():
            yield epoch, load_model(path, context.device)
        return
    with context.store.lock(training, context.tf32) as usual:
        if folder is None:
            context.store.gather(training, epochs, context.tf32)
        preparation, seed = training.defence.preparation(context.device), derive(training.seed, "training")
        yield from train(
            *(split, training.recipe, preparation, epochs, seed, folder or usual),
            device=context.device,
            progress=context.progress,
            name=training.name,
            precision=context.store.precision,
        )


def _train_anew(experiments: Iterable[Experiment], context: Context) -> None:
    """Train the networks behind the experiments in a folder beside the old ones, then replace those."""
    wanted: dict[Training, tuple[Experiment, set[int]]] = {}
    for experiment in experiments:
        for training, epochs in experiment.networks.items():
            wanted.setdefault(training, (experiment, set()))[1].update(epochs)
    left = list(wanted)
    while left:
        training = take(left, lambda training: context.store.is_busy(training, context.tf32))
        judged, all_epochs = wanted[training]
        split = _images(judged, context)[0]
        with context.computing(), context.store.lock(training, context.tf32) as folder:
            fresh = folder / "anew"  # an interrupted training goes on there
            for _ in _networks(training, all_epochs, split, context, fresh):
                pass
            for path in sorted(fresh.iterdir()):
                path.replace(folder / path.name)
            fresh.rmdir()


def _halfway(experiment: Experiment, split: Split, context: Context) -> Halfway:
    """What has been found of an experiment whose record is not written yet."""
    machine = f"{torch.__version__}, {device_name(context.device)}, tf32 {context.tf32}"
    about = {"results": str(RESULTS), "code": code_digest(), "images": split.digest, "machine": machine}
    folder = context.store.weights(experiment.training, context.tf32) / "judged" / experiment.name
    return Halfway(folder, about)


def _measure(
    experiment: Experiment, train_split: Split | None, test_split: Split, context: Context, halfway: Halfway
) -> Record:
    started = time.monotonic()
    surrogate = None
    if other := experiment.surrogate:
        ((_, surrogate),) = _networks(other, [max(experiment.epochs)], train_split, context)
    networks = _networks(experiment.training, experiment.epochs, train_split, context)
    batches = all_batches(test_split)
    where = context.device, context.progress
    found = tuple(cells(experiment, networks, test_split, surrogate, halfway, batches, *where))
    check_certified(found)
    last = context.store.snapshot(experiment.training, max(experiment.epochs), context.tf32)
    total = time.monotonic() - started + halfway.seconds
    seconds: Seconds = {"training": Snapshot.read(last).seconds, "total": round(total, 1)}
    digests = {split.split: split.digest for split in (train_split, test_split) if split}
    provenance = provenance_of(context.device, context.tf32, seconds, digests)
    judged = context.store.snapshots(experiment.training, experiment.epochs, context.tf32)
    if "float16" in {Snapshot.read(path).precision for path in judged.values()}:
        provenance["snapshots"] = "float16"
    return Record(experiment, found, provenance)

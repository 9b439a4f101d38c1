"""Measuring: an experiment is loaded from the store, or trained, judged and stored."""

import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor

from prlib.attacks.choice import strongest
from prlib.cases import BATCH_SIZE, Outcome, judge
from prlib.data import Split, Transform, load
from prlib.experiment import Experiment, Training, derive, labelled, to_json
from prlib.machine import check_device, device_name, git, one_thread, peak_megabytes, tf32_allowed
from prlib.model import PaperCNN
from prlib.record import WITH_TF32, Cell, Record, pack, unpack
from prlib.store import Store
from prlib.train import atomically, load_model, progress_bar, snapshot_path, train, transformed

Named = tuple[str, float | None]
"""An attack's name and its ε, as in an experiment."""


def run(
    experiment: Experiment,
    store: Store,
    device: str = "cpu",
    progress: str = "bar",
    data_root: str | Path | None = None,
    tf32: bool = False,
) -> Record:
    """Load the experiment's record, or measure it: train (or load the weights), judge, store.

    Runs on one thread, since float32 sums depend on the number. A stale record is measured again. ``tf32`` lets a GPU
    multiply with 10 bits of precision; the record says so.

    Raises:
        ValueError, OSError: the device, the data or the store cannot be used; raised before any compute.
    """
    stored = store.load(experiment)
    if stored and not stored.stale:
        return stored
    check_device(device)
    for attack in experiment.attacks:
        attack.kind.check_installed()
    if tf32 and device == "cpu":
        raise ValueError("tf32 needs a GPU; got device 'cpu'")
    store.check_writable()
    train_split, test_split = _splits(experiment, data_root)
    with one_thread(), tf32_allowed(tf32), _networks(store, experiment.training, experiment.epochs, tf32) as weights:
        if stored is None and (stored := store.load(experiment)):
            return stored  # another process was faster
        surrogate = _surrogate(experiment, store, train_split, device, progress, tf32)
        record = _measure(experiment, train_split, test_split, surrogate, weights, device, progress)
        with atomically(store.record_path(experiment)) as partial:
            partial.write_text(json.dumps(to_json(record), indent=1) + "\n")
    return record


def forget(
    experiments: Sequence[Experiment], store: Store, device: str = "cpu", data_root: str | Path | None = None
) -> None:
    """Delete the experiments' records and weights, so that they are measured anew, if that can be done at all.

    Raises:
        ValueError, OSError: as ``run``, and then nothing has been deleted.
    """
    check_device(device)
    for experiment in {e.training.dataset: e for e in experiments}.values():
        _splits(experiment, data_root)
    store.forget(experiments)


def verify(
    record: Record, store: Store, n: int, data_root: str | Path | None = None, progress: str = "none"
) -> tuple[int, int]:
    """Judge the stored weights again on the first n images (whole batches); returns (agreeing, judged) examples.

    Epochs whose weights are not in the store are left out.

    Raises:
        FileNotFoundError: no weights are in the store, or none of the network that a transfer attack is made on.
    """
    experiment = record.experiment
    train_split, split = _splits(experiment, data_root)
    snapshots = store.judgeable(record)
    if not snapshots:
        folders = " and ".join(str(store.weights(training, record.tf32)) for training in experiment.networks)
        raise FileNotFoundError(f"the weights behind {experiment.name} are not all in the store: {folders}")
    cells = [cell for cell in record.cells if cell.epoch in snapshots]
    batches = range(-(-min(n, len(split)) // BATCH_SIZE))
    networks = ((epoch, load_model(path)) for epoch, path in snapshots.items())
    agreeing = judged = 0
    with one_thread():
        surrogate = _surrogate(experiment, store, train_split, tf32=record.tf32)
        again_all = _judge_all(experiment, networks, split, surrogate, progress=progress, batches=batches)
        for before, again in zip(cells, again_all, strict=True):
            same = unpack(before.success, before.total)[: again.total] == unpack(again.success, again.total)
            agreeing, judged = agreeing + int(same.sum()), judged + again.total
    return agreeing, judged


def _splits(experiment: Experiment, data_root: str | Path | None) -> tuple[Split, Split]:
    training = experiment.training
    if data_root == "sample":
        raise ValueError(
            'data_root must be a folder with full data, not "sample"; the experiment says where images come from'
        )
    root = "sample" if training.source == "sample" else data_root
    train_split = load(training.dataset, "train", root).take(training.n_train, seed=derive(training.seed, "images"))
    return train_split, load(training.dataset, "test", root).take(experiment.n_test)


@contextmanager
def _networks(store: Store, training: Training, epochs: Sequence[int], tf32: bool) -> Iterator[Path]:
    """The folder of a training's networks, this process's own inside, with those that only the store beside has."""
    folder = store.weights(training, tf32)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock", is_singleton=True):
        for epoch, source in store.snapshots(training, epochs, tf32).items():
            if source != (target := snapshot_path(folder, epoch)):
                with atomically(target) as partial:
                    shutil.copyfile(source, partial)
        yield folder


def _surrogate(
    experiment: Experiment,
    store: Store,
    split: Split,
    device: str = "cpu",
    progress: str = "none",
    tf32: bool = False,
) -> PaperCNN | None:
    """The network that transfer attacks are made on: trained as the experiment's, but with no defence."""
    if (training := experiment.surrogate) is None:
        return None
    last, seed = max(experiment.epochs), derive(training.seed, "training")
    with _networks(store, training, [last], tf32) as folder:
        ((_, network),) = train(split, training.recipe, transformed(None), [last], seed, folder, device, progress)
    return network


def _measure(
    experiment: Experiment,
    train_split: Split,
    test_split: Split,
    surrogate: PaperCNN | None,
    weights: Path,
    device: str,
    progress: str,
) -> Record:
    started = time.monotonic()
    training = experiment.training
    networks = train(
        train_split,
        training.recipe,
        training.defence.preparation(device),
        experiment.epochs,
        derive(training.seed, "training"),
        weights,
        device,
        progress,
    )
    cells = tuple(_judge_all(experiment, networks, test_split, surrogate, device, progress))
    trained = load_model(snapshot_path(weights, max(experiment.epochs))).seconds
    details = {
        "seconds": {"training": trained, "total": round(time.monotonic() - started, 1)},
        "peak_megabytes": peak_megabytes(),
        "digests": {split.split: split.digest for split in (train_split, test_split)},
    }
    return Record(experiment, cells, _provenance(device) | details)


def _judge_all(
    experiment: Experiment,
    networks: Iterable[tuple[int, PaperCNN]],
    split: Split,
    surrogate: PaperCNN | None,
    device: str = "cpu",
    progress: str = "none",
    batches: Iterable[int] | None = None,
) -> Iterator[Cell]:
    """Judge networks given with their epochs, in every way that the experiment asks for."""
    defences = [(defence.name, defence.build(device)) for defence in experiment.tested_with]
    cases = experiment.cases or ("normal",)
    batches = range(-(-len(split) // BATCH_SIZE)) if batches is None else batches
    for epoch, model in networks:
        for tested_with, transform in defences:
            seed = derive(experiment.training.seed, "test", epoch, tested_with)
            for (name, epsilon), attack in _attacks(experiment, surrogate):
                what = f"{labelled(name, epsilon)}, epoch {epoch}"
                shown = progress_bar(progress if name else "none", iterable=batches, desc=what, unit="batch")
                for case, outcome in judge(model, split, transform, seed, cases, attack, shown).items():
                    yield _cell(epoch, tested_with, case, name, epsilon, outcome)


def _attacks(
    experiment: Experiment, surrogate: PaperCNN | None
) -> Sequence[tuple[Named, Callable[..., Tensor] | None]]:
    """The experiment's attacks with their names and ε; one that is none, for clean images."""
    attacks = [((attack.name, attack.epsilon), attack.build(surrogate)) for attack in experiment.attacks]
    if experiment.cases == ("adaptive",):
        return _with_strongest(attacks)
    return attacks if attacks else [(("", None), None)]


def _with_strongest(
    attacks: Sequence[tuple[Named, Callable[..., Tensor]]],
) -> list[tuple[Named, Callable[..., Tensor]]]:
    """Adaptive attacks, and "strongest", which chooses for each image among all their results: it must come last."""
    found: list[list[Tensor]] = [[] for _ in attacks]  # by attack and batch

    def noting(attack: Callable[..., Tensor], results: list[Tensor]) -> Callable[..., Tensor]:
        def noted(*arguments: Any) -> Tensor:
            results.append(attack(*arguments))
            return results[-1]

        return noted

    def choose(
        model: PaperCNN, images: Tensor, labels: Tensor, defence: Transform | None, generator: torch.Generator
    ) -> Tensor:
        candidates = [images, *(results.pop(0) for results in found)]
        generator.manual_seed(generator.initial_seed() + 1_000_003)  # not the draws that the attacks have seen
        return strongest(model, candidates, labels, defence=defence, generator=generator)

    noted = [(name, noting(attack, results)) for (name, attack), results in zip(attacks, found, strict=True)]
    (_, epsilon), _ = attacks[0]
    return [*noted, (("strongest", epsilon), choose)]


def _cell(epoch: int, tested_with: str, case: str, attack: str, epsilon: float | None, outcome: Outcome) -> Cell:
    return Cell(
        epoch=epoch,
        tested_with=tested_with,
        case=case,
        attack=attack,
        correct=int(outcome.correct.sum()),
        total=len(outcome.correct),
        success=pack(outcome.correct),
        l0=float(outcome.l0.mean()),
        l2=float(outcome.l2.mean()),
        linf=float(outcome.linf.mean()),
        attacked=float(outcome.attacked.max()),
        stuck=float(outcome.stuck.float().mean()),
        epsilon=epsilon,
    )


def _provenance(device: str) -> dict[str, Any]:
    status = git("status", "--porcelain", "--", "prlib", "pyproject.toml")
    return {
        "commit": git("rev-parse", "HEAD"),
        "dirty": None if status is None else bool(status),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("prlib", "torch", "numpy")},
        "machine": {
            "device": device_name(device) + (WITH_TF32 if device != "cpu" and torch.backends.cudnn.allow_tf32 else ""),
            "cores": os.cpu_count(),
            "system": platform.platform(terse=True),
        },
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }

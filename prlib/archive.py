"""Results that travel: records and networks packed into archives, and checked before they are filed into a store."""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path

import safetensors
import torch
from filelock import FileLock, Timeout
from safetensors.torch import load as load_tensors

from prlib import tar
from prlib.data import DATASETS
from prlib.experiment import RESULTS, SCHEMA, Experiment, Record, Store, parse_record, unpack
from prlib.model import PaperCNN
from prlib.profiles import PROFILES
from prlib.tar import Member
from prlib.train import PRECISIONS, atomically, checkpoint_path, snapshot_path

SUMS = "SHA256SUMS"
"""The file of an archive that lists the SHA-256 of all others, as ``sha256sum`` writes it."""

_FOLDER = r"[A-Za-z0-9][A-Za-z0-9.@_-]*"
_FILES = re.compile(rf"records/{_FOLDER}\.json|weights/({_FOLDER})/(epoch-\d{{4,}}|checkpoint)\.safetensors")


def pack(store: Store, experiments: Sequence[Experiment], folder: Path, megabytes: float) -> list[Path]:
    """Pack the store's records and networks of these experiments into ``folder/results-1.tar`` and so on.

    A training that has not come to its end brings its checkpoint, so that it can go on elsewhere. Every archive can be
    merged alone. Archives that lie there already are replaced.

    Raises:
        FileNotFoundError: nothing has been measured or trained.
    """
    files = [path for e in experiments if (path := store.record_path(e)).exists()]
    epochs: dict[Path, set[int]] = {}
    for e in experiments:
        for training, tf32 in product(e.networks, (False, True)):
            epochs.setdefault(store.weights(training, tf32), set()).update(e.networks[training])
    for weights, wanted in epochs.items():
        files += [path for epoch in sorted(wanted) if (path := snapshot_path(weights, epoch)).exists()]
        if not snapshot_path(weights, max(wanted)).exists() and checkpoint_path(weights).exists():
            files.append(checkpoint_path(weights))
    if not files:
        raise FileNotFoundError(f"no record and no network of the experiments asked for is in {store.root}")
    top = Path(store.root.name)
    parts = tar.split(
        (Member((top / path.relative_to(store.root)).as_posix(), path.read_bytes()) for path in files), megabytes
    )
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("results-*.tar"):
        old.unlink()
    paths = [folder / f"results-{number}.tar" for number in range(1, len(parts) + 1)]
    for path, part in zip(paths, parts, strict=True):
        lines = [f"{hashlib.sha256(member.content).hexdigest()}  {member.name}\n" for member in part]
        tar.write([Member((top / SUMS).as_posix(), "".join(lines).encode()), *part], path)
    return paths


def merge(archives: Iterable[Path], stores: Path, name: str | None = None) -> tuple[Path, int, int]:
    """File archives that ``pack`` has written into a store of the folder ``stores``; all is checked before.

    Args:
        name: of the store; None is the one that the archives were packed from.

    Returns:
        The store's folder, how many files were filed, and how many were there already.

    Raises:
        ValueError: in one sentence, for a path that does not belong into a store, a digest that is wrong or missing, a
            record or a network that is none, a store other than the first archive's, and a file that differs from the
            store's own, which is never replaced.
    """
    found: dict[str, bytes] = {}
    tops = set()
    for archive in archives:
        top, files = _checked(archive)
        tops.add(top)
        for path, content in files.items():
            if found.setdefault(path, content) != content:
                raise ValueError(f"two archives hold different files of the name {path}")
    if len(tops) != 1 or (name or min(tops)) not in (*PROFILES, "custom"):
        allowed = ", ".join((*PROFILES, "custom"))
        raise ValueError(f"archives must be of one store among {allowed}; got {name or ', '.join(sorted(tops))}")
    root = stores / (name or tops.pop())
    with ExitStack() as locked:
        for weights in sorted({(root / path).parent for path in found if path.startswith("weights/")}):
            if weights.exists():
                try:
                    locked.enter_context(FileLock(weights / ".lock", timeout=0))
                except Timeout:
                    raise ValueError(f"{weights} is in use: a training is running there") from None
        new = {path: content for path, content in found.items() if not (root / path).exists()}
        differing = [path for path in found if path not in new and (root / path).read_bytes() != found[path]]
        if differing:
            raise ValueError(f"{root} has other files of these names, which stay as they are: {', '.join(differing)}")
        for path in sorted(new, reverse=True):  # weights, then records: none is there before its network
            with atomically(root / path) as partial:
                partial.write_bytes(new[path])
    return root, len(new), len(found) - len(new)


def _checked(archive: Path) -> tuple[str, dict[str, bytes]]:
    """The name of the store that an archive is of, and its files by their paths in a store, all of them in order."""
    members = tar.read(archive)
    tops = {member.name.partition("/")[0] for member in members}
    files = {member.name.partition("/")[2]: member.content for member in members}
    for member in members:
        path = member.name.partition("/")[2]
        if not re.fullmatch(_FOLDER, member.name.partition("/")[0]) or not (path == SUMS or _FILES.fullmatch(path)):
            raise ValueError(f"{archive} holds {member.name!r}, which is no path of a record or a network")
    if len(tops) != 1 or len(files) != len(members):
        raise ValueError(f"{archive} must hold files of one store, each once; got {', '.join(sorted(tops)) or 'none'}")
    (top,) = tops
    lines = [f"{hashlib.sha256(files[path]).hexdigest()}  {top}/{path}" for path in files if path != SUMS]
    listed = files.pop(SUMS, b"").decode(errors="replace").splitlines()
    if wrong := sorted({line.partition("  ")[2] for line in set(lines) ^ set(listed)}):
        raise ValueError(f"{archive} has digests that are missing or wrong, of {', '.join(wrong)}")
    for path, content in files.items():
        where = archive / path  # for messages
        if path.startswith("records/"):
            check_record(parse_record(content, where), where)
        else:
            _check_network(content, where)
    return top, files


def check_record(record: Record, path: Path) -> None:
    """Raise a ValueError unless a record is one of today's and its name and its counts follow from what it holds."""
    e = record.experiment
    if (record.schema, record.results) != (SCHEMA, RESULTS):
        versions = f"schema {record.schema}, results {record.results}"
        raise ValueError(f"{path} must have schema {SCHEMA} and results {RESULTS}; got {versions}")
    if path.stem != e.name:
        raise ValueError(f"{path} must be called {e.name}.json, as its experiment is")
    attacks = [attack.name for attack in e.attacks] or [""]
    asked = list(product(e.epochs, [d.name for d in e.tested_with], e.cases or ["normal"], attacks))
    judged = [(cell.epoch, cell.tested_with, cell.case, cell.attack) for cell in record.cells]
    if e.cases == ("adaptive",):  # beside the attacks there is the strongest choice among all
        judged = [cell for cell in judged if not cell[-1].startswith("strongest")]
    if sorted(judged) != sorted(asked):
        raise ValueError(f"{path} must have cells for what its experiment asks for, and no others")
    for cell in record.cells:
        try:
            right = (cell.total, len(cell.success)) == (e.n_test, 2 * -(-e.n_test // 8))
            bits = unpack(cell.success, 8 * -(-e.n_test // 8)) if right else torch.zeros(0, dtype=torch.bool)
        except ValueError:
            right = False
        if not right or int(bits.sum()) != cell.correct or bool(bits[e.n_test :].any()):
            what = f"epoch {cell.epoch}, tested with {cell.tested_with}, case {cell.case}, {cell.attack or 'no attack'}"
            raise ValueError(f"{path} has a cell whose counts do not follow from its {e.n_test} bits: {what}")


def _check_network(content: bytes, path: Path) -> None:
    """Raise a ValueError unless this is a snapshot or a checkpoint of the network for its folder's dataset."""
    dataset = next((name for name in sorted(DATASETS, reverse=True) if path.parent.name.startswith(f"{name}-")), None)
    try:
        tensors = load_tensors(content)
        size = int.from_bytes(content[:8], "little")
        meta = json.loads(content[8 : 8 + size]).get("__metadata__", {})
    except (safetensors.SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is not a safetensors file: {error}") from error
    prefix = "model." if path.stem == "checkpoint" else ""
    shapes = {name: tuple(t.shape) for name, t in tensors.items() if name.startswith(prefix)}
    if dataset:
        network = PaperCNN(DATASETS[dataset].channels, DATASETS[dataset].size)
        same = shapes == {prefix + name: tuple(t.shape) for name, t in network.state_dict().items()}
        stored = {t.dtype for t in tensors.values()} <= set(PRECISIONS.values()) and meta.get("dataset") == dataset
        if same and (prefix or stored):
            return
    raise ValueError(f"{path} is not a network of this library for the dataset that its folder names")

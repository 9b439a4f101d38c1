"""Results that travel: records and networks packed into archives, and checked before they are filed into a store."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError
from torch import Size

from prlib import tar
from prlib.data import DATASETS
from prlib.experiment import Experiment
from prlib.files import atomically, parse_tensors
from prlib.model import PaperCNN
from prlib.profiles import PROFILES
from prlib.record import RESULTS, SCHEMA, parse_record
from prlib.snapshot import PRECISIONS, SUMS, Snapshot, snapshot_path
from prlib.store import Store
from prlib.tar import Member
from prlib.train import checkpoint_path

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
    paths = [folder / f"results-{number}.tar" for number in range(1, len(parts) + 1)]
    for path, part in zip(paths, parts, strict=True):
        lines = [f"{hashlib.sha256(member.content).hexdigest()}  {member.name}\n" for member in part]
        tar.write([Member((top / SUMS).as_posix(), "".join(lines).encode()), *part], path)
    for old in set(folder.glob("results-[0-9]*.tar")) - set(paths):
        old.unlink()
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
            check_record(content, where)
        else:
            check_network(content, where)
    return top, files


def check_record(content: bytes, path: Path) -> None:
    """Raise a ValueError unless this is a record, and one of this version of the library."""
    record = parse_record(content, path)
    if record.stale:
        versions = f"schema {record.schema}, results {record.results}"
        raise ValueError(f"{path} must have schema {SCHEMA} and results {RESULTS}; got {versions}")


def check_network(content: bytes, path: Path) -> None:
    """Raise a ValueError unless this is a checkpoint, or a snapshot, of the training that its folder is named after."""
    try:
        tensors, meta = parse_tensors(content)
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is not a safetensors file: {error}") from error
    training, checkpoint = path.parent.name.removesuffix("-tf32"), path.stem == "checkpoint"
    dataset = next((name for name in sorted(DATASETS, reverse=True) if training.startswith(f"{name}-")), "")
    prefix = "model." if checkpoint else ""
    shapes = {name: t.shape for name, t in tensors.items() if name.startswith(prefix)}
    if not dataset or shapes != {prefix + name: shape for name, shape in _shapes(dataset).items()}:
        raise ValueError(f"{path} is not a network of this library for the dataset that its folder names")
    if checkpoint and meta.get("training", training) != training:
        raise ValueError(f"{path} says that it is a checkpoint of {meta['training']}")
    if not checkpoint:
        said, epoch = Snapshot.of(path, meta), int(path.stem.removeprefix("epoch-"))
        if (said.dataset, said.training or training, said.epoch or epoch) != (dataset, training, epoch):
            raise ValueError(f"{path} says that it is the network of {said.training} after {said.epoch} epochs")
        if {tensor.dtype for tensor in tensors.values()} not in [{dtype} for dtype in PRECISIONS.values()]:
            raise ValueError(f"{path} must hold numbers of one kind, {' or '.join(PRECISIONS)}")


def _shapes(dataset: str) -> dict[str, Size]:
    network = PaperCNN(DATASETS[dataset].channels, DATASETS[dataset].size)
    return {name: tensor.shape for name, tensor in network.state_dict().items()}

"""The batches that an interrupted experiment has judged: it goes on from them, and ends with the very same record."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from prlib.cases import Outcome
from prlib.files import intact, parse_tensors, save_tensors

KEPT_SECONDS = 1.0
"""A batch that was judged in less is not worth a file."""

AttackKey = tuple[str, float | None]
"""An attack's name and its ε, as in an experiment."""

Judged = dict[tuple[AttackKey, str], Outcome]
"""What each attack and case comes to on a batch."""


def digest_of(*networks: nn.Module | None) -> str:
    """A SHA-256 of the networks' weights, in their order; None is no network."""
    found = hashlib.sha256()
    for network in networks:
        for name, value in network.state_dict().items() if network else ():
            found.update(name.encode() + value.cpu().numpy().tobytes())
        found.update(b"end")
    return found.hexdigest()


@dataclass
class Halfway:
    """Outcomes of an experiment's batches in a folder, until its record is written.

    Args:
        folder: None keeps nothing.
        about: all that outcomes depend on beside the batch and the network: others than these are not taken.
        device: that outcomes are read to.
    """

    folder: Path | None
    about: Mapping[str, str]
    device: str = "cpu"
    seconds: float = 0.0
    """What the batches that were read had taken."""

    def judged(self, networks: str, batch: str, judge: Callable[[], Judged]) -> Judged:
        """What ``judge`` says of a batch, or what it said of the same one of the same ``networks`` (``digest_of``)."""
        if self.folder is None:
            return judge()
        about = {**self.about, "networks": networks, "batch": batch}
        name = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]
        path = self.folder / f"{name}.safetensors"
        if path.exists():
            return self._read(path)
        started = time.monotonic()
        found = judge()
        if (seconds := time.monotonic() - started) >= KEPT_SECONDS:
            keys = [[*attack, case] for attack, case in found]
            columns = [
                (f"{i}.{name}", value) for i, one in enumerate(found.values()) for name, value in vars(one).items()
            ]
            tensors = {name: value.cpu() for name, value in columns if value is not None}
            save_tensors(tensors, path, {"keys": json.dumps(keys), "seconds": f"{seconds:.3f}"})
        return found

    def _read(self, path: Path) -> Judged:
        with intact(path, "what was found of a batch", "delete it to judge that batch again"):
            tensors, meta = parse_tensors(path.read_bytes())
            columns: list[dict[str, Tensor]] = [{} for _ in json.loads(meta["keys"])]
            for name, value in tensors.items():
                number, _, column = name.partition(".")
                columns[int(number)][column] = value.to(self.device)
            keys = [((attack, epsilon), case) for attack, epsilon, case in json.loads(meta["keys"])]
            self.seconds += float(meta["seconds"])
            return dict(zip(keys, (Outcome(**one) for one in columns), strict=True))

    def done(self) -> None:
        """Remove all: the record holds it."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

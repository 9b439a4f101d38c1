"""Checkpoints of judging: an interrupted experiment goes on after the batches it completed, to the very same record."""

import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
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


@cache
def code_digest() -> str:
    """A SHA-256 of the library's code: what other code has found is not taken over."""
    found = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()


@dataclass
class Halfway:
    """Outcomes of an experiment's batches in a folder, until its record is written.

    Args:
        folder: None keeps nothing.
        about: all that outcomes depend on beside the batch and the networks: others than these are not taken.
    """

    folder: Path | None
    about: Mapping[str, str]
    seconds: float = 0.0
    """What the batches that were read had taken."""

    def outcomes(self, networks: str, batch: str, judge: Callable[[], Judged]) -> Judged:
        """What ``judge`` says of a batch, or what it said of the same one of the same ``networks`` (``digest_of``).

        A damaged file is named on standard error, and its batch judged again.
        """
        if self.folder is None:
            return judge()
        of = json.dumps({**self.about, "networks": networks, "batch": batch}, sort_keys=True)
        path = self.folder / f"{hashlib.sha256(of.encode()).hexdigest()[:32]}.safetensors"
        if path.exists():
            try:
                return self._read(path)
            except ValueError as error:
                print(f"prlib: {error}", file=sys.stderr)
        started = time.monotonic()
        found = judge()
        if (seconds := time.monotonic() - started) >= KEPT_SECONDS:
            columns = [
                (f"{i}.{name}", value) for i, one in enumerate(found.values()) for name, value in vars(one).items()
            ]
            tensors = {name: value.clone() for name, value in columns if value is not None}  # some share their memory
            keys = json.dumps([[*attack, case] for attack, case in found])
            save_tensors(tensors, path, {"keys": keys, "seconds": f"{seconds:.3f}"})
        return found

    def _read(self, path: Path) -> Judged:
        with intact(path, "what was found of a batch", "that batch is judged again"):
            tensors, meta = parse_tensors(path.read_bytes())
            keys = [((attack, epsilon), case) for attack, epsilon, case in json.loads(meta["keys"])]
            columns: list[dict[str, Tensor]] = [{} for _ in keys]
            for name, value in tensors.items():
                number, _, column = name.partition(".")
                columns[int(number)][column] = value
            found = dict(zip(keys, (Outcome(**one) for one in columns), strict=True))
            self.seconds += float(meta["seconds"])
            return found

    def remove(self) -> None:
        """Remove all, once the record holds it or what it holds is not wanted.

        Raises:
            OSError: it cannot be removed.
        """
        if self.folder is not None and self.folder.exists():
            shutil.rmtree(self.folder)
            with suppress(OSError):  # other experiments of the training have theirs
                self.folder.parent.rmdir()

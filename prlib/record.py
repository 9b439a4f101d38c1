"""Records: what an experiment measured, cell by cell and example by example, and where the numbers come from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prlib.experiment import Attack, Defence, Experiment, Training, frozen, unlabelled
from prlib.train import Recipe

SCHEMA = 1
"""Version of the records' format."""

RESULTS = 2
"""Version of the numbers, raised when a change of the code changes them; older records are then stale."""

WITH_TF32 = " with TF32"
"""What a record adds to the device's name."""


@dataclass(frozen=True)
class Cell:
    """One measured accuracy.

    ``success`` is a hex string of one bit an example; the distances of the final from the clean image are means over
    examples; ``attacked`` is the largest L∞ change that the attack itself made, ``stuck`` the share of images at which
    it found no gradient; ``epsilon`` is as an attack's in an experiment.
    """

    epoch: int
    tested_with: str
    case: str
    attack: str
    correct: int
    total: int
    success: str
    l0: float
    l2: float
    linf: float
    attacked: float = 0.0
    stuck: float = 0.0
    epsilon: float | None = None


@dataclass(frozen=True)
class Record:
    """What one experiment measured, and where its numbers come from."""

    experiment: Experiment
    cells: tuple[Cell, ...]
    provenance: Mapping[str, Any]
    schema: int = field(default_factory=lambda: SCHEMA)
    results: int = field(default_factory=lambda: RESULTS)

    @property
    def stale(self) -> bool:
        """Whether the code's numbers have changed since."""
        return (self.schema, self.results) != (SCHEMA, RESULTS)

    @property
    def tf32(self) -> bool:
        """Whether a GPU multiplied with 10 bits of precision, in training and in judging."""
        return str(self.provenance["machine"]["device"]).endswith(WITH_TF32)


def read_record(path: Path) -> Record:
    """Read a record; a file that is not one raises a ValueError that names it."""
    try:
        data = json.loads(path.read_text())
        e = data["experiment"]
        t = e["training"]
        training = Training(**{**t, "defence": _defence(t["defence"]), "recipe": Recipe(**t["recipe"])})
        tested_with = tuple(map(_defence, e["tested_with"]))
        attacks = tuple(_attack(a) for a in e["attacks"])
        experiment = Experiment(training, tested_with, tuple(e["epochs"]), e["n_test"], attacks, tuple(e["cases"]))
        cells = tuple(_cell(cell) for cell in data["cells"])
        return Record(experiment, cells, data["provenance"], data["schema"], data["results"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a record of this library: {error!r}") from error


def _attack(data: Mapping[str, Any]) -> Attack:
    name, epsilon = unlabelled(data["name"])
    return Attack(name, frozen(data["options"]), epsilon)


def _cell(data: Mapping[str, Any]) -> Cell:
    attack, epsilon = unlabelled(data["attack"])
    return Cell(**{**data, "attack": attack, "epsilon": epsilon})


def _defence(data: Mapping[str, Any]) -> Defence:
    return Defence(data["name"], frozen(data["options"]))


def pack(bits: torch.Tensor) -> str:
    """Bool N as a hex string, the first example in the highest bit; the last byte is filled up with zeros."""
    return np.packbits(bits.numpy()).tobytes().hex()


def unpack(text: str, n: int) -> torch.Tensor:
    """The n bools that ``pack`` wrote."""
    return torch.from_numpy(np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8), count=n).astype(bool))

"""Records: what an experiment measured, cell by cell and example by example, and where the numbers come from."""

import json
import math
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NotRequired

import numpy as np
import torch
from annotated_types import Ge, Le
from pydantic import AllowInfNan, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic's, before Python 3.12

from prlib.cases import ANY, CERTIFIED, Outcome
from prlib.data import DATASETS
from prlib.experiment import Experiment, labelled, to_json, unlabelled

SCHEMA = 1
"""Version of the records' format."""

RESULTS = 2
"""Version of the numbers, raised when a change of the code changes them; older records are then stale."""

Count = Annotated[int, Ge(0)]
Distance = Annotated[float, Ge(0), AllowInfNan(False)]
Share = Annotated[float, Ge(0), Le(1)]


@dataclass(frozen=True)
class Cell:
    """One measured accuracy.

    ``success`` is a hex string of one bit an example; the distances of the final from the clean image are means over
    examples; ``attacked`` is the largest L∞ change that the attack itself made, ``stuck`` the share of images at which
    it found no gradient; ``epsilon`` is as an attack's in an experiment. Where a random defence answered several times,
    ``often`` is a hex string of how often each example was right (``pack_counts``); ``success`` is the first answer's.
    In case "certified" ``success`` says of which examples it is shown that they are right under any attack within
    ``epsilon``.
    """

    epoch: int
    tested_with: str
    case: str
    attack: str
    correct: Count
    total: Count
    success: str
    l0: Distance
    l2: Distance
    linf: Share
    attacked: Share = 0.0
    stuck: Share = 0.0
    epsilon: float | None = None
    often: str = ""


class Place(NamedTuple):
    """Which of a record's cells: the attack, with its ε, is "" on clean images."""

    epoch: int
    tested_with: str
    attack: str
    epsilon: float | None
    case: str

    def cell(self, outcome: Outcome, draws: int) -> Cell:
        """The cell of what was found there, where a random defence answered ``draws`` times."""
        return Cell(
            **self._asdict(),
            correct=int(outcome.correct.sum()),
            total=len(outcome.correct),
            success=pack(outcome.correct),
            l0=float(outcome.l0.mean()),
            l2=float(outcome.l2.mean()),
            linf=float(outcome.linf.mean()),
            attacked=float(outcome.attacked.max()),
            stuck=float(outcome.stuck.float().mean()),
            often="" if outcome.often is None else pack_counts(outcome.often.numpy(), draws),
        )


class Machine(TypedDict):
    """The machine that measured; ``device`` is the name of its processor or GPU, in older records with TF32's mark."""

    device: str
    cores: Annotated[int, Ge(1)] | None
    system: str


class Seconds(TypedDict):
    """What training took until the last epoch, and the measuring of this record in all."""

    training: Distance
    total: Distance


class Provenance(TypedDict):
    """Where a record's numbers come from; git's values are None where there is no repository.

    ``digests`` are of the images by split, ``tf32`` says whether a GPU multiplied with 10 bits of precision,
    ``snapshots`` in which numbers the judged networks are stored where that is not float32.
    """

    commit: str | None
    dirty: bool | None
    versions: dict[str, str]
    machine: Machine
    tf32: NotRequired[bool]
    finished: str
    seconds: Seconds
    peak_megabytes: NotRequired[Count]
    digests: dict[str, str]
    snapshots: NotRequired[Literal["float16"]]


@dataclass(frozen=True)
class Record:
    """What one experiment measured, and where its numbers come from."""

    experiment: Experiment
    cells: tuple[Cell, ...]
    provenance: Provenance
    schema: int = field(default_factory=lambda: SCHEMA)
    results: int = field(default_factory=lambda: RESULTS)

    @property
    def stale(self) -> bool:
        """Whether the code's numbers have changed since."""
        return (self.schema, self.results) != (SCHEMA, RESULTS)

    @property
    def tf32(self) -> bool:
        """Whether a GPU multiplied with 10 bits of precision, in training and in judging."""
        return self.provenance.get("tf32", self.provenance["machine"]["device"].endswith(_WITH_TF32))

    @property
    def device(self) -> str:
        """What the numbers were computed on, and how if that was with TF32."""
        return self.provenance["machine"]["device"].removesuffix(_WITH_TF32) + _WITH_TF32 * self.tf32


_WITH_TF32 = " with TF32"  # what older records add to the device's name

_RECORD = TypeAdapter(Record)


def grid(experiment: Experiment) -> Iterator[Place]:
    """The places of an experiment's cells, in a record's order; a certificate's are behind those of the attacks."""
    attacks = [(attack.name, attack.epsilon) for attack in experiment.attacks] or [("", None)]
    if experiment.cases == ("adaptive",):
        attacks.append(("strongest", attacks[0][1]))
    for epoch in sorted(set(experiment.epochs)):
        for defence in experiment.tested_with:
            for attack, epsilon in attacks:
                for case in experiment.cases or ("normal",):
                    yield Place(epoch, defence.name, attack, epsilon, case)
            if experiment.boxes:
                yield Place(epoch, defence.name, ANY, attacks[0][1], CERTIFIED)


def read_record(path: Path) -> Record:
    """Read a record; raises what ``parse_record`` does."""
    return parse_record(path.read_bytes(), path)


def parse_record(content: bytes, path: Path) -> Record:
    """Make a record of a file's content.

    Raises:
        ValueError: it is not a record, or one that contradicts itself or its name; in a sentence that names the path.
    """
    record = _parsed(content, path)
    return replace(record, provenance=deepcopy(record.provenance))  # all that can be changed of it


@lru_cache(1024)  # a chapter asks for the same records again and again
def _parsed(content: bytes, path: Path) -> Record:
    try:
        said = json.loads(content.decode(), object_pairs_hook=_once)
        data = json.loads(content.decode(), object_hook=_fields)
        for what, known in (("schema", SCHEMA), ("results", RESULTS)):
            if (version := data[what]) > known:
                raise ValueError(f"its {what} is {version}, and this version of the library reads up to {known}")
        record = _RECORD.validate_json(json.dumps(data), strict=True)
        if to_json(record) != said:
            raise ValueError("it holds what no record does")
        _check(record, path.stem)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(_damaged(path, f"{place}: {first['msg']}")) from error
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise ValueError(_damaged(path, str(error) if type(error) is ValueError else repr(error))) from error
    return record


def _damaged(path: Path, why: str) -> str:
    return f"{path} is not a record of this library ({' '.join(why.split())[:300]}); delete it or measure it again"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(data := dict(pairs)) != len(pairs):
        raise ValueError(f"it says one of {', '.join(data)} twice")
    return data


def _fields(data: dict[str, Any]) -> dict[str, Any]:
    """An object of the JSON with an attack's ε apart from its name."""
    for name, mark in (("attack", "success"), ("name", "options")):
        if name in data and mark in data:
            data[name], data["epsilon"] = unlabelled(data[name])
    return data


def _check(record: Record, name: str) -> None:
    """Raise a ValueError unless the cells are the experiment's, and their counts those of their bits."""
    if record.experiment.name != name:
        raise ValueError(f"its content is {record.experiment.name}")
    places = [Place(c.epoch, c.tested_with, c.attack, c.epsilon, c.case) for c in record.cells]
    if places != list(grid(record.experiment)):
        raise ValueError(f"its {len(places)} cells are not those of its experiment")
    if record.experiment.split not in record.provenance["digests"]:
        raise ValueError(f"its provenance lacks the digest of the {record.experiment.split} images")
    shown = DATASETS[record.experiment.training.dataset]
    pixels = shown.channels * shown.size**2
    epsilons = {(a.name, a.epsilon): dict(a.options).get("epsilon", 1) for a in record.experiment.attacks}
    for cell in record.cells:
        where = f"epoch {cell.epoch}, {cell.tested_with}, {labelled(cell.attack, cell.epsilon)}, {cell.case}"
        if cell.total != record.experiment.n_test:
            raise ValueError(f"{where}: total is {cell.total}, of {record.experiment.n_test} test images")
        if cell.l0 > pixels or cell.l2 > 1.001 * math.sqrt(pixels):
            raise ValueError(f"{where}: l0 and l2 are {cell.l0:g} and {cell.l2:g}, of {pixels} values from 0 to 1")
        if cell.attacked > (most := epsilons.get((cell.attack, cell.epsilon), 1 if cell.attack else 0)) + 1e-6:
            raise ValueError(f"{where}: attacked is {cell.attacked:g}, of at most {most:g}")
        if cell.case == CERTIFIED and any((cell.l0, cell.l2, cell.linf, cell.attacked, cell.stuck)):
            raise ValueError(f"{where}: it has distances, and no image was attacked")
        if pack(unpack(cell.success, cell.total)) != cell.success:
            raise ValueError(f"{where}: success does not hold {cell.total} bits")
        draws = record.experiment.draws
        if len(cell.often) != (2 * _counts(draws).itemsize * cell.total if draws > 1 else 0):
            raise ValueError(f"{where}: often does not hold {cell.total} counts")
        if cell.often and pack_counts(counts := unpack_counts(cell.often, draws), draws) != cell.often:
            raise ValueError(f"{where}: often is not written as counts are")
        if cell.often and counts.max() > draws:
            raise ValueError(f"{where}: often counts more than {draws} draws")
        if (right := int(unpack(cell.success, cell.total).sum())) != cell.correct:
            raise ValueError(f"{where}: correct is {cell.correct}, and {right} bits are set")
    check_certified(record.cells)


def check_certified(cells: Sequence[Cell]) -> None:
    """Raise a ValueError if an attack in a record's cells fooled a network on an image that is certified.

    Both are of the same ε, so one of the two is wrong.
    """
    for of in (cell for cell in cells if cell.case == CERTIFIED):
        for cell in (cell for cell in cells if (cell.epoch, cell.tested_with) == (of.epoch, of.tested_with)):
            if fooled := int((unpack(of.success, of.total) & ~unpack(cell.success, cell.total)).sum()):
                attack = labelled(cell.attack, cell.epsilon)
                raise ValueError(f"{attack} fools {fooled} images of which is certified that none does")


def pack(bits: torch.Tensor) -> str:
    """Bool N as a hex string, the first example in the highest bit; the last byte is filled up with zeros."""
    return np.packbits(bits.numpy()).tobytes().hex()


def pack_counts(counts: np.ndarray, draws: int) -> str:
    """How often of ``draws``, int N, as a hex string of a byte each; of two, the lower first, above 255 draws."""
    return counts.astype(_counts(draws)).tobytes().hex()


def unpack_counts(text: str, draws: int) -> np.ndarray:
    """The counts that ``pack_counts`` wrote."""
    return np.frombuffer(bytes.fromhex(text), _counts(draws))


def _counts(draws: int) -> np.dtype[Any]:
    return np.dtype(np.uint8 if draws < 256 else "<u2")


def unpack(text: str, n: int) -> torch.Tensor:
    """The n bools that ``pack`` wrote."""
    return torch.from_numpy(np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8), count=n).astype(bool))

"""Experiments and their records: what is measured, measured once, and kept with everything needed to trace it."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prlib import adaptive, attacks
from prlib.cases import CASES, MORE_CASES
from prlib.data import DATASETS, Transform
from prlib.redraw import GaussianNoise, PixelRedraw, Quantised, RandomInversion
from prlib.train import PRECISIONS, Recipe, checkpoint_path, snapshot_path

SCHEMA = 1
"""Version of the records' format."""

RESULTS = 2
"""Version of the numbers, raised when a change of the code changes them; older records are then stale."""

WEIGHTS = 2
"""Version of the trained weights, raised, and ``RESULTS`` too, when a change of the code changes them."""

WITH_TF32 = " with TF32"
"""What a record adds to the device's name."""

ATTACKED = tuple(case for case in CASES | MORE_CASES if case != "normal")
"""The cases that an attack can be judged in."""

BUILDERS: dict[str, Callable[..., Transform | attacks.Adversary | None]] = {
    "none": lambda: None,
    "pr": PixelRedraw.fit,
    "noise": GaussianNoise,
    "quantised": lambda **options: Quantised(PixelRedraw.fit(**options)),
    "adversarial": attacks.Adversary,
    "inverted": lambda **options: RandomInversion(PixelRedraw.fit(**options)),
}
"""How each kind of defence is made from its options; a name is a kind, or a kind and a variant, as in "pr-multi".

:meta hide-value:
"""

ATTACKS: dict[str, Callable[..., Tensor | tuple[Tensor, Tensor]]] = {
    "fgsm": attacks.fgsm,
    "bim": attacks.bim,
    "mim": attacks.mim,
    "cw_l2": attacks.cw_l2,
    "eot_pgd": adaptive.eot_pgd,
    "crossing": adaptive.crossing,
    "square": adaptive.square,
    "auto": adaptive.auto,
    "transfer": adaptive.transfer,
}
"""The attacks that experiments can name; those of ``prlib.adaptive`` are for case "adaptive".

:meta hide-value:
"""


@dataclass(frozen=True)
class Defence:
    """A random preprocessor by its name in tables (a key of ``BUILDERS``, or one with a variant) and its options."""

    name: str = "none"
    options: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        _one_of("defence", self.kind, BUILDERS)

    @property
    def kind(self) -> str:
        """The name without its variant, a key of ``BUILDERS``."""
        return self.name.partition("-")[0]

    def build(self) -> Transform | attacks.Adversary | None:
        """Make the preprocessor; None for "none", and what a network is trained against for "adversarial"."""
        return BUILDERS[self.kind](**dict(self.options))


@dataclass(frozen=True)
class Attack:
    """An attack by its name in tables and its options, as (name, value) pairs.

    Beside the arguments of the function there are "function", its name in ``prlib.attacks``, and "labels":
    "predicted" for the model's own predictions, "true" for the images' labels.
    """

    name: str
    options: tuple[tuple[str, Any], ...]

    def __post_init__(self) -> None:
        _one_of("the function of an attack", dict(self.options).get("function", "none"), ATTACKS)
        _one_of("the labels of an attack", dict(self.options).get("labels", "none"), ("predicted", "true"))

    @property
    def adaptive(self) -> bool:
        """Whether it is told of the defence."""
        return ATTACKS[dict(self.options)["function"]].__module__ == adaptive.__name__

    @property
    def transfers(self) -> bool:
        """Whether it is made on another network."""
        return dict(self.options)["function"] == "transfer"

    def build(self, surrogate: nn.Module | None = None) -> Callable[..., Tensor]:
        """Make the attack: of a model, images and true labels, to adversarial images.

        An adaptive one takes the defence and a generator, too. ``surrogate`` is the network that a transfer attack is
        made on.
        """
        options = dict(self.options) | ({"surrogate": surrogate} if self.transfers else {})
        function, true_labels = ATTACKS[options.pop("function")], options.pop("labels") == "true"

        def attack(model: nn.Module, images: Tensor, labels: Tensor, *told: Any) -> Tensor:
            knowledge = dict(zip(("defence", "generator"), told, strict=False))
            result = function(model, images, labels if true_labels else None, **options, **knowledge)
            return result[0] if isinstance(result, tuple) else result

        return attack


@dataclass(frozen=True)
class Training:
    """Everything that changes a network's weights; epochs are snapshots of one training."""

    dataset: str
    source: str
    n_train: int
    defence: Defence
    recipe: Recipe
    seed: int

    def __post_init__(self) -> None:
        _one_of("dataset", self.dataset, DATASETS)
        _one_of("source", self.source, ("full", "sample"))
        _at_least_one("n_train", self.n_train)

    @property
    def name(self) -> str:
        """Readable name of its folder of weights; the version keeps weights of older code from being judged as new."""
        return f"{self.dataset}-{self.source}{self.n_train}-{self.defence.name}-s{self.seed}-v{WEIGHTS}-{key(self)}"

    @property
    def gradients(self) -> int:
        """How many gradients a step computes; adversarial training attacks each batch before it learns from it."""
        return 1 + (dict(self.defence.options)["steps"] if self.defence.kind == "adversarial" else 0)


@dataclass(frozen=True)
class Experiment:
    """Everything that changes a number: a training, and what is measured of its network (paper, Section 4).

    Args:
        training: of the network that is judged; its ``source`` is also where the test images come from.
        tested_with: the defences put before the network at test time, each giving one accuracy an epoch.
        epochs: at which the network is judged.
        n_test: test images.
        attacks: on the network; with none, clean images are judged ("normal").
        cases: in which each attack is judged (``prlib.cases.CASES``).
    """

    training: Training
    tested_with: tuple[Defence, ...]
    epochs: tuple[int, ...]
    n_test: int
    attacks: tuple[Attack, ...] = ()
    cases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _at_least_one("n_test", self.n_test)
        if not self.epochs or min(self.epochs) < 1:
            raise ValueError(f"epochs must be positive integers, at least one; got {list(self.epochs)}")
        for defence in self.tested_with:
            if defence.kind == "adversarial":
                raise ValueError(
                    f"tested_with must be defences of test time; {defence.name!r} is one of training alone"
                )
        if not self.tested_with:
            raise ValueError("tested_with must name at least one defence; got none")
        if bool(self.attacks) != bool(self.cases):
            raise ValueError(f"attacks and cases go together; got {len(self.attacks)} and {len(self.cases)}")
        for case in self.cases:
            _one_of("case", case, ATTACKED)
        for attack in self.attacks:
            if attack.adaptive != (self.cases == ("adaptive",)):
                raise ValueError(f"attack {attack.name!r} does not go with the cases {', '.join(self.cases)}")

    @property
    def name(self) -> str:
        """Readable name of its record, unique by the key at its end and short enough for any file system."""
        t, what = self.training, "-".join(attack.name for attack in self.attacks)[:150] or "clean"
        return f"{t.dataset}-{t.source}{t.n_train}-{t.defence.name}-s{t.seed}-e{max(self.epochs)}-{what}-{key(self)}"

    @property
    def surrogate(self) -> Training | None:
        """The training, all else equal but without a defence, of the network that transfer attacks are made on."""
        transfers = any(attack.transfers for attack in self.attacks)
        return dataclasses.replace(self.training, defence=Defence()) if transfers else None

    @property
    def networks(self) -> dict[Training, tuple[int, ...]]:
        """The trainings behind it, each with the epochs at which its network is needed."""
        surrogate = {self.surrogate: (max(self.epochs),)} if self.surrogate else {}
        return surrogate | {self.training: self.epochs}


@dataclass(frozen=True)
class Cell:
    """One measured accuracy.

    ``success`` is a hex string of one bit an example; the distances of the final from the clean image are means over
    examples; ``attacked`` is the largest L∞ change that the attack itself made, ``stuck`` the share of images at which
    it found no gradient.
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


class Store:
    """A folder of records (``records/``, JSON) and trained networks (``weights/``, safetensors).

    A record or a network that it lacks is looked for in the store ``beside`` it, which is never written to. Networks
    are written in ``precision``, "float32" or "float16"; each is judged as it has been written.
    """

    def __init__(self, root: Path, beside: "Store | None" = None, precision: str = "float32") -> None:
        _one_of("the precision of snapshots", precision, PRECISIONS)
        self.root, self.beside, self.precision = Path(root), beside, precision

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


def derive(seed: int, *purpose: str | int) -> int:
    """An independent seed for each purpose of one experiment's seed."""
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def key(thing: Training | Experiment) -> str:
    """Ten hex digits of the SHA-256 of the canonical JSON."""
    text = json.dumps(to_json(thing), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def to_json(thing: Training | Experiment | Record) -> dict[str, Any]:
    """A dataclass as plain JSON values; the options of a defence become an object."""

    def plain(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return {name: dict(value) if name == "options" else value for name, value in pairs}

    return json.loads(json.dumps(dataclasses.asdict(thing, dict_factory=plain)))


def read_record(path: Path) -> Record:
    """Read a record; a file that is not one raises a ValueError that names it."""
    return parse_record(path.read_bytes(), path)


def parse_record(text: str | bytes, path: Path) -> Record:
    """Make a record of its JSON; text that is none raises a ValueError that names the path it came from."""
    try:
        data = json.loads(text)
        e = data["experiment"]
        t = e["training"]
        training = Training(**{**t, "defence": _defence(t["defence"]), "recipe": Recipe(**t["recipe"])})
        tested_with = tuple(map(_defence, e["tested_with"]))
        attacks = tuple(Attack(a["name"], frozen(a["options"])) for a in e["attacks"])
        experiment = Experiment(training, tested_with, tuple(e["epochs"]), e["n_test"], attacks, tuple(e["cases"]))
        cells = tuple(Cell(**cell) for cell in data["cells"])
        return Record(experiment, cells, data["provenance"], data["schema"], data["results"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a record of this library: {error!r}") from error


def pack(bits: torch.Tensor) -> str:
    """Bool N as a hex string, the first example in the highest bit; the last byte is filled up with zeros."""
    return np.packbits(bits.numpy()).tobytes().hex()


def unpack(text: str, n: int) -> torch.Tensor:
    """The n bools that ``pack`` wrote."""
    return torch.from_numpy(np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8), count=n).astype(bool))


def _defence(data: Mapping[str, Any]) -> Defence:
    return Defence(data["name"], frozen(data["options"]))


def frozen(options: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Options of a defence as (name, value) pairs in the order of their names, lists as tuples."""

    def freeze(value: Any) -> Any:
        return tuple(map(freeze, value)) if isinstance(value, list | tuple) else value

    return tuple((name, freeze(options[name])) for name in sorted(options))


def _one_of(what: str, value: str, allowed: Mapping[str, Any] | tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{what} must be one of {', '.join(allowed)}; got {value!r}")


def _at_least_one(what: str, value: int) -> None:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{what} must be a positive integer; got {value!r}")

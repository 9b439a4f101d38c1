"""Experiments: everything that changes a number, as frozen and hashed specifications."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from prlib.attacks.base import ALLOWED, check_parameters
from prlib.attacks.registry import KINDS, Kind
from prlib.cases import ATTACKED, MOST_DRAWS
from prlib.data import DATASETS, SPLITS, Transform
from prlib.defences import ADVERSARIES, BUILDERS, Options, frozen
from prlib.files import check_name
from prlib.train import Preparation, Recipe, transformed

WEIGHTS = 2
"""Version of the trained weights, raised, and ``RESULTS`` too, when a change of the code changes them."""


@dataclass(frozen=True)
class Defence:
    """A random preprocessor, or an adversary of training: a key of ``BUILDERS`` or ``ADVERSARIES``, maybe a variant."""

    name: str = "none"
    options: Options = ()

    def __post_init__(self) -> None:
        check_name("defence", self.name)
        _one_of("defence", self.kind, BUILDERS | ADVERSARIES)
        if self.training_alone:
            self.preparation()  # refuses bad options; a preprocessor can take seconds to fit

    @property
    def kind(self) -> str:
        """The name without its variant."""
        return self.name.partition("-")[0]

    @property
    def training_alone(self) -> bool:
        """Whether it is an adversary, which cannot be put before a network at test time."""
        return self.kind in ADVERSARIES

    def build(self, device: str = "cpu") -> Transform | None:
        """Make the preprocessor; None for "none".

        Raises:
            ValueError: it is an adversary, of training alone.
        """
        if self.training_alone:
            raise ValueError(f"{self.name!r} is a defence of training alone; it cannot be put before a network")
        transform = BUILDERS[self.kind](**dict(self.options))
        return transform.to(device) if isinstance(transform, nn.Module) else transform

    def preparation(self, device: str = "cpu") -> Preparation:
        """Make what training does to each batch: the preprocessor's or the adversary's part."""
        if self.training_alone:
            return ADVERSARIES[self.kind](**dict(self.options))
        return transformed(self.build(device))


@dataclass(frozen=True)
class Attack:
    """An attack by its name and its options, as (name, value) pairs.

    ``epsilon`` is the ε asked for instead of the paper's; None where it is the paper's, or where there is none.

    Beside the arguments of the function there are "function", a key of ``prlib.attacks.registry.KINDS``, and "labels":
    "predicted" for the model's own predictions, "true" for the images' labels.

    Raises:
        ValueError: an option that is not allowed, in one sentence that names it.
    """

    name: str
    options: Options
    epsilon: float | None = None

    def __post_init__(self) -> None:
        check_name("attack", self.name)
        options = dict(self.options)
        _one_of("the function of an attack", options.pop("function", "none"), KINDS)
        _one_of("the labels of an attack", options.pop("labels", "none"), ("predicted", "true"))
        for name in options:
            _one_of(f"an option of attack {self.name!r}", name, self.kind.defaults)
        check_parameters(**{name: value for name, value in options.items() if name in ALLOWED})

    @property
    def kind(self) -> Kind:
        """What the registry says of its function."""
        return KINDS[dict(self.options)["function"]]

    @property
    def transfers(self) -> bool:
        """Whether it is made on another network."""
        return "surrogate" in self.kind.needs

    def build(self, surrogate: nn.Module | None = None) -> Callable[..., Tensor]:
        """Make the attack: of a model, images and true labels, to adversarial images.

        An adaptive one takes the defence and a generator, too; a transfer attack is made on ``surrogate``.
        """
        kind, options = self.kind, dict(self.options)
        del options["function"]
        true_labels = options.pop("labels") == "true"

        def attack(model: nn.Module, images: Tensor, labels: Tensor, *told: Any) -> Tensor:
            known = {"surrogate": surrogate, **dict(zip(("defence", "generator"), told, strict=False))}
            given = {name: known[name] for name in kind.needs}
            return kind.function(model, images, labels if true_labels else None, **options, **given)

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

    @cached_property
    def name(self) -> str:
        """Readable name of its folder of weights; the version keeps weights of older code from being judged as new."""
        return f"{self.dataset}-{self.source}{self.n_train}-{self.defence.name}-s{self.seed}-v{WEIGHTS}-{key(self)}"

    def again(self) -> "Training":
        """The same with the next seed, the defence's too if it has one."""
        options = {name: value + 1 if name == "seed" else value for name, value in self.defence.options}
        return dataclasses.replace(self, defence=Defence(self.defence.name, frozen(options)), seed=self.seed + 1)

    @property
    def gradients(self) -> int:
        """How many gradients a step computes; adversarial training attacks each batch before it learns from it."""
        return 1 + (dict(self.defence.options)["steps"] if self.defence.training_alone else 0)


@dataclass(frozen=True)
class Experiment:
    """Everything that changes a number: a training, and what is measured of its network (paper, Section 4).

    Args:
        training: of the network that is judged.
        tested_with: the defences put before the network at test time, each giving one accuracy an epoch.
        epochs: at which the network is judged.
        n_test: how many images it is judged on.
        attacks: on the network; with none, clean images are judged ("normal").
        cases: in which each attack is judged (``prlib.cases.CASES``).
        embedded: judges a stored network that was trained on all images on the embedded sample's test images, for which
            nothing is trained or downloaded.
        drawn: the seed that drew a part of the test images; None: the first that fit, or all.
        split: "test", or "train" for the training images themselves.
        draws: how often a random defence answers each image, afresh; more than once in case normal or adaptive alone.
        boxes: that a certificate looks at for each image (``prlib.attacks.certificate``); 0: none is sought.
    """

    training: Training
    tested_with: tuple[Defence, ...]
    epochs: tuple[int, ...]
    n_test: int
    attacks: tuple[Attack, ...] = ()
    cases: tuple[str, ...] = ()
    embedded: bool = False
    drawn: int | None = None
    split: str = "test"
    draws: int = 1
    boxes: int = 0

    def __post_init__(self) -> None:
        _at_least_one("n_test", self.n_test)
        _one_of("split", self.split, SPLITS)
        if self.split == "train" and (self.n_test, self.drawn) != (self.training.n_train, None):
            raise ValueError(f"the {self.training.n_train} training images are judged all or not; got {self.n_test}")
        if not self.epochs or min(self.epochs) < 1:
            raise ValueError(f"epochs must be positive integers, at least one; got {list(self.epochs)}")
        if alone := [defence.name for defence in self.tested_with if defence.training_alone]:
            raise ValueError(f"tested_with must be defences of test time; {alone[0]!r} is one of training alone")
        if self.embedded and self.training.source != "full":
            raise ValueError("embedded must be False for a network that is trained on the embedded sample; got True")
        if not self.tested_with:
            raise ValueError("tested_with must name at least one defence; got none")
        if bool(self.attacks) != bool(self.cases):
            raise ValueError(f"attacks and cases go together; got {len(self.attacks)} and {len(self.cases)}")
        for case in self.cases:
            _one_of("case", case, ATTACKED)
        whole = isinstance(self.draws, int)
        if self.draws != 1 and not (whole and 1 < self.draws <= MOST_DRAWS and self.cases in ((), ("adaptive",))):
            raise ValueError(f"draws must be 1, or up to {MOST_DRAWS} in case normal or adaptive; got {self.draws!r}")
        if self.boxes:
            self._check_boxes()
        if len({a.kind.bounded for a in self.attacks}) > 1 and self.cases == ("adaptive",):
            raise ValueError("adaptive attacks must all be bounded or none; got some of both")
        if len({a.kind.needs for a in self.attacks if a.transfers}) > 1:
            raise ValueError("attacks must be made on one other network; got attacks on two")
        for attack in self.attacks:
            if attack.kind.adaptive != (self.cases == ("adaptive",)):
                raise ValueError(f"attack {attack.name!r} does not go with the cases {', '.join(self.cases)}")

    def _check_boxes(self) -> None:
        check_parameters(boxes=self.boxes)
        bounded = self.cases == ("adaptive",) and all(attack.kind.bounded for attack in self.attacks)
        one = len({dict(attack.options).get("epsilon") for attack in self.attacks}) == 1
        if not (bounded and one and self.draws == 1 and {d.kind for d in self.tested_with} == {"quantised"}):
            raise ValueError(
                "boxes must be 0, unless attacks on quantised are adaptive, within one epsilon and answered once; "
                f"got {self.boxes}"
            )

    @cached_property
    def name(self) -> str:
        """Readable name of its record, unique by the key at its end and short enough for any file system."""
        t, what = self.training, "-".join(labelled(a.name, a.epsilon) for a in self.attacks)[:150] or "clean"
        what += "-embedded" * self.embedded + "-train" * (self.split == "train") + "-certified" * (self.boxes > 0)
        return f"{t.dataset}-{t.source}{t.n_train}-{t.defence.name}-s{t.seed}-e{max(self.epochs)}-{what}-{key(self)}"

    @property
    def source(self) -> str:
        """Where its test images come from, "full" or "sample"."""
        return "sample" if self.embedded else self.training.source

    @property
    def surrogate(self) -> Training | None:
        """Of the network that transfer attacks are made on, undefended, or ``again`` if made through a defence."""
        needs = [attack.kind.needs for attack in self.attacks if attack.transfers]
        undefended = dataclasses.replace(self.training, defence=Defence()) if needs else None
        return self.training.again() if needs and "defence" in needs[0] else undefended

    @property
    def networks(self) -> dict[Training, tuple[int, ...]]:
        """The trainings behind it, each with the epochs at which its network is needed."""
        surrogate = {self.surrogate: (max(self.epochs),)} if self.surrogate else {}
        return surrogate | {self.training: self.epochs}


def key(thing: Training | Experiment) -> str:
    """Ten hex digits of the SHA-256 of the canonical JSON."""
    text = json.dumps(to_json(thing), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def to_json(thing: Any) -> dict[str, Any]:
    """A training, experiment or record as plain JSON values; the options of a defence become an object."""
    values: dict[str, Any] = {field.name: _plain(getattr(thing, field.name)) for field in dataclasses.fields(thing)}
    if "options" in values:
        values["options"] = dict(values["options"])
    values = {name: value for name, value in values.items() if value != _USUAL.get(name, NotImplemented)}
    if "epsilon" in values:  # of an attack or a cell
        name = "attack" if "attack" in values else "name"
        values[name] = labelled(values[name], values.pop("epsilon"))
    return values


def _plain(value: Any) -> Any:
    if type(value) in _PLAIN:  # most are, and a profile has a hundred thousand of them
        return value
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return to_json(value) if dataclasses.is_dataclass(value) else value


_PLAIN = {str, int, float, bool, type(None)}

# Not said in JSON, as before there was another value.
_USUAL = {"embedded": False, "drawn": None, "split": "test", "draws": 1, "boxes": 0, "often": "", "autocast": "float32"}


def labelled(attack: str, epsilon: float | None) -> str:
    """An attack as names and files have it: "fgsm", or "fgsm@0.1" at an ε that is not the paper's."""
    return attack if epsilon is None else f"{attack}@{epsilon:g}"


def unlabelled(text: str) -> tuple[str, float | None]:
    """The attack and ε that ``labelled`` wrote."""
    attack, _, epsilon = text.partition("@")
    return attack, float(epsilon) if epsilon else None


def _one_of(what: str, value: str, allowed: Mapping[str, Any] | tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{what} must be one of {', '.join(allowed)}; got {value!r}")


def _at_least_one(what: str, value: int) -> None:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{what} must be a positive integer; got {value!r}")

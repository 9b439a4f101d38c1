"""The files of the profiles, read and checked: experiments in suites, and which suites each profile runs on what."""

from collections import ChainMap
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from prlib.data import DATASETS
from prlib.defences import BUILDERS
from prlib.experiment import ATTACKED
from prlib.snapshot import PRECISIONS

T = TypeVar("T")


@cache
def read_yaml(name: str) -> Any:
    """What a YAML file of this folder holds."""
    return yaml.safe_load(Path(__file__).with_name(f"{name}.yaml").read_text("utf-8"))


def _among(names: Collection[str]) -> AfterValidator:
    def check(value: str) -> str:
        if value not in names:
            raise ValueError(f"must be among {', '.join(names)}")
        return value

    return AfterValidator(check)


def _one_sentence(check: TypeAdapter[T], name: str, value: Any) -> T:
    try:
        return check.validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        what = str(first.get("ctx", {}).get("error", first["msg"][0].lower() + first["msg"][1:]))
        got = "" if first["type"] == "missing" else f"; got {first['input']!r}"
        raise ValueError(f"{name}.yaml, {'.'.join(map(str, first['loc']))}: {what}{got}") from None


Natural = Annotated[int, Field(ge=1)]
Some = Annotated[list[T], Field(min_length=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Seed = Annotated[int, Field(ge=0)]
Dataset = Annotated[str, _among(DATASETS)]
DefenceName = Annotated[str, _among(ChainMap(BUILDERS, read_yaml("protocol")["defences"]))]
AttackName = Annotated[str, _among(read_yaml("protocol")["attacks"])]
SuiteName = Annotated[str, _among(read_yaml("experiments"))]


class _Checked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Sizes(_Checked):
    """What an experiment may say of itself, and a profile of a suite; what neither says is as the profile has it."""

    datasets: Some[Dataset] = []
    seeds: Some[Seed] = []
    epochs: Some[Natural] = []
    epsilons: Some[Share] = []
    n_attacked: Natural | None = None


class Entry(_Sizes):
    """An experiment but for its dataset, seed and ε: the names of its defences, attacks and cases."""

    trained_with: DefenceName
    tested_with: Some[DefenceName]
    attacks: Some[AttackName] = []
    cases: Some[Annotated[str, _among(ATTACKED)]] = []
    split: Literal["test", "train"] = "test"
    draws: Annotated[int, Field(ge=1, le=255)] = 1
    images: Literal["drawn", "first"] = "drawn"
    networks: Literal["published"] | None = None


class Choice(_Sizes):
    """Suites that a profile runs, and on what.

    ``images`` says how a part of the test images is chosen: "drawn" is at random, by the protocol's seed; "first" takes
    the first that fit, as records did before. With ``networks`` those of another profile are judged, which are stored.
    """

    suites: Some[SuiteName]
    images: Literal["drawn", "first"] = "drawn"
    networks: Literal["published"] | None = None


class Profile(_Checked):
    """What a run consists of; None stands for all images, ``n_attacked`` for the test images under attack.

    ``snapshots`` is the precision in which networks are stored.
    """

    source: Literal["full", "sample"]
    datasets: Some[Dataset]
    seeds: Some[Seed]
    epochs: Some[Natural]
    epochs_attacked: Some[Natural]
    measured_on_demand: bool
    experiments: Some[Choice]
    n_train: Natural | None = None
    n_test: Natural | None = None
    n_attacked: Natural | None = None
    share: Share = 1
    snapshots: Annotated[str, _among(PRECISIONS)] = "float32"

    def entries(self, suites: Collection[str] | None = None) -> Iterator[Entry]:
        """The experiments in these suites (None: all) in the profile's order, with its datasets, epochs and sizes."""
        for choice in self.experiments:
            for name in choice.suites:
                if suites is None or name in suites:
                    yield from (self._sized(entry, choice) for entry in read_suites()[name])

    def _sized(self, entry: Entry, choice: Choice) -> Entry:
        epochs = self.epochs_attacked if entry.attacks else self.epochs
        sizes: dict[str, Any] = {"seeds": self.seeds, "epochs": epochs, "n_attacked": self.n_attacked}
        for own in (entry, choice):
            sizes |= own.model_dump(include=set(_Sizes.model_fields), exclude_unset=True)
        asked = [own.datasets for own in (entry, choice) if own.datasets]
        sizes["datasets"] = [name for name in DATASETS if all(name in names for names in asked)]
        return entry.model_copy(update=sizes | {"images": choice.images, "networks": choice.networks})


@cache
def read_suites() -> dict[str, list[Entry]]:
    """The suites by their names; a ValueError of one sentence names what is wrong in ``experiments.yaml``."""
    return _one_sentence(TypeAdapter(dict[str, Some[Entry]]), "experiments", read_yaml("experiments"))


@cache
def read_profile(name: str) -> Profile:
    """A profile; a ValueError of one sentence names the file and what is wrong in it."""
    return _one_sentence(TypeAdapter(Profile), name, read_yaml(name))


def check_suites(names: Collection[str]) -> None:
    """Raise a ValueError for the name of a suite that there is not."""
    for name in names:
        if name not in read_suites():
            raise ValueError(f"suites must be among {', '.join(read_suites())}; got {name!r}")

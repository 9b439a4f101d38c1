"""The files of the profiles, read and checked: experiments in suites, and which suites each profile runs on what."""

from collections import ChainMap
from collections.abc import Collection, Iterator
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from prlib.cases import ATTACKED, MOST_DRAWS
from prlib.data import DATASETS
from prlib.defences import BUILDERS
from prlib.profiles.protocol import read_protocol, read_yaml
from prlib.schema import Checked, Natural, Seed, Share, Some, among, validated
from prlib.snapshot import PRECISIONS

Dataset = Annotated[str, among(DATASETS)]
DefenceName = Annotated[str, among(ChainMap(BUILDERS, read_protocol()["defences"]))]
AttackName = Annotated[str, among(read_protocol()["attacks"])]
SuiteName = Annotated[str, among(read_yaml("experiments"))]


class _Sizes(Checked):
    """What an experiment may say of itself, and a profile of a suite; what neither says is as the profile has it."""

    datasets: Some[Dataset] = Field([])
    seeds: Some[Seed] = Field([])
    epochs: Some[Natural] = Field([])
    epsilons: Some[Share] = Field([])
    n_attacked: Natural | None = None


class Entry(_Sizes):
    """An experiment but for its dataset, seed and ε: the names of its defences, attacks and cases."""

    trained_with: DefenceName
    tested_with: Some[DefenceName]
    attacks: Some[AttackName] = Field([])
    cases: Some[Annotated[str, among(ATTACKED)]] = Field([])
    split: Literal["test", "train"] = "test"
    draws: Annotated[int, Field(ge=1, le=MOST_DRAWS)] = 1
    boxes: Natural | None = None
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


class Profile(Checked):
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
    snapshots: Annotated[str, among(PRECISIONS)] = "float32"

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
    return validated(TypeAdapter(dict[str, Some[Entry]]), "experiments", read_yaml("experiments"))


@cache
def read_profile(name: str) -> Profile:
    """A profile; a ValueError of one sentence names the file and what is wrong in it."""
    return validated(TypeAdapter(Profile), name, read_yaml(name))


def check_suites(names: Collection[str]) -> None:
    """Raise a ValueError for the name of a suite that there is not."""
    for name in names:
        if name not in read_suites():
            raise ValueError(f"suites must be among {', '.join(read_suites())}; got {name!r}")

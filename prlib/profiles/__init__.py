"""Profiles: which experiments a run of the book consists of, as data, and what a run may override."""

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any

from prlib.chosen import n_images
from prlib.data import DATASETS
from prlib.defences import ADVERSARIES, BUILDERS, frozen
from prlib.experiment import Attack, Defence, Experiment, Training
from prlib.files import expanded
from prlib.profiles.declaration import checked, declared, described
from prlib.profiles.named import NAMED
from prlib.profiles.protocol import read_protocol
from prlib.profiles.suites import Entry, Profile, check_suites, read_profile
from prlib.store import Store
from prlib.train import Recipe

PROFILES = ("sample", "published", "tenth", "paper")
"""The profiles there are, a YAML file each."""

COMMITTED = ("published", "tenth")
"""The profiles whose records are part of the repository; every site shows them."""

OVERRIDES = ("seeds", "epochs", "n_train", "n_test", "epsilon")
"""The parameters that make a run another than its profile's."""

_LISTS = "restrict or replace the profile's lists"
_EPSILON = "of the paper's FGSM, BIM and MIM, above 0 and up to 1; they are then called ``fgsm@0.1`` and so on"


@dataclass(frozen=True)
class Parameters:
    """What a chapter or a command may set; None leaves a value as the profile says.

    {described}

        Raises:
            ValueError: a value that is not allowed, in one sentence that names it.
    """

    profile: str = declared("sample", str, '"sample", "published", "tenth" or "paper"', PROFILES)
    datasets: tuple[str, ...] | None = declared(None, str, _LISTS, DATASETS, example='["mnist"]')
    seeds: tuple[int, ...] | None = declared(None, int, _LISTS, 0, example="[0, 1]")
    epochs: tuple[int, ...] | None = declared(None, int, _LISTS, 1, example="[1, 5]")
    n_train: int | None = declared(None, int, "images per dataset", 1)
    n_test: int | None = declared(None, int, "images per dataset", 1)
    epsilon: float | None = declared(None, float, _EPSILON, (0, 1))  # it is in names: 1 and 1.0 are one
    device: str = declared("cpu", str, '"cpu", "cuda" or "cuda:0", …')
    recompute: bool = declared(False, bool, "measure again even what is stored")

    def __post_init__(self) -> None:
        for parameter in fields(self):
            object.__setattr__(self, parameter.name, checked(parameter, getattr(self, parameter.name)))

    @property
    def custom(self) -> bool:
        """Whether anything but the choice of datasets differs from the profile."""
        return any(getattr(self, name) is not None for name in OVERRIDES)

    @property
    def measured_on_demand(self) -> bool:
        """Whether a chapter measures what is missing, as it does of the small profile and of whatever is overridden."""
        return self.recompute or self.custom or read_profile(self.profile).measured_on_demand

    @property
    def store(self) -> Store:
        """Where this run's records are kept.

        Overridden runs have a folder of their own, and take what has not changed from the profile's, or from the
        repository's. A profile that judges another's networks finds them in the repository.
        """
        profile = read_profile(self.profile)
        precision = profile.snapshots
        lent = next((choice.networks for choice in profile.experiments if choice.networks), None)
        lender = Store(repository_results() / lent) if lent else None
        if not self.custom:
            return Store(results_folder() / self.profile, lender, precision)
        own = Store(results_folder() / self.profile, Store(repository_results() / self.profile, lender))
        return Store(results_folder() / "custom", lender if self.recompute else own, precision)

    @property
    def chosen_datasets(self) -> tuple[str, ...]:
        """The datasets of this run."""
        return self.datasets or tuple(read_profile(self.profile).datasets)

    def experiments(self, suites: Collection[str] | None = None) -> list[Experiment]:
        """The profile's experiments, as overridden; only those in these suites, if any are named.

        Raises:
            ValueError: a suite that ``experiments.yaml`` has not got.
        """
        check_suites(suites or ())
        profile = read_profile(self.profile)
        entries = list(profile.entries(suites))
        experiments = [
            self._experiment(profile, entry, dataset, seed, epsilon)
            for dataset in self.chosen_datasets
            for entry in entries
            if dataset in entry.datasets
            for seed in self.seeds or entry.seeds
            for epsilon in entry.epsilons or (None if "adaptive" in entry.cases else self.epsilon,)
        ]
        return list(dict.fromkeys(experiments))  # fewer images or epochs can make two the same

    def _experiment(self, profile: Profile, entry: Entry, dataset: str, seed: int, epsilon: float | None) -> Experiment:
        available = DATASETS[dataset]
        stored = entry.networks is not None and not (self.seeds or self.epochs or self.n_train)
        trained = read_profile(entry.networks) if entry.networks and stored else profile
        n_train = self.n_train or trained.n_train or round(trained.share * available.n_train)
        n_test = self.n_test or profile.n_test or available.n_test
        if self.n_test is None and (entry.attacks or entry.draws > 1):
            n_test = min(n_test, entry.n_attacked or n_test)
        if entry.split == "train":
            n_test = n_train
        part = entry.split == "test" and n_test < n_images(dataset, profile.source)
        first = entry.images == "first" and self.n_test is None
        defence = default_defence(entry.trained_with, dataset, seed)
        recipe = default_recipe(dataset, defence.name)
        return Experiment(
            training=Training(dataset, trained.source, n_train, defence, recipe, seed),
            tested_with=tuple(default_defence(name, dataset, seed) for name in entry.tested_with),
            epochs=self.epochs or tuple(entry.epochs),
            n_test=n_test,
            attacks=tuple(default_attack(name, dataset, epsilon) for name in entry.attacks),
            cases=tuple(entry.cases),
            embedded=stored,
            drawn=read_protocol()["drawn"] if part and not first else None,
            split=entry.split,
            draws=entry.draws,
            boxes=entry.boxes or 0,
        )


Parameters.__doc__ = (Parameters.__doc__ or "").replace("{described}", described(Parameters))


def default_defence(name: str, dataset: str, seed: int = 0) -> Defence:
    """A defence with the options of the default protocol; one that it does not name has its own defaults.

    A defence that takes a seed gets this one.
    """
    options = _for_dataset(read_protocol()["defences"].get(name, {}), dataset)
    defence = Defence(name, frozen(options))
    if _takes_a_seed(defence.kind):
        defence = Defence(name, frozen({**options, "seed": seed}))
    return defence


@cache
def _takes_a_seed(kind: str) -> bool:
    return "seed" in signature((BUILDERS | ADVERSARIES)[kind]).parameters


def default_attack(name: str, dataset: str, epsilon: float | None = None) -> Attack:
    """An attack with the options of the default protocol, at this ε or at the paper's; CW has none."""
    options = dict(NAMED[name].options)
    if not NAMED[name].kind.bounded:
        return Attack(name, frozen(options))
    protocol = read_protocol()
    paper = protocol["epsilon"].get(dataset, protocol["epsilon"]["default"])
    epsilon = None if epsilon is None else float(epsilon)
    options["epsilon"] = paper if epsilon is None else epsilon
    if "step_share" in options:
        options["step_size"] = options.pop("step_share") * options["epsilon"]
    return Attack(name, frozen(options), epsilon)


def default_recipe(dataset: str, defence: str = "none") -> Recipe:
    """How the network is trained in the default protocol; a variant of a defence can have a recipe of its own."""
    protocol = read_protocol()
    return Recipe(**_for_dataset(protocol["recipe"], dataset) | protocol["recipes"].get(defence, {}))


def published_snapshots(dataset: str) -> dict[str, Path]:
    """Where the published networks of a dataset lie, by what they were trained with, each after its last epoch."""
    store, last = Store(repository_results() / "published"), dict[Training, int]()
    for e in Parameters("published", (dataset,)).experiments():
        last[e.training] = max(last.get(e.training, 0), *e.epochs)
    return {t.defence.name: store.snapshot(t, epoch) for t, epoch in last.items() if t.seed == 0}


def check_names(names: Iterable[str]) -> None:
    """Raise a ValueError for a parameter that no chapter has."""
    known = [field.name for field in fields(Parameters)]
    for name in names:
        if name not in known:
            raise ValueError(f"unknown parameter {name!r}; a chapter has {', '.join(known)}")


def results_folder() -> Path:
    """Where stores are: $PRLIB_RESULTS, or results/ of the repository (of the working folder where there is none)."""
    return expanded(os.environ.get("PRLIB_RESULTS") or repository_results())


def repository_results() -> Path:
    """The repository's results/, where committed records are; the working folder's where there is no repository."""
    repository = Path(__file__).parents[2]
    return (repository if (repository / "pyproject.toml").exists() else Path()) / "results"


def _for_dataset(table: Mapping[str, Any], dataset: str) -> dict[str, Any]:
    return {**table.get("default", {}), **table.get(dataset, {})}

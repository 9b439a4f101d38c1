"""Profiles: which experiments a run of the book consists of, as data, and what a run may override."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from prlib.data import DATASETS
from prlib.experiment import Attack, Defence, Experiment, Training, frozen
from prlib.profiles.named import NAMED
from prlib.store import Store
from prlib.train import Recipe

PROFILES = ("sample", "published", "tenth", "paper")
"""The profiles there are, a YAML file each."""

COMMITTED = ("published", "tenth")
"""The profiles whose records are part of the repository; every site shows them."""

OVERRIDES = ("seeds", "epochs", "n_train", "n_test", "epsilon")
"""The parameters that make a run another than its profile's."""


@dataclass(frozen=True)
class Parameters:
    """What a chapter or a command may set; None leaves a value as the profile says.

    Args:
        profile: "sample", "published", "tenth" or "paper".
        datasets, seeds, epochs: restrict or replace the profile's lists.
        n_train, n_test: images per dataset.
        epsilon: of the paper's FGSM, BIM and MIM, above 0 and up to 1; they are then called ``fgsm@0.1`` and so on.
        device: "cpu", "cuda" or "cuda:0", ….
        recompute: measure again even what is stored.

    Raises:
        ValueError: a value that is not allowed, in one sentence that names it.
    """

    profile: str = "sample"
    datasets: tuple[str, ...] | None = None
    seeds: tuple[int, ...] | None = None
    epochs: tuple[int, ...] | None = None
    n_train: int | None = None
    n_test: int | None = None
    epsilon: float | None = None
    device: str = "cpu"
    recompute: bool = False

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            raise ValueError(f"profile must be one of {', '.join(PROFILES)}; got {self.profile!r}")
        for name in ("datasets", "seeds", "epochs"):
            self._as_tuple(name)
        for dataset in self.datasets or ():
            if dataset not in DATASETS:
                raise ValueError(f"datasets must be among {', '.join(DATASETS)}; got {dataset!r}")
        for name, least in (("seeds", 0), ("epochs", 1)):
            for value in getattr(self, name) or ():
                _check_integer(name, value, least)
        for name in ("n_train", "n_test"):
            if getattr(self, name) is not None:
                _check_integer(name, getattr(self, name), 1)
        if self.epsilon is not None:
            if type(self.epsilon) not in (int, float) or not 0 < self.epsilon <= 1:
                raise ValueError(f"epsilon must be a number above 0 and up to 1; got {self.epsilon!r}")
            object.__setattr__(self, "epsilon", float(self.epsilon))  # it is in names: 1 and 1.0 are one
        if not isinstance(self.recompute, bool):
            raise ValueError(f"recompute must be True or False; got {self.recompute!r}")

    def _as_tuple(self, name: str) -> None:
        value = getattr(self, name)
        if value is None:
            return
        if not isinstance(value, list | tuple):
            raise ValueError(f"{name} must be a list, such as {_EXAMPLES[name]}; got {value!r}")
        if not value:
            raise ValueError(f"{name} must not be empty; leave it None for the profile's own")
        object.__setattr__(self, name, tuple(value))

    @property
    def custom(self) -> bool:
        """Whether anything but the choice of datasets differs from the profile."""
        return any(getattr(self, name) is not None for name in OVERRIDES)

    @property
    def measured_on_demand(self) -> bool:
        """Whether a chapter measures what is missing, as it does of the small profile and of whatever is overridden."""
        return self.recompute or self.custom or _read(self.profile)["measured_on_demand"]

    @property
    def store(self) -> Store:
        """Where this run's records are kept.

        Overridden runs have a folder of their own, and take what has not changed from the profile's, or from the
        repository's.
        """
        if not self.custom:
            return Store(results_folder() / self.profile)
        own = Store(results_folder() / self.profile, beside=Store(repository_results() / self.profile))
        return Store(results_folder() / "custom", beside=None if self.recompute else own)

    @property
    def chosen_datasets(self) -> tuple[str, ...]:
        """The datasets of this run."""
        return self.datasets or tuple(_read(self.profile)["datasets"])

    def experiments(self) -> list[Experiment]:
        """The profile's experiments, as overridden."""
        profile = _read(self.profile)
        experiments = [
            self._experiment(profile, entry, dataset, seed, epsilon)
            for dataset in self.chosen_datasets
            for entry in profile["experiments"]
            if dataset in entry.get("datasets", [dataset])
            for seed in self.seeds or entry.get("seeds", profile["seeds"])
            for epsilon in entry.get("epsilons", [None if "adaptive" in entry.get("cases", []) else self.epsilon])
        ]
        return list(dict.fromkeys(experiments))  # fewer images or epochs can make two the same

    def _experiment(
        self, profile: Mapping[str, Any], entry: Mapping[str, Any], dataset: str, seed: int, epsilon: float | None
    ) -> Experiment:
        available = DATASETS[dataset]
        n_train = self.n_train or profile["n_train"] or round(profile.get("share", 1) * available.n_train)
        n_test = self.n_test or profile["n_test"] or available.n_test
        n_test = min(n_test, entry.get("n_test", n_test))
        defence = default_defence(entry["trained_with"], dataset, seed)
        recipe = default_recipe(dataset, defence.name)
        return Experiment(
            training=Training(dataset, profile["source"], n_train, defence, recipe, seed),
            tested_with=tuple(default_defence(name, dataset, seed) for name in entry["tested_with"]),
            epochs=tuple(self.epochs or entry["epochs"]),
            n_test=n_test,
            attacks=tuple(default_attack(name, dataset, epsilon) for name in entry.get("attacks", [])),
            cases=tuple(entry.get("cases", [])),
        )


def default_defence(name: str, dataset: str, seed: int = 0) -> Defence:
    """A defence with the options of the default protocol."""
    options = _for_dataset(_read("protocol")["defences"][name], dataset)
    if name.startswith(("pr", "inverted", "quantised")):
        options = {**options, "seed": seed}
    return Defence(name, frozen(options))


def default_attack(name: str, dataset: str, epsilon: float | None = None) -> Attack:
    """An attack with the options of the default protocol, at this ε or at the paper's; CW has none."""
    options = dict(NAMED[name].options)
    if not NAMED[name].kind.bounded:
        return Attack(name, frozen(options))
    protocol = _read("protocol")
    paper = protocol["epsilon"].get(dataset, protocol["epsilon"]["default"])
    epsilon = None if epsilon is None else float(epsilon)
    options["epsilon"] = paper if epsilon is None else epsilon
    if "step_share" in options:
        options["step_size"] = options.pop("step_share") * options["epsilon"]
    return Attack(name, frozen(options), epsilon)


def default_recipe(dataset: str, defence: str = "none") -> Recipe:
    """How the network is trained in the default protocol; a variant of a defence can have a recipe of its own."""
    protocol = _read("protocol")
    return Recipe(**_for_dataset(protocol["recipe"], dataset) | protocol["recipes"].get(defence, {}))


def check_names(names: Mapping[str, Any]) -> None:
    """Raise a ValueError for a parameter that no chapter has."""
    known = [field.name for field in fields(Parameters)]
    for name in names:
        if name not in known:
            raise ValueError(f"unknown parameter {name!r}; a chapter has {', '.join(known)}")


def results_folder() -> Path:
    """Where stores are: $PRLIB_RESULTS, or results/ of the repository (of the working folder where there is none)."""
    return Path(os.environ.get("PRLIB_RESULTS") or repository_results())


def repository_results() -> Path:
    """The repository's results/, where committed records are; the working folder's where there is no repository."""
    repository = Path(__file__).parents[2]
    return (repository if (repository / "pyproject.toml").exists() else Path()) / "results"


def _check_integer(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be made of integers from {least} up; got {value!r}")


def _for_dataset(table: Mapping[str, Any], dataset: str) -> dict[str, Any]:
    return {**table.get("default", {}), **table.get(dataset, {})}


@cache
def _read(name: str) -> Any:
    return yaml.safe_load(Path(__file__).with_name(f"{name}.yaml").read_text())


_EXAMPLES = {"datasets": '["mnist"]', "seeds": "[0, 1]", "epochs": "[1, 5]"}

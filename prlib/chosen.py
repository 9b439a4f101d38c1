"""Which images a network is trained and judged on, and their places in their set, from its labels alone."""

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from prlib.data import DATASETS, SAMPLE, Split, balanced, load
from prlib.experiment import Experiment
from prlib.seeds import derive


class Chosen(NamedTuple):
    """Images of one set that experiments were judged on; equal if the images are the same.

    Args:
        dataset: the dataset whose files hold them; grayscale CIFAR-10 is made of CIFAR-10's.
        drawn: the seed by which a part was drawn; None: the first that fit, or all.
        trained_on: the training images, chosen by this seed; None: test images.
    """

    source: str
    dataset: str
    n: int
    drawn: int | None = None
    trained_on: int | None = None

    @classmethod
    def of(cls, experiment: Experiment) -> "Chosen":
        """The images of an experiment."""
        training, own = experiment.training, experiment.split == "train"
        dataset = training.dataset.removesuffix("-gray")
        return cls(experiment.source, dataset, experiment.n_test, experiment.drawn, training.seed if own else None)

    def places(self) -> np.ndarray:
        """The place of each in its test set, int N in the order in which they were judged; ascending without a seed.

        Training images, and those of a set whose labels are unknown, have no common numbers: theirs count from 0.
        """
        return _places(self) if self._numbered else np.arange(self.n)

    @property
    def _numbered(self) -> bool:
        return self.trained_on is None and _labels(self.source, self.dataset) is not None

    @property
    def described(self) -> str:
        """Which images they are, in words."""
        if self.trained_on is not None:
            return f"the {self.n:,} training images"
        if self.n == n_images(self.dataset, self.source):
            return f"all {self.n:,} test images"
        if self.drawn is None:
            return f"the first {self.n:,} test images, equally many of each class"
        return f"{self.n:,} test images, equally many of each class, drawn by seed {self.drawn}"

    def shares(self, other: "Chosen") -> bool:
        """Whether both are parts of one set, so that images can be common."""
        if self._numbered and other._numbered:
            return (self.source, self.dataset) == (other.source, other.dataset)
        return self == other


def images_of(experiment: Experiment, split: str, root: str | Path | None = None) -> Split:
    """The images of "train" or "test" that an experiment takes: embedded ones, or from the full datasets' folder.

    Raises what ``load`` and ``Split.take`` do.
    """
    training = experiment.training
    images = load(training.dataset, split, "sample" if experiment.source == "sample" else root)
    if split == "train":
        return images.take(training.n_train, derive(training.seed, "images"))
    return images.take(experiment.n_test, experiment.drawn)


@cache
def _places(chosen: Chosen) -> np.ndarray:
    labels = _labels(chosen.source, chosen.dataset)
    if labels is None or chosen.n > len(labels):  # made up; nothing real has more images than there are
        return np.arange(chosen.n)
    return balanced(labels, chosen.n, chosen.drawn).numpy()


@cache
def _labels(source: str, dataset: str) -> torch.Tensor | None:
    """The labels of a test set, int64 N in its order; None if they are not part of the repository."""
    name = "sample.json" if source == "sample" else "test-labels.json"
    known = json.loads((SAMPLE / name).read_text("utf-8")).get(dataset)
    digits = known["test"]["labels"] if isinstance(known, dict) else known
    return None if digits is None else torch.tensor([int(digit) for digit in digits])


def n_images(dataset: str, source: str) -> int:
    """How many test images there are."""
    labels = _labels(source, dataset.removesuffix("-gray")) if source == "sample" else None
    return DATASETS[dataset].n_test if labels is None else len(labels)

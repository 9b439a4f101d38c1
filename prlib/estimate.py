"""What a run will take, said before it starts: from a training step timed on this very machine."""

import os
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from prlib.attacks.choice import CHOOSING_DRAWS
from prlib.cases import EVERY_CASE
from prlib.data import DATASETS
from prlib.experiment import Attack, Experiment, Training
from prlib.fast import FastCNN
from prlib.machine import one_thread
from prlib.model import PaperCNN
from prlib.profiles import Parameters
from prlib.snapshot import PRECISIONS
from prlib.store import Store

JUDGING = 0.35
"""A prediction, a forward pass and one redraw, takes about this share of training on an image."""

CERTIFYING = 5
"""A certificate takes about so many training steps for each box that it may look at; many images need few of them."""

STARTING = 4
"""Seconds before a training's first step or judgement, in which a process starts, reads images and fits the redraw."""

PROCESS, COPIES = 2500, 10
"""Megabytes that a job holds at most, of the process, and how many times the bytes of its dataset's images."""


def describe_plan(parameters: Parameters, experiments: list[Experiment]) -> str:
    """Which experiments are missing in the store, and how long and how much disk they will take."""
    missing = _missing(parameters.store, experiments)
    to_do = set(missing)
    names = [f"  {'to do' if e in to_do else 'ready'}  {e.name}" for e in experiments]
    lines = [f"profile {parameters.profile}: {len(experiments)} experiments, {len(missing)} to do", *names]
    if missing:
        workers = min(len({e.training for e in missing}), os.cpu_count() or 1)
        epochs = _epochs_to_train(missing, parameters.store)
        precision = parameters.store.precision
        seconds = _seconds(missing, epochs, _rates(missing))
        disk = sum(_megabytes(t, len(found), precision) for t, found in epochs.items())
        lines.append(
            f"about {duration(seconds / workers)} here ({workers} side by side; a step was timed just now), "
            f"then 3 min for the chapters and the site; {disk:.0f} MB under {parameters.store.root}"
        )
    return "\n".join(lines)


def plan(parameters: Parameters, experiments: list[Experiment]) -> dict[str, Any]:
    """The same for programs, as JSON values: the store, which experiments are ready and where their records are.

    For each training that has work left: the seconds on one core of this machine and the megabytes of memory that a
    job for it takes.
    """
    missing = _missing(parameters.store, experiments)
    rates, jobs = _rates(missing), defaultdict(list)
    for e in missing:
        jobs[e.training].append(e)
    ready = [e for e in experiments if e.training not in jobs or e not in jobs[e.training]]
    return {
        "profile": parameters.profile,
        "store": str(parameters.store.root.absolute()),
        "ready": [e.name for e in ready],
        "records": [str(parameters.store.found(e).absolute()) for e in ready],
        "to do": [
            {
                "training": training.name,
                "dataset": training.dataset,
                "source": "full" if any(e.source == "full" for e in theirs) else "sample",
                "experiments": [e.name for e in theirs],
                "seconds": round(_seconds(theirs, _epochs_to_train(theirs, parameters.store), rates), 1),
                "megabytes": megabytes_held(training),
            }
            for training, theirs in jobs.items()
        ],
    }


def megabytes_held(training: Training) -> int:
    """Memory that a job needs for a training and what is measured of it: more than any such record has held so far."""
    data = DATASETS[training.dataset]
    return round(PROCESS + COPIES * (data.n_train + data.n_test) * data.channels * data.size**2 / 1e6)


def attack_cost(attacks: Iterable[Attack]) -> float:
    """What attacks on an image ask for, in training steps: a gradient is about one, a prediction a part of one."""
    costs = [attack.kind.cost(dict(attack.options)) for attack in attacks]
    return sum(cost.gradients + JUDGING * cost.predictions for cost in costs)


def work(e: Experiment) -> float:
    """How much judging an experiment asks for beside its training, in training steps on one image.

    This is an upper bound where a defence is not random: it is asked once then.
    """
    adaptive = e.cases == ("adaptive",)
    judged = len(e.attacks) + adaptive  # the strongest is one more, chosen among all and the clean image
    runs = len({case.startswith("C") for case in e.cases})  # A and B share an attack, and so do C and C twice
    made = runs * (attack_cost(e.attacks) + JUDGING * len(e.attacks))  # a prediction each, if not given labels
    stuck = judged * len(e.cases)  # a gradient tells whether an attack was
    chosen = JUDGING * CHOOSING_DRAWS * (len(e.attacks) + 1) * adaptive
    once = made + stuck + chosen + CERTIFYING * e.boxes
    cases = [EVERY_CASE[case] for case in e.cases or ("normal",)]
    votes = [dict(defence.options).get("votes", 1) for defence in e.tested_with]
    asked = sum(n if path[-1] == "defend" else 1 for n in votes for path in cases) * max(1, judged)
    answered = JUDGING * asked * (1 + e.draws if e.draws > 1 else 1)
    return e.n_test * len(e.epochs) * (len(votes) * once + answered)


def _missing(store: Store, experiments: list[Experiment]) -> list[Experiment]:
    return [e for e in experiments if not store.is_current(e)]


def _epochs_to_train(experiments: list[Experiment], store: Store) -> dict[Training, set[int]]:
    """For each training the epochs whose weights are wanted and not in the store, whose networks are each read once."""
    wanted: dict[Training, set[int]] = {}
    for e in experiments:
        for training, epochs in e.networks.items():
            wanted.setdefault(training, set()).update(epochs)
    missing = {training: epochs - store.snapshots(training, epochs).keys() for training, epochs in wanted.items()}
    return {training: epochs for training, epochs in missing.items() if epochs}


def _seconds(experiments: list[Experiment], epochs: dict[Training, set[int]], rates: dict[Any, float]) -> float:
    training = sum(rates[_shape(t)] * t.n_train * max(found) * t.gradients for t, found in epochs.items())
    judging = sum(rates[_shape(e.training)] * work(e) for e in experiments)
    return training + judging + STARTING * len({e.training for e in experiments})


def _rates(experiments: list[Experiment]) -> dict[tuple[int, int], float]:
    """Seconds that a training step on one image takes here, by the shape of the images."""
    return {shape: _seconds_per_image(*shape) for shape in {_shape(e.training) for e in experiments}}


def _shape(training: Training) -> tuple[int, int]:
    return DATASETS[training.dataset].channels, DATASETS[training.dataset].size


def _seconds_per_image(channels: int, size: int, n: int = 128) -> float:
    model, images, labels = (
        FastCNN(channels, size),
        torch.rand(n, channels, size, size),
        torch.zeros(n, dtype=torch.long),
    )
    seconds = []
    with one_thread():
        for _ in range(3):
            started = time.perf_counter()
            nn.functional.cross_entropy(model(images), labels).backward()
            seconds.append(time.perf_counter() - started)
    return min(seconds) * 1.1 / n  # a tenth for Adam and the redraw


def _megabytes(training: Training, snapshots: int, precision: str) -> float:
    numbers = sum(p.numel() for p in PaperCNN(*_shape(training)).parameters())
    # A checkpoint holds the weights and Adam's two moments.
    return numbers * (PRECISIONS[precision].itemsize * snapshots + 4 * 3) / 1e6


def duration(seconds: float) -> str:
    """A time in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

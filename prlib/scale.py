"""What a profile would cost that nobody has run, from the measured seconds of one that is: core-hours, makespans."""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Sequence

from prlib.estimate import work
from prlib.experiment import Experiment, Training
from prlib.record import Record

_Kind = tuple[str, str]


def seconds_by_job(experiments: Iterable[Experiment], records: Sequence[Record]) -> dict[Training, float]:
    """Seconds on one core of each training and of what is measured of it: a job of the workflow.

    A training takes as long for each image and epoch as the recorded one of its dataset and defence. An attack takes
    as long as its record for each step and image (``prlib.estimate.work``); what no record attacks in the same way, and
    clean images, as many training steps as the work says.

    Raises:
        ValueError: no record is of the dataset and defence of one of the trainings.
    """
    steps, attacks = _rates(records)
    jobs: dict[Training, float] = {}
    epochs: dict[Training, int] = defaultdict(int)
    for e in experiments:
        kind = _kind(e)
        if kind not in steps:
            raise ValueError(f"no record says how long a training on {' with '.join(kind)} takes")
        jobs[e.training] = jobs.get(e.training, 0.0) + work(e) * attacks.get((*kind, _attacks(e)), steps[kind])
        epochs[e.training] = max(epochs[e.training], *e.epochs)
    return {t: s + t.n_train * epochs[t] * steps[t.dataset, t.defence.name] for t, s in jobs.items()}


def makespan(seconds: Iterable[float], workers: int) -> float:
    """Seconds until the last of the jobs has ended if each goes, in their order, to the worker that is free first.

    Raises:
        ValueError: fewer than one worker.
    """
    if workers < 1:
        raise ValueError(f"workers must be a positive integer; got {workers!r}")
    free = [0.0] * workers
    for job in seconds:
        heapq.heapreplace(free, free[0] + job)
    return max(free)


def _kind(e: Experiment) -> _Kind:
    return e.training.dataset, e.training.defence.name


def _attacks(e: Experiment) -> str:
    return "-".join(attack.name for attack in e.attacks)


def _rates(records: Sequence[Record]) -> tuple[dict[_Kind, float], dict[tuple[str, str, str], float]]:
    """Measured seconds of a training step on one image, by dataset and defence; and of attacks, by their names, too.

    ``training`` counts all parts of an interrupted training; ``total`` the last, with the batches that were judged
    before it, and training only if this experiment did it.
    """
    steps, attacks = {}, {}
    for record in records:
        e, seconds = record.experiment, record.provenance["seconds"]
        steps[_kind(e)] = seconds["training"] / (e.training.n_train * max(e.epochs))
        if e.attacks:
            judging = seconds["total"] - (seconds["training"] if seconds["total"] > seconds["training"] else 0)
            attacks[*_kind(e), _attacks(e)] = judging / work(e)
    return steps, attacks

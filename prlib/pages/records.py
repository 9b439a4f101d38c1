"""A chapter's parameters and its records."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib_inline.backend_inline as inline
import pandas as pd
from IPython.display import display

from prlib.experiment import Experiment
from prlib.findings.cells import measured
from prlib.machine import check_device
from prlib.pages.figures.drawing import style
from prlib.pages.tables import note
from prlib.profiles import Parameters, check_names, repository_results
from prlib.record import Record
from prlib.run import Context, prepare, run
from prlib.store import Store


def start(namespace: Mapping[str, Any]) -> Parameters:
    """Check a chapter's parameters and prepare its figures; called right after the parameters, with ``globals()``.

    Raises:
        ValueError: an unknown name or a value that is not allowed, in one sentence, before anything runs.
    """
    given = {name: value for name, value in namespace.items() if _is_parameter(name, value)}
    check_names(given)
    parameters = Parameters(**given)
    check_device(parameters.device)
    style()
    inline.set_matplotlib_formats("svg", metadata={"Date": None})
    return parameters


def obtain(
    parameters: Parameters, trained_with: Sequence[str] | None = None, adaptive: bool | None = False
) -> list[Record]:
    """Load the records of the run's experiments, measuring what is missing where the profile is measured on demand.

    ``trained_with`` names the trainings that a chapter is about; None is all. Experiments whose attacks know the
    defence are left out (``adaptive`` is False), alone (True) or among the others (None). Says what is not measured
    yet, and what is stale; only current records are returned.
    """
    wanted = _wanted(parameters, trained_with, adaptive)
    if parameters.measured_on_demand:
        context = Context(parameters.store, parameters.device)
        prepare(wanted, context, anew=parameters.recompute)
        return [run(e, context, anew=parameters.recompute) for e in wanted]
    stored = [parameters.store.load(e) for e in wanted]
    missing, stale = sum(r is None for r in stored), sum(r is not None and r.stale for r in stored)
    if missing or stale:
        text = f"Of this chapter's {len(wanted)} experiments in profile `{parameters.profile}`"
        text += f" {missing} have not been measured" * bool(missing) + " and" * bool(missing and stale)
        text += f" {stale} were measured by an older version of the code" * bool(stale)
        display(note(f"{text}. `make reproduce PROFILE={parameters.profile}` measures them."))
    return [r for r in stored if r is not None and not r.stale]


def committed(profile: str, trained_with: Sequence[str] | None = None, adaptive: bool | None = False) -> list[Record]:
    """The current records of a profile that is part of the repository, as far as they have been measured."""
    store = Store(repository_results() / profile)
    stored = [store.load(e) for e in _wanted(Parameters(profile=profile), trained_with, adaptive)]
    return [r for r in stored if r is not None and not r.stale]


def variants(
    records: Iterable[Record], variant: str, trained_with: Sequence[str], parameters: Parameters
) -> tuple[pd.DataFrame, Parameters]:
    """The run's cells at the epochs at which it measured a variant of a defence, else those of profile ``tenth``.

    Returns them with the parameters of the run that they are from.
    """
    cells, whose = measured(records), parameters
    if not (cells.defence == variant).any():
        cells, whose = measured(committed("tenth", trained_with)), Parameters("tenth")
    return cells[cells.epochs.isin(cells[cells.defence == variant].epochs)], whose


def _wanted(parameters: Parameters, trained_with: Sequence[str] | None, adaptive: bool | None) -> list[Experiment]:
    experiments = parameters.experiments()
    return [
        e
        for e in experiments
        if (trained_with is None or e.training.defence.name in trained_with)
        and adaptive in (None, "adaptive" in e.cases)
        # What repeats another on fewer images is there to be compared with the attacks that know the defence.
        and (adaptive is None or not any(_repeats(e, other) for other in experiments))
    ]


def _repeats(e: Experiment, other: Experiment) -> bool:
    """Whether another experiment measures the same and more."""
    same = all(getattr(e, name) == getattr(other, name) for name in ("training", "tested_with", "epochs", "attacks"))
    return same and other != e and set(e.cases) <= set(other.cases) and e.n_test <= other.n_test


def _is_parameter(name: str, value: Any) -> bool:
    literal = value is None or isinstance(value, bool | int | float | str | list | tuple | dict)
    return literal and not name.startswith("_") and name not in ("In", "Out")

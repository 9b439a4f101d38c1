"""A chapter's parameters and its records."""

import ast
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields
from typing import Any

import pandas as pd
from IPython.display import display

from prlib.findings.cells import measured
from prlib.machine import check_device
from prlib.pages.figures.drawing import style
from prlib.pages.here import Here
from prlib.pages.tables import note
from prlib.profiles import COMMITTED, Parameters, check_names, repository_results
from prlib.profiles.declaration import cell
from prlib.record import Record
from prlib.run import Context, prepare, run
from prlib.store import Store

PUBLISHED, REFERENCE = (Store(repository_results() / name) for name in ("published", "reference"))
"""The published records and networks, and the records of the sample's own trainings on another machine.

:meta hide-value:
"""


def parameters_cell(chapter: str) -> str:
    """The code of a chapter's cell of parameters; the front page shows the published records and has one alone."""
    return cell(Parameters("published"), ["profile"] if chapter == "index" else ())


def start(namespace: Mapping[str, Any]) -> Parameters:
    """Check a chapter's parameters and prepare its figures; called right after the parameters, with ``globals()``.

    Raises:
        ValueError: an unknown name or a value that is not allowed, in one sentence, before anything runs.
    """
    known = [field.name for field in fields(Parameters)]
    check_names(sorted(_injected(namespace)))
    parameters = Parameters(**{name: namespace[name] for name in known if name in namespace})
    check_device(parameters.device)
    style()
    return parameters


def obtain(parameters: Parameters, suites: Collection[str] | None = None) -> tuple[list[Record], Here]:
    """The published records of these suites of ``experiments.yaml`` (None: all), and what a run of another kind adds.

    A run is measured where something of it is missing and its profile is measured on demand; elsewhere it is said what
    is not measured yet, and what is stale, but not of all suites at once. Only current records are returned.
    """
    found = _run(parameters, suites)
    own = parameters.store.root not in [repository_results() / profile for profile in COMMITTED]
    published = found if parameters.profile == "published" and not own else committed("published", suites)
    return published, Here(parameters, found if own else [])


def _run(parameters: Parameters, suites: Collection[str] | None) -> list[Record]:
    wanted = parameters.experiments(suites)
    if parameters.measured_on_demand:
        context = Context(parameters.store, parameters.device)
        prepare(wanted, context, anew=parameters.recompute)
        return [run(e, context, anew=parameters.recompute) for e in wanted]
    stored = [parameters.store.load(e) for e in wanted]
    missing, stale = sum(r is None for r in stored), sum(r is not None and r.stale for r in stored)
    if suites is not None and (missing or stale):
        said = [f"{missing} {'has' if missing == 1 else 'have'} not been measured"] * bool(missing)
        said += [f"{stale} {'was' if stale == 1 else 'were'} measured by an older version of the code"] * bool(stale)
        text = f"Of this chapter's {len(wanted)} experiments in profile `{parameters.profile}` {' and '.join(said)}"
        display(note(f"{text}. `make reproduce PROFILE={parameters.profile}` measures them."))
    return [r for r in stored if r is not None and not r.stale]


def committed(profile: str, suites: Collection[str] | None = None) -> list[Record]:
    """The current records of a profile that is part of the repository, as far as they have been measured."""
    store = Store(repository_results() / profile)
    stored = [store.load(e) for e in Parameters(profile).experiments(suites)]
    return [r for r in stored if r is not None and not r.stale]


def variants(records: Iterable[Record], variant: str, suites: Collection[str]) -> pd.DataFrame:
    """The cells at the epochs at which a variant of a defence was measured, else those of profile ``tenth``."""
    cells = measured(records)
    if not (cells.defence == variant).any():
        cells = measured(committed("tenth", suites))
    return cells[cells.epochs.isin(cells[cells.defence == variant].epochs)]


def _injected(namespace: Mapping[str, Any]) -> set[str]:
    """The names that papermill's cells set: the notebook's own variables are there too when it is run twice."""
    cells = [code for code in namespace.get("In", []) if code.startswith("# Parameters\n")]
    return {
        node.id
        for code in cells
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }

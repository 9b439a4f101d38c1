"""A readable page for each record behind the book's numbers, beside its JSON, and a list of all of them.

A number links to its record as ``[0.9931](record:NAME)``; ``_config.yml`` says what page that is.
"""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from shutil import copytree
from typing import Any

from sphinx.application import Sphinx

from prlib.chosen import Chosen
from prlib.data import DATASETS
from prlib.experiment import labelled, to_json
from prlib.findings.cells import right_before_too
from prlib.pages.commands import recompute_command
from prlib.pages.content import plain
from prlib.pages.names import attack_title
from prlib.record import Record, read_record
from prlib.statistics import Estimate, wilson

Page = tuple[str, dict[str, Any], str]


def pages(app: Sphinx) -> Iterator[Page]:
    """The pages ``records/NAME`` and ``records/index``, and what their templates show."""
    folder = Path(app.srcdir) / "records"
    if app.builder.name != "html" or not folder.exists():
        return
    copytree(folder, Path(app.outdir) / "records", dirs_exist_ok=True)
    records = [read_record(path) for path in sorted(folder.glob("*.json"))]

    @cache
    def toctree(**options: Any) -> Any:
        """The side bar's list of chapters: one for all, since it is the same for every page of a folder."""
        return app.builder._get_local_toctree("records/index", **options)  # type: ignore[attr-defined]

    kept = right_before_too(records)
    for record in records:
        yield (
            f"records/{record.experiment.name}",
            context(record, kept[record.experiment.name]) | {"toctree": toctree},
            "record.html",
        )
    rows = [{"name": r.experiment.name, "title": title(r), "finished": r.provenance["finished"][:10]} for r in records]
    yield "records/index", {"title": "All records", "records": rows}, "records.html"


def context(record: Record, kept: list[Estimate | None]) -> dict[str, Any]:
    """What the page of a record shows; ``kept`` are the shares of images right before and after, cell by cell."""
    data = to_json(record)
    training = data["experiment"].pop("training")
    return {
        "title": title(record),
        "name": record.experiment.name,
        "stale": record.stale,
        "cells": [
            {
                **vars(cell),
                "attack": labelled(cell.attack, cell.epsilon),
                "accuracy": wilson(cell.correct, cell.total),
                "kept": share,
            }
            for cell, share in zip(record.cells, kept, strict=True)
        ],
        "command": recompute_command(record.experiment),
        "facts": {
            "Where the numbers come from": flat(data["provenance"]),
            "Training": flat(training),
            "Experiment": [*flat(data["experiment"]), ("judged on", Chosen.of(record.experiment).described)],
        },
    }


def title(record: Record) -> str:
    """What was measured, in words."""
    e = record.experiment
    attacks = ", ".join(plain(attack_title(a.name, a.epsilon)) for a in e.attacks) or "clean images"
    how = (
        f"trained with {e.training.defence.name}" if e.training.defence.name != "none" else "trained without a defence"
    )
    return f"{DATASETS[e.training.dataset].title}, {how}: {attacks}"


def flat(data: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested JSON as (path, value) pairs; lists of objects by their names."""
    rows: list[tuple[str, str]] = []
    for name, value in data.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value = {item["name"]: item["options"] for item in value}
        if isinstance(value, dict) and value:
            rows += flat(value, f"{prefix}{name} / ")
        else:
            rows.append((prefix + name, value if isinstance(value, str) else json.dumps(value)))
    return rows


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the pages when the chapters have been written."""
    app.connect("html-collect-pages", pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

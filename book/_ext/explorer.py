"""The numbers that the explorer's page filters, as a script, which a page opened from a folder may load, and as CSV."""

import csv
import json
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config

from prlib.pages.explorer import numbers
from prlib.pages.records import committed

SCALES = {"published": "all images", "tenth": "a tenth of the images"}


def count(app: Sphinx, config: Config) -> None:
    """Make the numbers, and tell pages how many there are."""
    app.numbers = numbers({scale: committed(profile) for profile, scale in SCALES.items()})  # type: ignore[attr-defined]
    config.myst_substitutions = {**config.myst_substitutions, "numbers": f"{len(app.numbers):,}"}  # type: ignore[attr-defined]


def write(app: Sphinx, exception: Exception | None) -> None:
    """Put them beside the pages."""
    if exception or app.builder.name != "html":
        return
    rows, out = app.numbers, Path(app.outdir)  # type: ignore[attr-defined]
    lines = ",\n".join(json.dumps(list(row.values()), ensure_ascii=False) for row in rows)
    names = json.dumps(list(rows[0]))
    (out / "numbers.js").write_text(f"const NUMBERS = {{names: {names}, rows: [\n{lines}\n]}};\n", encoding="utf-8")
    with (out / "numbers.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def setup(app: Sphinx) -> dict[str, bool]:
    """Before pages are read, and when all is written."""
    app.connect("config-inited", count)
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

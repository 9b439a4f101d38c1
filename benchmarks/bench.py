"""How fast prlib is, beside its peers in the same process and under the same conditions: ``make bench``.

Ours and the peers take turns, and medians are compared, so that a drift of the machine's speed cancels in the ratio;
what takes minutes (CW, the evaluation, the growth) runs once. Nothing is asserted: tables are printed, and written as
JSON for the book's chapter on cost.
"""

import argparse
import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from peers import bfloat16, cw, loop, network, redrawing, steps
from timing import Row, threads
from whole import evaluation, growth, memory, peak, side_by_side

from prlib.machine import device_name, git
from prlib.pages.tables import significant

TABLES = {
    f.__name__: f for f in (network, loop, bfloat16, redrawing, steps, cw, evaluation, growth, side_by_side, memory)
}
ON_TWO_THREADS = ("network", "redrawing", "steps")


def show(title: str, rows: list[Row]) -> None:
    """Print rows as a table, its columns as wide as they need to be."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    texts = [columns] + [[significant(row.get(name, "")) for name in columns] for row in rows]
    widths = [max(len(line[i]) for line in texts) for i in range(len(columns))]
    print(f"\n{title}")
    for line in texts:
        print(
            "  " + "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip(), flush=True
        )


def main() -> None:
    """Run the tables asked for, print them, and write them where the book finds them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", help=f"some of: {', '.join(TABLES)} (default: all)")
    parser.add_argument("--json", type=Path, help="write the tables to this file; others in it stay")
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.tables) - set(TABLES):
        parser.error(f"tables must be some of {', '.join(TABLES)}; got {', '.join(sorted(unknown))}")
    if options.peak:
        print(peak())
        return
    machine = {"device": device_name("cpu"), "cores": os.cpu_count(), "system": platform.platform(terse=True)}
    versions = {name: version(name) for name in ("torch", "torchattacks", "foolbox", "adversarial-robustness-toolbox")}
    result: dict[str, Any] = {"machine": machine, "versions": versions, "tables": []}
    commit = git("rev-parse", "--short=10", "HEAD").decode().strip()
    before = json.loads(options.json.read_text("utf-8")) if options.json and options.json.exists() else {}
    if (before.get("machine"), before.get("versions")) == (machine, versions):
        result["tables"] = before["tables"]  # never tables of two machines
    print(f"{machine['device']}, {machine['cores']} cores; " + ", ".join(f"{k} {v}" for k, v in versions.items()))
    for name in options.tables or TABLES:
        for n in (1, 2) if name in ON_TWO_THREADS and (os.cpu_count() or 1) > 1 else (1,):
            with threads(n):
                rows = list(TABLES[name]())
            title = " ".join((TABLES[name].__doc__ or "").split())
            result["tables"] = [t for t in result["tables"] if (t["name"], t["threads"]) != (name, n)]
            result["tables"].append({"name": name, "commit": commit, "title": title, "threads": n, "rows": rows})
            show(f"{title} {'One thread' if n == 1 else f'{n} threads'}.", rows)
            result["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
            if options.json:
                options.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()

"""What many jobs cost the machine that submits them: the workflow's own rules, with jobs that do nothing.

benchmarks/cluster.py [TABLE ...] [--json FILE] prints tables of plans, submissions and schedules, and writes them
where the book finds them. SLURM is two scripts here: what is measured is Snakemake, the workflow and ``prlib list``.
"""

import argparse
import dataclasses
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from prlib.estimate import plan
from prlib.experiment import to_json
from prlib.machine import device_name, git
from prlib.profiles import Parameters, repository_results
from prlib.scale import makespan, seconds_by_job
from prlib.store import Store

Row = dict[str, Any]
ROOT = Path(__file__).parents[1]
SNAKEMAKE = [str(Path(sys.executable).parent / "snakemake"), "--snakefile", str(ROOT / "workflow" / "Snakefile")]
PAPER = Parameters("paper", seeds=tuple(range(5)))
HOUR = 4.0
"""Seconds that an hour takes where a schedule is played."""

SBATCH = """#!/bin/sh
cat > /dev/null
for option; do case $option in --job-name=*) name=${option#*=} ;; esac; done
id=$(($(wc -l < jobs) + 1))
echo "$id $(date +%s) $name" >> jobs
echo "$id"
"""
SQUEUE = """#!/bin/sh
case "$*" in *--name=*) exit ;; esac
cut -d ' ' -f 3 jobs | (cd _build/paper/measured && xargs touch)
sed 's/ .*/ COMPLETED:None/' jobs
"""
STUB = """
import sys, time
if sys.argv[1] == "list":
    print(open("plan.json").read())
else:
    time.sleep(float(open(f"durations/{sys.argv[2]}").read()))
"""


def workplace(folder: Path, seconds: dict[str, float]) -> None:
    """A folder in which the workflow has a job for each of these names, which sleeps, and no chapter."""
    jobs = [
        {"training": name, "dataset": "mnist", "source": "sample", "seconds": 60, "megabytes": 2000} for name in seconds
    ]
    for name in ("prlib", "durations", "bin", "_build/paper/measured"):
        (folder / name).mkdir(parents=True)
    (folder / "workflow").symlink_to(ROOT / "workflow")
    (folder / "jobs").touch()
    (folder / "plan.json").write_text(json.dumps({"store": "store", "records": [], "to do": jobs}), "utf-8")
    (folder / "prlib" / "__main__.py").write_text(STUB, "utf-8")
    for name, duration in seconds.items():
        (folder / "durations" / name).write_text(str(duration), "utf-8")
    for name, script in (("sbatch", SBATCH), ("squeue", SQUEUE)):
        (folder / "bin" / name).write_text(script, "utf-8")
        (folder / "bin" / name).chmod(0o755)


def snakemake(folder: Path, *options: str) -> tuple[float, float]:
    """Run the workflow there as far as the records; seconds that pass, and those of the processor."""
    environment = os.environ | {"PATH": f"{folder}/bin:{os.environ['PATH']}", "PYTHONPATH": ""}
    command = [*SNAKEMAKE, "--nolock", "--rerun-triggers", "mtime", "--quiet", *options]
    command += ["--config", "profile=paper", "--", "records"]
    started, before = time.monotonic(), os.times()
    subprocess.run(command, cwd=folder, env=environment, check=True, stderr=subprocess.DEVNULL)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return time.monotonic() - started, spent


def submission() -> Iterator[Row]:
    """The submitting side, with `EXECUTOR=slurm`, of jobs that are all submitted together and end at once."""
    for n in (10, 100, 300, 1000):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            workplace(folder, {f"training-{i}": 0.0 for i in range(n)})
            passed, spent = snakemake(folder, "--profile", "workflow/slurm", "--jobs", str(n))
            submitted = [int(line.split()[1]) for line in (folder / "jobs").read_text("utf-8").splitlines()]
        yield {
            "jobs": n,
            "all submitted within, s": float(submitted[-1] - submitted[0]),
            "all over after, s": passed,
            "processor, s": spent,
            "ms a job": 1e3 * spent / n,
        }


def planning() -> Iterator[Row]:
    """What `prlib list` does of a profile of so many experiments, their records in the store or none of them."""
    template = max(Store(repository_results() / "published").records()[0], key=lambda record: len(record.cells))
    for seeds in (2, 7, 21):
        experiments = Parameters("paper", seeds=tuple(range(seeds))).experiments()
        with tempfile.TemporaryDirectory() as place:
            store = Store(Path(place))
            (store.root / "records").mkdir()
            for e in experiments:
                text = json.dumps(to_json(dataclasses.replace(template, experiment=e)))
                store.record_path(e).write_text(text, "utf-8")
            started = time.monotonic()
            ready = sum(store.is_current(e) for e in experiments)
            listed = time.monotonic() - started
        assert ready == len(experiments)
        started = time.monotonic()
        plan(Parameters("paper"), experiments)
        planned = time.monotonic() - started
        yield {
            "experiments": len(experiments),
            "list the store, s": listed,
            "ms each": 1e3 * listed / len(experiments),
            "plan all, s": planned,
            "ms each ": 1e3 * planned / len(experiments),
        }


def schedule() -> Iterator[Row]:
    """The profile `paper` with five seeds as Snakemake schedules it, an hour played in seconds, and as computed."""
    records, _ = Store(repository_results() / "published").records()
    hours = {t.name: s / 3600 for t, s in seconds_by_job(PAPER.experiments(), records).items()}
    for cores in (16, 80):
        with tempfile.TemporaryDirectory() as place:
            workplace(Path(place), {name: HOUR * duration for name, duration in hours.items()})
            passed, _ = snakemake(Path(place), "--cores", str(cores), "--scheduler", "greedy")
        yield {
            "jobs": len(hours),
            "at once": cores,
            "played, h": passed / HOUR,
            "computed, h": makespan(hours.values(), cores),
            "if nothing waited, h": max(sum(hours.values()) / cores, *hours.values()),
        }


TABLES = {f.__name__: f for f in (planning, submission, schedule)}


def main() -> None:
    """Run the tables asked for, print them, and write them where the book finds them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", help=f"some of: {', '.join(TABLES)} (default: all)")
    parser.add_argument("--json", type=Path, help="write the tables to this file; others in it stay")
    options = parser.parse_args()
    if unknown := set(options.tables) - set(TABLES):
        parser.error(f"tables must be some of {', '.join(TABLES)}; got {', '.join(sorted(unknown))}")
    machine = {"device": device_name("cpu"), "cores": os.cpu_count(), "system": platform.platform(terse=True)}
    names = ("snakemake", "snakemake-executor-plugin-cluster-generic")
    result: dict[str, Any] = {"machine": machine, "versions": {name: version(name) for name in names}, "tables": []}
    before = json.loads(options.json.read_text("utf-8")) if options.json and options.json.exists() else {}
    if all(before.get(name) == result[name] for name in ("machine", "versions")):
        result["tables"] = before["tables"]
    commit = git("rev-parse", "--short=10", "HEAD").decode().strip()
    for name in options.tables or TABLES:
        rows = []
        title = " ".join((TABLES[name].__doc__ or "").split())
        print(f"\n{title}")
        for row in TABLES[name]():
            rows.append(row)
            print("  " + ", ".join(f"{k.strip()}: {v:.4g}" for k, v in row.items()), flush=True)
        result["tables"] = [table for table in result["tables"] if table["name"] != name]
        result["tables"].append({"name": name, "commit": commit, "title": title, "threads": 1, "rows": rows})
        result["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
        if options.json:
            options.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()

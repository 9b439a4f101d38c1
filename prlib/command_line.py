"""The command line: ``python -m prlib run | list | show | verify | attack | pack | merge | bundle``."""

import argparse
import json
import math
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from prlib import archive, bundle
from prlib.cases import BATCH_SIZE
from prlib.chosen import Chosen, images_of
from prlib.deadline import OutOfTime, check_time, time_limit
from prlib.estimate import describe_plan, plan
from prlib.experiment import Experiment, to_json
from prlib.files import expanded
from prlib.jobs import side_by_side, take
from prlib.own.options import add as add_attack
from prlib.profiles import OVERRIDES, Parameters, results_folder
from prlib.profiles.declaration import add_options
from prlib.record import Record
from prlib.run import Context, check, prepare, run, verify
from prlib.statistics import wilson

UNFINISHED = 3
"""The exit status of a run that its time limit has ended."""

MISTAKES = (ValueError, OSError, ModuleNotFoundError)
"""What is said in one sentence, without a traceback."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status. Mistakes in the arguments end in one sentence and status 2."""
    options = _parser().parse_args(arguments)
    try:
        status = int(options.command(options, *(_asked_for(options) if "only" in options else ())))
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads the output has seen enough; nor may it be flushed at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        way = "goes on from here" if options.command is _run and not options.recompute else "begins anew"
        print(f"prlib: interrupted; the same command {way}", file=sys.stderr)
        exec("")  # or Python ends by the signal, if it fell into another exec of a string, as in many an import
        return 128 + signal.SIGINT
    except MISTAKES as error:
        print(f"prlib: {error}", file=sys.stderr)
        return 2
    return status


def _asked_for(options: argparse.Namespace) -> tuple[Parameters, list[Experiment]]:
    """The parameters that options set, and their profile's experiments or those with the names asked for."""
    known = vars(options).keys() & {field.name for field in fields(Parameters)}
    parameters = Parameters(**{name: getattr(options, name) for name in known})
    everything = parameters.experiments()
    for start in options.only:
        if not any(_matches(e, start) for e in everything):
            raise ValueError(f"no experiment of profile {parameters.profile} has a name that starts with {start!r}")
    return parameters, [e for e in everything if not options.only or any(_matches(e, start) for start in options.only)]


def _matches(experiment: Experiment, start: str) -> bool:
    return experiment.name.startswith(start) or experiment.training.name.startswith(start)


def _run(options: argparse.Namespace, parameters: Parameters, experiments: list[Experiment]) -> int:
    if options.jobs < 1:
        raise ValueError(f"--jobs must be a positive integer; got {options.jobs}")
    if not options.minutes > 0:
        raise ValueError(f"--minutes must be a positive number; got {options.minutes:g}")
    if options.recompute and options.minutes < math.inf:
        raise ValueError("--minutes does not go with --recompute, which would begin anew when it is to go on")
    progress = "lines" if options.jobs > 1 and options.progress == "bar" else options.progress
    context = Context(parameters.store, options.device, progress, options.data, options.tf32)
    how = (context, options.recompute, time.time() + 60 * options.minutes)
    status = _measure(experiments, *how) if options.jobs == 1 else _measure_side_by_side(experiments, how, options.jobs)
    if status == UNFINISHED:
        done = sum(map(parameters.store.is_current, experiments))
        print(
            f"prlib: stopped by --minutes {options.minutes:g} with {done} of {len(experiments)} experiments measured; "
            "the same command goes on from here",
            file=sys.stderr,
        )
    return status


def _measure_side_by_side(experiments: list[Experiment], how: tuple[Context, bool, float], jobs: int) -> int:
    """Measure each training's experiments in a process of their own, so many at a time; ``how`` is ``_measure``'s."""
    context, anew, _ = how
    missing = set(check(experiments, context, anew))
    tasks: dict[str, list[Experiment]] = {}
    for experiment in experiments:
        tasks.setdefault(experiment.training.name, []).append(experiment)

    def busy(name: str) -> bool:
        return any(context.is_busy(e) for e in tasks[name] if e in missing)

    statuses = side_by_side(_measure, {name: (own, *how) for name, own in tasks.items()}, jobs, busy)
    if failed := [name for name, status in statuses.items() if status not in (0, UNFINISHED)]:
        print(f"prlib: {len(failed)} of {len(tasks)} trainings failed: {', '.join(failed)}", file=sys.stderr)
        return 1
    return max(statuses.values(), default=0)


def _measure(experiments: list[Experiment], context: Context, anew: bool, end: float) -> int:
    """Measure experiments one after another until that time; mistakes end in one sentence, as they do in ``main``.

    Experiments whose networks another process is at work on come last.
    """
    left = list(experiments)
    try:
        with time_limit(end):
            missing = set(prepare(experiments, context, anew))
            while left:
                check_time()
                experiment = take(left, lambda e: e in missing and context.is_busy(e))
                print(f"[{len(experiments) - len(left)}/{len(experiments)}] {experiment.name}", flush=True)
                _print_cells(run(experiment, context, anew))
    except OutOfTime:
        return UNFINISHED
    except MISTAKES as error:
        print(f"prlib: {error}", file=sys.stderr)
        return 2
    return 0


def _list(options: argparse.Namespace, parameters: Parameters, experiments: list[Experiment]) -> int:
    if options.names:
        for experiment in experiments:
            state = "ready" if parameters.store.is_current(experiment) else "to-do"
            print(state, experiment.name, experiment.training.name)
    elif options.json:
        print(json.dumps(plan(parameters, experiments), indent=1))
    else:
        print(describe_plan(parameters, experiments))
    return 0


def _show(options: argparse.Namespace, parameters: Parameters, experiments: list[Experiment]) -> int:
    records, damaged = _stored(parameters, experiments)
    for record in records:
        if options.json:
            print(json.dumps(to_json(record), indent=1))
        else:
            print(record.experiment.name + (" (stale)" if record.stale else ""))
            _print_cells(record)
    return damaged


def _verify(options: argparse.Namespace, parameters: Parameters, experiments: list[Experiment]) -> int:
    if options.images < 1:
        raise ValueError(f"--images must be a positive integer; got {options.images}")
    if not 0 <= options.least <= 1:
        raise ValueError(f"--least must be a share from 0 to 1; got {options.least:g}")
    records, status = _stored(parameters, experiments)
    store, context = parameters.store, Context(parameters.store, progress=options.progress, data=options.data)
    there = [r for r in records if store.judgeable(r)]
    if not there:
        raise FileNotFoundError(f"no weights are in {store.root} for the records asked for ({len(records)})")
    # All images are looked for first, so that none is missed when others have been judged.
    for experiment in {Chosen.of(record.experiment): record.experiment for record in there}.values():
        images_of(experiment, experiment.split, options.data)
    for record in there:
        agreeing, judged = verify(record, context, options.images)
        share = agreeing / judged
        status |= share < options.least
        print(f"{record.experiment.name}: {agreeing} of {judged} examples judged as recorded ({share:.2%})")
    if left := len(records) - len(there):
        print(f"not judged again, since their weights are not in {store.root}: {left} of {len(records)}")
    return status


def _pack(options: argparse.Namespace, parameters: Parameters, experiments: list[Experiment]) -> int:
    for path in archive.pack(parameters.store, experiments, expanded(options.out), options.megabytes):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return 0


def _attack(options: argparse.Namespace, *_: Any) -> int:
    from prlib.own.command import attack  # and pandas with it, which no other command needs

    return attack(options)


def _merge(options: argparse.Namespace, *_: Any) -> int:
    root, new, there = archive.merge([expanded(path) for path in options.archives], results_folder(), options.into)
    print(f"{new} files are now in {root}; {there} were there already")
    return 0


def _bundle(options: argparse.Namespace, *_: Any) -> int:
    for path in bundle.bundle(expanded(options.out), options.megabytes, options.data):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return 0


def _stored(parameters: Parameters, experiments: list[Experiment]) -> tuple[list[Record], int]:
    """The stored records, and an exit status: whether there are damaged ones, which are named and left out."""
    records, damaged = parameters.store.records(experiments)
    for sentence in damaged:
        print(f"prlib: {sentence}", file=sys.stderr)
    if not records and not damaged:
        command = f"python -m prlib run --profile {parameters.profile}"
        raise FileNotFoundError(f"no record is in {parameters.store.root} yet; `{command}` measures them")
    return records, int(bool(damaged))


def _print_cells(record: Record) -> None:
    for cell in record.cells:
        accuracy = wilson(cell.correct, cell.total)
        what = f"tested with {cell.tested_with:14s} {cell.attack or 'no attack':11s} {cell.case:6s}"
        print(
            f"  epoch {cell.epoch:4d}, {what} "
            f"accuracy {accuracy.value:.4f}  95% interval [{accuracy.low:.4f}, {accuracy.high:.4f}]  n = {cell.total}"
        )


def _parser() -> argparse.ArgumentParser:
    data, which, shown = (argparse.ArgumentParser(add_help=False) for _ in range(3))  # options that commands share
    data.add_argument("--data", metavar="DIR", help="the full datasets (default: $PRLIB_DATA or ~/.cache/prlib)")
    which.add_argument("only", nargs="*", help="only experiments whose names (or trainings') start so")
    add_options(which, Parameters, "profile", "datasets", *OVERRIDES)
    bars = "bar" if sys.stderr.isatty() else "lines"
    shown.add_argument("--progress", choices=("bar", "lines", "none"), default=bars, help="(default: %(default)s)")

    parser = argparse.ArgumentParser(prog="python -m prlib", description="Measure the book's experiments.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_measuring(commands, [which, data], shown)
    add_attack(commands, [shown, data]).set_defaults(command=_attack)
    _add_packing(commands, [which, data], data)
    return parser


def _add_measuring(commands: Any, which: list[argparse.ArgumentParser], shown: argparse.ArgumentParser) -> None:
    """Add the commands that measure experiments and show them."""
    text = "measure what is missing (an interrupted run goes on)"
    command = commands.add_parser("run", parents=[*which, shown], help=text)
    add_options(command, Parameters, "device", "recompute")
    command.add_argument("--tf32", action="store_true", help="faster and less exact products on a GPU")
    command.add_argument("--jobs", type=int, default=1, metavar="N", help="trainings side by side, a process each")
    text = "stop in time; the same command goes on later"
    command.add_argument("--minutes", type=float, default=math.inf, metavar="N", help=text)
    command.set_defaults(command=_run)

    command = commands.add_parser(
        "list", parents=which, help="the experiments, what is missing, how long, how much disk"
    )
    form = command.add_mutually_exclusive_group()
    form.add_argument("--names", action="store_true", help="a line each: ready or to-do, its name, its training's name")
    form.add_argument("--json", action="store_true", help="for programs: what is ready, and a job for each training")
    command.set_defaults(command=_list)

    command = commands.add_parser("show", parents=which, help="the stored records' accuracies")
    command.add_argument("--json", action="store_true", help="the whole records")
    command.set_defaults(command=_show)

    text = "judge again at the epochs whose weights are stored; compare with the records"
    command = commands.add_parser("verify", parents=[*which, shown], help=text)
    text = f"test images, rounded up to whole batches of {BATCH_SIZE} (default: %(default)s)"
    command.add_argument("--images", type=int, default=1000, metavar="N", help=text)
    command.add_argument("--least", type=float, default=0.995, help="share that must agree (default: %(default)s)")
    command.set_defaults(command=_verify)


def _add_packing(commands: Any, which: list[argparse.ArgumentParser], data: argparse.ArgumentParser) -> None:
    """Add the commands whose results travel between machines."""
    parts = argparse.ArgumentParser(add_help=False)
    text = "at most, of each part (default: %(default)s)"
    parts.add_argument("--megabytes", type=float, default=60, metavar="N", help=text)

    text = "pack what has been measured into results-1.tar, results-2.tar, …"
    command = commands.add_parser("pack", parents=[*which, parts], help=text)
    command.add_argument("--out", default=".", metavar="DIR", help="(default: the working folder)")
    command.set_defaults(command=_pack)

    command = commands.add_parser("merge", help="check packed results and file them into the profile's store")
    command.add_argument("archives", nargs="+", metavar="ARCHIVE", help="a .tar that `pack` has written")
    command.add_argument("--profile", dest="into", help="another than the one that they were measured for")
    command.set_defaults(command=_merge)

    text = "pack code, wheels and datasets for a machine without a network"
    command = commands.add_parser("bundle", parents=[parts, data], help=text)
    command.add_argument("--out", default="_build/bundle", metavar="DIR", help="(default: %(default)s)")
    command.set_defaults(command=_bundle)

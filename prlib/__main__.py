"""The command line: ``python -m prlib run | list | show | verify``."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import fields

from prlib.cases import BATCH_SIZE, wilson
from prlib.estimate import describe_plan, plan
from prlib.experiment import Experiment, Record, to_json
from prlib.profiles import PROFILES, Parameters
from prlib.run import check_device, forget, run, verify


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status. Mistakes in the arguments end in one sentence and status 2."""
    options = _parser().parse_args(arguments)
    known = vars(options).keys() & {field.name for field in fields(Parameters)}
    try:
        parameters = Parameters(**{name: getattr(options, name) for name in known})
        experiments = [e for e in parameters.experiments() if _matches(e, options.only)]
        if options.only and not experiments:
            raise ValueError(
                f"no experiment of profile {parameters.profile} has a name that starts with {options.only!r}"
            )
        status = int(options.command(options, parameters, experiments))
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads the output has seen enough; nor may it be flushed at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError) as error:
        print(f"prlib: {error}", file=sys.stderr)
        return 2
    return status


def _matches(experiment: Experiment, start: str) -> bool:
    return experiment.name.startswith(start) or experiment.training.name.startswith(start)


def _run(options: argparse.Namespace, parameters: Parameters, experiments: list[Experiment]) -> int:
    check_device(options.device)
    if options.recompute:
        forget(experiments, parameters.store, options.device, options.data)
    for number, experiment in enumerate(experiments, start=1):
        print(f"[{number}/{len(experiments)}] {experiment.name}", flush=True)
        record = run(experiment, parameters.store, options.device, options.progress, options.data, options.tf32)
        _print_cells(record)
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
    for record in _stored(parameters, experiments):
        if options.json:
            print(json.dumps(to_json(record), indent=1))
        else:
            print(record.experiment.name + (" (stale)" if record.stale else ""))
            _print_cells(record)
    return 0


def _verify(options: argparse.Namespace, parameters: Parameters, experiments: list[Experiment]) -> int:
    if options.images < 1:
        raise ValueError(f"--images must be a positive integer; got {options.images}")
    status, store, records = 0, parameters.store, _stored(parameters, experiments)
    there = [r for r in records if store.judgeable(r)]
    if not there:
        raise FileNotFoundError(f"no weights are in {store.root} for the records asked for ({len(records)})")
    for record in there:
        agreeing, judged = verify(record, store, options.images, options.data, options.progress)
        share = agreeing / judged
        status |= share < options.least
        print(f"{record.experiment.name}: {agreeing} of {judged} examples judged as recorded ({share:.2%})")
    if left := len(records) - len(there):
        print(f"not judged again, since their weights are not in {store.root}: {left} of {len(records)}")
    return status


def _stored(parameters: Parameters, experiments: list[Experiment]) -> list[Record]:
    records = [record for experiment in experiments if (record := parameters.store.load(experiment))]
    if not records:
        command = f"python -m prlib run --profile {parameters.profile}"
        raise FileNotFoundError(f"no record is in {parameters.store.root} yet; `{command}` measures them")
    return records


def _print_cells(record: Record) -> None:
    for cell in record.cells:
        accuracy = wilson(cell.correct, cell.total)
        what = f"tested with {cell.tested_with:14s} {cell.attack or 'no attack':11s} {cell.case:6s}"
        print(
            f"  epoch {cell.epoch:4d}, {what} "
            f"accuracy {accuracy.value:.4f}  95% interval [{accuracy.low:.4f}, {accuracy.high:.4f}]  n = {cell.total}"
        )


def _parser() -> argparse.ArgumentParser:
    which = argparse.ArgumentParser(add_help=False)
    which.add_argument("only", nargs="?", default="", help="only experiments whose name (or training's) starts so")
    which.add_argument("--profile", default="sample", help=f"one of {', '.join(PROFILES)} (default: %(default)s)")
    which.add_argument("--datasets", nargs="+", metavar="NAME", help="instead of the profile's")
    which.add_argument("--seeds", nargs="+", type=int, metavar="N", help="instead of the profile's")
    which.add_argument("--epochs", nargs="+", type=int, metavar="N", help="at which to judge, instead of the profile's")
    which.add_argument("--n-train", type=int, metavar="N", help="training images, instead of the profile's")
    which.add_argument(
        "--n-test",
        type=int,
        metavar="N",
        help="test images, instead of the profile's; attacks that it gives fewer keep those",
    )
    which.add_argument(
        "--epsilon", type=float, metavar="E", help="of FGSM, BIM and MIM, instead of the paper's; up to 1"
    )
    which.add_argument("--data", metavar="DIR", help="the full datasets (default: $PRLIB_DATA or ~/.cache/prlib)")

    shown = argparse.ArgumentParser(add_help=False)
    bars = "bar" if sys.stderr.isatty() else "lines"
    shown.add_argument("--progress", choices=("bar", "lines", "none"), default=bars, help="(default: %(default)s)")

    parser = argparse.ArgumentParser(prog="python -m prlib", description="Measure the book's experiments.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser(
        "run", parents=[which, shown], help="measure what is missing (an interrupted run goes on)"
    )
    command.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: %(default)s)")
    command.add_argument("--tf32", action="store_true", help="faster and less exact products on a GPU")
    command.add_argument("--recompute", action="store_true", help="train and judge anew what is stored")
    command.set_defaults(command=_run)

    command = commands.add_parser(
        "list", parents=[which], help="the experiments, what is missing, how long, how much disk"
    )
    form = command.add_mutually_exclusive_group()
    form.add_argument("--names", action="store_true", help="a line each: ready or to-do, its name, its training's name")
    form.add_argument("--json", action="store_true", help="for programs: what is ready, and a job for each training")
    command.set_defaults(command=_list)

    command = commands.add_parser("show", parents=[which], help="the stored records' accuracies")
    command.add_argument("--json", action="store_true", help="the whole records")
    command.set_defaults(command=_show)

    command = commands.add_parser(
        "verify",
        parents=[which, shown],
        help="judge again at the epochs whose weights are stored; compare with the records",
    )
    command.add_argument(
        "--images",
        type=int,
        default=1000,
        metavar="N",
        help=f"test images, rounded up to whole batches of {BATCH_SIZE} (default: %(default)s)",
    )
    command.add_argument("--least", type=float, default=0.995, help="share that must agree (default: %(default)s)")
    command.set_defaults(command=_verify)
    return parser


if __name__ == "__main__":
    sys.exit(main())

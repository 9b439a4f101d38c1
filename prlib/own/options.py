"""The options of ``python -m prlib attack``."""

import argparse
from typing import Any

from prlib.attacks.base import check_parameters
from prlib.data import DATASETS, check_seed

_EPILOG = """\
FILE is Python with a function defence(images, generator), of float images N×C×H×W in [0, 1] to images alike, which
draws all its random numbers from the generator; and, if it is not the undefended one, the network behind it:

  network = "pr"             a published network, by what it was trained with
  network = "train"          the paper's network, trained behind the defence (--n-train, --epochs)
  network = "mine.safetensors"  weights of the paper's network, beside FILE
  network = MyNetwork()      any torch.nn.Module that returns logits

The file is run: use your own only."""


def add(commands: Any, parents: list[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Give the command line this command; ``parents`` have the options of progress and of the data's folder."""
    command = commands.add_parser(
        "attack",
        parents=parents,
        help="attack a defence of your own and show it beside the book's",
        description="Attack a defence of your own with full knowledge of it, and show it beside the book's.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("file", metavar="FILE", help="a Python file with the defence (see below)")
    command.add_argument("--dataset", required=True, metavar="NAME", help=", ".join(DATASETS))
    command.add_argument(
        "--images", type=int, default=100, metavar="N", help="test images, of the book's (default: %(default)s)"
    )
    command.add_argument("--embedded", action="store_true", help="only images that are part of the repository: offline")
    command.add_argument("--epsilon", type=float, metavar="X", help="(default: the paper's)")
    command.add_argument("--attacks", nargs="+", default=[], metavar="NAME", help='instead of the suite "adaptive"')
    command.add_argument(
        "--n-train", type=int, default=10_000, metavar="N", help="images to train on (default: %(default)s)"
    )
    command.add_argument("--epochs", type=int, default=3, metavar="N", help="of a training (default: %(default)s)")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of all that is drawn (default: %(default)s)")
    command.add_argument("--out", metavar="FILE", help="the result (default: results/own/NAME.json)")
    return command


def check(options: argparse.Namespace) -> None:
    """Raise a ValueError for a value that is not allowed, in one sentence."""
    if options.dataset not in DATASETS:
        raise ValueError(f"--dataset must be one of {', '.join(DATASETS)}; got {options.dataset!r}")
    for name in ("images", "n_train", "epochs"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be a positive integer; got {getattr(options, name)}")
    if options.epsilon is not None:
        check_parameters(epsilon=options.epsilon)
        if options.epsilon == 0:
            raise ValueError("--epsilon must be above 0; got 0")
    check_seed(options.seed)

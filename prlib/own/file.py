"""The file with a defence of one's own, and the network behind it."""

import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from prlib.attacks.known import Known
from prlib.data import Split, Transform, to_float
from prlib.experiment import WEIGHTS, Attack
from prlib.guard import Guarded
from prlib.machine import one_thread
from prlib.profiles import default_recipe, published_snapshots
from prlib.seeds import derive
from prlib.snapshot import load_model
from prlib.train import train, transformed

TRAIN = "train"
"""What a file says instead of a network whose training is asked for."""


@dataclass(frozen=True)
class Own:
    """What a file holds.

    Args:
        path: of the file.
        digest: SHA-256 of its content.
        defence: a function of float images N×C×H×W in [0, 1] and a generator, to images alike.
        network: a module; the name of a published network, by what it was trained with; the path of a file of weights
            of the paper's network; or "train".
    """

    path: Path
    digest: str
    defence: Transform
    network: nn.Module | str


def read(path: Path) -> Own:
    """Run the file and take its ``defence`` and ``network`` ("none" where it names none, the undefended network).

    A ``network`` that is a function but no module is called without arguments.

    Raises:
        ValueError, OSError: it cannot be read or run, or lacks what is needed; in one sentence.
    """
    content = path.read_bytes()
    module = ModuleType(f"_own_{path.stem}")  # no other module's name
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where dataclasses and pickle look for it
    with _as_before(), torch.random.fork_rng():
        torch.manual_seed(0)  # a network that is made there is always the same
        try:
            exec(compile(content, str(path), "exec"), module.__dict__)
        except (Exception, SystemExit) as error:
            raise ValueError(f"{path} must run as Python: {_sentence(error)}") from error
        defence, network = getattr(module, "defence", None), getattr(module, "network", "none")
        if not callable(defence):
            raise ValueError(f"{path} must hold a function defence(images, generator); got {_named(defence)}")
        if callable(network) and not isinstance(network, nn.Module):
            network = _tried(network, f"{path}: network()")
    if not isinstance(network, nn.Module | str):
        raise ValueError(
            f"network in {path} must be a torch.nn.Module, a published network's name, a file of weights or "
            f'"{TRAIN}"; got {_named(network)}'
        )
    if isinstance(network, nn.Module):
        Guarded(network)  # refuses what has no weights
    if isinstance(defence, nn.Module):
        defence.eval().requires_grad_(False)
    return Own(path, hashlib.sha256(content).hexdigest(), defence, network)


@contextmanager
def _as_before() -> Iterator[None]:
    """PyTorch's default type and mode of gradients are afterwards as they were."""
    dtype, gradients = torch.get_default_dtype(), torch.is_grad_enabled()
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(gradients)


def known(own: Own, split: Split) -> Known:
    """What attackers know of the file's defence, tried on up to 32 images; its own errors in a sentence."""
    images = to_float(split.images[:32])
    with torch.random.fork_rng():
        try:
            return Known.of(own.defence, images)
        except ValueError as error:
            raise ValueError(f"{own.path}: {error}") from error
        except (Exception, SystemExit) as error:
            where = f"{own.path}: the defence failed on float images {tuple(images.shape)}"
            raise ValueError(f"{where}: {_sentence(error)}") from error


def published(dataset: str) -> dict[str, Path]:
    """The published networks of a dataset that are there, by what they were trained with."""
    return {name: path for name, path in published_snapshots(dataset).items() if path.exists()}


def surrogate_of(attacks: Sequence[Attack], dataset: str) -> nn.Module | None:
    """The published undefended network, on which transfer attacks are made; None if none of these attacks is one.

    Raises:
        ValueError: it is needed and not there, or damaged.
    """
    needed = [attack.name for attack in attacks if "surrogate" in attack.kind.needs]
    if not needed:
        return None
    if (path := published(dataset).get("none")) is None:
        missing = published_snapshots(dataset)["none"]
        raise ValueError(f"attack {needed[0]!r} is made on the published undefended network; {missing} must be there")
    return load_model(path)


def network_of(
    own: Own, dataset: str, images: Callable[[], Split], epochs: int, folder: Path, progress: str
) -> tuple[nn.Module, str]:
    """The file's network and what it is, in words; trained behind the defence if that is asked for.

    Args:
        images: gives those to train on.
        folder: where trained networks are kept; the same file, images and epochs are not trained twice.

    Raises:
        ValueError: there is no such network.
    """
    if isinstance(own.network, nn.Module):
        return own.network.eval(), f"{type(own.network).__name__} of {own.path.name}"
    if own.network == TRAIN:
        split = images()
        name = f"{own.path.stem}-{dataset}-n{len(split)}-{split.digest[:10]}-v{WEIGHTS}-{own.digest[:10]}"
        recipe, seed = default_recipe(dataset), derive(0, "training")
        with one_thread():
            trained = train(
                split, recipe, transformed(own.defence), [epochs], seed, folder / name, progress=progress, name=name
            )
            ((_, network),) = trained
        return network, f"the paper's, trained here behind the defence on {len(split):,} images, {epochs} epochs"
    there = published(dataset)
    path = there.get(own.network) or own.path.parent / own.network
    if not path.is_file():
        raise ValueError(
            f"network in {own.path} must be one of the published {', '.join(there)}, a file of weights or "
            f'"{TRAIN}"; got {own.network!r}'
        )
    what = f"published, trained with {own.network}" if own.network in there else f"weights of {path.name}"
    return load_model(path), what


@contextmanager
def blamed(own: Own) -> Iterator[None]:
    """Inside, the file's network and defence compute: what they raise becomes a ValueError of one sentence."""
    try:
        yield
    except (ValueError, OSError):
        raise
    except (Exception, SystemExit) as error:
        raise ValueError(f"{own.path}: its network or its defence failed: {_sentence(error)}") from error


def _tried(function: Callable[[], Any], what: str) -> Any:
    try:
        return function()
    except (Exception, SystemExit) as error:
        raise ValueError(f"{what} must return a network; {_sentence(error)}") from error


def _sentence(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _named(value: object) -> str:
    return "none" if value is None else type(value).__name__

"""What the benchmarks share: medians of calls that take turns, a row of a table, the networks and the images."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prlib.data import load, to_float
from prlib.fast import FastCNN
from prlib.machine import one_thread
from prlib.model import PaperCNN
from prlib.profiles import default_recipe
from prlib.train import train, transformed

Row = dict[str, Any]


def medians(*calls: Callable[[], object], turns: int) -> list[float]:
    """Median seconds of each call, after one that does not count; the calls take turns."""
    seconds: list[list[float]] = [[] for _ in calls]
    for turn in range(turns + 1):
        for call, taken in zip(calls, seconds, strict=True):
            started = time.perf_counter()
            call()
            if turn:
                taken.append(time.perf_counter() - started)
    return [statistics.median(taken) for taken in seconds]


def compare(what: str, peer: str, ours: float, theirs: float, wanted: float | str | None = None, **more: Any) -> Row:
    """A row of a table: seconds of both, and how many times as fast we are (and wanted to be)."""
    return {"what": what, "peer": peer, "ours, s": ours, "peer, s": theirs, "ratio": theirs / ours} | {
        "wanted": wanted,
        **more,
    }


@contextmanager
def threads(n: int) -> Iterator[None]:
    """n threads inside, with freed memory kept as in experiments."""
    with one_thread():
        torch.set_num_threads(n)
        yield


@cache
def trained() -> tuple[PaperCNN, FastCNN]:
    """A network trained on the embedded sample, in its two forms."""
    split = load("mnist", "train", "sample").take(1280, seed=0)
    with tempfile.TemporaryDirectory() as folder, one_thread():
        (_, fast), *_ = train(split, default_recipe("mnist"), transformed(None), [10], 0, Path(folder), progress="none")
    plain = PaperCNN().eval()
    plain.load_state_dict(fast.state_dict())
    return plain.requires_grad_(False), fast  # no peer pays for gradients of weights


def sample_images(n: int) -> tuple[Tensor, Tensor]:
    """The first n MNIST test images of the embedded sample, and the network's predictions of them."""
    images = to_float(load("mnist", "test", "sample").images[:n])
    with torch.no_grad():
        return images, trained()[0](images).argmax(1)

"""What a whole evaluation costs, how cost grows, and what two trainings at once and memory come to."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from timing import Row, medians, sample_images, threads, trained

from prlib import attacks
from prlib.cases import judge
from prlib.data import load
from prlib.experiment import Attack, Defence, Experiment, Training
from prlib.profiles import default_attack, default_defence, default_recipe
from prlib.redraw import PixelRedraw
from prlib.run import Context, run
from prlib.store import Store
from prlib.train import Recipe, train, transformed


def evaluation() -> Iterator[Row]:
    """One network under Table 3: 10,000 images for the step attacks, 1,000 for CW, cases A, B and C; from a part."""
    _, fast = trained()
    split = load("mnist", "test", "sample")
    redraw = default_defence("pr", "mnist").build()
    assert isinstance(redraw, PixelRedraw)
    total = 0.0
    for name, part, whole in (("fgsm", 500, 10_000), ("bim", 500, 10_000), ("mim", 500, 10_000), ("cw", 50, 1000)):
        attack = default_attack(name, "mnist").build()
        started = time.perf_counter()
        judge(fast, split.take(part), redraw, 0, ("A", "B", "C"), attack)
        seconds = (time.perf_counter() - started) * whole / part
        total += seconds
        yield {"what": f"{name}, cases A, B, C, {whole:,} images", "ours, s": seconds, "measured on": f"{part} images"}
    yield {"what": "all of Table 3 for a network, core minutes", "ours, min": total / 60, "wanted": "≤ 16 (8 of two)"}


def growth() -> Iterator[Row]:
    """Cost over images, epochs and draws: seconds a unit should stay the same."""
    _, fast = trained()
    images, labels = sample_images(500)
    split = load("mnist", "train", "sample").take(640, seed=0)
    redraw = PixelRedraw.fit(steps=1000)
    straight = attacks.straight_through(redraw)

    def eot(draws: int) -> None:
        generator = torch.Generator().manual_seed(0)
        options: dict[str, Any] = {"epsilon": 0.3, "step_size": 0.05, "steps": 3, "defence": straight}
        attacks.pgd(fast, images[:100], labels[:100], generator=generator, draws=draws, **options)

    for n in (125, 250, 500):
        (seconds,) = medians(partial(attacks.bim, fast, images[:n], labels[:n], epsilon=0.3), turns=3)
        yield {"what": f"BIM, {n} images", "ours, s": seconds, "ms a unit": 1e3 * seconds / n}
    for epochs in (1, 2, 4):
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            list(train(split, Recipe(), transformed(redraw), [epochs], 0, Path(folder), progress="none"))
            seconds = time.perf_counter() - started
        yield {
            "what": f"training, {epochs} × 640 images",
            "ours, s": seconds,
            "ms a unit": 1e3 * seconds / epochs / 640,
        }
    for draws in (1, 2, 4, 8):
        (seconds,) = medians(partial(eot, draws), turns=1)
        yield {"what": f"EOT-PGD, {draws} draws", "ours, s": seconds, "ms a unit": 1e3 * seconds / draws / 100}


def _rate(n_threads: int, barrier: Any, rates: Any) -> None:
    split = load("mnist", "train", "sample").take(1280, seed=0)
    with threads(n_threads), tempfile.TemporaryDirectory() as folder:
        training = train(split, Recipe(), transformed(None), [1, 6], 0, Path(folder), progress="none")
        next(training)
        barrier.wait()
        started = time.perf_counter()
        next(training)
        rates.put(5 * len(split) / (time.perf_counter() - started))


def side_by_side() -> Iterator[Row]:
    """Two trainings at once on a thread each, against one on two threads."""
    context = get_context("spawn")

    def together(*n_threads: int) -> float:
        barrier, rates = context.Barrier(len(n_threads)), context.Queue()
        processes = [context.Process(target=_rate, args=(n, barrier, rates)) for n in n_threads]
        for process in processes:
            process.start()
        total = sum(rates.get() for _ in processes)
        for process in processes:
            process.join()
        return total

    one, two, both = together(1), together(2), together(1, 1)
    yield {"what": "one training, one thread", "images/s": one, "to one on two threads": one / two}
    yield {"what": "one training, two threads", "images/s": two}
    yield {"what": "two trainings, a thread each", "images/s": both, "to one on two threads": both / two}


def memory() -> Iterator[Row]:
    """Peak memory of an experiment on full data in a process of its own."""
    command = [sys.executable, str(Path(__file__).with_name("bench.py")), "--peak"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    if done.returncode:
        yield {"what": "peak memory: not measured: " + (done.stderr.strip().splitlines() or ["killed"])[-1]}
    else:
        yield {
            "what": "CIFAR-10, all images, one epoch, BIM on 250: peak MB",
            "MB": float(done.stdout),
            "wanted": "≤ 1500",
        }


def peak() -> int:
    """What ``memory`` runs."""
    training = Training("cifar10", "full", 50_000, Defence(), default_recipe("cifar10"), 0)
    attack: Attack = default_attack("bim", "cifar10")
    with tempfile.TemporaryDirectory() as folder:
        experiment = Experiment(training, (Defence(),), (1,), 250, (attack,), ("B",))
        return int(run(experiment, Context(Store(Path(folder)), progress="none")).provenance["peak_megabytes"])

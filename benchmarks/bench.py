"""How fast prlib is, beside its peers in the same process and under the same conditions: ``make bench``.

Ours and the peers take turns, and medians are compared, so that a drift of the machine's speed cancels in the ratio;
what takes minutes (CW, the evaluation, the growth) runs once. Nothing is asserted: tables are printed, and written as
JSON for the book's chapter on cost.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

warnings.filterwarnings("ignore")  # the peers' deprecations
import foolbox  # noqa: E402
import torchattacks  # noqa: E402
from art.attacks import evasion as art_attacks  # noqa: E402
from art.estimators.classification import PyTorchClassifier  # noqa: E402

from prlib import attacks  # noqa: E402
from prlib.cases import judge  # noqa: E402
from prlib.data import load, to_float  # noqa: E402
from prlib.experiment import Attack, Defence, Experiment, Training  # noqa: E402
from prlib.fast import FastCNN  # noqa: E402
from prlib.machine import device_name, one_thread  # noqa: E402
from prlib.model import PaperCNN  # noqa: E402
from prlib.pages.tables import significant  # noqa: E402
from prlib.profiles import default_attack, default_defence, default_recipe  # noqa: E402
from prlib.redraw import PixelRedraw  # noqa: E402
from prlib.run import Context, run  # noqa: E402
from prlib.snapshot import load_model  # noqa: E402
from prlib.store import Store  # noqa: E402
from prlib.train import Recipe, train  # noqa: E402

SHAPES = ((1, 28), (1, 32), (3, 32))
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


def compare(what: str, peer: str, ours: float, theirs: float, wanted: str = "", **more: Any) -> Row:
    """A row of a table: seconds of both, and how many times as fast we are."""
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
        (_, fast), *_ = train(split, default_recipe("mnist"), None, [10], 0, Path(folder), progress="none")
    plain = PaperCNN().eval()
    plain.load_state_dict(fast.state_dict())
    return plain.requires_grad_(False), fast  # no peer pays for gradients of weights


def sample_images(n: int) -> tuple[Tensor, Tensor]:
    """The first n MNIST test images of the embedded sample, and the network's predictions of them."""
    images = to_float(load("mnist", "test", "sample").images[:n])
    with torch.no_grad():
        return images, trained()[0](images).argmax(1)


def network() -> Iterator[Row]:
    """A training step and the step of an attack, against the layers one by one and against the machine's limit."""
    a, b = torch.rand(2, 4096, 4096)
    limit = 2 * 4096**3 / medians(lambda: a @ b, turns=3)[0]
    yield {"what": "matrix product 4096³", "GFLOP/s": limit / 1e9}
    for channels, size in SHAPES:
        images, labels = torch.rand(128, channels, size, size), torch.arange(128) % 10
        nets = FastCNN(channels, size), PaperCNN(channels, size)
        optimizers = [torch.optim.Adam(net.parameters(), fused=True) for net in nets]

        def step(i: int, nets=nets, optimizers=optimizers, images=images, labels=labels) -> None:
            optimizers[i].zero_grad()
            cross_entropy(nets[i](images), labels).backward()
            optimizers[i].step()

        def gradient(i: int, nets=nets, images=images, labels=labels) -> None:
            inputs = images.clone().requires_grad_()
            cross_entropy(nets[i](inputs), labels).backward()

        wanted = {(1, 28): ("1.6", "2"), (3, 32): ("1.4", "1.8")}.get((channels, size), ("", ""))
        for name, call, least in (("training step", step, wanted[0]), ("input gradient", gradient, wanted[1])):
            for net in nets:
                net.requires_grad_(call is step)
            with FlopCounterMode(display=False) as counter:
                call(1)
            ours, theirs = medians(lambda f=call: f(0), lambda f=call: f(1), turns=9)
            flops = counter.get_total_flops()
            share = {"share of limit": flops / ours / limit, "peer's share": flops / theirs / limit}
            yield compare(f"{name}, 128×{channels}×{size}×{size}", "layer by layer", ours, theirs, least, **share)


def loop() -> Iterator[Row]:
    """An epoch of our training loop against the usual one with a DataLoader."""
    split = load("mnist", "train", "sample").take(1920, seed=0)
    dataset = TensorDataset(to_float(split.images), split.labels)

    def ours() -> None:
        with tempfile.TemporaryDirectory() as folder:
            list(train(split, Recipe(), None, [1], 0, Path(folder), progress="none"))

    def theirs() -> None:
        net = PaperCNN()
        optimizer = torch.optim.Adam(net.parameters())
        for images, labels in DataLoader(dataset, 128, shuffle=True):
            optimizer.zero_grad()
            cross_entropy(net(images), labels, label_smoothing=0.1).backward()
            optimizer.step()

    yield compare("training, 1,920 images", "DataLoader, layer by layer", *medians(ours, theirs, turns=5))


def redrawing() -> Iterator[Row]:
    """Redrawing a batch against drawing its random numbers, and against asking the perceptrons."""
    images, generator = torch.rand(128, 1, 28, 28), torch.Generator().manual_seed(0)
    redraw = PixelRedraw.fit(k=20, steps=(300, 3000), init="normal")

    def numbers() -> None:
        torch.randint(20, images.shape, generator=generator)
        torch.rand(images.shape, generator=generator)

    weight, bias, ranges = redraw.weight.numpy(), redraw.bias.numpy(), redraw.ranges.numpy()
    rng, few = np.random.default_rng(0), images.flatten()[:2000].numpy()

    def by_pixel() -> None:
        for pixel in few:
            model = rng.integers(20)
            low, high = ranges[np.argmax(pixel * weight[model] + bias[model])]
            round(rng.uniform(low, high), 2)

    def ours() -> None:
        redraw(images, generator)

    mine, random = medians(ours, numbers, turns=100)
    yield compare("redraw 128×28×28, k = 20", "its random numbers alone", mine, random, "1/3")
    pixels = images.flatten()[:, None]
    bounds = redraw.ranges.float()

    def by_lines() -> None:
        model = torch.randint(20, (len(pixels),), generator=generator)
        colour = (pixels * redraw.weight[model] + redraw.bias[model]).argmax(1)
        low, high = bounds[colour].unbind(1)
        (low + (high - low) * torch.rand(len(pixels), generator=generator)).mul_(100).round_().div_(100)

    mine, lines = medians(ours, by_lines, turns=25)
    yield compare("", "perceptrons, all pixels at once", mine, lines)
    mine, slow = medians(ours, by_pixel, turns=5)
    yield compare("", "perceptrons pixel by pixel", mine, slow * images.numel() / len(few), "20")


def steps() -> Iterator[Row]:
    """FGSM, BIM and MIM at ε = 0.3 with the released code's steps."""
    plain, fast = trained()
    images, labels = sample_images(128)
    peer = PyTorchClassifier(plain, nn.CrossEntropyLoss(), (1, 28, 28), 10, clip_values=(0, 1), device_type="cpu")
    wrapped = foolbox.PyTorchModel(plain, bounds=(0, 1), device="cpu")
    criterion = foolbox.criteria.Misclassification(labels)
    common: dict[str, Any] = {"epsilon": 0.3}
    stepped = common | {"step_size": 0.05, "steps": 10}
    fool = foolbox.attacks
    mi_fgsm = fool.LinfMomentumIterativeFastGradientMethod(momentum=1.0, abs_stepsize=0.06, steps=10)
    art = {"batch_size": 128, "verbose": False}
    table = {
        ("FGSM", attacks.fgsm): (
            common,
            torchattacks.FGSM(plain, eps=0.3),
            fool.LinfFastGradientAttack(random_start=False),
            art_attacks.FastGradientMethod(peer, eps=0.3, batch_size=128),
        ),
        ("BIM", attacks.bim): (
            stepped,
            torchattacks.BIM(plain, eps=0.3, alpha=0.05, steps=10),
            fool.LinfBasicIterativeAttack(abs_stepsize=0.05, steps=10),
            art_attacks.BasicIterativeMethod(peer, eps=0.3, eps_step=0.05, max_iter=10, **art),
        ),
        ("MIM", attacks.mim): (
            stepped | {"step_size": 0.06},
            torchattacks.MIFGSM(plain, eps=0.3, alpha=0.06, steps=10),
            mi_fgsm,
            art_attacks.MomentumIterativeMethod(peer, eps=0.3, eps_step=0.06, decay=1.0, max_iter=10, **art),
        ),
    }
    for (name, function), (options, torchattack, foolbox_attack, art_attack) in table.items():
        calls = {
            "ours": lambda f=function, o=options: f(fast, images, labels, **o),
            "torchattacks": lambda f=torchattack: f(images, labels),
            "foolbox": lambda f=foolbox_attack: f(wrapped, images, criterion, epsilons=0.3),
            "ART": lambda f=art_attack: f.generate(images.numpy(), np.eye(10)[labels]),
        }
        ours, *others = medians(*calls.values(), turns=5 if name == "FGSM" else 2)
        for peer_name, seconds in zip(list(calls)[1:], others, strict=True):
            yield compare(f"{name}, 128 images", peer_name, ours, seconds, "" if name == "FGSM" else "2")


def cw() -> Iterator[Row]:
    """CW-L2 at the paper's parameters, on a quickly trained network and a published one; how close each gets, too."""
    yield from _cw(*trained(), *sample_images(256))
    weights = next(Path("results/published/weights").glob("mnist-*-none-*/epoch-0050.safetensors"))
    fast = load_model(weights).requires_grad_(False)
    plain = PaperCNN().eval().requires_grad_(False)
    plain.load_state_dict(fast.state_dict())
    images = to_float(load("mnist", "test").images[:256])
    yield from _cw(plain, fast, images, plain(images).argmax(1), ", published network")


def _cw(plain: PaperCNN, fast: FastCNN, images: Tensor, labels: Tensor, which: str = "") -> Iterator[Row]:
    wrapped = foolbox.PyTorchModel(plain, bounds=(0, 1), device="cpu")
    reference = foolbox.attacks.L2CarliniWagnerAttack(1, 1000, 0.1, 0, 10)
    calls = [
        lambda: attacks.cw_l2(fast, images, labels)[0],
        lambda: reference(wrapped, images, foolbox.criteria.Misclassification(labels), epsilons=None)[1],
    ]
    results = []
    for call in calls:
        started = time.perf_counter()
        adversarial = call().detach()
        seconds = time.perf_counter() - started
        fooled = plain(adversarial).argmax(1) != labels
        fooled &= adversarial.flatten(1).any(1)  # foolbox returns black where it fails
        results.append((seconds, fooled, (adversarial - images).flatten(1).norm(dim=1)))
    (ours, success, distance), (theirs, their_success, their_distance) = results
    both = success & their_success
    yield compare(f"CW-L2, {len(images)} images{which}", "foolbox", ours, theirs, "5") | {
        "success": f"{success.float().mean():.1%} / {their_success.float().mean():.1%}",
        "mean L2 where both succeed": f"{distance[both].mean():.4f} / {their_distance[both].mean():.4f}",
    }


def evaluation() -> Iterator[Row]:
    """One network under Table 3: 10,000 images for the step attacks, 1,000 for CW, cases A, B and C; from a part."""
    _, fast = trained()
    split = load("mnist", "test", "sample")
    transform = default_defence("pr", "mnist").build()
    total = 0.0
    for name, part, whole in (("fgsm", 500, 10_000), ("bim", 500, 10_000), ("mim", 500, 10_000), ("cw", 50, 1000)):
        attack = default_attack(name, "mnist").build()
        started = time.perf_counter()
        judge(fast, split.take(part), transform, 0, ("A", "B", "C"), attack)
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
    for n in (125, 250, 500):
        (seconds,) = medians(lambda n=n: attacks.bim(fast, images[:n], labels[:n], epsilon=0.3), turns=3)
        yield {"what": f"BIM, {n} images", "ours, s": seconds, "ms a unit": 1e3 * seconds / n}
    for epochs in (1, 2, 4):
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            list(train(split, Recipe(), redraw, [epochs], 0, Path(folder), progress="none"))
            seconds = time.perf_counter() - started
        yield {
            "what": f"training, {epochs} × 640 images",
            "ours, s": seconds,
            "ms a unit": 1e3 * seconds / epochs / 640,
        }
    for draws in (1, 2, 4, 8):

        def eot(draws: int = draws) -> None:
            generator = torch.Generator().manual_seed(0)
            options: dict[str, Any] = {"epsilon": 0.3, "step_size": 0.05, "steps": 3, "preprocess": straight}
            attacks.pgd(fast, images[:100], labels[:100], generator=generator, draws=draws, **options)

        (seconds,) = medians(eot, turns=1)
        yield {"what": f"EOT-PGD, {draws} draws", "ours, s": seconds, "ms a unit": 1e3 * seconds / draws / 100}


def _rate(n_threads: int, barrier: Any, rates: Any) -> None:
    split = load("mnist", "train", "sample").take(1280, seed=0)
    with threads(n_threads), tempfile.TemporaryDirectory() as folder:
        training = train(split, Recipe(), None, [1, 6], 0, Path(folder), progress="none")
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
    command = [sys.executable, __file__, "--peak"]
    done = subprocess.run(command, capture_output=True, text=True)
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


TABLES = {f.__name__: f for f in (network, loop, redrawing, steps, cw, evaluation, growth, side_by_side, memory)}
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
    commit = subprocess.run(["git", "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True).stdout.strip()
    before = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
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
                options.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()

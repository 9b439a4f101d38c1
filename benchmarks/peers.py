"""Our training, redrawing and attacks beside their peers'."""

import tempfile
import time
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import Row, compare, medians, sample_images, trained
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
from prlib.data import load, to_float  # noqa: E402
from prlib.fast import FastCNN  # noqa: E402
from prlib.model import PaperCNN  # noqa: E402
from prlib.pages.story import published_network  # noqa: E402
from prlib.redraw import PixelRedraw  # noqa: E402
from prlib.train import Recipe, Trainer, train, transformed  # noqa: E402

SHAPES = ((1, 28), (1, 32), (3, 32))
WANTED = {(1, 28): (1.6, 2.0), (3, 32): (1.4, 1.8)}
"""How many times as fast a training step and an input gradient ought to be."""


def network() -> Iterator[Row]:
    """A training step and the step of an attack, against the layers one by one and against the machine's limit."""
    a, b = torch.rand(2, 4096, 4096)
    limit = 2 * 4096**3 / medians(lambda: a @ b, turns=3)[0]
    yield {"what": "matrix product 4096³", "GFLOP/s": limit / 1e9}
    for channels, size in SHAPES:
        images, labels = torch.rand(128, channels, size, size), torch.arange(128) % 10
        nets = FastCNN(channels, size), PaperCNN(channels, size)
        optimizers = [torch.optim.Adam(net.parameters(), fused=True) for net in nets]

        training = [partial(_step, *pair, images, labels) for pair in zip(nets, optimizers, strict=True)]
        gradients = [partial(_gradient, net, images, labels) for net in nets]
        wanted = WANTED.get((channels, size), (None, None))
        for name, calls, least in (("training step", training, wanted[0]), ("input gradient", gradients, wanted[1])):
            for net in nets:
                net.requires_grad_(calls is training)
            with FlopCounterMode(display=False) as counter:
                calls[1]()
            ours, theirs = medians(*calls, turns=9)
            flops = counter.get_total_flops()
            share = {"share of limit": flops / ours / limit, "peer's share": flops / theirs / limit}
            yield compare(f"{name}, 128×{channels}×{size}×{size}", "layer by layer", ours, theirs, least, **share)


def _step(net: PaperCNN, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> None:
    optimizer.zero_grad()
    cross_entropy(net(images), labels).backward()
    optimizer.step()


def _gradient(net: PaperCNN, images: Tensor, labels: Tensor) -> None:
    inputs = images.clone().requires_grad_()
    cross_entropy(net(inputs), labels).backward()


def loop() -> Iterator[Row]:
    """An epoch of our training loop against the usual one with a DataLoader."""
    split = load("mnist", "train", "sample").take(1920, seed=0)
    dataset = TensorDataset(to_float(split.images), split.labels)

    def ours() -> None:
        with tempfile.TemporaryDirectory() as folder:
            list(train(split, Recipe(), transformed(None), [1], 0, Path(folder), progress="none"))

    def theirs() -> None:
        net = PaperCNN()
        optimizer = torch.optim.Adam(net.parameters())
        for images, labels in DataLoader(dataset, 128, shuffle=True):
            optimizer.zero_grad()
            cross_entropy(net(images), labels, label_smoothing=0.1).backward()
            optimizer.step()

    mine, usual = medians(ours, theirs, turns=5)
    yield compare("training, 1,920 images", "DataLoader, layer by layer", mine, usual)


def bfloat16() -> Iterator[Row]:
    """A training step in bfloat16 against one in float32, both ours."""
    a, b = torch.rand(2, 2048, 2048)
    fewer = a.bfloat16(), b.bfloat16()
    ours, theirs = medians(lambda: fewer[0] @ fewer[1], lambda: a @ b, turns=9)
    yield compare("matrix product 2048³", "in float32", ours, theirs)
    for name in ("mnist", "cifar10-gray", "cifar10"):
        split = load(name, "train", "sample").take(130, seed=0)
        images, labels = to_float(split.images[:128]), split.labels[:128]
        recipes = (Recipe(autocast="bfloat16"), Recipe())
        trainers = [Trainer(split, recipe, transformed(None), 0, Path("nowhere"), "cpu", 1, "") for recipe in recipes]
        ours, theirs = medians(*(partial(trainer.step, images, labels) for trainer in trainers), turns=25)
        yield compare(f"training step, {'×'.join(map(str, images.shape))}", "in float32", ours, theirs, 1.3)


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
    yield compare("", "perceptrons pixel by pixel", mine, slow * images.numel() / len(few), 20.0)


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
            "ours": partial(function, fast, images, labels, **options),
            "torchattacks": partial(torchattack, images, labels),
            "foolbox": partial(foolbox_attack, wrapped, images, criterion, epsilons=0.3),
            "ART": partial(art_attack.generate, images.numpy(), np.eye(10)[labels]),
        }
        ours, *others = medians(*calls.values(), turns=5 if name == "FGSM" else 2)
        for peer_name, seconds in zip(list(calls)[1:], others, strict=True):
            yield compare(f"{name}, 128 images", peer_name, ours, seconds, None if name == "FGSM" else 2.0)


def cw() -> Iterator[Row]:
    """CW-L2 at the paper's parameters, on a quickly trained network and a published one; how close each gets, too."""
    fast = published_network("mnist", "none").requires_grad_(False)
    plain = PaperCNN().eval().requires_grad_(False)
    plain.load_state_dict(fast.state_dict())
    for n, wanted in ((60, 3.0), (256, 5.0)):  # fewer images fill no batch for long
        yield _cw(*trained(), *sample_images(n), wanted)
        images = to_float(load("mnist", "test").images[:n])
        yield _cw(plain, fast, images, plain(images).argmax(1), wanted, ", published network")


def _cw(plain: PaperCNN, fast: FastCNN, images: Tensor, labels: Tensor, wanted: float, which: str = "") -> Row:
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
    return compare(f"CW-L2, {len(images)} images{which}", "foolbox", ours, theirs, wanted) | {
        "success": f"{success.float().mean():.1%} / {their_success.float().mean():.1%}",
        "mean L2 where both succeed": f"{distance[both].mean():.4f} / {their_distance[both].mean():.4f}",
    }

"""Random input for judging and attacks, the command line and files: it is measured rightly or refused in a sentence.

    .venv/bin/python benchmarks/fuzz.py [--seed 0] [--cases 300]

Case i of a kind depends on the seed and i alone (but for the order of the entries in a header of safetensors). A case
fails if it raises anything but a ValueError or an OSError of one line, if a result is not finite or outside the
attack's ε, if what was given has changed, or if a twin of the case that only lies differently in memory gives other
bits. Nothing is downloaded; some minutes on one core.
"""

import argparse
import contextlib
import copy
import io
import math
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from prlib import attacks
from prlib.cases import CASES, judge
from prlib.command_line import main as command_line
from prlib.data import Split
from prlib.fast import FastCNN
from prlib.files import save_tensors
from prlib.redraw import PixelRedraw
from prlib.rivals import GaussianNoise
from prlib.snapshot import Snapshot, load_model

REFUSED, DONE = "refused", "done"
REDRAW = PixelRedraw.fit(k=2, steps=200)


class Draw(random.Random):
    """Random choices, in six of ten cases of nothing but fine values."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.flaws = self.choice([0, 0, 0, 0, 0, 0, 0.1, 0.1, 0.1, 0.5])

    def pick(self, fine: Sequence[Any], wrong: Sequence[Any]) -> Any:
        """One of the fine values, or now and then of the wrong ones."""
        return self.choice(wrong if self.random() < self.flaws else fine)


class Broken(Exception):  # noqa: N818, it is what a case is
    """What is wrong about a case."""


def require(holds: Any, what: str) -> None:
    """Raise ``Broken`` unless it holds."""
    if not bool(holds):
        raise Broken(what)


class Around(nn.Module):
    """A network behind a function."""

    def __init__(self, model: nn.Module, function: Callable[[nn.Module, Tensor], Any]) -> None:
        super().__init__()
        self.model, self.function = model, function

    def forward(self, images: Tensor) -> Any:
        return self.function(self.model, images)


def network(draw: Draw, shape: tuple[int, ...]) -> nn.Module:
    """A network for images of this shape; a wrong one gives something else than finite logits."""
    torch.manual_seed(draw.randrange(10**6))
    channels, height, width = shape
    start = draw.choice([nn.Identity(), nn.BatchNorm2d(channels), nn.Dropout(0.5), nn.ReLU(inplace=True)])
    layer = nn.Linear(channels * height * width, draw.pick([3, 3, 10], [1, 2]))
    dtype = draw.choice([torch.float32] * 4 + [torch.float64, torch.float16, torch.bfloat16])
    function = draw.pick(
        [
            lambda model, x: model(x),
            lambda model, x: model(x.sub_(0.5)),
            lambda model, x: model(2 * x.sqrt()),
            lambda model, x: model(x).log_softmax(1),
            lambda model, x: model(x).round(),
            lambda model, x: 100 * model(x),
            lambda model, x: model(x).T.contiguous().T,
        ],
        [
            lambda model, x: model(x) * math.nan,
            lambda model, x: model(x / 0),
            lambda model, x: (model(x), x),
            lambda model, x: model(x)[:, 0],
            lambda model, x: model(x).argmax(1),
            lambda model, x: model(x).detach().float().numpy(),
        ],
    )
    return Around(nn.Sequential(start, nn.Flatten(), layer).to(dtype), function).train(draw.random() < 0.5)


def given(draw: Draw) -> tuple[Any, Any]:
    """Images and labels."""
    generator = torch.Generator().manual_seed(draw.randrange(10**6))
    n = draw.pick([1, 2, 7, 20], [0])
    shape = draw.choice([(1, 1, 1), (1, 4, 4), (1, 4, 4), (3, 4, 4), (3, 2, 5)])
    images: Any = torch.rand(n, *shape, generator=generator)
    change = draw.pick([Tensor.clone, torch.round], [lambda x: x * 1.5, lambda x: x * math.nan, lambda x: x - 1])
    images = change(images).to(draw.choice([torch.float32] * 6 + [torch.float64, torch.float16, torch.bfloat16]))
    images = draw.pick([images], [images.double().numpy(), images[:, 0], (255 * images).byte(), images.tolist()])
    labels: Any = torch.randint(draw.pick([1, 3, 3], [11]), (n,), generator=generator)
    wrong = [labels.int(), labels.float(), labels[:, None], labels - 1, labels.numpy(), labels.tolist(), labels[1:]]
    return images, draw.pick([labels], wrong)


def attack_of(draw: Draw) -> tuple[Callable[..., Any], float]:
    """An attack with its options, as a function of model, images and labels, and its ε."""

    def option(*fine: Any) -> Any:
        return draw.pick(fine, [-1, 0, 2.5, math.nan, math.inf, "1", None, True, 10**400, torch.tensor(0.1)])

    epsilon = option(0.0, 0.03, 0.3, 1, np.float32(0.1))
    seed = draw.randrange(100)
    defence = draw.choice([None, REDRAW, GaussianNoise(0.1), lambda x, generator: x.mul_(0.5)])
    step, steps, draws = option(0.01, 0.5), option(1, 3, np.int64(2)), option(1, 2)
    size, norm, decay, const = option(1, 3, 128), option("sign", "l2"), option(0.0, 1.0), option(0.1, 10.0)
    ball: dict[str, Any] = {"epsilon": epsilon, "batch_size": size}
    stepping = {**ball, "steps": steps, "step_size": step}
    known: dict[str, dict[str, Any]] = {
        "fgsm": ball,
        "bim": stepping,
        "mim": {**stepping, "norm": norm, "decay": decay},
        "cw_l2": {"max_steps": steps, "initial_const": const, "batch_size": size},
        "pgd": {**stepping, "restarts": draws},
        "eot_pgd": {**stepping, "draws": draws, "defence": defence},
        "crossing": {**ball, "steps": steps, "draws": draws, "defence": REDRAW},
        "square": {"epsilon": epsilon, "queries": steps, "draws": draws, "defence": defence},
        "auto": {**ball, "steps": steps, "draws": draws, "defence": defence},
    }
    name = draw.choice(sorted(known))

    def attack(*arguments: Any) -> Any:
        chance = {} if name in ("fgsm", "bim", "mim", "cw_l2") else {"generator": torch.Generator().manual_seed(seed)}
        found = getattr(attacks, name)(*arguments, **known[name], **chance)
        return found[0] if name == "cw_l2" else found

    return attack, 1.0 if name == "cw_l2" else epsilon


def attacked(draw: Draw) -> str:
    """An attack by itself; a twin attacks the same images in another layout, with gradients off."""
    images, labels = given(draw)
    shape = tuple(images.shape[1:]) if isinstance(images, Tensor) and images.ndim == 4 else (1, 4, 4)
    state = draw.getstate()
    runs = []
    for twin in (False, True):
        draw.setstate(state)
        model = network(draw, shape)
        attack, epsilon = attack_of(draw)
        before = copy.deepcopy((images, labels, model.state_dict(), [m.training for m in model.modules()]))
        strided = twin and isinstance(images, Tensor) and images.ndim == 4
        with torch.set_grad_enabled(not twin), torch.inference_mode(twin):
            passed = images.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2) if strided else images
            found = attack(model, passed, labels)
        after = images, labels, model.state_dict(), [m.training for m in model.modules()]
        require(same(before, after), "what was given has changed")
        require(found.shape == images.shape and found.dtype == images.dtype, "another shape or type")
        require(found.isfinite().all() and found.min() >= 0 and found.max() <= 1, "not in [0, 1]")
        room = 1e-6 + 2 * torch.finfo(images.dtype).eps
        require((found - images).abs().max() <= epsilon + room, f"further than ε = {epsilon}")
        runs.append(found)
    require(torch.equal(*runs), "the twin differs")
    return DONE


def judged(draw: Draw) -> str:
    """A judgement; the twin's defence and attack work out of place."""
    fine: list[tuple[Callable[..., Any], ...]] = [
        (lambda x: x.mul_(0.5), lambda x: x * 0.5),
        (lambda x: x.clamp_(0.2, 0.8), lambda x: x.clamp(0.2, 0.8)),
        (lambda x: x.round_().requires_grad_(), lambda x: x.round()),
    ]
    wrong = [(step, step) for step in (Tensor.double, lambda x: x[:, :, 1:], lambda x: None, lambda x: x + 1)]
    state, runs = draw.getstate(), []
    for twin in (0, 1):
        draw.setstate(state)
        images, labels = given(draw)
        content = (255 * images).byte() if isinstance(images, Tensor) and draw.random() < 0.95 else images
        split = Split.of(content, labels, "own", "test")
        model, step = network(draw, tuple(content.shape[1:])), draw.pick(fine, wrong)[twin]
        defence = draw.choice([None, REDRAW, lambda x, generator, step=step: step(x)])
        attack = attack_of(draw)[0]

        def in_place(model: nn.Module, images: Tensor, labels: Tensor, attack: Any = attack) -> Tensor:
            return images.copy_(attack(model, images.clone(), labels))

        cases = draw.sample(sorted(CASES), draw.randint(1, 4))
        found = judge(model, split, defence, draw.choice([0, 7, 2**40]), cases, attack if twin else in_place)
        for outcome in found.values():
            require(outcome.correct.dtype == torch.bool and outcome.correct.shape == labels.shape, "wrong shape")
            tensors = [value for value in vars(outcome).values() if value is not None]
            require(all(value.float().isfinite().all() for value in tensors), "not finite")
        runs.append({case: vars(outcome) for case, outcome in found.items()})
    require(same(*runs), "the twin differs")
    return DONE


def same(first: Any, second: Any) -> bool:
    """Whether two structures hold the same bits."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, tuple | list):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, Tensor):
        return first.dtype == second.dtype and torch.equal(first.nan_to_num(-9), second.nan_to_num(-9))
    return bool(np.array_equal(first, second)) if isinstance(first, np.ndarray) else bool(first == second)


COMMANDS = ["run", "list", "show", "verify", "pack", "merge"]
OPTIONS = (
    "--profile --datasets --seeds --epochs --n-train --n-test --epsilon --data --jobs --progress --minutes --device"
)
OPTIONS += " --recompute --tf32 --images --least --names --json --out --megabytes --help"
VALUES = "sample published tenth mnist cifar10 mnits 0 1 -1 5 2.5 1e9 nan inf 1e400 none bar cuda cpu ~ /dev/null / é '"


def commanded(draw: Draw) -> str:
    """A command line; those that would compute are given what no run accepts."""
    words = [draw.choice(COMMANDS)]
    for _ in range(draw.randint(0, 4)):
        words += [draw.choice(OPTIONS.split()), *draw.choices(VALUES.split(), k=draw.choice([0, 1, 1, 2]))]
    words += ["--n-test", "0"] if words[0] in ("run", "verify") else []
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        elsewhere = mock.patch.dict(os.environ, PRLIB_RESULTS=folder)
        with elsewhere, contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            try:
                status = command_line(words)
            except SystemExit as end:  # argparse's own
                return REFUSED if end.code else DONE
    require(status in (0, 1, 2), f"exit status {status} of {words}")
    require(status == 0 or said.getvalue().count("\n") >= 1, f"nothing said about {words}")
    return REFUSED if status else DONE


def damaged(draw: Draw) -> str:
    """A snapshot with some bytes changed, cut, added or swapped: a whole and finite network, or refused by name."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "epoch-0001.safetensors"
        save_tensors(FastCNN().state_dict(), path, Snapshot(path, "mnist", "sample", 1.0, "x", 1).metadata)
        content = bytearray(path.read_bytes())
        header = int.from_bytes(content[:8], "little") + 8
        at = draw.randrange(draw.choice([8, header, len(content)]))
        kind = draw.choice(["flip", "cut", "insert", "zero", "swap"])
        if kind == "flip":
            content[at] ^= 1 << draw.randrange(8)
        elif kind == "cut":
            del content[at : at + draw.choice([1, 8, 10**7])]
        elif kind == "insert":
            content[at:at] = draw.randbytes(draw.choice([1, 8, 1000]))
        elif kind == "zero":
            content[at : at + 100] = bytes(len(content[at : at + 100]))
        else:
            content[at:] = content[at:][::-1]
        path.write_bytes(content)
        try:
            model = load_model(path)
        except ValueError as error:
            require(str(path) in str(error), "the file is not named")
            raise
        require(all(parameter.isfinite().all() for parameter in model.parameters()), "not finite")
        return DONE


KINDS: dict[str, Callable[[Draw], str]] = {
    "attacks": attacked,
    "judge": judged,
    "command line": commanded,
    "snapshots": damaged,
}


def fuzz(seed: int, cases: int) -> int:
    """Try so many cases of each kind, and say what came of them; returns how many failed."""
    failures = 0
    for kind, attempt in KINDS.items():
        found: Counter[str] = Counter()
        for i in range(cases):
            try:
                found[attempt(Draw(f"{seed} {kind} {i}"))] += 1
            except (ValueError, OSError) as error:
                long = len(str(error).splitlines()) != 1
                found["said in more than a line" if long else REFUSED] += 1
                if long:
                    print(f"{kind} {i}: {error}")
            except Exception as error:
                found["failed"] += 1
                print(f"{kind} {i}: {type(error).__name__}: {error}")
        failures += sum(found.values()) - found[REFUSED] - found[DONE]
        print(f"{kind}, seed {seed}: {', '.join(f'{n} {what}' for what, n in sorted(found.items()))}", flush=True)
    return failures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=300, help="of each kind (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sys.exit(min(1, fuzz(options.seed, options.cases)))

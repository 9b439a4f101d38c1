"""Attacking a defence of one's own as the book's are: what is tried, how long it takes, what is left."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from prlib.attacks.base import defended, loss_gradient
from prlib.attacks.known import Known
from prlib.attacks.pgd import straight_through
from prlib.cases import Batch, all_batches, answered
from prlib.data import Split, to_float
from prlib.estimate import JUDGING, attack_cost
from prlib.experiment import Attack
from prlib.guard import guard, unchanged
from prlib.judging import judge_batch
from prlib.machine import one_thread
from prlib.profiles import default_attack
from prlib.profiles.protocol import read_protocol
from prlib.redraw import PixelRedraw, Quantised
from prlib.statistics import Estimate, wilson
from prlib.train import progress_bar

DRAWS = 50
"""How often a random defence answers each attacked image."""


@dataclass(frozen=True)
class Row:
    """What is left under an attack ("" for none): how often each image was classified correctly, float N in [0, 1]."""

    attack: str
    right: np.ndarray

    @property
    def accuracy(self) -> Estimate:
        """The mean, with Wilson's interval over images."""
        return wilson(float(self.right.sum()), len(self.right))


def suite(known: Known, dataset: str, epsilon: float | None = None, names: Sequence[str] = ()) -> list[Attack]:
    """The suite "adaptive" of the protocol for such a defence, or attacks by these names.

    Raises:
        ValueError: a name that is none of an attack for case "adaptive", or that needs what the defence has not got.
    """
    suites = read_protocol()["adaptive"]
    kind = "random" if known.random else "fixed"
    crossed = suites["staircase"] if known.staircase else []
    chosen = names or suites[kind] + crossed + (suites[f"differentiable {kind}"] if known.differentiable else [])
    kinds = {name: default_attack(name, dataset).kind for name in read_protocol()["attacks"]}
    allowed = [n for n, k in kinds.items() if k.adaptive and k.bounded and not {"surrogate", "defence"} <= k.needs]
    for name in chosen:
        if name not in allowed:
            raise ValueError(f"attacks must be among {', '.join(allowed)}; got {name!r}")
    attacks = [default_attack(name, dataset, epsilon) for name in dict.fromkeys(chosen)]
    for attack in attacks:
        attack.kind.check_installed()
        if attack.kind.crosses and known.staircase is None:
            raise ValueError(f"attack {attack.name!r} needs a defence that sorts pixels into cells; this one does not")
        if dict(attack.options).get("smooth") and not isinstance(known.transform, PixelRedraw | Quantised):
            raise ValueError(f"attack {attack.name!r} needs a redraw; the defence is none")
        if dict(attack.options).get("own_gradient") and not known.differentiable:
            raise ValueError(f"attack {attack.name!r} needs a defence with a gradient; this one has none of use")
    return attacks


def estimate(network: nn.Module, known: Known, split: Split, attacks: Sequence[Attack]) -> float:
    """Seconds that it will take here on one core, from a gradient timed behind the defence."""
    images, labels = to_float(split.images[:64]), split.labels[:64]
    seconds = []
    with guard(network, labels) as model, one_thread():
        behind = defended(model, straight_through(known), torch.Generator().manual_seed(0))
        for _ in range(3):
            started = time.perf_counter()
            loss_gradient(behind, images, labels)
            seconds.append((time.perf_counter() - started) / len(images))
    answers = (2 * len(attacks) + 2) * (DRAWS if known.random else 1) * known.votes
    return min(seconds) * (attack_cost(attacks) + JUDGING * answers) * len(split)


def measure(
    network: nn.Module,
    known: Known,
    split: Split,
    attacks: Sequence[Attack],
    surrogate: nn.Module | None,
    seed: int = 0,
    progress: str = "none",
) -> list[Row]:
    """What is left without an attack, under each, and under the strongest for each image.

    The strongest is chosen on draws of its own, and every answer is to fresh ones.
    """
    built = {(a.name, a.epsilon): a.build(surrogate) for a in attacks}
    batches, found = all_batches(split), dict[str, list[Tensor]]()
    with one_thread(), progress_bar(progress, total=len(batches) * len(attacks), unit="attack") as bar:
        for number in batches:
            batch = Batch.of(split, number, seed, "cpu")
            with unchanged(network):
                found.setdefault("", []).append(answered(network, batch, batch.images, known, DRAWS))
                judged = judge_batch(network, batch, known, ("adaptive",), built, bar, "", DRAWS)
            for ((name, _), _), outcome in judged.items():
                assert outcome.often is not None  # of several draws
                found.setdefault(name, []).append(outcome.often)
    return [Row(name, torch.cat(parts).numpy() / DRAWS) for name, parts in found.items()]

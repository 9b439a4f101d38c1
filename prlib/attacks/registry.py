"""The kinds of attack that experiments can name, each with all that the rest of the library must know of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from inspect import Parameter, signature
from typing import Any, NamedTuple

from torch import Tensor

from prlib.attacks.auto import APGD_LOSSES, auto
from prlib.attacks.base import torchattacks
from prlib.attacks.black_box import foolbox, hop_skip_jump, square
from prlib.attacks.carlini_wagner import cw_images, cw_released, cw_through
from prlib.attacks.choice import CHOOSING_DRAWS
from prlib.attacks.crossing import crossing
from prlib.attacks.pgd import eot_pgd, pgd, transfer, transfer_through
from prlib.attacks.search import search
from prlib.attacks.signs import bim, fgsm, mim

GIVEN = ("defence", "generator", "surrogate")
"""Arguments that are no options of an experiment but other parts of it."""


class Cost(NamedTuple):
    """What an attack computes for an image: gradients of the network, and predictions without."""

    gradients: float
    predictions: float = 0


@dataclass(frozen=True)
class Kind:
    """A kind of attack.

    Args:
        title: what tables call it.
        function: of a model, images, labels and options, to adversarial images.
        computes: its ``Cost`` as a function of the options, which it takes by their names.
        needs: what else it must be given, of "defence" (what is in front of the model), "generator" and "surrogate"
            (another network, on which it is made). Only the case "adaptive" gives these.
        follows_gradient: whether it sees the gradient of the network that it attacks, or is a black-box attack.
        bounded: whether it stays within an ε.
        passes_on: the function that takes the options which ``function`` does not name.
        crosses: whether it needs a defence that is a staircase (``prlib.attacks.known.staircase_of``).
        library: imports the library that it is taken from, or says that it is missing; None if it is our own.
    """

    title: str
    function: Callable[..., Tensor]
    computes: Callable[..., Cost]
    needs: frozenset[str] = frozenset()
    follows_gradient: bool = True
    bounded: bool = True
    passes_on: Callable[..., Tensor] | None = None
    crosses: bool = False
    library: Callable[[], object] | None = None

    @property
    def adaptive(self) -> bool:
        """Whether it is made for what it is given, and judged in the case "adaptive" alone."""
        return bool(self.needs)

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """The options that there are, each with its default, or ``inspect.Parameter.empty`` if it must be given."""
        functions = [self.function] if self.passes_on is None else [self.passes_on, self.function]
        parameters = [p for function in functions for p in signature(function).parameters.values()]
        return {p.name: p.default for p in parameters if p.kind == Parameter.KEYWORD_ONLY and p.name not in GIVEN}

    def cost(self, options: Mapping[str, Any]) -> Cost:
        """What it computes for an image with these options."""
        return self.computes(**self.defaults | dict(options))

    def check_installed(self) -> None:
        """Raise a ModuleNotFoundError, which says what to do, if the library that it is taken from is missing."""
        if self.library is not None:
            self.library()


def _climbed(
    steps: int,
    draws: int = 1,
    restarts: int = 1,
    targets: int = 0,
    late_draws: int = 0,
    every_step: bool = False,
    **_: Any,
) -> Cost:
    late, ends = steps // 4 if late_draws else 0, restarts * max(1, targets)
    gradients = ((steps - late) * draws + late * late_draws) * ends
    judged = ends * (steps if every_step else 1)  # what has the smallest margin is kept
    return Cost(gradients, max(draws, late_draws) * (judged + (targets > 0)))


def _crossed(steps: int, draws: int, restarts: int, targets: int, **_: Any) -> Cost:
    ends = restarts * max(1, targets)
    return Cost(steps * draws * ends, (steps + (ends > 1)) * draws * ends)  # each step is tried before it is taken


def _searched(steps: int, draws: int, rounds: int, moves: int, width: int, **_: Any) -> Cost:
    return Cost((steps + rounds * width) * draws, (steps + rounds * width * 2 * moves) * draws)


_DEFENCE = frozenset({"defence", "generator"})

KINDS: dict[str, Kind] = {
    "fgsm": Kind("FGSM", fgsm, lambda **_: Cost(1)),
    "bim": Kind("BIM", bim, lambda steps, **_: Cost(steps)),
    "mim": Kind("MIM", mim, lambda steps, **_: Cost(steps)),
    "cw_l2": Kind(
        "CW",
        cw_images,
        # images leave when they are done, on average about half-way
        lambda max_steps, binary_search_steps, **_: Cost(binary_search_steps * max_steps / 2),
        bounded=False,
    ),
    "cw_released": Kind("CW as released", cw_released, lambda max_steps, **_: Cost(max_steps), bounded=False),
    "eot_pgd": Kind("EOT-PGD", eot_pgd, _climbed, _DEFENCE, passes_on=pgd),
    "crossing": Kind("threshold crossing", crossing, _crossed, _DEFENCE, crosses=True),
    "square": Kind(
        "Square",
        square,
        lambda queries, draws, **_: Cost(0, queries * draws),
        _DEFENCE,
        follows_gradient=False,
        library=torchattacks,
    ),
    "search": Kind("search over cells", search, _searched, _DEFENCE, crosses=True),
    "hop_skip_jump": Kind(
        "HopSkipJump on the majority",
        hop_skip_jump,
        # a step asks for a direction, then tries about ten lengths of it
        lambda steps, votes, evaluations, **_: Cost(
            0, votes * sum(evaluations * (step + 1) ** 0.5 + 10 for step in range(steps))
        ),
        _DEFENCE,
        follows_gradient=False,
        library=foolbox,
    ),
    "cw_through": Kind(
        "CW through the defence",
        cw_through,
        lambda max_steps, binary_search_steps, draws, **_: Cost(draws * binary_search_steps * max_steps / 2),
        _DEFENCE,
        bounded=False,
        passes_on=cw_images,
    ),
    "auto": Kind(
        "AutoAttack, random version",
        auto,
        lambda steps, draws, **_: Cost(len(APGD_LOSSES) * steps * draws, len(APGD_LOSSES) * CHOOSING_DRAWS),
        _DEFENCE,
        library=torchattacks,
    ),
    "transfer": Kind(
        "PGD on the undefended network, shown to this one",
        transfer,
        _climbed,
        frozenset({"surrogate", "generator"}),
        follows_gradient=False,
        passes_on=pgd,
    ),
    "transfer_through": Kind(
        "PGD on another such network behind the defence",
        transfer_through,
        _climbed,
        frozenset({"surrogate", "defence", "generator"}),
        follows_gradient=False,
        passes_on=pgd,
    ),
}
"""The kinds of attack by what the option "function" calls them.

:meta hide-value:
"""

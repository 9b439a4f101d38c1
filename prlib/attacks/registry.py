"""The attacks that experiments can name."""

from collections.abc import Callable

from torch import Tensor

from prlib import attacks

ATTACKS: dict[str, Callable[..., Tensor | tuple[Tensor, Tensor]]] = {
    "fgsm": attacks.fgsm,
    "bim": attacks.bim,
    "mim": attacks.mim,
    "cw_l2": attacks.cw_l2,
    "eot_pgd": attacks.eot_pgd,
    "crossing": attacks.crossing,
    "square": attacks.square,
    "auto": attacks.auto,
    "transfer": attacks.transfer,
}
"""The attacks that experiments can name.

:meta hide-value:
"""

ADAPTIVE = {"eot_pgd", "crossing", "square", "auto", "transfer"}

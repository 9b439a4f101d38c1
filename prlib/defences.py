"""The registry of defences: how each kind is made. A new defence is an entry here."""

from collections.abc import Callable

from prlib.attacks import Adversary
from prlib.data import Transform
from prlib.redraw import GaussianNoise, PixelRedraw, Quantised, RandomInversion
from prlib.train import Preparation

BUILDERS: dict[str, Callable[..., Transform | None]] = {
    "none": lambda: None,
    "pr": PixelRedraw.fit,
    "noise": GaussianNoise,
    "quantised": lambda **options: Quantised(PixelRedraw.fit(**options)),
    "inverted": lambda **options: RandomInversion(PixelRedraw.fit(**options)),
}
"""How each kind of preprocessor is made from its options; a name is a kind, or a kind and a variant, as in "pr-multi".

:meta hide-value:
"""

ADVERSARIES: dict[str, Callable[..., Preparation]] = {"adversarial": Adversary}
"""How each kind of adversary, which a network is trained against, is made from its options.

:meta hide-value:
"""

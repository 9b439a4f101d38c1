"""The registry of defences: how each kind is made. A new defence is an entry here."""

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator

from prlib.attacks import Adversary, RedrawnAdversary
from prlib.data import Transform
from prlib.redraw import PixelRedraw, Quantised, RandomInversion, check_sizes
from prlib.rivals import JPEG, BitDepth, GaussianNoise, Voted, smoothed
from prlib.train import Preparation

_FIT = inspect.signature(PixelRedraw.fit)


def _around(kind: Callable[..., Transform]) -> Callable[..., Transform]:
    """What makes a defence around the redraw, with the redraw's options and what else the kind takes."""
    _, *own = inspect.signature(kind).parameters.values()

    def build(**options: Any) -> Transform:
        others = {parameter.name: options.pop(parameter.name) for parameter in own}
        return kind(PixelRedraw.fit(**options), **others)

    build.__signature__ = _FIT.replace(parameters=[*_FIT.parameters.values(), *own])  # type: ignore[attr-defined]
    return build


BUILDERS: dict[str, Callable[..., Transform | None]] = {
    "none": lambda: None,
    "pr": PixelRedraw.fit,
    "noise": GaussianNoise,
    "quantised": _around(Quantised),
    "inverted": _around(RandomInversion),
    "majority": _around(Voted),
    "smoothed": smoothed,
    "bits": BitDepth,
    "jpeg": JPEG,
}
"""How each kind of preprocessor is made from its options; a name is a kind, or a kind and a variant, as in "pr-multi".

A ``seed`` among the options is the training's.

:meta hide-value:
"""

ADVERSARIES: dict[str, Callable[..., Preparation]] = {"adversarial": Adversary, "redrawn": RedrawnAdversary}
"""How each kind of adversary, which a network is trained against, is made from its options.

:meta hide-value:
"""


def frozen(options: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Options of a defence as (name, value) pairs in the order of their names, lists as tuples."""

    def freeze(value: Any) -> Any:
        return tuple(map(freeze, value)) if isinstance(value, list | tuple) else value

    return tuple((name, freeze(options[name])) for name in sorted(options))


Options = Annotated[tuple[tuple[str, Any], ...], BeforeValidator(frozen)]
"""Options as ``frozen`` makes them, which is also how they are read from JSON.

:meta hide-value:
"""


def check_options(kind: str, options: Mapping[str, Any]) -> None:
    """Raise a TypeError or a ValueError unless what makes the kind takes these options, or some more; fits nothing."""
    maker: Callable[..., Any] = (BUILDERS | ADVERSARIES)[kind]
    signature = inspect.signature(maker)
    signature.bind_partial(**options)
    if _FIT.parameters.keys() <= signature.parameters.keys():
        check_sizes(1, options.get("steps", 1), 0)
        options = {**options, "steps": 1}
    if {p.name for p in signature.parameters.values() if p.default is p.empty} <= options.keys():
        maker(**options)

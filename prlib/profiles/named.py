"""The attacks that profiles name: a kind of attack with options, and what tables and checks must know of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prlib.attacks.registry import KINDS, Kind
from prlib.profiles.protocol import read_protocol


@dataclass(frozen=True)
class Named:
    """An entry of the protocol's attacks.

    Args:
        options: as ``prlib.experiment.Attack`` has them, without ε; ``step_share`` is the step size as a share of it.
        title: what tables call it.
        more_of, less_of: the attack that is the same with less, or with more, of something.
        baseline: whether no black-box attack should be stronger.
    """

    options: Mapping[str, Any]
    title: str
    more_of: str = ""
    less_of: str = ""
    baseline: bool = False

    @property
    def kind(self) -> Kind:
        """What the registry says of it."""
        return KINDS[self.options["function"]]


def read_attacks() -> dict[str, Named]:
    """The attacks of the default protocol; one without a title has its kind's."""
    entries = read_protocol()["attacks"]
    return {name: Named(**{"title": KINDS[e["options"]["function"]].title, **e}) for name, e in entries.items()}


NAMED = read_attacks()
"""The attacks of the default protocol.

:meta hide-value:
"""

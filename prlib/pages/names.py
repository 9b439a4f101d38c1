"""What pages call things."""

from prlib import paper
from prlib.cases import ANY
from prlib.profiles.named import NAMED
from prlib.profiles.protocol import read_protocol

PHASE_TITLES = {"none": "nowhere", "train": "in training only", "test": "at test time only", "both": "in both phases"}
"""Where a defence is used in each of Table 2's columns."""

DEFENCE_TITLES: dict[str, str] = read_protocol()["titles"]
"""What tables and figures call each defence.

:meta hide-value:
"""

WORDS = ("yes", "partly", "mixed", "open", "partly not", "no", "not testable")
"""What a verdict can say."""

ATTACK_TITLES = {name: attack.title for name, attack in NAMED.items()} | {
    "strongest": "**strongest for each image**",
    ANY: "any attack (certified)",
}
"""What tables call each attack."""


def defence_title(name: str) -> str:
    """What tables call a defence."""
    return DEFENCE_TITLES.get(name, name)


def attack_title(name: str, epsilon: float | None = None) -> str:
    """What tables call an attack, at another ε than the paper's if one is given."""
    return ATTACK_TITLES.get(name, name) + (f", ε = {epsilon:g}" if epsilon else "")


ATTACKS = [name for name in dict.fromkeys(paper.tables().attack) if name]
"""The paper's attacks, in the order of its tables."""

LABELS = {
    "none": "undefended",
    "train": "redrawn in training only",
    "test": "redrawn at test time only",
    "both": "redrawn in both phases",
}
"""What each of Table 2's columns is called in a figure."""

NOISE_LABELS = {phase: label.replace("redrawn", "noise") for phase, label in LABELS.items()}
"""The same for Table 5."""

"""What pages call things."""

from prlib import paper
from prlib.profiles.named import NAMED

PHASE_TITLES = {"none": "nowhere", "train": "training", "test": "testing", "both": "both"}
"""Where the image is redrawn in each of Table 2's columns."""

WORDS = ("yes", "partly", "mixed", "open", "partly not", "no", "not testable")
"""What a verdict can say."""

ATTACK_TITLES = {name: attack.title for name, attack in NAMED.items()} | {"strongest": "**the strongest, per image**"}
"""What tables call each attack."""


def attack_title(name: str, epsilon: float | None = None) -> str:
    """What tables call an attack, at another ε than the paper's if one is given."""
    return ATTACK_TITLES.get(name, name) + (f", ε = {epsilon:g}" if epsilon else "")


ATTACKS = [name for name in dict.fromkeys(paper.tables().attack) if name]
"""The paper's attacks, in the order of its tables."""

LABELS = {
    "none": "no redrawing",
    "train": "redrawn in training",
    "test": "redrawn at test time",
    "both": "redrawn in both",
}
"""What each of Table 2's columns is called in a figure."""

NOISE_LABELS = {
    phase: label.replace("redrawing", "noise").replace("redrawn", "noise") for phase, label in LABELS.items()
}
"""The same for Table 5."""
"""Table 2's columns in a figure's legend."""

"""What pages call things."""

import re

PHASE_TITLES = {"none": "nowhere", "train": "training", "test": "testing", "both": "both"}
"""Where the image is redrawn in each of Table 2's columns."""

WORDS = ("yes", "partly", "no", "open", "not testable")
"""What a verdict can say."""

ATTACK_TITLES = {"fgsm": "FGSM", "bim": "BIM", "mim": "MIM", "cw": "CW"} | {
    "pgd": "PGD-40, 5 starts",
    "pgd-margin": "PGD-40 on the margin",
    "pgd-leap": "PGD-40 on the margin, steps of ε/2",
    "eot-pgd": "EOT-PGD",
    "eot-pgd-margin": "EOT-PGD on the margin",
    "eot-pgd-leap": "EOT-PGD on the margin, steps of ε/2",
    "mean-pgd": "PGD through the smooth mean",
    "crossing": "threshold crossing",
    "crossing-margin": "threshold crossing on the margin",
    "transfer": "PGD-40 on the undefended network, shown to this one",
    "square": "Square, 1,000 queries",
    "auto": "AutoAttack, random version",
    "strongest": "**the strongest, per image**",
}
"""What tables call each attack; ``attack_title`` knows their variants, too."""


def attack_title(name: str, epsilon: float | None = None) -> str:
    """What tables call an attack; a variant such as "eot-pgd-30-draws", or another ε, is called by what differs."""
    if epsilon:
        return f"{attack_title(name)}, ε = {epsilon:g}"
    if varied := re.fullmatch(r"(.+)-(\d+)-(\w+)", name):
        return f"{attack_title(varied[1])}, {varied[2]} {varied[3]}"
    return ATTACK_TITLES.get(name, name)


ATTACKS = ["fgsm", "bim", "mim", "cw"]
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

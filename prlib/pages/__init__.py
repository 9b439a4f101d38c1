"""What a chapter calls: its parameters and records, and the tables and sentences computed from them."""

from prlib.pages.claims import answer, convergence, rivals, scoreboard, summary, suspicions, verdicts
from prlib.pages.commands import rerun_command
from prlib.pages.comparisons import (
    ablated,
    accuracies,
    distances,
    effects,
    explained,
    glance,
    long_training,
    other_epsilon,
    paper_and_ours,
)
from prlib.pages.facts import benchmark, costs, datasets_table, network_table, provenance, recipe_table, source
from prlib.pages.names import ATTACK_TITLES
from prlib.pages.prose import tell
from prlib.pages.records import committed, obtain, start, variants
from prlib.pages.tables import Table, badge, note

__all__ = [
    "ATTACK_TITLES",
    "Table",
    "ablated",
    "accuracies",
    "answer",
    "badge",
    "benchmark",
    "committed",
    "convergence",
    "costs",
    "datasets_table",
    "distances",
    "effects",
    "explained",
    "glance",
    "long_training",
    "network_table",
    "note",
    "obtain",
    "other_epsilon",
    "paper_and_ours",
    "provenance",
    "recipe_table",
    "rerun_command",
    "rivals",
    "scoreboard",
    "source",
    "start",
    "summary",
    "suspicions",
    "tell",
    "variants",
    "verdicts",
]

"""What a chapter calls: its parameters and records, and the tables and sentences computed from them."""

from prlib.findings.conclusions import above, below, falls_more, level, same
from prlib.pages.attacks import (
    VARIANT_TITLES,
    attack_settings,
    attack_variants,
    cases,
    distances_by_case,
    labels_given,
    longer,
)
from prlib.pages.claims import answer, every_comparison, scoreboard, set_when, summary, suspicions, verdicts
from prlib.pages.commands import rerun_command
from prlib.pages.comparisons import (
    accuracies,
    distances,
    first_and_rest,
    glance,
    long_training,
    noise_distances,
    paper_and_ours,
    training_accuracy,
)
from prlib.pages.deviations import ablated, choices, effects, explained
from prlib.pages.facts import benchmark, costs, datasets_table, network_table, provenance, recipe_table, source
from prlib.pages.here import Here, just_now, reproduced
from prlib.pages.names import ATTACK_TITLES, ATTACKS, NOISE_LABELS
from prlib.pages.prose import tell
from prlib.pages.records import PUBLISHED, REFERENCE, committed, obtain, start, variants
from prlib.pages.robustness import (
    convergence,
    exposure_of_many,
    guarantees,
    rivals,
    sanity_counts,
    sanity_evidence,
)
from prlib.pages.tables import Table, badge, note

__all__ = [
    "ATTACKS",
    "ATTACK_TITLES",
    "NOISE_LABELS",
    "PUBLISHED",
    "REFERENCE",
    "VARIANT_TITLES",
    "Here",
    "Table",
    "ablated",
    "above",
    "accuracies",
    "answer",
    "attack_settings",
    "attack_variants",
    "badge",
    "below",
    "benchmark",
    "cases",
    "choices",
    "committed",
    "convergence",
    "costs",
    "datasets_table",
    "distances",
    "distances_by_case",
    "effects",
    "every_comparison",
    "explained",
    "exposure_of_many",
    "falls_more",
    "first_and_rest",
    "glance",
    "guarantees",
    "just_now",
    "labels_given",
    "level",
    "long_training",
    "longer",
    "network_table",
    "noise_distances",
    "note",
    "obtain",
    "paper_and_ours",
    "provenance",
    "recipe_table",
    "reproduced",
    "rerun_command",
    "rivals",
    "same",
    "sanity_counts",
    "sanity_evidence",
    "scoreboard",
    "set_when",
    "source",
    "start",
    "summary",
    "suspicions",
    "tell",
    "training_accuracy",
    "variants",
    "verdicts",
]

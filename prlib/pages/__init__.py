"""What a chapter calls: its parameters and records, and the tables and sentences computed from them."""

from prlib import collector

with collector.paused(freeze=True):
    from prlib.findings.conclusions import above, below, falls_more, falls_undecided, level, same
    from prlib.pages.attacks import (
        VARIANT_TITLES,
        attack_settings,
        attack_variants,
        cases,
        distances_by_case,
        labels_given,
        longer,
    )
    from prlib.pages.claims import (
        answer,
        both_verdicts,
        claims_in_short,
        every_comparison,
        scoreboard,
        set_when,
        suspicions,
        verdicts,
    )
    from prlib.pages.commands import rerun_command
    from prlib.pages.comparisons import (
        accuracies,
        by_dataset,
        distances,
        first_and_rest,
        glance,
        long_training,
        noise_distances,
        paper_and_ours,
        seeds,
        training_accuracy,
    )
    from prlib.pages.content import escaped
    from prlib.pages.defences import certificates, randomness, rivals
    from prlib.pages.deviations import ablated, choices, effects, explained, largest_effects
    from prlib.pages.facts import (
        benchmark,
        core_hours,
        costs,
        datasets_table,
        network_table,
        provenance,
        recipe_table,
        source,
    )
    from prlib.pages.here import Here, just_now, reproduced
    from prlib.pages.names import ATTACK_TITLES, ATTACKS, NOISE_LABELS
    from prlib.pages.prose import tell
    from prlib.pages.records import PUBLISHED, REFERENCE, committed, obtain, start, variants
    from prlib.pages.reproduction import by_spread, coverage, measured_numbers, narrower_gaps
    from prlib.pages.robustness import (
        convergence,
        each_attack,
        exposure_of_many,
        guarantees,
        resists,
        sanity_counts,
        sanity_evidence,
        strongest,
    )
    from prlib.pages.story import gallery, strip
    from prlib.pages.tables import Table, Tabs, badge, folded, note
    from prlib.pages.visit import clone, route, side_by_side

__all__ = [
    "ATTACKS",
    "ATTACK_TITLES",
    "NOISE_LABELS",
    "PUBLISHED",
    "REFERENCE",
    "VARIANT_TITLES",
    "Here",
    "Table",
    "Tabs",
    "ablated",
    "above",
    "accuracies",
    "answer",
    "attack_settings",
    "attack_variants",
    "badge",
    "below",
    "benchmark",
    "both_verdicts",
    "by_dataset",
    "by_spread",
    "cases",
    "certificates",
    "choices",
    "claims_in_short",
    "clone",
    "committed",
    "convergence",
    "core_hours",
    "costs",
    "coverage",
    "datasets_table",
    "distances",
    "distances_by_case",
    "each_attack",
    "effects",
    "escaped",
    "every_comparison",
    "explained",
    "exposure_of_many",
    "falls_more",
    "falls_undecided",
    "first_and_rest",
    "folded",
    "gallery",
    "glance",
    "guarantees",
    "just_now",
    "labels_given",
    "largest_effects",
    "level",
    "long_training",
    "longer",
    "measured_numbers",
    "narrower_gaps",
    "network_table",
    "noise_distances",
    "note",
    "obtain",
    "paper_and_ours",
    "provenance",
    "randomness",
    "recipe_table",
    "reproduced",
    "rerun_command",
    "resists",
    "rivals",
    "route",
    "same",
    "sanity_counts",
    "sanity_evidence",
    "scoreboard",
    "seeds",
    "set_when",
    "side_by_side",
    "source",
    "start",
    "strip",
    "strongest",
    "suspicions",
    "tell",
    "training_accuracy",
    "variants",
    "verdicts",
]

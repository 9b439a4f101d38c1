"""Figures, drawn from records and from the models themselves; every one reads in grayscale."""

from prlib.pages.figures.drawing import style
from prlib.pages.figures.method import (
    architecture,
    cases,
    examples,
    exposure_maps,
    exposure_over_epsilon,
    letter_c,
    noise_beside_redraw,
    pairs,
    staircase,
    staircases,
)
from prlib.pages.figures.numbers import all_numbers
from prlib.pages.figures.results import accuracy_over_epochs, over_epsilon, over_steps, then_and_now, under_attack
from prlib.pages.figures.seeds import spread

__all__ = [
    "accuracy_over_epochs",
    "all_numbers",
    "architecture",
    "cases",
    "examples",
    "exposure_maps",
    "exposure_over_epsilon",
    "letter_c",
    "noise_beside_redraw",
    "over_epsilon",
    "over_steps",
    "pairs",
    "spread",
    "staircase",
    "staircases",
    "style",
    "then_and_now",
    "under_attack",
]

"""Intervals against published values, closed forms and simulations whose truth is known."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest, t

from prlib.statistics import next_training, over_trainings, wilson

ROUNDS = 2000


def simulated(rng, trainings, images, spread, mean=0.7, of=None):
    """Accuracies of trainings on shared images: image difficulties and training shifts are both random.

    Returns the accuracies on the images, those on all ``of`` images, and the expected accuracy over both.
    """
    of = of or images
    difficulty = rng.normal(0, 1.2, of)
    shift = rng.normal(0, spread, trainings)
    centre = math.log(mean / (1 - mean))
    odds = 1 / (1 + np.exp(-(centre + difficulty[None] + shift[:, None])))
    correct = rng.random((trainings, of)) < odds
    return correct[:, :images].mean(1), correct.mean(1)


def truth(spread, mean=0.7):
    rng = np.random.default_rng(1)
    x = math.log(mean / (1 - mean)) + rng.normal(0, math.hypot(1.2, spread), 2_000_000)
    return float((1 / (1 + np.exp(-x))).mean())


@pytest.mark.parametrize(("correct", "total"), [(0, 10), (3, 10), (81, 263), (9929, 10_000), (10, 10)])
def test_wilson_is_scipys(correct, total):
    theirs = binomtest(correct, total).proportion_ci(0.95, "wilson")
    assert wilson(correct, total)[1:] == pytest.approx([theirs.low, theirs.high], abs=1e-12)


def test_one_training_has_wilsons_interval_and_equal_ones_too():
    assert over_trainings([0.83], 200) == pytest.approx(wilson(166, 200))
    assert over_trainings([0.83] * 4, 200) == pytest.approx(wilson(166, 200))


def test_where_images_do_not_matter_the_intervals_are_students():
    accuracies = [0.40, 0.52, 0.47, 0.61, 0.50]
    mean, deviation, quantile = 0.5, np.std(accuracies, ddof=1), t.ppf(0.975, 4)
    n = 10**12
    assert over_trainings(accuracies, n).high == pytest.approx(mean + quantile * deviation / math.sqrt(5), abs=1e-5)
    assert next_training(accuracies, 1000, 1000).low == pytest.approx(mean - quantile * deviation * math.sqrt(1.2))


def test_a_part_of_the_images_widens_the_prediction_and_bounds_stay_accuracies():
    accuracies = [0.95, 0.99, 0.97]
    part, whole = next_training(accuracies, 1000, 10_000), next_training(accuracies, 1000, 1000)
    assert part.low < whole.low and part.high == whole.high == 1.0
    with pytest.raises(ValueError, match="at least two trainings; got 1"):
        next_training([0.5], 10, 10)


@pytest.mark.parametrize("spread", [0.0, 0.2, 0.8])
@pytest.mark.parametrize("trainings", [2, 3, 5])
def test_the_mean_over_trainings_covers_the_truth(trainings, spread):
    rng, expected, held = np.random.default_rng(trainings), truth(spread), 0
    for _ in range(ROUNDS):
        accuracies, _ = simulated(rng, trainings, 300, spread)
        _, low, high = over_trainings(list(accuracies), 300)
        held += low <= expected <= high
    # 95% or more: at a true coverage of 0.95, fewer than 0.93 of 2,000 rounds happen once in 20,000 times.
    assert held / ROUNDS > 0.93


@pytest.mark.parametrize(("images", "of"), [(300, 300), (100, 1000)])
@pytest.mark.parametrize("spread", [0.1, 0.5])
def test_a_prediction_holds_the_next_training(spread, images, of):
    rng, held = np.random.default_rng(images), 0
    for _ in range(ROUNDS):
        part, whole = simulated(rng, 5, images, spread, of=of)
        _, low, high = next_training(list(part[:4]), images, of)
        held += low <= whole[4] <= high
    assert held / ROUNDS > 0.93

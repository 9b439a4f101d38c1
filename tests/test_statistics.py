"""Intervals against published values, closed forms and simulations whose truth is known."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest, t

from prlib.statistics import holm, next_training, over_trainings, p_value, paired, wilson

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
@pytest.mark.parametrize("trainings", [3, 5])
def test_a_prediction_holds_the_next_training(trainings, spread, images, of):
    rng, held = np.random.default_rng(images), 0
    for _ in range(ROUNDS):
        part, whole = simulated(rng, trainings + 1, images, spread, of=of)
        _, low, high = next_training(list(part[:-1]), images, of)
        held += low <= whole[-1] <= high
    assert held / ROUNDS > 0.93


def pairs(worse, better, n):
    """The differences of n pairs on images, one training."""
    return np.repeat([[-1, 1, 0]], [worse, better, n - worse - better], axis=1)


def newcombe_10(worse, better, both, neither):
    """Newcombe's (1998, Stat. Med. 17:2635) method 10 for paired proportions, written from his paper."""
    n = worse + better + both + neither
    one, other = wilson(both + better, n), wilson(both + worse, n)
    a, b, c, d = both, better, worse, neither
    margins, product = (a + b) * (c + d) * (a + c) * (b + d), a * d - b * c
    phi = 0.0 if margins == 0 else (max(product - n / 2, 0.0) if product > 0 else product) / math.sqrt(margins)
    down, up = one.value - one.low, other.high - other.value
    far, near = one.high - one.value, other.value - other.low
    difference = (better - worse) / n
    return (
        difference,
        difference - math.sqrt(down**2 - 2 * phi * down * up + up**2),
        difference + math.sqrt(far**2 - 2 * phi * far * near + near**2),
    )


def test_the_paired_interval_is_the_published_example_of_agresti_and_mins():
    # The example of PropCIs' diffpropci.mp (Scherer), by Agresti's own code: b = 40, c = 20, n = 160
    assert paired(pairs(40, 20, 160)) == pytest.approx((-0.125, -0.21601726, -0.03089632), abs=1e-8)


@pytest.mark.parametrize(("worse", "better", "both", "neither"), [(40, 20, 60, 40), (9, 3, 400, 588), (67, 0, 862, 71)])
def test_the_paired_interval_is_near_newcombes(worse, better, both, neither):
    theirs = newcombe_10(worse, better, both, neither)
    n = worse + better + both + neither
    assert paired(pairs(worse, better, n)) == pytest.approx(theirs, abs=3 / n)


@pytest.mark.parametrize(("worse", "better"), [(1, 7), (3, 9), (0, 0), (12, 12), (67, 0), (400, 460)])
def test_the_p_value_of_pairs_is_mcnemars_exact_one(worse, better):
    expected = binomtest(worse, worse + better).pvalue if worse + better else 1.0
    assert p_value(pairs(worse, better, 2000)) == pytest.approx(expected, rel=1e-9)


def test_the_p_value_of_changes_is_that_of_all_signs():
    changes = np.array([[2, 2, -1, 1, 0, -2, 1, 1, 1]])
    signs = np.array(np.meshgrid(*[[-1, 1]] * changes.shape[1])).reshape(changes.shape[1], -1)
    as_far = np.abs(changes[0] @ signs) >= abs(changes.sum())
    assert p_value(changes) == pytest.approx(as_far.mean())


def test_where_the_interval_ends_the_p_value_is_5_percent():
    for differences in (pairs(40, 20, 160), np.stack([pairs(40, 20, 160)[0], pairs(30, 22, 160)[0]])):
        _, low, high = paired(differences)
        assert p_value(differences, low) == pytest.approx(0.05, abs=1e-6) == p_value(differences, high)
        assert p_value(differences, high + 0.1) < 0.05 < p_value(differences, (low + high) / 2)


def test_holm_is_his_procedure_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([]) == []


@pytest.mark.parametrize(("n", "discordant"), [(200, 0.04), (1000, 0.2), (10_000, 0.01)])
def test_the_paired_interval_covers_the_truth_and_the_test_keeps_its_level(n, discordant):
    rng, held, rejected, truth = np.random.default_rng(n), 0, 0, discordant / 2
    for _ in range(ROUNDS):
        worse, better, _ = rng.multinomial(n, [discordant / 4, 3 * discordant / 4, 1 - discordant])
        _, low, high = paired(pairs(worse, better, n))
        held += low <= truth <= high
        rejected += p_value(pairs(*rng.multinomial(n, [discordant / 2, discordant / 2, 1 - discordant])[:2], n)) <= 0.05
    # At a true coverage of 0.95, fewer than 0.93 of 2,000 rounds happen once in 20,000 times; the test is exact, and
    # at a true level of 0.05 more than 0.07 of 2,000 rounds do.
    assert held / ROUNDS > 0.93 and rejected / ROUNDS < 0.07


@pytest.mark.parametrize("trainings", [2, 5])
@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_the_paired_interval_of_several_trainings_covers_the_truth(trainings, spread):
    rng, n, held = np.random.default_rng(trainings), 300, 0
    for _ in range(ROUNDS):
        difficulty = rng.normal(0, 1.2, n)
        odds = [1 / (1 + np.exp(-(0.8 + difficulty + rng.normal(0, spread, (trainings, 1))))) for _ in "ab"]
        left, right = (rng.random((trainings, n)) < p for p in odds)
        differences = left.astype(int) - right.astype(int)
        _, low, high = paired(differences)
        held += low <= 0 <= high
    assert held / ROUNDS > 0.93

"""The redraw against independent truth: a NumPy fit, the perceptrons themselves, and statistics.

Statistical tests use fixed seeds and reject at 1e-4: a correct implementation with another generator would fail one
of these tests once in some ten thousand runs.
"""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from prlib.redraw import RANGES, PixelRedraw, Quantised, RandomInversion, perceptrons
from prlib.rivals import GaussianNoise

ALPHA = 1e-4


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def numpy_fit(steps, seed):
    """The released code's procedure in NumPy and float64, written independently; returns weights and biases."""
    rng = np.random.default_rng(seed)
    low, high = np.array(RANGES).T
    weight, bias = np.zeros(3), np.zeros(3)
    for _ in range(steps):
        x = rng.random(100)
        holds = (low <= x[:, None]) & (x[:, None] <= high)
        nth = np.floor(rng.random(100) * holds.sum(1))  # of the colours that hold x, take the nth
        labels = (holds.cumsum(1) == nth[:, None] + 1).argmax(1)
        logits = np.outer(x, weight) + bias
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        p[np.arange(100), labels] -= 1
        weight -= 0.1 * (p * x[:, None]).mean(0)
        bias -= 0.1 * p.mean(0)
    return weight, bias


def breakpoints(weight, bias):
    """Where the arg-max of the lines changes, found by looking at a million points."""
    x = np.linspace(0, 1, 100_001)
    winner = (np.outer(x, weight) + bias).argmax(1)
    return x[1:][np.diff(winner) != 0]


def test_redraws_that_were_fitted_alike_share_nothing():
    one, other = PixelRedraw.fit(steps=10), PixelRedraw.fit(steps=10)
    assert torch.equal(one.weight, other.weight) and one.weight.any()
    one.weight.zero_()
    perceptrons.cache_clear()
    assert torch.equal(other.weight, PixelRedraw.fit(steps=10).weight) and other.weight.any()


def test_fitted_thresholds_agree_with_a_numpy_fit_of_the_same_procedure():
    theirs = np.array([breakpoints(*numpy_fit(1500, seed)) for seed in range(12)])
    ours = torch.cat([PixelRedraw.fit(steps=1500, seed=seed).thresholds for seed in range(12)]).numpy()
    assert theirs.shape == ours.shape == (12, 2)
    for column in range(2):
        assert stats.ttest_ind(theirs[:, column], ours[:, column], equal_var=False).pvalue > ALPHA
        assert abs(theirs[:, column].mean() - ours[:, column].mean()) < 0.01


def test_the_released_codes_settings_give_its_thresholds():
    # released-code facts: near 0.36 and 0.63 after 5,000 steps; twenty models in 0.36-0.43 and 0.50-0.62
    first, second = PixelRedraw.fit().thresholds[0].tolist()
    assert first == pytest.approx(0.36, abs=0.01) and second == pytest.approx(0.63, abs=0.01)
    many = PixelRedraw.fit(k=20, steps=(300, 3000), init="normal").thresholds
    assert 0.34 < many[:, 0].median() < 0.44 and 0.5 < many[:, 1].median() < 0.64
    assert many.std(dim=0).min() > 0.01  # partially converged: they scatter


@pytest.mark.parametrize("colours", [2, 3, 5])
def test_thresholds_are_the_breakpoints_of_the_arg_max(colours):
    x = torch.linspace(0, 1, 100_001, dtype=torch.float64)
    edges = np.linspace(0, 1, colours + 1).round(2)
    ranges = list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
    for seed in range(50):
        weight, bias = torch.randn(2, 1, colours, generator=generator(seed), dtype=torch.float64)
        redraw = PixelRedraw(weight, bias, ranges)
        expected = (x[:, None] * weight[0] + bias[0]).argmax(1)
        different = (redraw.sort(x) != expected).nonzero()
        # at a breakpoint itself the two float64 computations may round to either side
        assert len(different) <= colours - 1
        for index in different:
            assert (redraw.thresholds - x[index]).abs().min() < 1e-9


def test_a_colour_that_never_wins_has_equal_thresholds():
    # the middle line lies below the crossing (x = 0.5) of the outer two
    redraw = PixelRedraw(torch.tensor([[-1.0, 0.0, 1.0]]), torch.tensor([[0.5, -1.0, -0.5]]))
    assert redraw.thresholds.tolist() == [[0.5, 0.5]]
    assert set(redraw.sort(torch.linspace(0, 1, 101)).tolist()) == {0, 2}


def test_an_untrained_model_sorts_everything_into_the_first_colour():
    redraw = PixelRedraw.fit(steps=0)
    assert redraw.sort(torch.linspace(0, 1, 11)).eq(0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_values_at_and_beside_a_threshold_are_sorted_exactly(dtype):
    redraw = PixelRedraw(torch.tensor([[-1.0, 0.0, 1.0]]).double(), torch.tensor([[1 / 3, 0.0, -0.6]]).double())
    thresholds = redraw.thresholds[0]
    x = torch.arange(0, 1025).to(dtype) / 1024  # and the neighbours of the thresholds in this format
    near = thresholds.to(dtype)
    if dtype in (torch.float32, torch.float64):
        one = torch.ones_like(near)
        x = torch.cat([x, near, near.nextafter(one), near.nextafter(-one)])
    expected = (x.double()[:, None] > thresholds).sum(1)
    assert torch.equal(redraw.sort(x), expected)


@pytest.mark.parametrize("choice", ["pixel", "image"])
@pytest.mark.parametrize("k", [1, 4])
def test_redrawn_values_lie_in_a_range_that_some_model_chose(k, choice):
    redraw = PixelRedraw.fit(k=k, steps=(100, 400), init="normal", choice=choice, decimals=None)
    images = torch.rand(8, 3, 16, 16, generator=generator())
    after = redraw(images, generator(1))
    assert after.shape == images.shape and after.dtype == images.dtype
    allowed = torch.zeros_like(images, dtype=torch.bool)
    for model in range(k):
        low, high = redraw.ranges[redraw.sort(images, model)].unbind(-1)
        allowed |= (low <= after + 1e-7) & (after <= high + 1e-7)
    assert allowed.all()


def test_redrawn_values_are_uniform_in_the_winning_range():
    redraw = PixelRedraw.fit(decimals=None)
    images = torch.tensor([0.1, 0.5, 0.9]).reshape(1, 3, 1, 1).expand(1, 3, 100, 100)
    after = redraw(images, generator(2))
    for values, (low, high) in zip(after[0], RANGES, strict=True):
        assert stats.kstest(values.flatten().numpy(), stats.uniform(low, high - low).cdf).pvalue > ALPHA


def test_rounding_to_two_decimals_is_uniform_rounded():
    after = PixelRedraw.fit()(torch.zeros(1, 1, 200, 200), generator(3)).flatten()
    hundredths = (after * 100).round().long()
    assert torch.allclose(after, hundredths / 100)
    # 0 and 0.40 collect half a hundredth each, the values between a whole one
    expected = np.array([0.5, *[1.0] * 39, 0.5]) * len(after) / 40
    assert stats.chisquare(hundredths.bincount(minlength=41).numpy(), expected).pvalue > ALPHA


def opposite_models(choice):
    """Two models that disagree about every pixel: one takes all for dark, the other for light."""
    weight = torch.zeros(2, 3)
    bias = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    return PixelRedraw(weight, bias, choice=choice)


def test_choice_per_image_redraws_a_whole_image_by_one_model():
    after = opposite_models("image")(torch.full((4000, 1, 4, 4), 0.5), generator(4))
    light = (after > 0.5).flatten(1)
    assert (light.all(1) | ~light.any(1)).all()
    assert stats.binomtest(int(light[:, 0].sum()), 4000).pvalue > ALPHA


def test_choice_per_pixel_is_independent_between_pixels_and_channels():
    after = opposite_models("pixel")(torch.full((4000, 2, 2, 2), 0.5), generator(5))
    light = (after > 0.5).flatten(1).double()
    correlation = np.corrcoef(light.numpy().T)
    # correlations of independent coins have standard deviation 1/sqrt(4000); 28 pairs, 6 sigma
    assert np.abs(correlation - np.eye(8)).max() < 6 / 4000**0.5
    assert stats.binomtest(int(light.sum()), light.numel()).pvalue > ALPHA


def test_the_k_models_are_chosen_uniformly():
    # model i's only colour range that wins is i: its value tells which model redrew
    k = 5
    edges = torch.linspace(0, 1, k + 1).tolist()
    redraw = PixelRedraw(torch.zeros(k, k), torch.eye(k), list(itertools.pairwise(edges)), decimals=None)
    after = redraw(torch.full((1, 1, 300, 300), 0.5), generator(6))
    counts = (after.flatten() * k).long().clamp_max(k - 1).bincount(minlength=k)
    assert stats.chisquare(counts.numpy()).pvalue > ALPHA


def test_the_same_generator_gives_the_same_redraw_and_another_one_another():
    images = torch.rand(2, 1, 28, 28, generator=generator())
    redraw = PixelRedraw.fit(k=3, steps=200, init="normal")
    assert torch.equal(redraw(images, generator(7)), redraw(images, generator(7)))
    assert not torch.equal(redraw(images, generator(7)), redraw(images, generator(8)))


def test_empty_batches_and_half_precision():
    redraw = PixelRedraw.fit(k=2, steps=200, init="normal")
    assert redraw(torch.zeros(0, 3, 8, 8)).shape == (0, 3, 8, 8)
    for dtype in (torch.float16, torch.bfloat16):
        after = redraw(torch.rand(2, 1, 8, 8).to(dtype), generator())
        assert after.dtype == dtype and after.min() >= 0 and after.max() <= 1


@pytest.mark.parametrize("module", [PixelRedraw.fit(steps=10), GaussianNoise()])
@pytest.mark.parametrize(
    ("images", "named"),
    [
        (torch.full((1, 1, 2, 2), 1.5), "1.5"),
        (torch.full((1, 1, 2, 2), -0.1), "-0.1"),
        (torch.full((1, 1, 2, 2), torch.nan), "nan"),
        (torch.zeros(1, 2, 2), r"\(1, 2, 2\)"),
        (torch.zeros(1, 1, 2, 2, dtype=torch.uint8), "uint8"),
    ],
)
def test_bad_images_are_refused_by_name(module, images, named):
    with pytest.raises(ValueError, match=named):
        module(images, generator())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"k": 0}, "0"),
        ({"steps": (300, 300)}, r"\(300, 300\)"),
        ({"steps": -1}, "-1"),
        ({"init": "ones"}, "ones"),
        ({"k": "2"}, "'2'"),
        ({"k": 1.5}, "1.5"),
        ({"steps": "10"}, "'10'"),
        ({"steps": 5.0}, "5.0"),
        ({"steps": (1, 2, 3)}, r"\(1, 2, 3\)"),
        ({"seed": -1}, "-1"),
        ({"seed": 0.5}, "0.5"),
        ({"decimals": "2"}, "'2'"),
        ({"decimals": 400}, "from 0 to 7; got 400"),
        ({"ranges": "abc"}, "'abc'"),
        ({"ranges": ((0, 0.5), (1,))}, "two pairs"),
        ({"choice": "row"}, "row"),
        ({"ranges": ((0, 0.4), (0.5, 1))}, "gap"),
        ({"ranges": ((0, 1.2),)}, "two pairs"),
        ({"ranges": ((0, 0.4), (0.4, 1.2))}, "1.2"),
        ({"ranges": ((0, 0.333), (0.3, 1))}, "decimals"),
    ],
)
def test_bad_settings_are_refused_by_name(options, named):
    with pytest.raises(ValueError, match=named):
        PixelRedraw.fit(**options)


def test_saved_models_come_back_the_same(tmp_path):
    redraw = PixelRedraw.fit(k=3, steps=(50, 100), init="normal", choice="image", decimals=None)
    redraw.save(tmp_path / "pr.safetensors")
    again = PixelRedraw.load(tmp_path / "pr.safetensors")
    images = torch.rand(2, 1, 8, 8, generator=generator())
    assert (again.choice, again.decimals) == ("image", None)
    assert torch.equal(redraw(images, generator(1)), again(images, generator(1)))


def test_gaussian_noise_is_normal_clipped_at_one_then_to_the_unit_interval():
    noise = GaussianNoise(std=0.5)
    after = noise(torch.full((1, 1, 200, 200), 0.5), generator(9)).flatten().numpy()
    inside = after[(after > 0) & (after < 1)]
    assert stats.kstest(inside, stats.truncnorm(-1, 1, loc=0.5, scale=0.5).cdf).pvalue > ALPHA
    share_outside = 2 * stats.norm.sf(1)
    assert stats.binomtest(len(after) - len(inside), len(after), share_outside).pvalue > ALPHA
    black = GaussianNoise(std=100.0)(torch.zeros(1, 1, 100, 100), generator(10))
    assert 0.45 < (black == 1).float().mean() < 0.55  # noise beyond 1 is cut to 1, never further


@pytest.mark.parametrize("kind", [PixelRedraw, Quantised, RandomInversion])
def test_a_redraw_stays_exact_where_all_modules_are_made_shorter(kind):
    redraw = PixelRedraw.fit(steps=500)
    module = redraw if kind is PixelRedraw else kind(redraw)
    images = (torch.arange(4096.0) / 4095).view(1, 1, 64, 64)
    before = module(images, generator(1))
    for change in (torch.nn.Module.half, torch.nn.Module.float, torch.nn.Module.bfloat16):
        assert torch.equal(change(module)(images, generator(1)), before)
    assert redraw.thresholds.dtype == torch.float64


@pytest.mark.parametrize("std", [0, -1, float("nan"), True, "1"])
def test_noise_needs_a_positive_standard_deviation(std):
    with pytest.raises(ValueError, match=str(std)):
        GaussianNoise(std)


def test_loaded_weights_bring_their_own_thresholds():
    first, second = PixelRedraw.fit(steps=500, seed=0), PixelRedraw.fit(steps=500, seed=1)
    first.load_state_dict(second.state_dict())
    assert torch.equal(first.thresholds, second.thresholds)
    assert first.to("meta").thresholds.device.type == "meta"


def test_inversion_is_of_whole_batches_half_of_the_time():
    """A threefold outcome: as it was, inverted, never mixed; 400 batches, off a half by chance once in 10^6."""
    redraw = PixelRedraw.fit(steps=1000)
    images = torch.tensor([0.0, 1.0]).repeat(50).view(1, 1, 10, 10)
    inversion, generator = RandomInversion(redraw), torch.Generator().manual_seed(0)
    dark_first = [(inversion(images, generator).flatten() < 0.5) for _ in range(400)]
    asis = images.flatten() < 0.5
    assert all(torch.equal(dark, asis) or torch.equal(dark, ~asis) for dark in dark_first)
    assert abs(sum(torch.equal(dark, asis) for dark in dark_first) - 200) < 5 * 10


def test_truncated_noise_is_scipys_truncated_normal():
    noise = GaussianNoise(0.5, truncated=True)
    images = torch.full((1, 1, 100, 100), 0.5)
    added = (noise(images, torch.Generator().manual_seed(3)) - images).flatten().numpy()
    inside = added[abs(added) < 0.5]  # beyond that the pixel is black or white
    # Of 0 ± 0.5 in standard deviations ±1; the level is one in ten thousand.
    assert stats.kstest(inside, stats.truncnorm(-1, 1, scale=0.5).cdf).pvalue > 1e-4
    share = stats.truncnorm(-2, 2, scale=0.5).cdf(0.5) - stats.truncnorm(-2, 2, scale=0.5).cdf(-0.5)
    assert stats.binomtest(len(inside), len(added), share).pvalue > 1e-4

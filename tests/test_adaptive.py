"""The staircase and what knows it, against enumeration: what is counted here one by one must come out the same."""

import itertools
from functools import partial

import pytest
import torch
from scipy import stats
from torch import nn

from prlib.attacks import (
    Staircase,
    auto,
    crossing,
    eot_pgd,
    guaranteed,
    robust_probability,
    soft_mean,
    square,
    strongest,
    transfer,
)
from prlib.attacks.base import LOSSES
from prlib.cases import judge
from prlib.data import load
from prlib.redraw import PixelRedraw, Quantised
from prlib.rivals import GaussianNoise

ONE = PixelRedraw.fit(steps=5000)
MANY = PixelRedraw.fit(k=5, steps=(300, 3000), init="normal", seed=3)
both = pytest.mark.parametrize("redraw", [ONE, MANY], ids=["one model", "five models"])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images(n=4, side=3, seed=1):
    return torch.rand(n, 1, side, side, generator=seeded(seed))


def colours(redraw, pixel):
    """How many of the models give a pixel each of the colours, by their perceptrons."""
    logits = redraw.weight * float(pixel) + redraw.bias
    return logits.argmax(1).bincount(minlength=len(redraw.ranges)).tolist()


@both
def test_two_pixels_share_a_cell_exactly_when_every_model_gives_both_one_colour(redraw):
    pixels = torch.linspace(0, 1, 2001)
    cells = Staircase.of(redraw).cells(pixels)
    changes = [colours(redraw, a) != colours(redraw, b) for a, b in itertools.pairwise(pixels.double())]
    assert (cells.diff() > 0).tolist() == changes
    assert cells[0] == 0 and cells[-1] == len(Staircase.of(redraw).edges)


@both
def test_means_and_distances_are_those_of_the_drawn_values(redraw):
    """Against two million draws a cell: every difference within 5 standard errors, which fails once in a million."""
    stairs, n = Staircase.of(redraw), 2_000_000
    middles = torch.cat([torch.zeros(1), stairs.edges, torch.ones(1)]).float()
    middles = (middles[1:] + middles[:-1]) / 2
    drawn = [redraw(middle.expand(1, 1, n, 1), seeded(i)).flatten() for i, middle in enumerate(middles)]
    for mean, values in zip(stairs.mean, drawn, strict=True):
        assert abs(values.double().mean() - mean) < 5 * values.std() / n**0.5
    odds = torch.stack([torch.round(values * 100).long().bincount(minlength=101) / n for values in drawn])
    measured = torch.cdist(odds.double(), odds.double(), p=1) / 2
    # Sampling makes equal distributions differ: 101 shares, each with a standard error of at most sqrt(p / n).
    assert (measured - stairs.distance).abs().max() < 101 * 5 * (0.04 / n) ** 0.5 / 2


def test_a_changed_colour_of_one_model_moves_three_quarters_of_the_distribution():
    """[0, 0.4] and [0.3, 0.7] share a quarter of each, up to rounding to two decimals."""
    stairs = Staircase.of(ONE)
    assert stairs.distance[0, 1] == pytest.approx(0.75, abs=0.01)
    assert stairs.distance[0, 2] == 1
    exact = Staircase.of(PixelRedraw(ONE.weight, ONE.bias, decimals=None))
    assert exact.distance[0, 1].item() == pytest.approx(0.75, abs=1e-12)


def test_the_models_of_an_image_must_not_be_one_draw():
    with pytest.raises(ValueError, match="'image'"):
        Staircase.of(PixelRedraw(MANY.weight, MANY.bias, choice="image"))


@both
@pytest.mark.parametrize("epsilon", [0.0, 0.01, 0.1, 0.5])
def test_reach_and_exposure_are_those_of_a_search_over_the_ball(redraw, epsilon):
    stairs, clean = Staircase.of(redraw), images(side=5)
    steps = torch.linspace(-1, 1, 4001)[:, None, None, None, None] * epsilon
    cells = stairs.cells((clean + steps).clamp(0, 1))
    low, high = stairs.reach(clean, epsilon)
    assert torch.equal(low, cells.amin(0)) and torch.equal(high, cells.amax(0))
    here = stairs.cells(clean).expand_as(cells)
    assert torch.equal(stairs.exposure(clean, epsilon), stairs.distance[here, cells].amax(0).float())
    stored = torch.randint(256, (3, 1, 5, 7), generator=seeded(3), dtype=torch.uint8)
    assert torch.equal(stairs.exposure_of_bytes(stored, epsilon), stairs.exposure(stored / 255, epsilon))
    with pytest.raises(ValueError, match=r"torch\.uint8; got"):
        stairs.exposure_of_bytes(clean, epsilon)


@both
def test_images_of_cells_lie_there_and_no_further_than_needed(redraw):
    stairs, clean = Staircase.of(redraw), images(n=50, side=8)
    for epsilon in (0.05, 0.3):
        for cells in stairs.reach(clean, epsilon):
            image = stairs.image(cells, clean)
            assert torch.equal(stairs.cells(image), cells)
            assert (image - clean).abs().max() <= epsilon + 1e-6
            assert torch.equal(image[cells == stairs.cells(clean)], clean[cells == stairs.cells(clean)])


def test_no_change_of_colour_is_no_change_at_all():
    """With the same draws an image whose pixels keep their cells is redrawn bit by bit the same."""
    stairs, clean = Staircase.of(MANY), images(n=20, side=8)
    low, high = stairs.reach(clean, 0.02)
    hidden = torch.where(low == high, (clean + 0.02).clamp_max(1), clean)
    assert not torch.equal(hidden, clean)
    assert torch.equal(MANY(hidden, seeded()), MANY(clean, seeded()))
    assert ((stairs.exposure(clean, 0.02) == 0) == (low == high)).all()


@both
def test_the_guarantee_bounds_every_attack(redraw):
    """On two pixels everything can be enumerated: no choice of cells does worse than the bound."""
    stairs = Staircase.of(redraw)
    values, clean, epsilon = torch.arange(101) / 100, torch.tensor([[[[0.3, 0.66]]]]), 0.1
    pairs = torch.cartesian_prod(values, values)
    right = (pairs @ torch.tensor([1.0, -0.7])) < 0.1  # any classifier at all
    n, middles = 400_000, torch.cat([torch.zeros(1), stairs.edges, torch.ones(1)]).float()
    middles = (middles[1:] + middles[:-1]) / 2

    def odds(cell):
        drawn = redraw(middles[cell].expand(1, 1, n, 1), seeded(int(cell))).flatten()
        return torch.round(drawn * 100).long().bincount(minlength=101) / n

    def probability(first, second):
        return (torch.outer(odds(first), odds(second)).flatten() * right).sum()

    low, high = (c.flatten() for c in stairs.reach(clean, epsilon))
    here = stairs.cells(clean).flatten()
    least = min(probability(a, b) for a in range(low[0], high[0] + 1) for b in range(low[1], high[1] + 1))
    bound = guaranteed(probability(*here)[None].double(), stairs.exposure(clean, epsilon))
    assert bound.item() <= least.item() + 0.01
    untouched = guaranteed(torch.tensor([0.7]).double(), torch.zeros(1, 1, 1, 2))
    assert untouched.item() == pytest.approx(0.7)


def random_linear(seed=0):
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 10))
    nn.init.normal_(model[1].weight, generator=seeded(seed))
    return model


class Linear(nn.Module):
    """Two classes, their logits' difference linear in the pixels."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, images):
        score = images.flatten(1) @ self.weight
        return torch.stack([score, -score], 1)


losses = pytest.mark.parametrize("loss", LOSSES)


@losses
@both
def test_crossing_finds_the_best_cells_of_a_linear_classifier(redraw, loss):
    """The expected margin is a sum over pixels, so the best attack takes for each the best reachable cell."""
    stairs, clean = Staircase.of(redraw), images(n=6, side=3)
    weight = torch.randn(9, generator=seeded(5))
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    for epsilon in (0.05, 0.3):
        call = {"epsilon": epsilon, "defence": redraw, "generator": seeded(), "draws": 64, "loss": loss}
        adversarial = crossing(Linear(weight), clean, labels, **call)
        low, high = (c.flatten(1) for c in stairs.reach(clean, epsilon))
        found = stairs.mean[stairs.cells(adversarial)].flatten(1)
        for i in range(len(clean)):
            sign = 1 - 2 * int(labels[i])
            for pixel in range(9):
                choices = stairs.mean[low[i, pixel] : high[i, pixel] + 1] * weight[pixel] * sign
                assert found[i, pixel] * weight[pixel] * sign == pytest.approx(choices.min().item(), abs=1e-9)
        assert (adversarial - clean).abs().max() <= epsilon + 1e-6


@losses
def test_crossing_finds_the_worst_set_of_a_nonlinear_network(loss):
    """All 2^8 sets of changed colours of an 8-pixel image: crossing comes within 0.02 of the worst expected loss."""
    clean = torch.tensor([0.3, 0.4, 0.6, 0.66, 0.33, 0.38, 0.61, 0.65]).view(1, 1, 2, 4)
    torch.manual_seed(4)
    net = nn.Sequential(nn.Flatten(), nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3)).requires_grad_(False)
    stairs, label = Staircase.of(ONE), torch.tensor([1])
    low, high = stairs.reach(clean, 0.08)
    assert (high - low == 1).all()

    def expected(cells, n=4000):
        redrawn = ONE(stairs.image(cells, clean).expand(n, -1, -1, -1), seeded(9))
        return LOSSES[loss](net(redrawn), label.expand(n)).mean().item()

    sets = torch.cartesian_prod(*[torch.tensor([0, 1])] * 8).view(-1, 1, 1, 2, 4)
    worst = max(expected(low + chosen) for chosen in sets)
    found = crossing(net, clean, label, epsilon=0.08, defence=ONE, generator=seeded(), draws=100, loss=loss)
    assert expected(stairs.cells(found)) > worst - 0.02
    assert worst - expected(stairs.cells(clean)) > 0.1  # there was something to find


def test_crossing_is_never_worse_than_nothing_and_leaves_hidden_pixels_alone():
    net, clean = random_linear().requires_grad_(False), images(n=30)
    adversarial = crossing(net, clean, torch.arange(30) % 10, epsilon=0.05, defence=MANY, generator=seeded())
    hidden = Staircase.of(MANY).exposure(clean, 0.05) == 0
    assert hidden.any() and torch.equal(adversarial[hidden], clean[hidden])


@both
def test_the_soft_mean_is_the_perceptrons_expectation_and_has_a_gradient(redraw):
    pixels = images(n=2, side=6).double().requires_grad_()
    soft = partial(soft_mean, redraw)
    odds = (pixels.flatten()[:, None, None] * redraw.weight + redraw.bias).softmax(-1)
    expected = (odds * redraw.ranges.mean(1)).sum(-1).mean(1)
    assert torch.allclose(soft(pixels).flatten(), expected)
    assert torch.autograd.gradcheck(soft, pixels)
    (slope,) = torch.autograd.grad(soft(pixels).sum(), pixels)
    assert (slope > 0).all()


def test_redrawn_values_in_a_cell_are_uniform_in_their_colour():
    """A chi-squared test at 1e-6 of the distribution that the total variations are computed from."""
    from prlib.attacks.staircase import _odds

    n, odds = 500_000, _odds(ONE.ranges, 2)
    assert torch.allclose(odds.sum(1), torch.ones(3, dtype=torch.double))
    drawn = ONE(torch.zeros(1, 1, n, 1), seeded(2)).flatten()
    counts = torch.round(drawn * 100).long().bincount(minlength=101)
    expected = odds[0] * n
    seen = expected > 0
    assert counts[~seen].sum() == 0
    assert stats.chisquare(counts[seen].numpy(), expected[seen].numpy()).pvalue > 1e-6


class TwoPixels(nn.Module):
    """Logits that read two pixels only, steeply, so that what is redrawn decides."""

    def forward(self, images):
        score = 8 * (images[:, 0, 0, 0] + images[:, 0, 0, 1] - 1)
        return torch.stack([score, -score] + [score - 100] * 8, 1)


KNOWING = {
    "eot-pgd": partial(eot_pgd, step_size=0.05, steps=10, draws=8),
    "mean-pgd": partial(eot_pgd, step_size=0.05, steps=10, smooth=True),
    "crossing": partial(crossing, steps=5),
    "square": partial(square, queries=300),
    "auto": auto,
    "transfer": lambda *arguments, defence, surrogate=None, **options: transfer(
        *arguments, surrogate=surrogate or TwoPixels(), step_size=0.05, steps=10, **options
    ),
}
knowing = pytest.mark.parametrize("name", KNOWING)


@knowing
@pytest.mark.slow
def test_an_attack_that_knows_the_redraw_crosses_its_thresholds(name):
    """A pixel a little above a threshold looks robust to small steps, and is not: both must be brought below."""
    clean, labels = torch.full((20, 1, 1, 2), 0.39), torch.zeros(20, dtype=torch.int64)
    clean[:, :, :, 1] = 0.68
    call = {"defence": ONE, "generator": seeded()}
    adversarial = KNOWING[name](TwoPixels(), clean, labels, epsilon=0.1, **call)
    assert (adversarial - clean).abs().max() <= 0.1 + 1e-6
    assert adversarial.min() >= 0 and adversarial.max() <= 1
    before, after = (
        robust_probability(TwoPixels(), x, labels, draws=500, defence=ONE, generator=seeded()).mean()
        for x in (clean, adversarial)
    )
    # Square stops at the first query that fools the mean of its few draws.
    assert before > 0.85 and after < (0.75 if name == "square" else 0.1)


@knowing
@pytest.mark.slow
def test_attacks_repeat_from_their_generator_and_leave_the_model_alone(name):
    model, clean = random_linear().train(), images(n=10)
    call = partial(KNOWING[name], model, clean, torch.arange(10), epsilon=0.1, defence=MANY)
    if name == "transfer":
        call = partial(call, surrogate=model)
    state = torch.get_rng_state()
    assert torch.equal(call(generator=seeded(3)), call(generator=seeded(3)))
    assert model.training and all(p.requires_grad and p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", ["eot-pgd", "square", "auto"])
def test_no_defence_is_attacked_as_it_is(name):
    model, clean = random_linear().requires_grad_(False), images(n=10)
    labels = model(clean).argmax(1)
    adversarial = KNOWING[name](model, clean, labels, epsilon=0.5, defence=None, generator=seeded())
    assert (model(adversarial).argmax(1) != labels).float().mean() >= 0.7


def test_what_needs_a_redraw_says_so():
    model, clean = TwoPixels(), torch.rand(2, 1, 1, 2)
    call = {"epsilon": 0.1, "defence": GaussianNoise(), "generator": seeded()}
    with pytest.raises(ValueError, match="loss must be one of cross-entropy, margin; got 'hinge'"):
        crossing(model, clean, torch.zeros(2, dtype=torch.int64), loss="hinge", **call)
    with pytest.raises(ValueError, match="GaussianNoise"):
        crossing(model, clean, torch.zeros(2, dtype=torch.int64), **call)
    with pytest.raises(ValueError, match="GaussianNoise"):
        eot_pgd(model, clean, torch.zeros(2, dtype=torch.int64), smooth=True, step_size=0.1, steps=1, **call)


def test_the_strongest_is_chosen_for_each_image():
    clean = torch.full((4, 1, 1, 2), 0.9)
    dark = torch.zeros_like(clean)
    mixed = torch.cat([dark[:2], clean[2:]]), torch.cat([clean[:2], dark[2:]])
    labels = torch.zeros(4, dtype=torch.int64)
    chosen = strongest(TwoPixels(), [clean, *mixed], labels, defence=ONE, generator=seeded())
    assert torch.equal(chosen, dark)


def test_quantised_images_are_what_redrawing_gives_on_average():
    """Two thousand draws: every pixel's mean within 5 standard errors of the quantised value."""
    clean, n = images(n=3, side=4), 2000
    for redraw in (ONE, MANY):
        drawn = redraw(clean.repeat(n, 1, 1, 1), seeded()).view(n, *clean.shape)
        error = drawn.std(0) / n**0.5
        assert ((Quantised(redraw)(clean) - drawn.mean(0)).abs() < 5 * error).all()


def test_crossing_attacks_a_quantised_network_too():
    clean, labels = torch.tensor([0.39, 0.68]).expand(5, 1, 1, 2), torch.zeros(5, dtype=torch.int64)
    defence = Quantised(ONE)
    adversarial = crossing(TwoPixels(), clean, labels, epsilon=0.1, defence=defence, generator=seeded(), draws=1)
    assert (TwoPixels()(defence(clean)).argmax(1) == 0).all()
    assert (TwoPixels()(defence(adversarial)).argmax(1) == 1).all()


def test_what_the_attack_draws_is_independent_of_what_the_defence_draws():
    """The generator that an attack is told must not foretell the redraw that is judged; nor one redraw another."""
    split = load("mnist", "test", "sample").take(20)
    drawn = []

    def defence(x, generator):
        drawn.append(torch.rand(1000, generator=generator))
        return x

    def attack(model, x, labels, *told):
        if told:
            drawn.append(torch.rand(1000, generator=told[1]))
        return x

    for case in ("adaptive", "A twice", "C twice"):
        drawn.clear()
        judge(random_network(), split, defence, 7, (case,), attack)
        assert len(drawn) == 2
        # 1,000 independent pairs: a correlation of 0.2 comes once in 10^9
        assert abs(torch.corrcoef(torch.stack(drawn))[0, 1]) < 0.2


def random_network():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))

"""Stronger attacks, where the best that there is is known: linear networks, and tiny images that can be enumerated."""

import itertools
import math
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
    hop_skip_jump,
    pgd,
    robust_probability,
    search,
    square,
    transfer_through,
)
from prlib.attacks.base import aims, margin
from prlib.attacks.carlini_wagner import cw_through
from prlib.attacks.directions import DIRECTIONS, Adam, Momentum
from prlib.attacks.registry import KINDS
from prlib.experiment import Defence, Experiment, Training
from prlib.profiles import default_attack, default_defence, default_recipe
from prlib.redraw import PixelRedraw, Quantised
from prlib.rivals import GaussianNoise

ONE = PixelRedraw.fit(steps=5000)
STAIRS = Staircase.of(ONE)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Linear(nn.Module):
    """Classes by linear scores: weight is pixels×K."""

    def __init__(self, weight, bias=0.0):
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), bias

    def forward(self, images):
        return images.flatten(1) @ self.weight + self.bias


def two_classes(seed=5, n=16):
    weight = torch.randn(n, generator=seeded(seed))
    weight -= weight.mean()  # grey images lie on the boundary
    return Linear(torch.stack([weight, -weight], 1)), weight


# What steps follow.


def test_momentum_is_the_sum_of_gradients_by_hand():
    gradients = torch.randn(5, 3, 1, 4, 4, generator=seeded()).unbind(0)
    follow, running = Momentum(0.5), torch.zeros(3, 1, 4, 4)
    for gradient in gradients:
        running = 0.5 * running + gradient / gradient.flatten(1).abs().mean(1)[:, None, None, None]
        assert torch.equal(follow(gradient), running.sign())


def test_adams_steps_are_torchs():
    """Of gradients whose largest entry is 1, which leaves them as they are."""
    gradients = torch.randn(20, 3, 1, 4, 4, generator=seeded())
    gradients /= gradients.flatten(2).abs().amax(2)[..., None, None, None]
    place = torch.zeros(3, 1, 4, 4, requires_grad=True)
    optimizer, follow, there = torch.optim.Adam([place], lr=0.1, betas=(0.9, 0.99), maximize=True), Adam(), 0.0
    for gradient in gradients:
        place.grad = gradient
        optimizer.step()
        there = there + 0.1 * follow(gradient)
        assert torch.allclose(place.detach(), there, atol=1e-5)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("late_draws", [0, 16])
def test_every_direction_finds_a_linear_networks_worst_image_through_noise(direction, late_draws):
    """The expected margin falls with every pixel that moves against the weights, as far as the ball and [0, 1] go."""
    network, weight = two_classes()
    clean, labels = 0.35 + 0.3 * torch.rand(6, 1, 4, 4, generator=seeded(1)), torch.arange(6) % 2
    worst = (clean + 0.1 * (weight * (2 * labels[:, None] - 1)).sign().view_as(clean)).clamp(0, 1)
    call = {"epsilon": 0.1, "step_size": 0.03, "steps": 40, "draws": 4, "loss": "margin"}
    call |= {"direction": direction, "late_draws": late_draws, "defence": GaussianNoise(0.05), "generator": seeded()}
    assert torch.allclose(eot_pgd(network, clean, labels, **call), worst, atol=1e-4)


# Targets.


def test_aims_are_the_likeliest_wrong_classes():
    logits, labels = torch.tensor([[3.0, 1.0, 2.0, 0.0], [0.0, 1.0, 5.0, 7.0]]), torch.tensor([0, 3])
    assert [aim.tolist() for aim in aims(logits, labels, 2)] == [[2, 2], [1, 1]]
    assert len(aims(logits, labels, 9)) == 3 and aims(logits, labels, 0) == [None]


class Decoy(nn.Module):
    """Class 1 is near and cannot be reached; class 2 is far, and can be."""

    def forward(self, images):
        x = images.flatten(1)[:, 0]
        near = 0.9 + 0.05 * torch.tanh(20 * (0.5 - x))
        return torch.stack([torch.ones_like(x), near, 8 * (x - 0.5) - 1], 1)


@pytest.mark.parametrize("attack", [pgd, crossing])
def test_what_flees_to_the_nearest_class_is_led_astray_and_targets_are_not(attack):
    clean, labels = torch.full((2, 1, 1, 1), 0.5), torch.zeros(2, dtype=torch.int64)
    call = partial(attack, Decoy(), clean, labels, epsilon=0.4, generator=seeded(), loss="margin")
    if attack is pgd:  # which starts anywhere: beside the image
        call, defence = partial(call, step_size=0.02, steps=50), lambda x: x
    else:
        call, defence = partial(call, defence=Quantised(ONE)), Quantised(ONE)
    with torch.no_grad():
        astray, fooled = (Decoy()(defence(call(targets=n))).argmax(1) != 0 for n in (0, 2))
    assert fooled.all() and not astray.all()


# Cells, enumerated.

CLEAN = torch.tensor([0.3, 0.4, 0.6, 0.66, 0.33, 0.38, 0.61, 0.65, 0.5]).view(1, 1, 3, 3)
EPSILON = 0.15
LABEL = torch.tensor([1])


def wavy(seed):
    """A network whose loss over cells has many hills."""
    torch.manual_seed(seed)
    layers = nn.Flatten(), nn.Linear(9, 24), nn.Tanh(), nn.Linear(24, 3)
    net = nn.Sequential(*layers).requires_grad_(False)
    net[1].weight *= 6
    return net


def all_cells():
    low, high = (cells.flatten().tolist() for cells in STAIRS.reach(CLEAN, EPSILON))
    choices = itertools.product(*(range(a, b + 1) for a, b in zip(low, high, strict=True)))
    return torch.tensor(list(choices)).view(-1, 1, 3, 3)


def margins_of(net, cells):
    return margin(net(STAIRS.mean.float()[cells]), LABEL.expand(len(cells)))


def reached(net, attack, **options):
    """The margin where the attack on the quantised redraw ends."""
    defence = Quantised(ONE)
    found = attack(net, CLEAN, LABEL, epsilon=EPSILON, defence=defence, generator=seeded(), loss="margin", **options)
    assert (found - CLEAN).abs().max() <= EPSILON + 1e-6
    return margins_of(net, STAIRS.cells(found)).item()


def test_a_beam_finds_the_worst_of_all_cells_where_crossing_and_greed_do_not():
    nets, cells = [wavy(seed) for seed in range(12)], all_cells()
    assert len(cells) >= 2**9
    worst = torch.tensor([margins_of(net, cells).min() for net in nets])
    ends = {}
    for name, attack, options in (
        ("crossing", crossing, {}),
        ("restarts", crossing, {"restarts": 8, "targets": 2}),
        ("greedy", search, {"rounds": 12, "moves": 6}),
        ("beam", search, {"rounds": 12, "moves": 9, "width": 6}),
    ):
        ends[name] = torch.tensor([reached(net, attack, **options) for net in nets])
        assert (ends[name] >= worst - 1e-5).all(), name  # nothing is lower than the lowest
    best = {name: int((end <= worst + 1e-5).sum()) for name, end in ends.items()}
    # An image that is fooled leaves the search: what remains to be compared is fooled or at the lowest.
    settled = {name: int(((end <= worst + 1e-5) | (end < 0)).sum()) for name, end in ends.items()}
    assert best["crossing"] < len(nets) and settled["crossing"] < len(nets)
    assert best["restarts"] > best["crossing"]
    assert settled["greedy"] > settled["crossing"]
    assert settled["beam"] == len(nets)


def test_the_best_of_all_steps_is_at_least_as_strong_as_the_last():
    """Long steps leave what they had found; the way is the same, so the last is among those that are judged."""
    labels, clean = LABEL.expand(20), torch.rand(20, 1, 3, 3, generator=seeded(3))
    ways = {"epsilon": 0.3, "step_size": 0.15, "steps": 10, "loss": "margin"}
    ends = []
    for net in map(wavy, range(6)):
        last, best = (pgd(net, clean, labels, **ways, every_step=e, generator=seeded()) for e in (False, True))
        ends.append([margin(net(x), labels) for x in (last, best)])
        assert ((best - clean).abs() <= 0.3 + 1e-6).all()
    last, best = map(torch.cat, zip(*ends, strict=True))
    assert (best <= last).all() and (best < last - 0.01).any()


@pytest.mark.parametrize("attack", [hop_skip_jump, auto, square, eot_pgd, crossing, search, cw_through])
def test_an_attack_that_needs_labels_says_so_before_it_asks_for_anything(attack):
    def never(images, generator):
        raise AssertionError("asked for")

    call = {"epsilon": 0.1} if attack is not cw_through else {}
    with pytest.raises((ValueError, TypeError), match="labels"):
        attack(wavy(0), CLEAN, defence=never, generator=seeded(), **call)


def test_cw_through_a_defence_reaches_a_network_of_another_type():
    """As every attack does: guarded, in float64 and in training mode, it is attacked as its twin."""
    clean, labels = torch.rand(4, 1, 3, 3, generator=seeded(3)), LABEL.expand(4)
    odd = nn.Sequential(wavy(0), nn.Dropout(0.9)).double().train()
    found = [
        cw_through(net, clean.to(dtype), labels, defence=None, generator=seeded(), draws=1, max_steps=30)
        for net, dtype in ((wavy(0), torch.float32), (odd, torch.float64))
    ]
    assert found[0].dtype == torch.float32 and found[1].dtype == torch.float64 and odd.training
    assert (found[0] - clean).abs().max() > 0.01 and torch.allclose(found[0], found[1].float(), atol=0.02)


def test_a_search_is_at_least_as_strong_as_crossing_where_nothing_is_random():
    for seed in range(12, 20):
        assert reached(wavy(seed), search, rounds=4) <= reached(wavy(seed), crossing) + 1e-6


def test_a_search_leaves_alone_what_cannot_be_seen():
    clean = torch.rand(8, 1, 3, 3, generator=seeded(2))
    found = search(wavy(0), clean, LABEL.expand(8), epsilon=0.05, defence=ONE, generator=seeded(), rounds=3, draws=5)
    hidden = STAIRS.exposure(clean, 0.05) == 0
    assert hidden.any() and torch.equal(found[hidden], clean[hidden])


# Black boxes.


class TwoPixels(nn.Module):
    """Logits that read two pixels only, steeply, so that what is redrawn decides."""

    def forward(self, images):
        score = 8 * (images[:, 0, 0, 0] + images[:, 0, 0, 1] - 1)
        return torch.stack([score, -score] + [score - 100] * 8, 1)


def edged(n=20):
    return torch.tensor([0.39, 0.68]).expand(n, 1, 1, 2).clone(), torch.zeros(n, dtype=torch.int64)


def left(images, labels, network=None):
    call = {"draws": 500, "defence": ONE, "generator": seeded(77)}
    return robust_probability(network or TwoPixels(), images, labels, **call).mean().item()


def test_square_without_luck_goes_on_where_it_used_to_stop():
    pixels, labels = edged()
    clean = torch.full((20, 1, 4, 4), 0.5)  # of one row torchattacks changes some pixels never
    clean[:, :, :1, :2] = pixels
    attack = partial(square, TwoPixels(), clean, labels, epsilon=0.1, defence=ONE, queries=300)
    before, lucky, plain = (
        left(x, labels) for x in (clean, attack(generator=seeded()), attack(generator=seeded(), lucky=False, draws=20))
    )
    assert before > 0.85 and lucky > 0.2 and plain < 0.1


def test_square_without_luck_makes_every_query():
    asked = []

    class Asked(TwoPixels):
        def forward(self, images):
            asked.append(len(images))
            return super().forward(images)

    clean, labels = edged(5)
    square(Asked(), clean, labels, epsilon=0.1, defence=ONE, generator=seeded(), queries=50, draws=3, lucky=False)
    assert 50 * 3 * 5 <= sum(asked) <= 53 * 3 * 5


def test_hop_skip_jump_finds_what_is_near_enough_on_a_linear_network():
    """The distance to a linear boundary in L∞ is the margin by the weights' L1 norm."""
    network, weight = two_classes()
    clean = 0.3 + 0.4 * torch.rand(40, 1, 4, 4, generator=seeded(3))
    clean[20:] = 0.5 + (clean[20:] - 0.5) / 4
    clean[0] = 0.5 + 0.2 * weight.sign().view(1, 4, 4)  # 0.2 from the boundary in every pixel
    with torch.no_grad():
        logits = network(clean)
    labels, distance = logits.argmax(1), margin(logits, logits.argmax(1)) / (2 * weight.abs().sum())
    call = {"epsilon": 0.1, "defence": None, "generator": seeded(), "steps": 8}
    found = hop_skip_jump(network, clean, labels, **call)
    fooled = network(found).argmax(1) != labels
    assert (found - clean).abs().max() <= 0.1 + 1e-6
    assert not fooled[distance > 0.1].any() and (distance > 0.1).any()
    near = distance < 0.04
    assert near.sum() >= 15 and fooled[near].float().mean() >= 0.9


def test_hop_skip_jump_fools_the_majority_behind_a_redraw():
    clean, labels = edged(12)
    clean[6:], labels[6:] = 0.1, 1  # so that each has another class beside it
    call = {"epsilon": 0.1, "defence": ONE, "generator": seeded(), "votes": 15, "steps": 5, "evaluations": 40}
    found = hop_skip_jump(TwoPixels(), clean, labels, **call)
    assert left(clean[:6], labels[:6]) > 0.85 and left(found[:6], labels[:6]) < 0.6
    assert torch.equal(found[6:].round(), clean[6:].round())  # which no change within ε can fool


def test_an_image_without_another_class_stays_as_it_is():
    network, _ = two_classes()
    clean = torch.full((3, 1, 4, 4), 0.5)
    labels = network(clean).argmax(1)
    found = hop_skip_jump(network, clean, labels, epsilon=0.1, defence=None, generator=seeded(), steps=1)
    assert torch.equal(found, clean)


# A defender who votes.


@pytest.mark.parametrize("votes", [1, 5, 25])
def test_a_vote_is_right_as_often_as_the_binomial_says(votes):
    """A network that is right of each draw with probability 0.6; within 5 standard errors of 4,000 answers an image."""
    clean, labels = torch.full((50, 1, 1, 1), 0.5), torch.zeros(50, dtype=torch.int64)
    network = Linear(torch.tensor([[-1.0, 1.0]]), torch.tensor([0.6, -0.6]))  # class 0 where the pixel is below 0.6

    def uniform(x, generator):
        return torch.rand(x.shape, generator=generator)

    call = {"draws": 80, "votes": votes, "defence": uniform, "generator": seeded()}
    rate = robust_probability(network, clean, labels, **call).mean().item()
    expected = stats.binom.sf(votes // 2, votes, 0.6)
    assert abs(rate - expected) < 5 * (expected * (1 - expected) / 4000) ** 0.5


# Through the defence.


def test_cw_through_the_redraw_wins_where_nothing_bounds_it():
    clean, labels = torch.rand(10, 1, 1, 2, generator=seeded(4)), torch.arange(10) % 2
    clean[labels == 0] = clean[labels == 0].clamp_min(0.7)
    clean[labels == 1] = clean[labels == 1].clamp_max(0.3)
    assert left(clean, labels) > 0.9
    call = {"defence": ONE, "generator": seeded(), "confidence": 8.0, "initial_const": 1.0, "max_steps": 300}
    found = KINDS["cw_through"].function(TwoPixels(), clean, labels, **call)
    assert left(found, labels) < 0.05 and found.min() >= 0 and found.max() <= 1


def test_a_transfer_through_the_defence_from_the_network_itself_is_eot_pgd():
    network, _ = two_classes(n=9)
    call = {"epsilon": EPSILON, "step_size": 0.05, "steps": 4, "draws": 3, "defence": ONE}
    clean, labels = CLEAN.expand(4, -1, -1, -1), torch.arange(4) % 2
    direct = eot_pgd(network, clean, labels, generator=seeded(3), **call)
    other, _ = two_classes(6, 9)
    assert torch.equal(direct, transfer_through(other, clean, labels, surrogate=network, generator=seeded(3), **call))
    astray = transfer_through(network, clean, labels, surrogate=other, generator=seeded(3), **call)
    assert not torch.equal(direct, astray)


def test_costs_are_what_the_options_say():
    assert KINDS["eot_pgd"].cost({"steps": 40, "draws": 2, "late_draws": 10, "targets": 3}).gradients == 3 * (60 + 100)
    assert KINDS["crossing"].cost({"restarts": 4, "targets": 2, "steps": 5, "draws": 3}).gradients == 120
    assert math.isinf(KINDS["eot_pgd"].cost({"steps": math.inf, "draws": 1}).gradients)


def experiment(*names):
    training = Training("mnist", "full", 100, default_defence("pr", "mnist"), default_recipe("mnist"), 0)
    attacks = tuple(default_attack(name, "mnist") for name in names)
    return Experiment(training, (training.defence,), (1,), 100, attacks, ("adaptive",))


def test_a_transfer_through_the_defence_is_made_on_the_network_of_the_next_seed():
    other = experiment("transfer-through").surrogate
    assert other.defence == default_defence("pr", "mnist", seed=1) and other.seed == 1
    assert experiment("transfer").surrogate.defence == Defence() and experiment("crossing").surrogate is None


def test_attacks_of_an_experiment_go_together():
    with pytest.raises(ValueError, match="made on one other network; got attacks on two"):
        experiment("transfer", "transfer-through")
    with pytest.raises(ValueError, match="all be bounded or none; got some of both"):
        experiment("crossing", "cw-through")
    assert not experiment("cw-through").attacks[0].kind.bounded

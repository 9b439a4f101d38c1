"""The certificate for the quantised redraw, against every image that can be reached."""

import itertools

import pytest
import torch
from torch import nn

from prlib.attacks import Staircase, crossing
from prlib.attacks.base import margin
from prlib.attacks.certificate import FAILS, HOLDS, OPEN, certificate, least_margin
from prlib.model import PaperCNN
from prlib.redraw import PixelRedraw, Quantised

ONE = PixelRedraw.fit(steps=5000)
STAIRS = Staircase.of(ONE)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def network(seed):
    torch.manual_seed(seed)
    layers = nn.Conv2d(1, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)
    net = nn.Sequential(*layers).requires_grad_(False)
    net[5].bias -= net(torch.rand(500, 1, 3, 3)).mean(0)  # so that no class has it all
    return net


def least_by_enumeration(net, image, label, epsilon):
    low, high = (cells.flatten().tolist() for cells in STAIRS.reach(image, epsilon))
    cells = torch.tensor(list(itertools.product(*(range(a, b + 1) for a, b in zip(low, high, strict=True)))))
    shown = STAIRS.mean.float()[cells].view(-1, 1, 3, 3)
    return margin(net(shown), label.expand(len(shown))).min().item()


def test_it_says_of_every_image_what_enumeration_says():
    answers = []
    for seed in range(20):
        net, clean = network(seed), torch.rand(3, 1, 3, 3, generator=seeded(seed))
        labels = net(Quantised(ONE)(clean)).argmax(1)
        labels[2] = (labels[2] + 1) % 3  # wrong to begin with
        for epsilon in (0.02, 0.1, 0.2):
            found = certificate(net, clean, labels, stairs=STAIRS, epsilon=epsilon, boxes=5000)
            for image, label, answer in zip(clean.split(1), labels.split(1), found.tolist(), strict=True):
                least = least_by_enumeration(net, image, label, epsilon)
                assert answer == (HOLDS if least > 0 else FAILS)
                answers.append(answer)
    assert answers.count(HOLDS) > 20 and answers.count(FAILS) > 70


def test_with_few_boxes_it_leaves_open_what_it_does_not_know():
    net, clean = network(3), torch.rand(30, 1, 3, 3, generator=seeded(9))
    labels = net(Quantised(ONE)(clean)).argmax(1)
    few, many = (certificate(net, clean, labels, stairs=STAIRS, epsilon=0.15, boxes=n) for n in (1, 5000))
    assert (few[few != OPEN] == many[few != OPEN]).all() and OPEN in few and OPEN not in many


def test_no_attack_succeeds_where_it_holds():
    net, clean = network(5), torch.rand(40, 1, 3, 3, generator=seeded(2))
    labels = net(Quantised(ONE)(clean)).argmax(1)
    holds = certificate(net, clean, labels, stairs=STAIRS, epsilon=0.1) == HOLDS
    call = {"epsilon": 0.1, "defence": Quantised(ONE), "generator": seeded(), "loss": "margin", "restarts": 5}
    fooled = net(Quantised(ONE)(crossing(net, clean, labels, **call))).argmax(1) != labels
    assert holds.any() and fooled.any() and not (holds & fooled).any()


def test_bounds_of_the_papers_network_hold_and_are_exact_for_a_single_image():
    net = PaperCNN(1, 28).requires_grad_(False)
    low = torch.rand(4, 1, 28, 28, generator=seeded(1)) * 0.9
    high, labels = low + 0.01, torch.arange(4)
    bound = least_margin(net, low, high, labels)
    inside = low + (high - low) * torch.rand(50, 4, 1, 28, 28, generator=seeded(2))
    margins = torch.stack([margin(net(images), labels) for images in inside])
    assert (bound <= margins.amin(0) + 1e-5).all()
    assert torch.allclose(least_margin(net, low, low, labels), margin(net(low), labels), atol=1e-4)


def test_what_it_cannot_look_into_is_said():
    clean, labels = torch.rand(1, 1, 3, 3), torch.zeros(1, dtype=torch.int64)
    call = {"stairs": STAIRS, "epsilon": 0.1}
    with pytest.raises(ValueError, match="layers must be Conv2d, Linear, ReLU or Flatten; got Tanh"):
        certificate(nn.Sequential(nn.Flatten(), nn.Tanh(), nn.Linear(9, 3)), clean, labels, **call)
    with pytest.raises(ValueError, match="the last layer must be a Linear; got Flatten"):
        certificate(nn.Sequential(nn.Flatten()), clean, labels, **call)
    with pytest.raises(ValueError, match="boxes must be a positive integer"):
        certificate(network(0), clean, labels, **call, boxes=0)

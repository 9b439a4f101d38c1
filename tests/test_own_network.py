"""What the chapter "Rerun it" promises: any network, defence and attack can be put through the cases."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from prlib.attacks import fgsm
from prlib.cases import CASES, judge
from prlib.data import Split, load

EPSILON = 0.1


@pytest.fixture(scope="module")
def digits():
    """MNIST's sample as a dataset of one's own: is the digit at least 5?"""
    split = load("mnist", "test", "sample")
    return Split.of(split.images, (split.labels >= 5).long(), "small-or-large", "test")


class Linear(nn.Module):
    """A network of one's own; its weights say how, on average, large digits differ from small ones."""

    def __init__(self, split):
        super().__init__()
        self.layer = nn.Linear(split.images[0].numel(), 2)
        pixels = (split.images / 255).flatten(1)
        means = torch.stack([pixels[split.labels == label].mean(0) for label in (0, 1)])
        with torch.no_grad():
            self.layer.weight.copy_(means)
            self.layer.bias.copy_(-means.square().sum(1) / 2)

    def forward(self, images):
        return self.layer(images.flatten(1))


def black_and_white(images, generator):
    """A defence of one's own: one bit a pixel."""
    return (images > 0.5).to(images.dtype)


def attack(model, images, labels):
    return fgsm(model, images, labels, epsilon=EPSILON)


def closed_form(network, pixels, labels, epsilon=EPSILON):
    """Which of two classes' images survive FGSM, and how far it moves them, without any gradient.

    Every pixel moves against the difference of the two weights, by epsilon or as far as [0, 1] goes.
    """
    weight, bias = (tensor.detach().double().numpy() for tensor in (network.layer.weight, network.layer.bias))
    towards = weight[1 - labels] - weight[labels]
    room = np.where(towards > 0, 1 - pixels, pixels)
    moved = np.minimum(room, epsilon) * (towards != 0)
    margin = bias[labels] - bias[1 - labels] - (towards * pixels).sum(1)
    return margin > (np.abs(towards) * moved).sum(1), np.sqrt((moved**2).sum(1))


def test_fgsm_on_a_linear_network_is_the_closed_form_in_every_case(digits):
    network = Linear(digits)
    outcomes = judge(network, digits, black_and_white, seed=0, cases=("normal", "B", "C"), attack=attack)
    labels = digits.labels.numpy()
    clean = digits.images.flatten(1).numpy() / 255
    quantised = (clean > 0.5).astype(float)
    expected = {
        "normal": closed_form(network, quantised, labels, epsilon=0)[0],
        "B": closed_form(network, clean, labels)[0],
        "C": closed_form(network, quantised, labels)[0],
    }
    for case, correct in expected.items():
        assert (outcomes[case].correct.numpy() == correct).mean() > 0.995, case  # float32 at the very boundary
    accuracy = {case: correct.mean() for case, correct in expected.items()}
    assert accuracy["normal"] > 0.6 and accuracy["B"] < accuracy["normal"] - 0.1  # the attack has something to do
    distances = np.isclose(outcomes["B"].l2, closed_form(network, clean, labels)[1], rtol=1e-4, atol=0)
    assert distances.mean() > 0.995  # where a gradient is nearly zero, float32 may give its sign otherwise


def test_a_defence_removes_what_does_not_cross_its_threshold(digits):
    sharp = Split.of((digits.images > 127).to(torch.uint8) * 255, digits.labels, digits.name, "test")
    outcomes = judge(Linear(digits), sharp, black_and_white, seed=0, cases=("normal", "A", "B"), attack=attack)
    assert torch.equal(outcomes["A"].correct, outcomes["normal"].correct)
    assert outcomes["A"].l2.max() == 0
    assert not torch.equal(outcomes["B"].correct, outcomes["normal"].correct)


def test_a_random_defence_is_drawn_from_the_seed(digits):
    def noise(images, generator):
        return (images + torch.randn(images.shape, generator=generator) / 2).clamp(0, 1)

    judged = partial(judge, Linear(digits), digits, noise, cases=("A",), attack=attack)
    first, again, other = (judged(seed=seed)["A"] for seed in (1, 1, 2))
    assert torch.equal(first.l2, again.l2)
    assert not torch.equal(first.l2, other.l2)


def test_a_case_of_ones_own(digits, monkeypatch):
    monkeypatch.setitem(CASES, "C twice", ("defend", "attack", "defend"))
    outcomes = judge(Linear(digits), digits, black_and_white, 0, ("normal", "C", "C twice"), attack)
    # The second quantisation undoes an attack on black and white pixels altogether.
    assert torch.equal(outcomes["C twice"].correct, outcomes["normal"].correct)
    assert outcomes["C"].correct.sum() < outcomes["C twice"].correct.sum()

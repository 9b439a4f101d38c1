"""The figure of the cases draws what it says: pixels, titles and answers against a model that can be worked out."""

import numpy as np
import pytest
import torch
from torch import nn

from prlib.data import Split
from prlib.pages import figures


class Brightness(nn.Module):
    """Takes an image of brightness below 0.5 for class 0, others for class 1."""

    def forward(self, images):
        mean = images.flatten(1).mean(1)
        return torch.stack([0.5 - mean, mean - 0.5], dim=1)


def brighten(model, images, labels):
    return (images + 0.6).clamp(0, 1)


def halve(images, generator):
    """A redraw that shows what was drawn: half the image plus one small random number for all of it."""
    return images / 2 + 0.01 * torch.rand(1, generator=generator)


@pytest.fixture
def split():
    images = torch.zeros(4, 1, 3, 3, dtype=torch.uint8)
    images[1], images[2], images[3] = 255, 20, 200
    return Split.of(images, torch.tensor([0, 1, 0, 1]), "mnist", "test")


@pytest.fixture
def drawn(split):
    figure = figures.cases(split, Brightness(), halve, brighten, columns=2, seed=3)
    figure.draw_without_rendering()
    yield np.array(figure.axes).reshape(5, 2)


def test_each_row_is_its_case(drawn):
    extra = 0.01 * torch.rand(1, generator=torch.Generator().manual_seed(3)).item()
    expected = {  # of the first black and the first white image
        "clean": (0, 1),
        "normal": (extra, 0.5 + extra),
        "case A": (0.3 + extra, 0.5 + extra),
        "case B": (0.6, 1),
        "case C": (0.6 + extra, 1),
    }
    assert [row[0].texts[0].get_text() for row in drawn] == list(expected)
    for row, values in zip(drawn, expected.values(), strict=True):
        for ax, value in zip(row, values, strict=True):
            np.testing.assert_allclose(ax.images[0].get_array(), np.full((3, 3), value), atol=1e-6)
            assert ax.images[0].get_clim() == (0, 1)


def test_titles_say_what_the_network_reads(drawn):
    titles = [[ax.get_title() for ax in row] for row in drawn]
    assert titles == [["0", "1"], ["0", "1"], ["0", "1"], ["1 ✗", "1"], ["1 ✗", "1"]]


def test_the_attack_is_given_the_true_labels_and_fits_the_page(split):
    given = []

    def remember(model, images, labels):
        given.append(labels.tolist())
        return images

    figure = figures.cases(split, Brightness(), halve, remember, columns=2)
    width = figure.get_figwidth()
    assert given == [[0, 1]] * 3 and width <= 6

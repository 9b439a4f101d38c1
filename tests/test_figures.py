"""What figures draw: pixels, titles and answers against a model that can be worked out, differences against counts."""

from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from prlib.chosen import Chosen
from prlib.data import Split
from prlib.findings.pairs import Bits, OneTraining
from prlib.pages import figures
from prlib.pages.figures.drawing import NARROW, WIDE, Layout, letters, style
from prlib.pages.figures.method import cases
from prlib.pages.figures.results import accuracy_over_epochs, over_epsilon
from prlib.record import pack
from prlib.statistics import wilson


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
    figure = cases(WIDE, split, Brightness(), halve, brighten, classes=2, seed=3)
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

    figure = cases(WIDE, split, Brightness(), halve, remember, classes=2)
    width = figure.get_figwidth()
    assert given == [[0, 1]] * 3 and width <= 6


@pytest.mark.parametrize(("layout", "rows", "columns"), [(WIDE, 5, 10), (NARROW, 10, 5)])
def test_a_narrow_page_shows_half_of_the_classes_and_the_others_below(layout: Layout, rows, columns):
    images = torch.arange(10, dtype=torch.uint8).mul(20)[:, None, None, None].expand(10, 1, 3, 3).contiguous()
    figure = cases(layout, Split.of(images, torch.arange(10), "mnist", "test"), Brightness(), halve, brighten)
    axes = np.array(figure.axes).reshape(rows, columns)
    clean = [ax.images[0].get_array()[0, 0] for ax in axes[::5].flat]
    np.testing.assert_allclose(clean, np.arange(10) * 20 / 255, atol=1e-6)
    titles = [row[0].texts[0].get_text() for row in axes]
    assert titles == ["clean", "normal", "case A", "case B", "case C"] * (rows // 5)


N = 40
RIGHT = {"none": (30, 36), "train": (28, 33), "test": (20, 12), "both": (31, 35)}
"""Of so many images so many are right after 1 and after 50 epochs."""


@pytest.fixture
def cells():
    def cell(phase, epochs, right):
        images = Chosen("full", "mnist", N)
        bits = Bits(images, pack(torch.arange(N) < right))
        return {
            "dataset": "mnist",
            "defence": "none" if phase == "none" else "pr",
            "phase": phase,
            "epochs": epochs,
            "attack": "",
            "ours": wilson(right, N),
            "trainings": (OneTraining(0, right / N, "a", bits),),
        }

    return pd.DataFrame([cell(p, e, n) for p, found in RIGHT.items() for e, n in zip((1, 50), found, strict=True)])


@pytest.mark.parametrize("layout", [WIDE, NARROW])
def test_differences_to_the_undefended_network_are_in_points(cells, layout):
    above, beneath = accuracy_over_epochs(layout, cells).axes[:: layout.panels][:2]
    lines = [list(line.get_ydata()) for line in above.lines]
    assert [30 / N, 36 / N] in lines and [20 / N, 12 / N] in lines
    drawn = [np.asarray(line.get_ydata(), dtype=float) for line in beneath.lines]
    paper = {50: {"none": 0.9929, "train": 0.9905, "both": 0.9893}}  # of Table 2
    for phase in ("train", "both"):
        ours = [100 * (a - b) / N for a, b in zip(RIGHT[phase], RIGHT["none"], strict=True)]
        assert any(len(y) == 2 and np.allclose(y, ours) for y in drawn)
        theirs = 100 * (paper[50][phase] - paper[50]["none"])
        assert any(len(y) == 3 and np.isclose(y[0], theirs) for y in drawn)
    assert len(drawn) == 5  # two phases, ours and the paper's, and the line of no change


@pytest.fixture
def styled():
    with mpl.rc_context():
        style()
        yield


@pytest.mark.usefixtures("styled")
@pytest.mark.parametrize("layout", [WIDE, NARROW])
def test_nothing_sticks_out_of_the_page(cells, layout):
    with mpl.rc_context(letters(layout)):
        figure = accuracy_over_epochs(layout, cells)
        figure.draw_without_rendering()
        needed, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert width <= layout.width and len({round(ax.get_position().x0, 3) for ax in figure.axes}) == layout.panels
    assert needed.x0 >= 0 and needed.y0 >= 0 and needed.x1 <= width and needed.y1 <= height


@pytest.mark.usefixtures("styled")
def test_a_figure_holds_its_narrow_drawing_unseen(cells):
    figure = figures.accuracy_over_epochs(cells)
    root = ElementTree.fromstring(figure._repr_svg_().partition("?>")[2])
    [hidden] = root.findall("{http://www.w3.org/2000/svg}svg")
    assert hidden.attrib["display"] == "none"
    wide, narrow = (float(svg.attrib["width"].removesuffix("pt")) / 72 for svg in (root, hidden))
    assert (wide, narrow) == pytest.approx((7.2, 3.55))
    again = figures.accuracy_over_epochs(cells)
    assert figure._repr_svg_() == again._repr_svg_()


def test_certified_accuracy_is_drawn_beneath_that_under_attack():
    def row(attack, epsilon, value):
        where = {"dataset": "mnist", "defence": "quantised", "attack": attack, "epsilon": epsilon}
        return where | {"ours": wilson(100 * value, 100)}

    rows = [row("strongest", 0.01, 0.9), row("any", 0.01, 0.8), row("any", 0.03, 0.2), row("strongest", 0.03, 0.7)]
    paper = [row("strongest", 0.0, 0.5), row("any", 0.0, 0.4)]  # ε is the paper's, no point of a sweep
    (ax,) = over_epsilon(WIDE, pd.DataFrame([*rows, *paper])).axes
    drawn = {container.get_label(): container.lines[0] for container in ax.containers}
    above, beneath = drawn["MNIST, one model, not random"], drawn["MNIST, one model, not random, certified"]
    assert list(zip(*above.get_data(), strict=True)) == [(0.01, 0.9), (0.03, 0.7)]
    assert list(zip(*beneath.get_data(), strict=True)) == [(0.01, 0.8), (0.03, 0.2)]
    (between,) = ax.collections[-1].get_paths()
    assert {(0.01, 0.8), (0.01, 0.9), (0.03, 0.2), (0.03, 0.7)} <= set(map(tuple, between.vertices))
    assert above.get_linestyle() != beneath.get_linestyle() and above.get_marker() != beneath.get_marker()

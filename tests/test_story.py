"""The pictures of single images: what they show, and that the networks do say what stands beneath."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from prlib.data import DATASETS, load, to_float
from prlib.pages.story import TITLES, gallery, published_network, strip
from prlib.pages.visit import clone, route


def images(text):
    found = re.findall(r"data:image/png;base64,([^\"]+)", text)
    pixels = [np.atleast_3d(Image.open(io.BytesIO(base64.b64decode(data)))) for data in found]
    return [torch.tensor(one).permute(2, 0, 1) / 255 for one in pixels]


@pytest.mark.slow
def test_the_strip_shows_a_test_image_its_attack_within_epsilon_and_what_the_networks_say():
    told = strip(["mnist"])
    (row,) = told.rows.values()
    assert [picture.title for picture in row] == list(TITLES)
    clean, attacked, *_ = shown = images(told._repr_html_())
    assert all((one - picture.image).abs().max() <= 0.5 / 255 + 1e-6 for one, picture in zip(shown, row, strict=True))
    assert (attacked - clean).abs().max() <= 0.3 + 1 / 255
    split = load("mnist", "test", "sample")
    (place,) = (to_float(split.images) - clean).flatten(1).abs().amax(1).lt(1e-3).nonzero().flatten().tolist()
    network = published_network("mnist", "none")
    for picture in row[:2]:
        says = DATASETS["mnist"].classes[int(network(picture.image[None]).argmax())]
        assert picture.says == says and picture.right == (says == DATASETS["mnist"].classes[split.labels[place]])
    assert not row[1].right


@pytest.mark.slow
def test_the_gallery_enlarges_what_case_b_changed():
    rows = gallery("cifar10-gray").rows
    assert list(rows) == ["FGSM", "BIM", "MIM", "CW"]
    split = load("cifar10-gray", "test", "sample").take(20)
    right = published_network("cifar10-gray", "pr")(to_float(split.images)).argmax(1) == split.labels
    place = right.tolist().index(True)
    assert place > 0  # the first image would do for a gallery that does not look
    clean, known = to_float(split.images)[place], DATASETS["cifar10-gray"].classes[split.labels[place]]
    for row in rows.values():
        assert torch.equal(row[0].image, clean) and (row[0].says, row[0].right) == (known, True)
        change = row[2].image - clean
        largest = float(re.search(r"[\d.]+$", row[-1].title)[0])
        assert abs(float(change.abs().max()) - largest) <= 0.005
        assert torch.allclose((row[-1].image - 0.5) * 2 * change.abs().max(), change, atol=1e-5)


def test_a_route_names_each_page_with_minutes_and_the_clone_command_has_one_address(monkeypatch, tmp_path):
    text = route("An hour", ["method", "play"]).data
    assert re.fullmatch(r"- \*\*An hour:\*\* \{doc\}`method` \(\d+ min\) → \{doc\}`play` \(\d+ min\)", text)
    assert "ADDRESS" in clone().data
    monkeypatch.setattr("prlib.pages.address._CONFIG", tmp_path / "_config.yml")
    (tmp_path / "_config.yml").write_text("repository: {url: 'https://github.com/me/redrawn'}")
    assert (
        "git clone https://github.com/me/redrawn redrawn\ncd redrawn" in clone().data and "ADDRESS" not in clone().data
    )

"""What the Play page computes, its networks, attacks and redraw, agrees with PyTorch."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from playwright.sync_api import Page
from scipy.stats import chisquare
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from prlib import attacks
from prlib.data import load, to_float
from prlib.profiles import default_attack, default_defence
from prlib.snapshot import load_model

NETWORKS = {"undefended": "none", "redrawn": "pr"}
SETTINGS = json.loads((ROOT / "book" / "_root" / "play" / "settings.json").read_text())
DATASETS = SETTINGS["datasets"]
IMAGES = {
    name: to_float(load(name, "test", root="sample").images[:n]) for name, n in {"mnist": 10, "cifar10": 4}.items()
}
# Runs the body of an async function with the page's modules at hand; its images are lists of lists.
WITH_MODULES = """async (given) => {
    const { Network, readSafetensors } = await import("/play/network.js");
    const { attack, crossings, generator, redraw } = await import("/play/method.js");
    const load = async (name, size) =>
        new Network(readSafetensors(await (await fetch(`/play/${name}.safetensors`)).arrayBuffer()), size);
    const images = given.images?.map((image) => Float32Array.from(image));
    BODY
}"""


def compute(tab: Page, body: str, **given) -> Tensor:
    tab.goto("book/references.html")
    given = {name: flat(value) if name == "images" else value for name, value in given.items()}
    return torch.tensor(tab.evaluate(WITH_MODULES.replace("BODY", body), given))


def flat(images: Tensor) -> list[list[float]]:
    """As the page has them: the channels of each pixel together."""
    return images.permute(0, 2, 3, 1).flatten(1).tolist()


def unflat(numbers: Tensor, like: Tensor) -> Tensor:
    """Images ...×C×H×W of what the page has given as ...×numbers."""
    channels, height, width = like.shape[1:]
    return numbers.unflatten(-1, (height, width, channels)).movedim(-1, -3)


def loading(dataset: str, name: str) -> str:
    return f'const network = await load("{dataset}-{name}", {DATASETS[dataset]["size"]});'


def model(dataset: str, name: str) -> nn.Module:
    """In float64, since the page sums in float64: in float32 a ReLU's input near 0 may be rounded to the other side."""
    folder = ROOT / "results/published/weights"
    (weights,) = folder.glob(f"{dataset}-full*-{NETWORKS[name]}-s0-*/epoch-0050.safetensors")
    return load_model(weights).double()


def gradient(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    images = images.double().requires_grad_()
    return torch.autograd.grad(cross_entropy(network(images), labels, reduction="sum"), images)[0].float()


def check_step(before: Tensor, after: Tensor, slope: Tensor, clean: Tensor, epsilon: float, size: float) -> None:
    """One step along the slope's sign, wherever rounding does not choose the sign."""
    expected = (before + size * slope.sign()).clamp(clean - epsilon, clean + epsilon).clamp(0, 1)
    certain = slope.abs() >= 1e-5 * slope.abs().amax((1, 2, 3), keepdim=True)
    assert ((after - expected).abs() < 1e-6)[certain].all()
    assert certain.float().mean() > 0.999


@pytest.mark.slow
def test_the_committed_files_are_what_the_script_makes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "workflow/play", tmp_path], cwd=ROOT, check=True)
    made = json.loads((tmp_path / "_root" / "play" / "settings.json").read_text())
    for dataset, settings in DATASETS.items():
        thresholds = made["datasets"][dataset]["thresholds"]
        assert thresholds == pytest.approx(settings["thresholds"], abs=1e-9)
        made["datasets"][dataset]["thresholds"] = settings["thresholds"]
        assert thresholds == pytest.approx(default_defence("pr", dataset).build().thresholds[0].tolist(), abs=1e-9)
    assert made == SETTINGS
    # Another processor may attack a few pixels otherwise, and so redraw and count them otherwise.
    new, old = (np.asarray(Image.open(folder / "play.png").convert("L"), float) for folder in (tmp_path, ROOT / "book"))
    assert new.shape == old.shape and abs(new - old).mean() < 4


@pytest.mark.parametrize("dataset", DATASETS)
def test_its_attack_is_the_protocols(dataset: str) -> None:
    options, settings = dict(default_attack("bim", dataset).options), DATASETS[dataset]
    assert [settings[name] for name in ("epsilon", "step_size", "steps")] == [
        options[name] for name in ("epsilon", "step_size", "steps")
    ]
    assert SETTINGS["ranges"] == default_defence("pr", dataset).build().ranges.tolist()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dataset", DATASETS)
def test_its_networks_weigh_less_than_3_mb(site: Path, dataset: str, name: str) -> None:
    assert 1e6 < (site / "play" / f"{dataset}-{name}.safetensors").stat().st_size < 3e6


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dataset", DATASETS)
def test_logits_and_gradients_are_those_of_pytorch(tab: Page, dataset: str, name: str) -> None:
    network, images = model(dataset, name), IMAGES[dataset]
    expected = network(images.double()).detach()
    both = compute(
        tab,
        loading(dataset, name)
        + """return images.map((image, i) =>
            [...network.logits(image), ...network.gradient(image, given.labels[i])]);""",
        images=images,
        labels=expected.argmax(1).tolist(),
    )
    logits, ours = both[:, :10], both[:, 10:]
    assert (logits - expected).abs().max() < 1e-4
    slope = gradient(network, images, expected.argmax(1))
    assert (unflat(ours, images) - slope).abs().flatten(1).amax(1).div(slope.abs().flatten(1).amax(1)).max() < 1e-5


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("attack", ["FGSM", "BIM"])
@pytest.mark.parametrize("dataset", DATASETS)
def test_attacked_images_are_those_of_pytorch(tab: Page, dataset: str, attack: str, name: str) -> None:
    network, images = model(dataset, name), IMAGES[dataset]
    epsilon, size, steps = (DATASETS[dataset][name] for name in ("epsilon", "step_size", "steps"))
    if attack == "FGSM":
        size, steps = epsilon, 1
    labels = network(images.double()).argmax(1)
    path = compute(
        tab,
        loading(dataset, name)
        + """const attacked = (image, i) => [...attack(network, image, given.labels[i], given.options)];
        return images.map((image, i) => attacked(image, i).map((step) => [...step]));""",
        images=images,
        labels=labels.tolist(),
        options={"epsilon": epsilon, "size": size, "steps": steps},
    )
    path = [images, *unflat(path, images).transpose(0, 1)]
    # Each step from where the page's own attack stands: a pixel that rounding sent elsewhere changes all that follows.
    for before, after in pairwise(path):
        check_step(before, after, gradient(network, before, labels), images, epsilon, size)

    options = {"epsilon": epsilon} if steps == 1 else {"epsilon": epsilon, "step_size": size, "steps": steps}
    whole = (attacks.fgsm if steps == 1 else attacks.bim)(network, images.double(), **options)
    assert ((path[-1] - whole).abs() < 1e-6).float().mean() > 0.999


@pytest.mark.parametrize("dataset", DATASETS)
def test_an_attack_that_knows_follows_the_mean_gradient_over_its_draws(tab: Page, dataset: str) -> None:
    network, images = model(dataset, "redrawn"), IMAGES[dataset][:2]
    epsilon, draws, share = (
        DATASETS[dataset]["epsilon"],
        SETTINGS["knowing"]["draws"],
        SETTINGS["knowing"]["step_share"],
    )
    labels = network(images.double()).argmax(1)
    path = compute(
        tab,
        loading(dataset, "redrawn")
        + """const random = generator(1);
        return images.map((image, i) => {
            const path = [];
            const draw = (seen) => Array.from({ length: given.draws }, () => redraw(seen, ...given.redraw, random));
            const see = (seen) => { const drawn = draw(seen); path.push(...drawn); return drawn; };
            for (const step of attack(network, image, given.labels[i], { ...given.options, see })) path.push(step);
            return path.map((one) => [...one]);
        });""",
        images=images,
        labels=labels.tolist(),
        redraw=[DATASETS[dataset]["thresholds"], SETTINGS["ranges"]],
        draws=draws,
        options={"epsilon": epsilon, "size": share * epsilon, "steps": 3},
    )
    before = images
    for step in unflat(path, images).transpose(0, 1).split(draws + 1):
        *drawn, after = step
        slope = sum(gradient(network, one, labels) for one in drawn)
        check_step(before, after, slope, images, epsilon, share * epsilon)
        before = after


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_pixel_is_redrawn_in_its_range(tab: Page, dataset: str) -> None:
    redraw, size = default_defence("pr", dataset).build(), DATASETS[dataset]["size"]
    shape = (5, *IMAGES[dataset].shape[1:])
    images = torch.cat([IMAGES[dataset], torch.rand(shape, generator=torch.Generator().manual_seed(0))])
    edges = redraw.thresholds[0].float()
    at_edges = torch.cat([edges, edges.nextafter(torch.ones(2)), edges.nextafter(torch.zeros(2))])
    images[0, 0, 0, :6] = at_edges
    redrawn = compute(
        tab,
        "return images.map((image, i) => [...redraw(image, given.thresholds, given.ranges, generator(i))]);",
        images=images,
        thresholds=DATASETS[dataset]["thresholds"],
        ranges=SETTINGS["ranges"],
    )
    low, high = redraw.ranges[redraw.sort(images)].unbind(-1)
    redrawn = unflat(redrawn, images)
    assert size == images.shape[-1]
    assert ((low - 1e-6 <= redrawn) & (redrawn <= high + 1e-6)).all()
    assert torch.allclose(redrawn, redrawn.mul(100).round() / 100)


@pytest.mark.parametrize("dataset", DATASETS)
def test_pixels_cross_where_their_range_changes(tab: Page, dataset: str) -> None:
    redraw, before = default_defence("pr", dataset).build(), IMAGES[dataset]
    after = (before + 0.2 * torch.randn(before.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    crossed = compute(
        tab,
        """const after = given.after.map((image) => Float32Array.from(image));
        return images.map((image, i) => crossings(image, after[i], given.thresholds, given.channels));""",
        images=before,
        after=flat(after),
        thresholds=DATASETS[dataset]["thresholds"],
        channels=DATASETS[dataset]["channels"],
    )
    expected = (redraw.sort(before) != redraw.sort(after)).any(1).flatten(1)
    assert 0.05 < expected.float().mean() < 0.95
    assert torch.equal(crossed, expected)


@pytest.mark.parametrize("place", range(3))
def test_draws_are_uniform_in_their_range(tab: Page, place: int) -> None:
    (low, high), n = SETTINGS["ranges"][place], 50
    thresholds = DATASETS["mnist"]["thresholds"]
    edges = [0, *thresholds, 1]
    redrawn = compute(
        tab,
        """const random = generator(given.seed);
        return images.map((image) => [...redraw(image, given.thresholds, given.ranges, random)]);""",
        images=torch.full((n, 1, 28, 28), (edges[place] + edges[place + 1]) / 2),
        thresholds=thresholds,
        ranges=SETTINGS["ranges"],
        seed=place,
    )
    hundredths = redrawn.mul(100).round().long().flatten() - round(100 * low)
    counts = hundredths.bincount(minlength=round(100 * (high - low)) + 1).double().numpy()
    odds = np.ones_like(counts)
    odds[[0, -1]] = 0.5  # only one side of them is rounded to them
    # Right draws fail with probability 0.001, but their seed is fixed.
    assert chisquare(counts, counts.sum() * odds / odds.sum()).pvalue > 0.001

"""The Play page: its network, attacks and redraw agree with PyTorch's, and a reader can use all of it."""

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
from playwright.sync_api import Browser, Page, expect
from scipy.stats import chisquare
from torch.nn.functional import cross_entropy

from prlib import attacks
from prlib.data import load, to_float
from prlib.pages.story import published_network
from prlib.redraw import PixelRedraw

NETWORKS = {"undefended": "none", "redrawn": "pr"}
SETTINGS = json.loads((ROOT / "book" / "_root" / "play" / "digits.json").read_text())
EPSILON, SIZE, STEPS = (SETTINGS["bim"][name] for name in ("epsilon", "step_size", "steps"))
IMAGES = to_float(load("mnist", "test", root="sample").images[:20])
# Runs the body of an async function with the page's modules at hand; its images are lists of lists.
WITH_MODULES = """async (given) => {
    const { Network, readSafetensors } = await import("/play/network.js");
    const { attack, generator, redraw } = await import("/play/method.js");
    const load = async (name) =>
        new Network(readSafetensors(await (await fetch(`/play/${name}.safetensors`)).arrayBuffer()));
    const images = given.images?.map((image) => Float32Array.from(image));
    BODY
}"""


def compute(tab: Page, body: str, **given):
    tab.goto("book/references.html")
    given = {name: value.flatten(1).tolist() if name == "images" else value for name, value in given.items()}
    return torch.tensor(tab.evaluate(WITH_MODULES.replace("BODY", body), given))


def model(name):
    """In float64, since the page sums in float64: in float32 a ReLU's input near 0 may be rounded to the other side."""
    return published_network("mnist", NETWORKS[name]).double()


def gradient(network, images, labels):
    images = images.double().requires_grad_()
    return torch.autograd.grad(cross_entropy(network(images), labels, reduction="sum"), images)[0].float()


@pytest.mark.slow
def test_the_committed_files_are_what_the_script_makes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "workflow/play", tmp_path], cwd=ROOT, check=True)
    made = json.loads((tmp_path / "_root" / "play" / "digits.json").read_text())
    assert made.pop("thresholds") == pytest.approx(SETTINGS["thresholds"], abs=1e-9)
    assert made == {name: value for name, value in SETTINGS.items() if name != "thresholds"}
    # Another processor may attack a few pixels otherwise, and so redraw and count them otherwise.
    new, old = (np.asarray(Image.open(folder / "play.png").convert("L"), float) for folder in (tmp_path, ROOT / "book"))
    assert new.shape == old.shape and abs(new - old).mean() < 4
    assert SETTINGS["thresholds"] == pytest.approx(PixelRedraw.fit().thresholds[0].tolist(), abs=1e-9)


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_and_gradients_are_those_of_pytorch(tab: Page, name: str) -> None:
    network = model(name)
    expected = network(IMAGES.double()).detach()
    load = f'const network = await load("{name}");'
    logits = compute(tab, load + "return images.map((image) => [...network.logits(image)]);", images=IMAGES)
    assert (logits - expected).abs().max() < 1e-4

    labels = expected.argmax(1)
    ours = compute(
        tab,
        load + "return images.map((image, i) => [...network.gradient(image, given.labels[i])]);",
        images=IMAGES,
        labels=labels.tolist(),
    ).view_as(IMAGES)
    slope = gradient(network, IMAGES, labels)
    assert (ours - slope).abs().flatten(1).amax(1).div(slope.abs().flatten(1).amax(1)).max() < 1e-5


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("size", "steps"), [(EPSILON, 1), (SIZE, STEPS)], ids=["FGSM", "BIM"])
def test_attacked_images_are_those_of_pytorch(tab: Page, name: str, size: float, steps: int) -> None:
    network = model(name)
    labels = network(IMAGES.double()).argmax(1)
    path = compute(
        tab,
        f"""const network = await load("{name}");
        const attacked = (image, i) => [...attack(network, image, given.labels[i], given.options)];
        return images.map((image, i) => attacked(image, i).map((step) => [...step]));""",
        images=IMAGES,
        labels=labels.tolist(),
        options={"epsilon": EPSILON, "size": size, "steps": steps},
    )
    path = [IMAGES, *path.transpose(0, 1).reshape(steps, *IMAGES.shape)]
    # Each step from where the page's own attack stands: a pixel that rounding sent elsewhere changes all that follows.
    for before, after in pairwise(path):
        slope = gradient(network, before, labels)
        expected = (before + size * slope.sign()).clamp(IMAGES - EPSILON, IMAGES + EPSILON).clamp(0, 1)
        certain = slope.abs() >= 1e-5 * slope.abs().amax((1, 2, 3), keepdim=True)  # rounding does not choose the sign
        assert ((after - expected).abs() < 1e-6)[certain].all()
        assert certain.float().mean() > 0.999

    options = {"epsilon": EPSILON} if steps == 1 else {"epsilon": EPSILON, "step_size": size, "steps": steps}
    whole = (attacks.fgsm if steps == 1 else attacks.bim)(network, IMAGES.double(), **options)
    assert ((path[-1] - whole).abs() < 1e-6).float().mean() > 0.999


def test_every_pixel_is_redrawn_in_its_range(tab: Page) -> None:
    thresholds, ranges = SETTINGS["thresholds"], torch.tensor(SETTINGS["ranges"])
    edges = torch.tensor([thresholds], dtype=torch.float64).float()
    images = torch.cat([IMAGES, torch.rand(5, 1, 28, 28, generator=torch.Generator().manual_seed(0))])
    images[0, 0, 0, :6] = torch.cat([edges[0], edges[0].nextafter(torch.ones(2)), edges[0].nextafter(torch.zeros(2))])
    redrawn = compute(
        tab,
        "return images.map((image, i) => [...redraw(image, given.thresholds, given.ranges, generator(i))]);",
        images=images,
        thresholds=thresholds,
        ranges=SETTINGS["ranges"],
    ).view_as(images)
    low, high = ranges[PixelRedraw.fit().sort(images)].unbind(-1)
    assert ((low - 1e-6 <= redrawn) & (redrawn <= high + 1e-6)).all()
    assert torch.allclose(redrawn, redrawn.mul(100).round() / 100)


@pytest.mark.parametrize("place", range(3))
def test_draws_are_uniform_in_their_range(tab: Page, place: int) -> None:
    (low, high), n = SETTINGS["ranges"][place], 50
    edges = [0, *SETTINGS["thresholds"], 1]
    redrawn = compute(
        tab,
        """const random = generator(given.seed);
        return images.map((image) => [...redraw(image, given.thresholds, given.ranges, random)]);""",
        images=torch.full((n, 1, 28, 28), (edges[place] + edges[place + 1]) / 2),
        thresholds=SETTINGS["thresholds"],
        ranges=SETTINGS["ranges"],
        seed=place,
    )
    hundredths = redrawn.mul(100).round().long().flatten() - round(100 * low)
    counts = hundredths.bincount(minlength=round(100 * (high - low)) + 1).double().numpy()
    odds = np.ones_like(counts)
    odds[[0, -1]] = 0.5  # only one side of them is rounded to them
    # Right draws fail with probability 0.001, but their seed is fixed.
    assert chisquare(counts, counts.sum() * odds / odds.sum()).pvalue > 0.001


@pytest.fixture
def page(tab: Page) -> Page:
    tab.goto("book/play.html")
    return ready(tab)


def ready(page: Page) -> Page:
    expect(page.locator("#play-app")).to_have_attribute("data-state", "ready", timeout=30_000)
    return page


def first(page: Page, name: str) -> int:
    """The class with the longest bar."""
    return int(page.locator(f".results .{name} .first span").first.inner_text())


def test_the_page_says_what_the_networks_say(page: Page, problems: list[str]) -> None:
    split = load("mnist", "test", root="sample").take(10)
    order = split.labels.argsort()
    images, labels = to_float(split.images[order]).double(), split.labels[order]
    for name in NETWORKS:
        network = model(name)
        page.locator(f"[name=network][value={name}]").check()
        clean = network(images).argmax(1)
        attacked = network(attacks.bim(network, images, epsilon=EPSILON, step_size=SIZE, steps=STEPS)).argmax(1)
        for digit in labels.tolist():
            page.get_by_role("button", name=f"Digit {digit}").click()
            ready(page)
            assert first(page, "clean") == clean[digit] == digit
            assert first(page, "attacked") == attacked[digit]
    # The network trained on redrawn images knows all of its training digits, redrawn as well.
    page.locator("[name=attack][value=none]").check()
    for digit in labels.tolist():
        page.get_by_role("button", name=f"Digit {digit}").click()
        ready(page)
        assert first(page, "redrawn") == first(page, "draws") == digit
    sure = network(images[9:]).softmax(1).max().item()
    expect(page.locator(".says")).to_have_text(f"The network says 9 ({sure:.2f}). Redrawn: 9 in 25 of 25 draws.")
    assert problems == []


def test_draws_differ_and_choices_change_what_is_shown(page: Page, problems: list[str]) -> None:
    def picture(name: str) -> str:
        return ready(page).locator(f".results .{name} canvas").evaluate("canvas => canvas.toDataURL()")

    before = picture("redrawn"), picture("attacked")
    page.get_by_role("button", name="Draw again").click()
    assert picture("redrawn") != before[0] and picture("attacked") == before[1]
    page.locator("[name=epsilon]").fill("0.1")
    assert picture("attacked") != before[1]
    page.locator("[name=lower]").fill("0.7")  # pushes the upper threshold
    expect(page.locator("[name=upper]")).to_have_value("0.7")
    expect(page.locator("label:has([name=upper]) output")).to_have_text("0.700")
    page.locator("[name=redraws]").uncheck()
    expect(page.get_by_role("button", name="Draw again")).to_be_disabled()
    expect(page.locator(".says")).not_to_contain_text("Redrawn")
    page.get_by_role("button", name="Reset").click()
    assert picture("attacked") == before[1]
    page.locator("[name=knows]").check()
    assert picture("attacked") != before[1]
    page.locator("[name=knows]").uncheck()
    page.locator("[name=keep]").check()
    one = picture("redrawn")
    page.wait_for_function(
        "one => document.querySelector('.redrawn canvas').toDataURL() !== one", arg=one, timeout=10_000
    )
    page.locator("[name=redraws]").uncheck()  # nothing is left to draw on
    expect(page.locator(".says")).to_have_attribute("aria-live", "polite")
    assert problems == []


def test_everything_works_by_keyboard(page: Page, problems: list[str]) -> None:
    def reach(selector: str, key: str = "Tab") -> None:
        for _ in range(100):
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
            page.keyboard.press(key)
        raise AssertionError(f"{key} does not reach {selector}")

    def ink() -> float:
        script = "canvas => canvas.getContext('2d').getImageData(0, 0, 28, 28).data.reduce((a, b) => a + b)"
        return ready(page).locator(".clean canvas").evaluate(script)

    reach('[aria-label="Digit 3"]')
    page.keyboard.press("Enter")
    ready(page)
    assert first(page, "clean") == 3
    reach(".choice .draw")
    page.keyboard.press("Enter")
    reach(".pad canvas")
    reach(".clear")
    page.keyboard.press("Enter")
    empty = ink()
    reach(".pad canvas", "Shift+Tab")
    page.keyboard.press("ArrowUp")
    assert ink() == empty
    page.keyboard.press("Space")
    dot = ink()
    assert dot > empty
    for _ in range(8):
        page.keyboard.press("Shift+ArrowDown")
    assert ink() > 3 * (dot - empty) + empty
    reach("[name=epsilon]")
    page.keyboard.press("ArrowRight")
    expect(page.locator("label:has([name=epsilon]) output")).to_have_text("0.31")
    reach("[name=redraws]")
    page.keyboard.press("Space")
    expect(page.locator("[name=lower]")).to_be_disabled()
    assert problems == []


def test_a_finger_draws_and_the_page_stays_on_the_phone(browser: Browser, address: str) -> None:
    context = browser.new_context(base_url=address, has_touch=True, viewport={"width": 360, "height": 740})
    page = context.new_page()
    page.goto("book/play.html")
    ready(page).get_by_role("button", name="Draw", exact=True).tap()
    page.get_by_role("button", name="Clear").tap()
    page.locator(".pad canvas").tap(position={"x": 100, "y": 100})
    ready(page)
    shown = page.locator(".clean canvas").evaluate(
        "c => Math.max(...c.getContext('2d').getImageData(10, 10, 1, 1).data)"
    )
    assert shown == 255
    assert page.locator(".pad canvas").evaluate("canvas => getComputedStyle(canvas).touchAction") == "none"
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    context.close()


def test_without_javascript_there_is_a_figure(browser: Browser, address: str) -> None:
    context = browser.new_context(base_url=address, java_script_enabled=False)
    page = context.new_page()
    page.goto("book/play.html")
    expect(page.locator(".play-still img")).to_be_visible()
    expect(page.locator("#play-app")).to_be_hidden()
    context.close()


def test_a_network_that_cannot_be_loaded(tab: Page) -> None:
    tab.route("**/redrawn.safetensors", lambda route: route.fulfill(status=404))
    tab.goto("book/play.html")
    expect(ready(tab).locator(".play-still")).to_be_hidden()
    tab.locator("[name=network][value=redrawn]").check()
    expect(tab.locator(".failed")).to_have_text("The network could not be loaded: the server answers 404 Not Found.")
    tab.unroute("**/redrawn.safetensors")
    tab.get_by_role("button", name="Try again").click()
    expect(ready(tab).locator(".failed")).to_have_text("")


def test_only_the_chosen_network_is_fetched(tab: Page) -> None:
    fetched = []
    tab.context.on("request", lambda request: fetched.append(request.url))
    tab.goto("book/play.html")
    ready(tab)
    assert [url.rsplit("/")[-1] for url in fetched if url.endswith(".safetensors")] == ["undefended.safetensors"]

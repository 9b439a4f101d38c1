"""The Play page: it says what the networks say, tells the story, and a reader can use and share all of it."""

import re

import pytest
import torch
from playwright.sync_api import Page, expect
from test_play_method import DATASETS, NETWORKS, model
from torch import Tensor

from prlib import attacks
from prlib.data import load, to_float
from prlib.profiles import default_defence

STEPS = {"fool": "1. Fool it", "redraw": "2. Redraw it", "tell": "3. Tell the attacker"}
# How many pixels of a canvas have the tint's colour, Okabe and Ito's orange.
TINTED = """canvas => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const orange = (i) => data[i] === 230 && data[i + 1] === 159 && data[i + 2] === 0;
    return Array.from({ length: data.length / 4 }, (_, pixel) => orange(4 * pixel)).filter(Boolean).length;
}"""


@pytest.fixture
def page(tab: Page) -> Page:
    tab.goto("book/play.html")
    return ready(tab)


def ready(page: Page) -> Page:
    appears(page, "#play-app[data-state=ready]")
    return page


def appears(page: Page, selector: str) -> None:
    """Wait until it is there, and no longer: what ``expect`` looks for, it looks for seldom after a while."""
    page.wait_for_function("selector => document.querySelector(selector)", arg=selector, timeout=90_000)


def first(page: Page, name: str) -> str:
    """The class with the longest bar."""
    return page.locator(f".results .{name} .first span").first.inner_text()


def picture(page: Page, name: str) -> str:
    return ready(page).locator(f".results .{name} canvas").evaluate("canvas => canvas.toDataURL()")


def says(page: Page) -> str:
    """The sentence, which waits up to a second so that a screen reader can follow."""
    appears(ready(page), ".says:not([aria-busy=true])")
    return page.locator(".says").inner_text()


def images_of(page: Page, dataset: str) -> Tensor:
    """The page's ten images, as its settings hold them."""
    script = """async (dataset) => {
        const { toImage } = await import("/play/state.js");
        const { datasets } = await (await fetch("/play/settings.json")).json();
        return datasets[dataset].images.map((text) => [...toImage(text)]);
    }"""
    size, channels = DATASETS[dataset]["size"], DATASETS[dataset]["channels"]
    return torch.tensor(page.evaluate(script, dataset)).view(10, size, size, channels).movedim(3, 1)


def attacked_by_bim(dataset: str, name: str, images: Tensor) -> Tensor:
    options = {key: DATASETS[dataset][key] for key in ("epsilon", "step_size", "steps")}
    return attacks.bim(model(dataset, name), images.double(), **options)


@pytest.mark.parametrize("dataset", DATASETS)
def test_its_images_are_one_of_each_class_of_the_sample(page: Page, dataset: str) -> None:
    split = load(dataset, "test", root="sample")
    images, all_images = images_of(page, dataset), to_float(split.images)
    places = [int((all_images == image).flatten(1).all(1).nonzero()[0]) for image in images]
    assert split.labels[places].tolist() == list(range(10))
    for name in NETWORKS:
        assert model(dataset, name)(images.double()).argmax(1).tolist() == list(range(10))


def test_the_page_says_what_the_networks_say(page: Page, problems: list[str]) -> None:
    images = images_of(page, "mnist")
    for name in NETWORKS:
        page.locator(f"[name=network][value={name}]").check()
        clean = model("mnist", name)(images.double()).argmax(1).tolist()
        attacked = model("mnist", name)(attacked_by_bim("mnist", name, images)).argmax(1).tolist()
        for digit in range(10):
            page.get_by_role("button", name=f"Digit {digit}").click()
            ready(page)
            assert int(first(page, "clean")) == clean[digit] == digit
            assert int(first(page, "attacked")) == attacked[digit]
    # The network trained on redrawn images knows all of its digits, redrawn as well.
    page.locator("[name=attack][value=none]").check()
    page.locator("[name=redraws]").check()
    for digit in range(10):
        page.get_by_role("button", name=f"Digit {digit}").click()
        ready(page)
        assert int(first(page, "redrawn")) == int(first(page, "draws")) == digit
    sure = round(100 * model("mnist", "redrawn")(images[9:].double()).softmax(1).max().item())
    assert says(page) == f"The network says 9 ({sure}%). Redrawn: 9 in 25 of 25 draws."
    assert problems == []


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_three_steps_set_the_state_and_say_what_is_shown(page: Page, problems: list[str], dataset: str) -> None:
    page.locator(f"[name=dataset][value={dataset}]").check()
    classes, start = DATASETS[dataset]["classes"], DATASETS[dataset]["start"]
    image, epsilon = images_of(page, dataset)[start : start + 1], DATASETS[dataset]["epsilon"]
    redraw = default_defence("pr", dataset).build()
    sentences = {}
    for step, title in STEPS.items():
        button = page.get_by_role("button", name=title)
        button.click()
        sentences[step] = says(page)
        expect(button).to_have_attribute("aria-pressed", "true")
        expect(page.locator(".story [aria-pressed=true]")).to_have_count(1)
        network = "undefended" if step == "fool" else "redrawn"
        expect(page.locator(f"[name=network][value={network}]")).to_be_checked()
        expect(page.locator("[name=redraws]")).to_be_checked(checked=step != "fool")
        expect(page.locator("[name=knows]")).to_be_checked(checked=step == "tell")
        if step == "fool":
            attacked = attacked_by_bim(dataset, network, image)
            said = classes[model(dataset, network)(attacked).argmax()]
            assert said != classes[start] == first(page, "clean")
            assert sentences[step] == (
                f"The attack changes no pixel by more than {100 * epsilon:.3g}% of the way from black to white, "
                f"and the network says {said} instead of {classes[start]}."
            ).replace("3.12%", "3.1%")
            continue
        found = re.search(
            r"(\d+) of ([\d,]+) pixels.*network says (\w+).* in (\d+) of 25 draws: the defence (\w+)", sentences[step]
        )
        crossed, pixels, said, votes, fate = found.groups()
        assert int(pixels.replace(",", "")) == image[0, 0].numel()
        assert page.locator(".attacked canvas").evaluate(TINTED) == int(crossed)
        assert said == first(page, "draws") and votes == page.locator(".draws .first span").last.inner_text()
        assert fate == ("holds" if said == classes[start] else "fails")
        if step == "redraw":
            attacked = attacked_by_bim(dataset, network, image)
            expected = (redraw.sort(attacked.float()) != redraw.sort(image)).any(1).sum().item()
            assert abs(int(crossed) - expected) <= 3  # rounding may send a pixel in a thousand elsewhere
    assert "defence holds" in sentences["redraw"]
    assert ("defence holds" in sentences["tell"]) == (dataset == "mnist")
    page.locator("[name=epsilon]").press("ArrowRight")
    expect(page.locator(".story [aria-pressed=true]")).to_have_count(0)
    assert says(page).startswith(f"The network says {classes[start]} (")
    assert problems == []


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_tint_marks_what_crossed_and_nothing_else(page: Page, problems: list[str], dataset: str) -> None:
    page.goto(f"book/play.html#dataset={dataset}&attack=FGSM&epsilon=0.2&lower=0.25&tint=1")
    legend = ready(page).locator(".crossed")
    counted = int(re.search(r": ([\d,]+) of", legend.inner_text())[1].replace(",", ""))
    assert page.locator(".attacked canvas").evaluate(TINTED) == counted > 0
    redraw = default_defence("pr", dataset).build()
    image = images_of(page, dataset)[DATASETS[dataset]["start"]].unsqueeze(0)
    attacked = attacks.fgsm(model(dataset, "undefended"), image.double(), epsilon=0.2).float()
    edges = torch.tensor([0.25, redraw.thresholds[0, 1]], dtype=torch.float64)
    ranges = [torch.bucketize(x.double().contiguous(), edges) for x in (image, attacked)]
    assert abs(counted - (ranges[0] != ranges[1]).any(1).sum().item()) <= 3
    page.locator("[name=tint]").uncheck()
    assert ready(page).locator(".attacked canvas").evaluate(TINTED) == 0
    page.locator("[name=epsilon]").fill("0")
    expect(legend).to_contain_text(": 0 of")
    assert problems == []


def test_draws_differ_and_choices_change_what_is_shown(page: Page, problems: list[str]) -> None:
    page.locator("[name=redraws]").check()
    before = picture(page, "redrawn"), picture(page, "attacked")
    page.get_by_role("button", name="Draw again").click()
    assert picture(page, "redrawn") != before[0] and picture(page, "attacked") == before[1]
    page.locator("[name=epsilon]").fill("0.1")
    assert picture(page, "attacked") != before[1]
    page.locator("[name=lower]").fill("0.7")  # pushes the upper threshold
    expect(page.locator("[name=upper]")).to_have_value("0.7")
    expect(page.locator("label:has([name=upper]) output")).to_have_text("0.700")
    page.locator("[name=redraws]").uncheck()
    expect(page.get_by_role("button", name="Draw again")).to_be_disabled()
    expect(page.locator(".says")).not_to_contain_text("Redrawn")
    page.get_by_role("button", name="Start again").click()
    assert picture(page, "attacked") == before[1]
    page.locator("[name=redraws]").check()
    page.locator("[name=knows]").check()
    assert picture(page, "attacked") != before[1]
    page.locator("[name=knows]").uncheck()
    page.locator("[name=keep]").check()
    one = picture(page, "redrawn")
    page.wait_for_function(
        "one => document.querySelector('.redrawn canvas').toDataURL() !== one", arg=one, timeout=10_000
    )
    page.locator("[name=redraws]").uncheck()  # nothing is left to draw on
    expect(page.locator(".says")).to_have_attribute("aria-live", "polite")
    assert problems == []


def test_a_network_that_cannot_be_loaded(tab: Page) -> None:
    tab.route("**/mnist-redrawn.safetensors", lambda route: route.fulfill(status=404))
    tab.goto("book/play.html")
    expect(ready(tab).locator(".play-still")).to_be_hidden()
    tab.locator("[name=network][value=redrawn]").check()
    expect(tab.locator(".failed")).to_have_text("The network could not be loaded: the server answers 404 Not Found.")
    tab.unroute("**/mnist-redrawn.safetensors")
    tab.get_by_role("button", name="Try again").click()
    expect(ready(tab).locator(".failed")).to_have_text("")


def test_only_the_chosen_network_is_fetched_and_the_page_says_how_far(tab: Page) -> None:
    fetched = []
    tab.context.on("request", lambda request: fetched.append(request.url))
    tab.add_init_script("""document.addEventListener("DOMContentLoaded", () => {
        const line = document.querySelector("#play-app .loading");
        window.told = [];
        new MutationObserver(() => window.told.push(line.textContent)).observe(line, { childList: true });
    })""")
    tab.goto("book/play.html")
    ready(tab)
    assert [url.rsplit("/")[-1] for url in fetched if url.endswith(".safetensors")] == ["mnist-undefended.safetensors"]
    assert "Loading the network: 2.8 of 2.8 MB" in tab.evaluate("told")

"""Any state of the Play page has an address that leads back to it."""

import pytest
from playwright.sync_api import Page, expect
from test_play import picture, ready, says

FIELDS = """() => Object.fromEntries([...document.querySelectorAll("#play-app input")]
    .filter(({ type, name }) => name !== "keep")
    .map(({ type, name, value, checked }) => type === "range" ? [name, value] : [`${name} ${value}`, checked]))"""
PRESSED = """() => [...document.querySelectorAll("#play-app [aria-pressed=true]")]
    .map((button) => button.ariaLabel ?? button.textContent)"""


def shown(page: Page) -> dict[str, object]:
    """All that a reader sees of a state."""
    pictures = {name: picture(page, name) for name in ("clean", "attacked", "redrawn", "draws")}
    return {"fields": page.evaluate(FIELDS), "pressed": page.evaluate(PRESSED), "says": says(page), **pictures}


def photographs(page: Page) -> None:
    """A choice of everything, none of it the usual one."""
    page.locator("[name=dataset][value=cifar10]").check()
    page.get_by_role("button", name="Photograph: frog").click()
    page.locator("[name=network][value=redrawn]").check()
    page.locator("[name=attack][value=FGSM]").check()
    page.locator("[name=epsilon]").fill("0.0625")
    page.locator("[name=redraws]").check()
    page.locator("[name=knows]").check()
    page.locator("[name=tint]").check()
    page.locator("[name=lower]").fill("0.2")
    page.locator("[name=upper]").fill("0.8")
    page.get_by_role("button", name="Draw again").click()


def drawing(page: Page) -> None:
    """A digit drawn by hand."""
    page.locator("[name=steps]").fill("3")
    page.get_by_role("button", name="Draw", exact=True).click()
    box = page.locator(".pad canvas").bounding_box()
    page.mouse.move(box["x"] + 50, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 180)
    page.mouse.up()


def no_attack(page: Page) -> None:
    page.get_by_role("button", name="2. Redraw it").click()
    page.locator("[name=attack][value=none]").check()


@pytest.mark.parametrize("choose", [photographs, drawing, no_attack])
def test_a_link_leads_back(tab: Page, problems: list[str], choose) -> None:
    tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab.goto("book/play.html")
    usual = shown(tab)
    assert "#" not in tab.url
    choose(tab)
    before = shown(tab)
    assert before != usual
    tab.get_by_role("button", name="Copy link").click()
    expect(tab.locator(".copied")).to_have_text("Copied.")
    link = tab.evaluate("navigator.clipboard.readText()")
    assert link == tab.url and len(link) < 2000
    tab.get_by_role("button", name="Start again").click()
    first = tab.locator("[name=dataset]:checked").input_value() == "mnist"
    assert (shown(tab) == usual) == first  # the first state of the dataset that was chosen
    assert tab.evaluate("location.hash") == ("" if first else "#dataset=cifar10")
    tab.goto("about:blank")
    tab.goto(link)
    assert shown(tab) == before
    tab.evaluate("location.hash = 'dataset=cifar10&image=2'")  # another link, in the open page
    expect(tab.get_by_role("button", name="Photograph: bird")).to_have_attribute("aria-pressed", "true")
    ready(tab)
    assert problems == []


@pytest.mark.parametrize(
    ("stated", "sentence"),
    [
        ("dataset=svhn", "The address says dataset = “svhn”; it must be one of mnist, cifar10."),
        ("image=12", "The address says image = “12”; it must be a whole number from 0 to 9."),
        ("epsilon=-1", "The address says epsilon = “-1”; it must be a number from 0 to 1."),
        ("dataset=cifar10&epsilon=0.5", "The address says epsilon = “0.5”; it must be a number from 0 to 0.25."),
        ("steps=", "The address says steps = “”; it must be a whole number from 1 to 40."),
        ("knows=yes", "The address says knows = “yes”; it must be 1 or 0."),
        ("drawing=AAAA", "The address says drawing = “AAAA”; it must be a drawing of 28 by 28 pixels."),
        ("lower=0.9", "The address says a lower threshold above the upper one."),
    ],
)
def test_an_address_that_cannot_be_read_is_refused_in_a_sentence(tab: Page, stated: str, sentence: str) -> None:
    tab.goto(f"book/play.html#{stated}")
    expect(ready(tab).locator(".refused")).to_have_text(sentence)
    expect(tab.locator("[name=dataset][value=mnist]")).to_be_checked()
    expect(tab.locator("[data-step=fool]")).to_have_attribute("aria-pressed", "true")


def test_a_place_on_the_page_is_no_state(tab: Page, problems: list[str]) -> None:
    tab.goto("book/play.html#what-to-look-for")
    expect(ready(tab).locator(".refused")).to_have_text("")
    tab.get_by_role("button", name="3. Tell the attacker").click()
    tab.evaluate("location.hash = 'what-this-page-is-not'")
    expect(ready(tab).locator("[name=knows]")).to_be_checked()
    assert problems == []

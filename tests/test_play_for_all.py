"""The Play page by keyboard, by touch, on a phone and with a screen reader; and the figure that stands in for it."""

import pytest
from playwright.sync_api import Browser, Page, expect
from test_play import STEPS, first, ready
from test_play_method import DATASETS
from test_site import barriers


def test_everything_works_by_keyboard(tab: Page, problems: list[str]) -> None:
    tab.goto("book/play.html")
    page = ready(tab)

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
    assert first(page, "clean") == "3"
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
    expect(page.locator("[name=lower]")).to_be_disabled()
    reach("[name=redraws]")
    page.keyboard.press("Space")
    expect(page.locator("[name=lower]")).to_be_enabled()
    reach("[data-step=tell]", "Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator("[name=knows]")).to_be_checked()
    reach("[name=dataset]:checked", "Shift+Tab")
    page.keyboard.press("ArrowDown")
    expect(page.locator("[name=dataset][value=cifar10]")).to_be_checked()
    expect(ready(page).locator(".choice .draw")).to_have_count(0)
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


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_a_phone_shows_all_steps_and_axe_finds_nothing(tab: Page, problems: list[str], mode: str) -> None:
    tab.set_viewport_size({"width": 390, "height": 844})
    tab.emulate_media(color_scheme=mode)
    tab.goto("book/play.html")
    for dataset in DATASETS:
        tab.locator(f"[name=dataset][value={dataset}]").check()
        for title in STEPS.values():
            tab.get_by_role("button", name=title).click()
            ready(tab)
            assert tab.evaluate("document.documentElement.scrollWidth") == 390
    assert problems + barriers(tab) == []

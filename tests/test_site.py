"""The built site: its files, and its pages in a real browser that cannot reach any other host."""

import functools
import http.server
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup
from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).parents[1]
SCREENSHOTS = ROOT / "_build" / "screenshots"
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text())
CHAPTERS = [chapter["file"] for part in TOC["parts"] for chapter in part["chapters"]]
PAGES = [f"{name}.html" for name in (TOC["root"], *CHAPTERS)]
# What of the paper each chapter redraws or measures again, by the paper's own numbers.
OF_THE_PAPER = {
    "book/method.html": ["Fig. 1", "Fig. 2", "Fig. 3"],
    "book/setting.html": ["Table 1"],
    "book/attacks.html": ["Fig. 4"],
    "book/question1.html": ["Table 2"],
    "book/question2.html": ["Table 3", "Table 6"],
    "book/question3.html": ["Table 4", "Table 7"],
    "book/question4.html": ["Table 5", "Fig. 5"],
}


@functools.cache
def parsed(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(), "html.parser")


@functools.cache
def anchors(path: Path) -> set[str]:
    return {tag[name] for name in ("id", "name") for tag in parsed(path).find_all(attrs={name: True})}


def dead(site: Path, page: str, link: str) -> bool:
    parts = urlsplit(urljoin(f"http://site/{page}", link))
    target = site / unquote(parts.path).lstrip("/")
    if parts.netloc != "site":
        return False
    return not target.is_file() or (bool(parts.fragment) and parts.fragment not in anchors(target))


def test_every_page_is_built(site: Path) -> None:
    assert {"book/index.html", *OF_THE_PAPER} <= set(PAGES)
    built = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    assert {name for name in built if not name.startswith("_")} == {"index.html", "search.html", *PAGES}


@pytest.mark.parametrize("page", ["index.html", "search.html", *PAGES])
def test_internal_links(site: Path, page: str) -> None:
    soup = parsed(site / page)
    links = [tag[name] for name in ("href", "src") for tag in soup.find_all(attrs={name: True})]
    links += [tag["content"].partition("url=")[2] for tag in soup.select("meta[http-equiv=refresh]")]
    assert links
    assert [link for link in links if dead(site, page, link)] == []


@pytest.mark.parametrize("page", PAGES)
def test_images_have_alternative_text(site: Path, page: str) -> None:
    images = parsed(site / page).find_all("img")
    assert images
    assert [image["src"] for image in images if not image.get("alt", "").strip()] == []


@pytest.mark.parametrize("page", PAGES)
def test_captions_are_numbered(site: Path, page: str) -> None:
    captions = [caption.get_text() for caption in parsed(site / page).select("figcaption, caption")]
    assert [text for text in captions if not re.match(r"\s*(Figure|Table) \d+\.\d+ ", text)] == []


@pytest.mark.parametrize("page", OF_THE_PAPER)
def test_figures_and_tables_of_the_paper(site: Path, page: str) -> None:
    soup = parsed(site / page)
    if not soup.select(".cell_output"):
        pytest.skip("the chapter was built without outputs")
    captions = " ".join(text.get_text() for text in soup.select(".caption-text"))
    captions = re.sub(r"Figure\s", "Fig. ", captions)
    assert [name for name in OF_THE_PAPER[page] if not re.search(rf"{name}\b", captions)] == []


@pytest.mark.parametrize("page", PAGES)
def test_no_cell_failed_or_warned(site: Path, page: str) -> None:
    soup = parsed(site / page)
    assert [output.get_text() for output in soup.select(".output.traceback, .output.stderr")] == []
    assert "Traceback (most recent call last)" not in soup.get_text()


@pytest.mark.parametrize("page", PAGES)
def test_no_markup_is_left_over(site: Path, page: str) -> None:
    article = BeautifulSoup(str(parsed(site / page).find("article")), "html.parser")
    for verbatim in article.select("pre, code, .math"):
        verbatim.decompose()
    assert re.findall(r".*(?:```|:::|\]\{|\]\(|\{[a-z:]+\}).*", article.get_text()) == []


def test_the_method_has_equations(site: Path) -> None:
    assert parsed(site / "book/method.html").select("div.math")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next(filter(None, map(shutil.which, names)), None)
    if chromium is None:
        missing = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        missing(f"no Chromium to look at the pages with: none of {', '.join(names)} is on the PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        yield browser
        browser.close()


@pytest.fixture
def problems() -> list[str]:
    return []


@pytest.fixture
def tab(browser: Browser, address: str, problems: list[str]) -> Iterator[Page]:
    """A fresh tab; what goes wrong in it is added to the list of problems."""
    # Without motion a resized page has its final layout at once: the theme's side bars slide otherwise.
    context = browser.new_context(base_url=address, color_scheme="light", reduced_motion="reduce")
    context.route(lambda url: not url.startswith(address), lambda route: route.abort())
    tab = context.new_page()

    def note(event: str, describe: Callable[..., str | None]) -> None:
        tab.on(event, lambda item: problems.extend(filter(None, [describe(item)])))

    note("request", lambda r: None if r.url.startswith(address) else f"asks another host: {r.url}")
    note("response", lambda r: f"answered {r.status}: {r.url}" if r.status >= 400 else None)
    note("requestfailed", lambda r: f"request failed: {r.url}")
    note("console", lambda m: f"console: {m.text}" if m.type == "error" else None)
    note("pageerror", lambda error: f"script error: {error}")
    yield tab
    context.close()


BROKEN_IMAGES = """async () => {
    const shown = image => image.decode().then(() => image.naturalWidth > 0, () => false);
    const broken = await Promise.all([...document.images].map(async i => (await shown(i)) ? null : i.src));
    return broken.filter(Boolean);
}"""
# Where braces do not match, MathJax leaves the delimiters in the text and may render a part between them.
BROKEN_EQUATIONS = r"""async () => {
    const equations = [...document.querySelectorAll(".math")];
    if (equations.length) await MathJax.startup.promise;
    const rendered = e => e.querySelector("mjx-container") && !e.querySelector("mjx-merror");
    return equations.map(e => [rendered(e), e.textContent]).filter(([ok, text]) => !ok || /\\[[(]/.test(text));
}"""
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.mark.parametrize("page", PAGES)
def test_page_in_a_browser(tab: Page, problems: list[str], page: str) -> None:
    tab.goto(page)
    problems += [f"image not shown: {source}" for source in tab.evaluate(BROKEN_IMAGES)]
    problems += [f"equation not rendered: {text}" for _, text in tab.evaluate(BROKEN_EQUATIONS)]
    for mode in ("light", "dark"):
        tab.emulate_media(color_scheme=mode)
        expect(tab.locator("html")).to_have_attribute("data-theme", mode)
        for width in (360, 768, 1440):
            tab.set_viewport_size({"width": width, "height": 800})
            if excess := tab.evaluate(OVERFLOW):
                problems.append(f"{excess} px too wide at {width} px, {mode}")
            if width != 768:
                picture = SCREENSHOTS / f"{Path(page).stem}-{width}-{mode}.png"
                tab.screenshot(path=picture, full_page=True)
    assert problems == []


def test_front_page_search_and_theme_switch(tab: Page, problems: list[str], address: str) -> None:
    tab.set_viewport_size({"width": 1440, "height": 800})
    tab.goto("index.html")
    tab.wait_for_url("**/book/index.html")
    theme = tab.locator("html").get_attribute("data-theme")
    for _ in range(3):  # auto, light, dark
        tab.locator(".theme-switch-button").click()
        if tab.locator("html").get_attribute("data-theme") != theme:
            break
    else:
        problems.append("the theme switch changes nothing")
    tab.locator("#pst-primary-sidebar .search-button__button").click()
    tab.locator("#pst-search-dialog input[type=search]").fill("redrawn")
    tab.keyboard.press("Enter")
    tab.locator("#search-results a[href*='book/method.html']").first.wait_for(timeout=10_000)
    assert problems == []

"""The built site: its files, and its pages in a real browser that cannot reach any other host."""

import csv
import functools
import gzip
import json
import os
import re
from pathlib import Path
from statistics import NormalDist
from urllib.parse import unquote, urljoin, urlsplit

import pytest
import yaml
from axe_playwright_python.base import AXE_SCRIPT
from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup
from conftest import parsed
from playwright.sync_api import Page, expect
from recompute import REDRAWN, bits, places
from scipy.stats import binomtest

ROOT = Path(__file__).parents[1]
SCREENSHOTS = ROOT / "_build" / "screenshots"
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text())
CHAPTERS = [
    entry["file"]
    for part in TOC["parts"]
    for chapter in part["chapters"]
    for entry in (chapter, *chapter.get("sections", []))
]
PAGES = [f"{name}.html" for name in (TOC["root"], *CHAPTERS)]
# What of the paper each chapter redraws or measures again, by the paper's own numbers.
OF_THE_PAPER = {
    "book/method.html": ["Fig. 1", "Fig. 2", "Fig. 3"],
    "book/setting.html": ["Table 1"],
    "book/cases.html": ["Fig. 4"],
    "book/question1.html": ["Table 2"],
    "book/question2.html": ["Table 3", "Table 6"],
    "book/question3.html": ["Table 4", "Table 7"],
    "book/question4.html": ["Table 5", "Fig. 5"],
}


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
    records = {f"records/{path.stem}.html" for path in site.glob("records/*.json")} | {"records/index.html"}
    assert len(records) > 20
    assert {name for name in built if not name.startswith("_")} == {"index.html", "search.html", *PAGES, *records}


@pytest.mark.parametrize("page", ["index.html", "search.html", "records/index.html", *PAGES])
def test_internal_links(site: Path, page: str) -> None:
    soup = parsed(site / page)
    links = [tag[name] for name in ("href", "src", "srcset") for tag in soup.find_all(attrs={name: True})]
    links += [tag["content"].partition("url=")[2] for tag in soup.select("meta[http-equiv=refresh]")]
    assert links
    assert [link for link in links if dead(site, page, link)] == []


@pytest.mark.parametrize("page", PAGES)
def test_images_have_alternative_text(site: Path, page: str) -> None:
    images = parsed(site / page).find_all("img")
    assert images
    assert [image["src"] for image in images if image.get("alt", "").strip() in ("", image["src"])] == []


@pytest.mark.parametrize("page", PAGES)
def test_captions_are_numbered(site: Path, page: str) -> None:
    captions = [
        caption.get_text() for caption in parsed(site / page).select("figure:not(.picture) > figcaption, caption")
    ]
    assert [text for text in captions if not re.match(r"\s*Our (Figure|Table) \d+ ", text)] == []


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
    assert re.findall(r"<(?:IPython|prlib)[\w.]+ object", soup.get_text()) == []  # an output without a form for pages


@pytest.mark.parametrize("page", PAGES)
def test_no_markup_is_left_over(site: Path, page: str) -> None:
    article = BeautifulSoup(str(parsed(site / page).find("article")), "html.parser")
    for verbatim in article.select("pre, code, .math"):
        verbatim.decompose()
    assert re.findall(r".*(?:```|:::|\]\{|\]\(|\{[a-z:]+\}).*", article.get_text()) == []


@functools.cache
def records_of(site: Path) -> dict[str, dict]:
    return {path.stem: json.loads(path.read_text()) for path in site.glob("records/*.json")}


@functools.cache
def right_by_place(site: Path, name: str, number: int) -> dict[int, float]:
    """Whether a record's cell is right about each image, or how often, by the image's place in its source."""
    experiment, cell = (record := records_of(site)[name])["experiment"], record["cells"][number]
    n, dataset = experiment["n_test"], experiment["training"]["dataset"]
    whole = experiment["training"]["source"] == "full" and not experiment.get("embedded")
    whole = whole and experiment.get("split", "test") == "test"  # training images have no numbers of their own
    at = places(dataset, n, experiment.get("drawn")) if whole else range(n)
    return dict(zip(at, bits(cell, experiment.get("draws", 1)), strict=True))


def certified(experiment: dict, cell: dict) -> set[float]:
    """On which shares of the images Cohen et al.'s radius holds all within the paper's ε, and a tenth of it."""
    draws = experiment.get("draws", 1)
    std = {one["name"]: one["options"].get("std") for one in experiment["tested_with"]}.get(cell["tested_with"])
    if experiment["attacks"] or draws == 1 or std is None:
        return set()
    counts = [round(share * draws) for share in bits(cell, draws)]
    least = [binomtest(n, draws, alternative="greater").proportion_ci(0.999).low for n in counts]
    values, epsilon = (3072, 8 / 256) if experiment["training"]["dataset"] == "cifar10" else (784, 0.3)
    return {
        sum(p > 0.5 and std * NormalDist().inv_cdf(p) > share * epsilon * values**0.5 for p in least) / len(least)
        for share in (1, 0.1)
    }


@functools.cache
def told_by(site: Path, name: str) -> set[float]:
    """The shares that a record gives (right, right before and after an attack, certified), on all images and on parts.

    The parts are the images of other records of the dataset that are among its own: a comparison is on the same images.
    """
    records, found = records_of(site), set()
    experiment = records[name]["experiment"]
    training = experiment["training"]
    others = [record["experiment"] for record in records.values() if not record["experiment"].get("embedded")]
    others = [other for other in others if other.get("split", "test") == "test"]
    others = [other for other in others if all(other["training"][k] == training[k] for k in ("dataset", "source"))]
    whole = training["source"] == "full" and not experiment.get("embedded") and "split" not in experiment
    parts = {(other["n_test"], other.get("drawn")) for other in others}
    for number, cell in enumerate(records[name]["cells"]):
        found |= certified(experiment, cell)
        after = right_by_place(site, name, number)
        before = []
        if cell["case"] != "normal":
            shown = cell["tested_with"] if cell["case"] in REDRAWN else "none"
            before = [
                right_by_place(site, other, i)
                for other, record in records.items()
                if record["experiment"]["training"] == training
                and all(record["experiment"].get(k) == experiment.get(k) for k in ("embedded", "split"))
                for i, clean in enumerate(record["cells"])
                if (clean["case"], clean["tested_with"], clean["epoch"]) == ("normal", shown, cell["epoch"])
            ]
        sets = [after.keys()] + [places(training["dataset"], m, d) for m, d in parts if whole and m < 10_000]
        for part in (set(some) for some in sets if set(some) <= after.keys()):
            found.add(sum(after[place] for place in part) / len(part))
            found |= {
                sum(after[place] * clean[place] for place in part) / len(part)
                for clean in before
                if part <= clean.keys()
            }
    return found


@pytest.mark.parametrize("page", PAGES)
def test_numbers_lead_to_their_records(site: Path, page: str) -> None:
    soup = parsed(site / page)
    linked = [
        (a.get_text(), site / "records" / Path(a["href"]).name) for a in soup.select('article a[href*="records/"]')
    ]
    numbers = [(text, path) for text, path in linked if re.fullmatch(r"\d*\.\d+", text)]
    for text, path in numbers:
        digits = len(text.partition(".")[2])
        # what is halfway between two roundings may become either, by the order of a sum
        half = 0.5 * 10**-digits + 1e-9
        assert any(abs(float(text) - share) <= half for share in told_by(site, path.stem)), (text, path)
    # and none of ours is without a link: they are what an interval follows
    intervals = [
        td for td in soup.select("article td") if re.search(r"\d \[[\d.]+, [\d.]+\]$", td.get_text(strip=True))
    ]
    assert [td.get_text() for td in intervals if not td.select('a[href*="records/"]')] == []
    if page in ("book/question1.html", "book/question2.html"):
        assert numbers
    if page == "book/index.html":
        assert [text for text, path in linked if re.fullmatch(r"[\d.]+%", text) and path.is_file()]


def test_a_record_has_a_readable_page(site: Path) -> None:
    paths = sorted(site.glob("records/mnist-full60000-pr-s0-e50-fgsm-bim-mim-*.json"))
    path = next(path for path in paths if json.loads(path.read_text())["experiment"]["n_test"] == 10_000)
    record, soup = json.loads(path.read_text()), parsed(path.with_suffix(".html"))
    text = soup.find("article").get_text(" ")
    provenance = record["provenance"]
    for shown in (provenance["commit"], provenance["machine"]["device"], *provenance["digests"].values(), path.stem):
        assert shown in text
    assert f"-m prlib run {path.stem} --profile published" in text
    assert all(f"{cell['correct']} of {cell['total']}" in text for cell in record["cells"])
    found = {path: json.loads(path.read_text()) for path in site.glob("records/mnist-full60000-pr-s0-e50-clean-*.json")}
    [(clean_path, cells)] = [
        (path, one["cells"])
        for path, one in found.items()
        if "split" not in one["experiment"] and one["cells"][0]["tested_with"] == "none"
    ]
    clean = {(cell["tested_with"], cell["epoch"]): cell for cell in cells}
    rows = soup.select("table")[0].select("tbody tr")
    for cell, row in zip(record["cells"], rows, strict=True):
        before = clean["none" if cell["case"] == "B" else cell["tested_with"], cell["epoch"]]
        both = (int(cell["success"], 16) & int(before["success"], 16)).bit_count()
        assert row.select("td")[6].get_text(strip=True) == f"{both / cell['total']:.4f}"
    of_clean = parsed(clean_path.with_suffix(".html")).select("table")[0].select("tbody tr")
    assert {row.select("td")[6].get_text(strip=True) for row in of_clean} == {""}
    assert not soup.select(".admonition.warning")
    assert [link["href"] for link in soup.select("article a") if dead(site, f"records/{path.stem}", link["href"])] == []


def test_a_stale_record_is_shown_as_such(site: Path) -> None:
    [path] = site.glob("records/*-s99-*.html")  # conftest makes it
    assert "older version of the code" in parsed(path).select_one(".admonition.warning").get_text()


@pytest.mark.parametrize("page", PAGES)
def test_tables_can_be_taken_along(site: Path, page: str) -> None:
    for table in parsed(site / page).select("article table:has(caption)"):
        path = (site / page).parent / table.select_one("caption a.csv")["href"]
        with path.open(newline="", encoding="utf-8") as file:
            taken = list(csv.reader(file))
        shown = [[cell.get_text() for cell in row.select("th, td")] for row in table.select("tr")]
        flat = [[re.sub(r"\s+", "", cell).replace("−", "-") for cell in row] for row in shown]
        assert [[re.sub(r"\s+", "", cell) for cell in row] for row in taken] == flat


def test_the_method_has_equations(site: Path) -> None:
    assert parsed(site / "book/method.html").select("div.math")


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


WEIGHT = 1_500_000
"""Most bytes that a page may need, compressed; the networks of the page Play come on top."""
SHIFT = 0.1
"""Largest cumulative layout shift, what Web Vitals call good."""
OBSERVE_SHIFTS = """window.shift = 0; new PerformanceObserver(list => list.getEntries().forEach(entry => {
    if (!entry.hadRecentInput) window.shift += entry.value;
})).observe({type: "layout-shift", buffered: true})"""
# Contrast is looked at for some elements of each look: letters of one colour, size and weight before the same ground.
# Otherwise axe compares every word of a table or of code with all that may lie behind it. More than one, since axe does
# not decide where something lies above; nor of single letters and of what is hidden or disabled, which count for none.
LOOKS = """(() => {
    const grounds = new Map(), seen = new Map();
    const ground = element => {
        if (!element) return "";
        if (!grounds.has(element)) {
            const { backgroundColor, backgroundImage, opacity, position } = getComputedStyle(element);
            const own = [backgroundColor, backgroundImage, opacity, position].join();
            const behind = ground(element.parentElement);
            grounds.set(element, own === "rgba(0, 0, 0, 0),none,1,static" ? behind : `${own} before ${behind}`);
        }
        return grounds.get(element);
    };
    for (const element of document.querySelectorAll("body *")) {
        const text = [...element.childNodes].filter(node => node.nodeType === Node.TEXT_NODE).map(node => node.data);
        if (element.matches("input, select, textarea")) element.setAttribute("data-look", "");
        if (text.join("").trim().length < 2 || element.closest("[inert], [aria-disabled=true], :disabled")) continue;
        if (!element.checkVisibility({ checkVisibilityCSS: true, checkOpacity: true })) continue;
        const { color, fontSize, fontWeight, textShadow } = getComputedStyle(element);
        const look = [color, fontSize, fontWeight, textShadow, ground(element)].join(" ");
        seen.set(look, (seen.get(look) ?? 0) + 1);
        if (seen.get(look) <= 5) element.setAttribute("data-look", "");
    }
    axe.configure({ rules: [{ id: "color-contrast", selector: "[data-look]" }] });
})()"""
AXE = Axe(f"{AXE_SCRIPT};{LOOKS}")
# Preloading, axe would ask for style sheets at addresses of its own. Only violations are looked at, by their HTML:
# describing all that passes, and a selector for each element, takes about two fifths of the time on a large page.
RULES = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"],
    "preload": False,
    "resultTypes": ["violations"],
    "selectors": False,
}
LOADED = "[location.href, ...performance.getEntriesByType('resource').map(entry => entry.name)]"


# Tables of which a phone shows a part: a reader would have to scroll for what decides.
CUT_TABLES = """() => {
    document.querySelectorAll("article details").forEach(details => { details.open = true; });
    const tables = [...document.querySelectorAll("article .pst-scrollable-table-container table")];
    return tables.filter(table => table.scrollWidth > table.parentElement.clientWidth + 1).map(table => table.id);
}"""

# Equations whose beginning no scrolling reaches.
CUT_EQUATIONS = """() => {
    const left = element => element.getBoundingClientRect().left;
    const boxes = [...document.querySelectorAll("article div.math")];
    return boxes.filter(box => left(box.querySelector("mjx-math")) < left(box) - 1).map(box => box.textContent);
}"""


@pytest.mark.parametrize("page", ["records/index.html", *PAGES])
def test_page_on_a_phone_and_on_a_desk(tab: Page, problems: list[str], site: Path, page: str) -> None:
    tab.add_init_script(OBSERVE_SHIFTS)
    visit(tab, problems, site, page, 360, "dark")
    tab.set_viewport_size({"width": 390, "height": 800})
    problems += figures(tab, "narrow")
    for width, mode in ((360, "light"), (768, "light"), (768, "dark")):
        tab.set_viewport_size({"width": width, "height": 800})
        tab.emulate_media(color_scheme=mode)
        problems += beyond(tab, width, mode)
    tab.set_viewport_size({"width": 360, "height": 800})
    if page != "records/index.html":  # whose names are longer than a phone is wide
        problems += [f"a table is cut off at 360 px: {name}" for name in tab.evaluate(CUT_TABLES)]
    problems += [f"an equation's beginning is cut off: {text}" for text in tab.evaluate(CUT_EQUATIONS)]
    tab.emulate_media(media="print")
    drawn_wide = (
        "() => [...document.querySelectorAll('article picture img')].every(i => i.currentSrc.includes('.wide.'))"
    )
    tab.wait_for_function(drawn_wide)
    tab.emulate_media(media="screen")
    visit(tab, problems, site, page, 1440, "light")
    problems += figures(tab, "wide")
    tab.emulate_media(color_scheme="dark")
    problems += beyond(tab, 1440, "dark")
    assert problems == []


@functools.cache
def compressed(path: Path) -> int:
    return len(gzip.compress(path.read_bytes()))


def visit(tab: Page, problems: list[str], site: Path, page: str, width: int, mode: str) -> None:
    """Open the page; it must be whole, light, calm and accessible."""
    tab.set_viewport_size({"width": width, "height": 800})
    tab.emulate_media(color_scheme=mode)
    tab.goto(page)
    expect(tab.locator("#play-app:not([data-state=ready])")).to_have_count(0, timeout=90_000)
    problems += barriers(tab)
    tab.wait_for_load_state("networkidle")
    loaded = set(tab.evaluate(LOADED))
    files = [site / unquote(urlsplit(url).path).lstrip("/") for url in loaded if not url.endswith(".safetensors")]
    if (weight := sum(compressed(path) for path in files if path.is_file())) > WEIGHT:
        problems.append(f"weighs {weight:,} bytes")
    if (shift := tab.evaluate("window.shift")) > SHIFT:
        problems.append(f"its layout shifts by {shift:.2f}")
    shown = set(tab.locator("article img").evaluate_all("images => images.map(i => i.currentSrc)"))
    pictures = {url for url in loaded if url.endswith(".svg") and "_images" in url}
    problems += [f"loaded, not shown: {url}" for url in pictures - shown]
    problems += [f"image not shown: {source}" for source in tab.evaluate(BROKEN_IMAGES)]
    problems += [f"equation not rendered: {text}" for _, text in tab.evaluate(BROKEN_EQUATIONS)]
    problems += beyond(tab, width, mode)
    if problems or "SCREENSHOTS" in os.environ:
        picture = SCREENSHOTS / f"{page.removesuffix('.html').replace('/', '-')}-{width}-{mode}.png"
        tab.screenshot(path=picture, full_page=True)


def barriers(tab: Page) -> list[str]:
    """What keeps somebody from using the page as it is shown."""
    found = AXE.run(tab, options=RULES).response["violations"]
    return [f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in found if v["impact"] in ("serious", "critical")]


def test_contrast_is_looked_at_for_each_look(tab: Page) -> None:
    tab.goto("book/cite.html")
    unseen = ['style="visibility: hidden"', 'aria-disabled="true"', "inert", 'style="opacity: 0"']
    tab.set_content(f"""<style>.pale {{ color: #999 }} .dark {{ background: #111 }}</style>
        {"".join(f'<p class="pale" {why}>nobody sees this</p>' for why in unseen)} <p class="pale">x</p>
        {"".join(f'<p class="pale">word{i}</p>' for i in range(9))} <p class="pale" style="font-size: 30px">large</p>
        <div class="dark"><p class="pale">light enough</p><div><p style="color: #666">behind</p></div></div>
        <p>black <b class="pale">bold <i style="font-weight: 400">no longer</i></b></p>
        <p style="opacity: 0.5" class="pale">faint</p><input aria-label="a" value="field" style="color: #ccc">
    """)
    only = {"runOnly": ["color-contrast"]}

    def found(axe: Axe) -> list[str]:
        nodes = [node for v in axe.run(tab, options=only).response["violations"] for node in v["nodes"]]
        return [re.sub("<(?!input)[^>]*>", "", node["html"]) for node in nodes]

    everywhere = found(Axe())
    assert {"word0", "word8", "large", "behind", "bold no longer", "faint"} < set(everywhere)
    assert "light enough" not in everywhere and any("input" in text for text in everywhere)
    alike = {"word5", "word6", "word7", "word8", "no longer"}
    assert [re.sub(" data-look[^ >]*", "", text) for text in found(AXE)] == [t for t in everywhere if t not in alike]


def beyond(tab: Page, width: int, mode: str) -> list[str]:
    """What is wrong if the page has to be scrolled sideways."""
    expect(tab.locator("html")).to_have_attribute("data-theme", mode)
    return [f"{excess} px too wide at {width} px, {mode}"] if (excess := tab.evaluate(OVERFLOW)) else []


SMALLEST = 9
"""Of a figure's text on a phone, in CSS pixels."""
# Each figure's text as the page shows it: what cannot be read and what is cut off. A glyph of matplotlib's is 100 units
# of its group high, so that the group's scale says the size of the font.
TEXT = """async () => {
    const host = document.body.appendChild(document.createElement("div"));
    const found = [];
    for (const image of document.querySelectorAll("article picture img")) {
        const file = await (await fetch(image.currentSrc)).text();
        const svg = document.importNode(new DOMParser().parseFromString(file, "image/svg+xml").documentElement, true);
        svg.setAttribute("width", image.width);
        svg.setAttribute("height", image.height);
        host.replaceChildren(svg);
        const page = svg.getBoundingClientRect();
        const groups = [...svg.querySelectorAll("g[id^=text_]")];
        const sizes = groups.flatMap(text => [...text.querySelectorAll("g[transform*=scale]")]).map(glyphs => {
            const { a, b } = glyphs.getScreenCTM();
            return 100 * Math.hypot(a, b);
        });
        const beyond = box => Math.max(
            page.left - box.left, box.right - page.right, page.top - box.top, box.bottom - page.bottom);
        const cut = groups.map(text => text.getBoundingClientRect()).filter(box => beyond(box) > 1);
        found.push({ file: image.currentSrc, texts: sizes.length, smallest: Math.min(...sizes), cut: cut.length });
    }
    host.remove();
    return found;
}"""


def figures(tab: Page, shown: str) -> list[str]:
    """What is wrong with the page's figures, which should be shown as they were drawn for this width."""
    sources = tab.locator("article img[src$='.svg']").evaluate_all("images => images.map(i => i.currentSrc)")
    found = tab.evaluate(TEXT)
    wrong = [f"not drawn for this width: {source}" for source in sources if not source.endswith(f".{shown}.svg")]
    wrong += [f"text cut off: {one['file']}" for one in found if one["cut"]]
    if shown == "narrow":
        small = [one for one in found if one["texts"] and one["smallest"] < SMALLEST]
        wrong += [f"text of {one['smallest']:.1f} px: {one['file']}" for one in small]
    return wrong


def test_the_site_has_figures_to_look_at(site: Path) -> None:
    for page in ("book/method.html", "book/question1.html"):
        assert parsed(site / page).select("article picture img")


@pytest.mark.parametrize("width", [360, 1440])
def test_the_list_of_records_keeps_its_columns_while_its_rows_arrive(tab: Page, width: int) -> None:
    tab.set_viewport_size({"width": width, "height": 800})
    tab.goto("records/index.html")
    widths = "() => [...document.querySelectorAll('article th')].map(cell => cell.getBoundingClientRect().width)"
    whole = tab.evaluate(widths)
    tab.evaluate("() => document.querySelectorAll('article tbody tr:nth-child(n + 5)').forEach(row => row.remove())")
    assert len(whole) == 3 and tab.evaluate(widths) == whole
    # Dates have one line each, and no name leaves its column.
    dates, names = tab.locator("article td:last-child"), tab.locator("article td:first-child")
    lines = """cells => cells.map(cell => {
        const range = new Range();
        range.selectNodeContents(cell);
        return range.getClientRects().length;
    })"""
    assert set(dates.evaluate_all(lines)) == {1}
    assert not any(names.evaluate_all("cells => cells.map(cell => cell.scrollWidth > cell.clientWidth)"))


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


def test_one_switch_shows_all_code_of_a_page_and_of_the_next(tab: Page, problems: list[str]) -> None:
    tab.goto("book/question1.html")
    code, switch = tab.locator("div.cell.tag_hide-input > details .highlight"), tab.locator(".btn-code-switch")
    assert (total := code.count()) > 5
    assert not any(code.nth(i).is_visible() for i in range(total))
    assert not tab.get_by_text("source", exact=False).locator("visible=true").filter(has_text="Show").count()
    switch.click()
    assert all(code.nth(i).is_visible() for i in range(total))
    expect(switch).to_have_attribute("aria-pressed", "true")
    tab.goto("book/question2.html")
    assert code.first.is_visible()
    switch.click()
    assert not code.first.is_visible()
    tab.goto("book/glossary.html")
    assert switch.count() == 0 and problems == []


def test_what_papermill_sets_is_not_on_the_page(chapters: Path, site: Path) -> None:
    for path in chapters.glob("*.ipynb"):
        assert '"injected-parameters"' in path.read_text()
        assert "injected-parameters" not in (site / "book" / f"{path.stem}.html").read_text()

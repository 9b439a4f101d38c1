"""What Sphinx and the theme leave open in a page: tables as CSV, the size of figures, access by keyboard, weight."""

import csv
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from PIL import Image
from sphinx.application import Sphinx
from sphinx.util.osutil import relative_uri

FOLDER = "_tables"


def drop_injected(app: Sphinx, doctree: nodes.document) -> None:
    """Leave out the cell in which papermill set a chapter's parameters: the command at the page's end shows them."""
    for cell in list(doctree.findall(nodes.container)):
        if "tag_injected-parameters" in cell["classes"]:
            cell.parent.remove(cell)


def write_tables(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Write the page's captioned tables as CSV; a cell holds the text that the page shows, with a plain minus sign."""
    if app.builder.name != "html":
        return
    for table in doctree.findall(nodes.table):
        caption = table.next_node(nodes.title)
        if caption is None:
            continue
        name = f"{FOLDER}/{table['ids'][0]}.csv"
        path = Path(app.outdir) / name
        path.parent.mkdir(exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            for row in table.findall(nodes.row):
                csv.writer(file).writerow([cell.astext().replace("−", "-") for cell in row.findall(nodes.entry)])
        link = f'<a class="csv" href="{relative_uri(app.builder.get_target_uri(page), name)}" download>CSV</a>'
        caption += [nodes.Text(" "), nodes.raw("", link, format="html")]


def size_figures(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Give images their size, so that text does not move when they arrive; charts get a class for dark mode."""
    for image in doctree.findall(nodes.image):
        path = Path(app.srcdir) / image["uri"]
        if not path.is_file() or "width" in image:
            continue
        if path.suffix == ".svg":
            text = path.read_text(encoding="utf-8")
            root = text[text.index("<svg") : text.index(">", text.index("<svg"))]
            points = dict(re.findall(r'\b(width|height)="([\d.]+)pt"', root))  # as matplotlib writes them
            size = {name: float(value) * 4 / 3 for name, value in points.items()}
            if "<image" not in text:
                image["classes"].append("chart")
        else:
            size = dict(zip(("width", "height"), Image.open(path).size, strict=True))
        for name, value in size.items():
            image[name] = f"{value:.0f}px"


def mend(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Mend the page's HTML where the writers' is wrong for a phone or a screen reader."""
    body = context.get("body", "")
    # Attributes, unlike a style, tell the browser the ratio of a figure that must become narrower.
    body = re.sub(r'style="width: (\d+)px; height: (\d+)px;"', r'width="\1" height="\2"', body)
    # An equation that scrolls must be reachable by keyboard.
    body = body.replace('<div class="math ', '<div tabindex="0" class="math ')
    # On a phone a chart keeps its size and scrolls.
    body = re.sub(r'<figure (?=[^>]*>\s*<img[^>]* class="chart")', '<figure tabindex="0" ', body)
    # The parameters of a signature are a list of definitions without terms.
    body = re.sub(r"<dl>\n((?:<dd>.*</dd>\n)+)</dl>", _signature, body)
    # A list may hold nothing but list items, and a citation is none.
    context["body"] = body.replace('<div role="list" class="citation-list">', '<div class="citation-list">')


def _signature(match: re.Match[str]) -> str:
    lines = match[1].replace("<dd>", "<span>").replace("</dd>", "</span>")
    return f'<span class="sig-lines">{lines}</span>'


def drop_icons(app: Sphinx, exception: Exception | None) -> None:
    """Empty the theme's 1.5 MB script of icons: its style sheet has a font of those that pages show."""
    script = Path(app.outdir) / "_static" / "scripts" / "fontawesome.js"
    if script.exists():
        script.write_text("")


def setup(app: Sphinx) -> dict[str, bool]:
    """Handle each page when its references are known, and when it is written."""
    app.connect("doctree-read", drop_injected)
    app.connect("doctree-resolved", write_tables)
    app.connect("doctree-resolved", size_figures)
    app.connect("html-page-context", mend)
    app.connect("build-finished", drop_icons)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

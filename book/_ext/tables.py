"""A CSV file for each captioned table, linked from its caption, and the size of each SVG figure in its page."""

import csv
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.osutil import relative_uri

FOLDER = "_tables"


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
    """Give SVG images their size, so that text does not move when they arrive; charts get a class for dark mode."""
    for image in doctree.findall(nodes.image):
        path = Path(app.srcdir) / image["uri"]
        if path.suffix != ".svg" or not path.is_file():
            continue
        text = path.read_text(encoding="utf-8")
        size = dict(re.findall(r'\b(width|height)="([\d.]+)(?:pt|px)?"', text[: text.index(">", text.index("<svg"))]))
        if len(size) == 2 and "width" not in image:
            for name, value in size.items():
                image[name] = f"{round(float(value) * 4 / 3)}px"
        if "<image" not in text:
            image["classes"].append("chart")


def keep_ratio(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Write sizes as attributes: unlike a style they tell the browser the ratio of a figure that must be narrower."""
    style = r'style="width: (\d+)px; height: (\d+)px;"'
    context["body"] = re.sub(style, r'width="\1" height="\2"', context.get("body", ""))


def setup(app: Sphinx) -> dict[str, bool]:
    """Handle each page when its references are known."""
    app.connect("doctree-resolved", write_tables)
    app.connect("doctree-resolved", size_figures)
    app.connect("html-page-context", keep_ratio)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

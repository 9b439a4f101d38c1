"""What a link to a page looks like where it is shared: a title, a sentence, and the figure of all numbers."""

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

from prlib.pages.reproduction import measured_numbers
from prlib.pages.figures.drawing import WIDE, style
from prlib.pages.figures.numbers import all_numbers

IMAGE = "preview.png"
LONGEST = 200


def describe(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: nodes.document | None) -> None:
    """Give the template the beginning of the page's first paragraph, and where the image is."""
    paragraph = tree.next_node(nodes.paragraph) if tree else None
    text = " ".join(paragraph.astext().split()) if paragraph else app.config.project
    context["description"] = text if len(text) <= LONGEST else f"{text[: LONGEST - 1].rsplit(' ', 1)[0]}…"
    base = app.config.html_baseurl
    context["preview"] = f"{base}{IMAGE}" if base else context["pathto"](IMAGE, 1)


def draw(app: Sphinx, exception: Exception | None) -> None:
    """Draw the image, on white: where it is shown has a background of its own."""
    if exception or app.builder.name != "html":
        return
    style()
    figure = all_numbers(WIDE, *measured_numbers())
    figure.set_size_inches(12, 6.3)
    figure.savefig(Path(app.outdir) / IMAGE, dpi=100, facecolor="white", metadata={"Software": None})


def setup(app: Sphinx) -> dict[str, bool]:
    """Before each page is written, and at the end."""
    app.connect("html-page-context", describe)
    app.connect("build-finished", draw)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""What Sphinx and the theme leave open in a page: figures for phones and their size, weight."""

from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from docutils import nodes
from PIL import Image
from sphinx.application import Sphinx

from prlib.pages.figures.drawing import UNINVERTED

PIXELS_A_POINT = 4 / 3
SVG = "{http://www.w3.org/2000/svg}"
NARROW = "screen and (max-width: 600px)"


class picture(nodes.General, nodes.Element):  # noqa: N801  # as docutils names its nodes
    """Two images, the first for narrow screens and the second for all others and for paper."""


def drop_injected(app: Sphinx, doctree: nodes.document) -> None:
    """Leave out the cell in which papermill set a chapter's parameters: the command at the page's end shows them."""
    for cell in list(doctree.findall(nodes.container)):
        if "tag_injected-parameters" in cell["classes"]:
            cell.parent.remove(cell)


def part_drawings(app: Sphinx, doctree: nodes.document) -> None:
    """Make two files of a figure that holds a narrow drawing, too (``prlib.pages.figures.drawing.Drawn``)."""
    for image in list(doctree.findall(nodes.image)):
        path = Path(app.env.relfn2path(image["uri"])[1])
        if path.suffix != ".svg" or not path.is_file():
            continue
        wide = ElementTree.parse(path).getroot()
        if (narrow := wide.find(f"{SVG}svg[@class='narrow']")) is None:
            continue
        wide.remove(narrow)
        del narrow.attrib["display"]
        pair = picture()
        for suffix, drawing in ((".narrow.svg", narrow), (".wide.svg", wide)):
            ElementTree.ElementTree(drawing).write(path.with_suffix(suffix))
            pair += image.deepcopy()
            pair[-1]["uri"] = image["uri"].removesuffix(".svg") + suffix
        image.replace_self(pair)


def open_picture(translator: Any, node: picture) -> None:
    """Let the browser choose: it loads one of the two."""
    narrow, _ = node.children
    folder, name = translator.builder.imgpath, translator.builder.images[narrow["uri"]]
    translator.body.append("<picture>")
    translator.body.append(translator.emptytag(narrow, "source", "", media=NARROW, srcset=f"{folder}/{quote(name)}"))
    node.remove(narrow)


def close_picture(translator: Any, node: picture) -> None:
    """End it."""
    translator.body.append("</picture>\n")


def size_figures(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Tell images their size, so that text does not move when they arrive; charts get a class for dark mode."""
    for image in doctree.findall(nodes.image):
        path = Path(app.srcdir) / image["uri"]
        if not path.is_file() or "width" in image:
            continue
        if path.suffix == ".svg":
            root = ElementTree.parse(path).getroot()
            sizes = [root.attrib[name].removesuffix("pt") for name in ("width", "height")]  # as matplotlib writes them
            image["pixels"] = [round(float(size) * PIXELS_A_POINT) for size in sizes]
            if root.find(f".//{SVG}image") is None and root.find(f".//*[@id='{UNINVERTED}']") is None:
                image["classes"].append("chart")
        else:
            with Image.open(path) as opened:
                image["pixels"] = list(opened.size)


def drop_icons(app: Sphinx, exception: Exception | None) -> None:
    """Empty the theme's 1.5 MB script of icons: its style sheet has a font of those that pages show."""
    script = Path(app.outdir) / "_static" / "scripts" / "fontawesome.js"
    if script.exists():
        script.write_text("", "utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Handle each page when its references are known, and the site when it is written."""
    ElementTree.register_namespace("", SVG.strip("{}"))  # else its name would stand in front of every tag
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    app.add_node(picture, html=(open_picture, close_picture))
    app.connect("doctree-read", drop_injected)
    app.connect("doctree-read", part_drawings, priority=400)  # before Sphinx collects the images
    app.connect("doctree-resolved", size_figures)
    app.connect("build-finished", drop_icons)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""The HTML that Sphinx writes, where its own is wrong for a phone or a screen reader."""

from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator


class Translator(HTML5Translator):
    """The theme puts its own changes on top of this one."""

    def starttag(self, node: nodes.Element, tagname: str, *args: Any, **attributes: Any) -> str:
        """A start tag, with the attributes that its node lacks."""
        if isinstance(node, nodes.image) and "pixels" in node:
            # Attributes, unlike a style, tell the browser the ratio of a figure that must become narrower.
            attributes |= dict(zip(("width", "height"), node["pixels"], strict=True))
        elif isinstance(node, nodes.math_block) and tagname == "div":
            attributes["tabindex"] = "0"  # what scrolls must be reachable by keyboard
        elif isinstance(node, addnodes.desc_parameterlist) and tagname == "dl":
            attributes |= {"role": "presentation", "class": "sig-lines"}  # definitions without terms
        elif tagname == "td" and "label" in node:
            attributes["data-label"] = node["label"]  # for a phone, where heads have no place
        return str(super().starttag(node, tagname, *args, **attributes))

    def visit_citation(self, node: nodes.Element) -> None:
        """Open a citation in a group that is no list: a list may hold nothing but list items."""
        if not isinstance(node.previous_sibling(), nodes.citation):
            self.body.append('<div class="citation-list">\n')
        self.body.append(self.starttag(node, "div", classes=["citation"], role="doc-biblioentry"))


def setup(app: Sphinx) -> dict[str, bool]:
    """Have pages written so."""
    app.set_translator("html", Translator)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

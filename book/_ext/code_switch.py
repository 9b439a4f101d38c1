"""One switch a page for the code that makes its tables and figures, which is hidden until asked for."""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

BUTTON = {
    "type": "javascript",
    "javascript": "switchCode()",
    "text": "Code",
    "tooltip": "Show or hide the code on this page",
    "icon": "fas fa-code",
    "label": "code-switch",
}


def offer_code(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: nodes.document | None) -> None:
    """Put the switch into the header of a page that has such code."""
    if tree and any("tag_hide-input" in cell["classes"] for cell in tree.findall(nodes.container)):
        context["header_buttons"].insert(0, BUTTON)


def setup(app: Sphinx) -> dict[str, bool]:
    """Come after the theme has made its buttons (at 501)."""
    app.connect("html-page-context", offer_code, priority=502)
    app.add_js_file("code.js", loading_method="defer")
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""What a reader takes along: a chapter to Colab or Binder, a page's source, the whole book as PDF.

Everything that needs the repository's address follows from ``repository: url:`` in ``_config.yml``. Without it no page
offers any of that, and Colab's links and GitHub Pages are why it must be at GitHub.
"""

import os
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ConfigError

from prlib.pages.address import checked_address

PDF = "pixel-redrawn-reproduced.pdf"


def use_address(app: Sphinx, config: Config) -> None:
    """Show the theme's buttons that need the address only if it is known, and tell pages where they will lie."""
    options = config.html_theme_options
    try:
        url = checked_address(options.get("repository_url") or "")
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if not url:
        options["launch_buttons"] = {}
        return
    options |= dict.fromkeys(("use_repository_button", "use_source_button", "use_issues_button"), True)
    owner, name = url.lower().split("/")[-2], url.split("/")[-1]
    home = f"https://{owner}.github.io/"
    config.html_baseurl = config.html_baseurl or (home if name.lower() == f"{owner}.github.io" else f"{home}{name}/")


def offer_pdf(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: nodes.document | None) -> None:
    """Add the whole book to the page's downloads, where workflow/render is asked to make it."""
    for group in context.get("header_buttons", []):
        if group.get("label") == "download-buttons" and os.environ.get("PDF"):
            group["buttons"].append(
                {
                    "type": "link",
                    "url": context["pathto"](PDF, 1),
                    "text": "whole book, .pdf",
                    "tooltip": "Download the whole book",
                    "icon": "fas fa-book",
                    "label": "download-book-button",
                }
            )


def setup(app: Sphinx) -> dict[str, bool]:
    """Come before the theme reads the address, and after it has made its buttons (at 501)."""
    app.connect("config-inited", use_address)
    app.connect("html-page-context", offer_pdf, priority=502)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

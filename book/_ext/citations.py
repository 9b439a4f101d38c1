"""Labels in the list of references, where a letter after the year tells two works of the same authors apart."""

from typing import Any

from pybtex.plugin import register_plugin
from pybtex.style.formatting.plain import Style as Plain
from pybtex.style.labels.alpha import LabelStyle
from sphinx.application import Sphinx


class Labels(LabelStyle):
    """BibTeX's labels of names and year; the library's own would cut "2018a" to "8a"."""

    def format_label(self, entry: Any) -> str:
        """Names, two digits of the year, and its letter if it has one: "ACW18a"."""
        label, year = str(super().format_label(entry)), entry.fields.get("year", "")
        return f"{label.removesuffix(year[-2:])}{year[2:]}" if year[:4].isdigit() else label


class Style(Plain):
    """BibTeX's alpha with these labels."""

    default_label_style = Labels
    default_sorting_style = "author_year_title"


def setup(app: Sphinx) -> dict[str, bool]:
    """Name the style, which ``_config.yml`` chooses."""
    register_plugin("pybtex.style.formatting", "lettered", Style)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""Tables: each becomes a file for spreadsheets, and one too wide for a phone becomes blocks there, a row each."""

import csv
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import download_reference
from sphinx.application import Sphinx
from sphinx.util.osutil import relative_uri

FOLDER = "_tables"
PHONE, LETTER, EDGES = 330, 8, 17  # pixels: a table's width on a phone, a letter's, and what frames a cell
WRAPPED = 14  # letters of a line of text in a cell that can still be read


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
        address = relative_uri(app.builder.get_target_uri(page), name)
        caption += [nodes.Text(" "), download_reference("", "CSV", refuri=address, classes=["csv"])]


def stack_wide_tables(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Mark tables that a phone cannot show whole: there, a row is a block with its names first and labelled values.

    What a row is of stands in the columns before the first one of numbers, or in the first column alone.
    """
    for table in doctree.findall(nodes.table):
        rows = [list(row.findall(nodes.entry)) for row in table.findall(nodes.row)]
        if table.next_node(nodes.thead) is None or len({len(row) for row in rows}) != 1 or _width(rows) <= PHONE:
            continue
        table["classes"].append("stacked")
        labels, *body = rows
        number = [all("text-right" in row[i]["classes"] for row in body) for i in range(len(labels))]
        names = max(1, number.index(True)) if True in number else 1
        for row in body:
            for i, (cell, label) in enumerate(zip(row, labels, strict=True)):
                cell["classes"].append("names" if i < names else "value" if cell.astext() else "nothing")
                if (i >= names and len(labels) > names + 1) or number[i]:
                    cell["label"] = label.astext()
            row[names - 1]["classes"].append("last")


def _width(rows: list[list[nodes.entry]]) -> int:
    letters = 0
    for column in zip(*rows, strict=True):
        whole = max(len(cell.astext()) for cell in column)
        word = max((len(word) for cell in column for word in cell.astext().split()), default=0)
        letters += whole if "text-right" in column[-1]["classes"] else max(word, min(whole, WRAPPED))
    return letters * LETTER + len(rows[0]) * EDGES


def setup(app: Sphinx) -> dict[str, bool]:
    """Handle the tables of each page when its references are known."""
    app.connect("doctree-resolved", write_tables)
    app.connect("doctree-resolved", stack_wide_tables)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

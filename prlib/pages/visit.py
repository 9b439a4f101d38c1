"""What a visitor needs first: how long the pages take to read, and where the repository is."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from IPython.display import Markdown

from prlib.pages.address import repository

_ROOT = Path(__file__).parents[2]
WORDS_A_MINUTE = 220
"""How fast a technical text is read."""

_NOT_READ = re.compile(r"^(\||:::|```|%|\().*$", re.MULTILINE)
"""Rows of tables, directives and labels."""


def route(title: str, pages: Iterable[str]) -> Markdown:
    """A way through pages of the book, each with the minutes that its sentences take to read (tables are extra)."""
    pages = list(pages)
    minutes = [max(1, round(len(_sentences(page).split()) / WORDS_A_MINUTE)) for page in pages]
    steps = " → ".join(f"{{doc}}`{page}` ({n} min)" for page, n in zip(pages, minutes, strict=True))
    return Markdown(f"- **{title}:** {steps}")


def clone() -> Markdown:
    """The commands that fetch the repository and reproduce the book."""
    url = repository()
    address = url or "ADDRESS"
    hint = "" if url else "\nADDRESS is the repository's: this copy of the book was rendered before it had one.\n"
    folder = address.rsplit("/", 1)[-1] if url else "pixel-redrawn"
    return Markdown(f"```bash\ngit clone {address} {folder}\ncd {folder}\nmake reproduce\n```\n{hint}")


def _sentences(page: str) -> str:
    """The prose of a page, its computed sentences included."""
    notebook = _ROOT / "book" / f"{page}.ipynb"
    if not notebook.exists():
        return _NOT_READ.sub("", notebook.with_suffix(".md").read_text(encoding="utf-8"))
    texts = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "markdown":
            texts.append("".join(cell["source"]))
        for output in cell.get("outputs", []):
            texts.append("".join(output.get("data", {}).get("text/markdown", "")))
    return _NOT_READ.sub("", "\n".join(texts))


def side_by_side(*texts: Markdown) -> Markdown:
    """Paragraphs beside each other, as large as a headline; those that say nothing are left out."""
    told = "\n\n".join(text.data for text in texts if text.data)
    return Markdown(f":::{{container}} headline\n{told}\n:::")

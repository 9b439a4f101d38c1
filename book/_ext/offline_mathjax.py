"""Serve MathJax from the site itself, so that pages show their equations with the network off.

The PyPI package sphinx-mathjax-offline holds all of MathJax 3 (24 MB). A page needs one bundle, its fonts and
the TeX extensions that the bundle fetches when an equation asks for one (2 MB): only these reach the site.
"""

from importlib.util import find_spec
from pathlib import Path
from shutil import copyfile

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

PACKAGE = "sphinx-mathjax-offline"
FILES = ("tex-chtml.js", "input/tex/extensions/*.js", "output/chtml/fonts/woff-v2/*.woff")


def copy_mathjax(app: Sphinx) -> None:
    """Copy the files to ``_static/mathjax`` before pages are written: a page's link holds the file's checksum."""
    if app.builder.format != "html":
        return
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ExtensionError(f"equations need MathJax: install the Python package {PACKAGE}")
    source = Path(spec.origin).parent / "static" / "mathjax"
    for file in (file for pattern in FILES for file in source.glob(pattern)):
        target = Path(app.outdir) / "_static" / "mathjax" / file.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        copyfile(file, target)


def setup(app: Sphinx) -> dict[str, bool]:
    """Have the copy made as soon as the output folder is known."""
    app.connect("builder-inited", copy_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

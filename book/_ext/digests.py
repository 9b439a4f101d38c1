"""The digests of the datasets' files, as the library checks them: a block that ``sha256sum --check`` reads."""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from prlib.data import SHA256


class Digests(SphinxDirective):
    """``{digests}``: one line a file."""

    def run(self) -> list[nodes.Node]:
        """Read them from the library, so that no page can state others."""
        lines = "\n".join(f"{digest}  {path}" for path, digest in SHA256.items())
        return [nodes.literal_block(lines, lines, language="text")]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("digests", Digests)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

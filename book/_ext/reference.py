"""What the pages behind the chapters read from the library: signatures a reader can take in, and digests."""

import re
from typing import Any

from docutils import nodes
from pydantic import BaseModel
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

from prlib.originals import SHA256

TRANSFORM = re.compile(r"~?collections\.abc\.Callable\[\[[\w.~]*Tensor, [\w.~]*Generator\], [\w.~]*Tensor\]")


def tidy(app: Sphinx, what: str, name: str, thing: Any, options: Any, *signature: str | None) -> tuple[str | None, ...]:
    """Call transforms by their name, and write "..." for a default that a function makes, which would not parse.

    What checks a file's fields is said by their types alone, which no reader takes in from a signature.
    """
    if what == "class" and issubclass(thing, BaseModel):
        return "", None
    short = (text and TRANSFORM.sub("~prlib.data.Transform", text) for text in signature)
    return tuple(text and text.replace("<factory>", "...") for text in short)


def find_alias(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, text: nodes.TextElement
) -> nodes.reference | None:
    """Link a type that is no class but another name for one: Sphinx describes it as data."""
    if (node.get("refdomain"), node.get("reftype")) != ("py", "class"):
        return None
    domain = env.get_domain("py")
    return domain.resolve_xref(env, node["refdoc"], app.builder, "data", node["reftarget"], node, text)


class Digests(SphinxDirective):
    """``{digests}``: the datasets' digests as the library checks them, one line a file."""

    def run(self) -> list[nodes.Node]:
        """A block in the format of sha256sum."""
        lines = "\n".join(f"{digest}  {path}" for path, digest in SHA256.items())
        return [nodes.literal_block(lines, lines, language="text")]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register all three."""
    app.connect("autodoc-process-signature", tidy)
    app.connect("missing-reference", find_alias)
    app.add_directive("digests", Digests)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

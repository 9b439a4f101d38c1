"""Where the repository is, which goes into links and into commands that readers run."""

import re
from pathlib import Path

import yaml

_CONFIG = Path(__file__).parents[2] / "_config.yml"


def repository() -> str:
    """The address that ``_config.yml`` names, empty where it names none; raises what ``checked_address`` does."""
    return checked_address(yaml.safe_load(_CONFIG.read_text("utf-8"))["repository"]["url"] or "")


def checked_address(url: str) -> str:
    """The address of a repository at GitHub, which Colab's links and GitHub Pages need, or an empty string.

    Raises:
        ValueError: anything else, which would give dead links, or commands that do something else.
    """
    names = r"https://github\.com/[A-Za-z0-9][A-Za-z0-9_-]*/(?!\.{1,2}$)[A-Za-z0-9._-]+"
    if url and (not isinstance(url, str) or not re.fullmatch(names, url) or url.endswith(".git")):
        raise ValueError(f"repository: url: must be empty or like https://github.com/OWNER/NAME; got {url!r}")
    return url

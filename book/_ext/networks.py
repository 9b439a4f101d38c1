"""The networks that the page Play computes with: the published ones, as their digests say."""

from itertools import product
from pathlib import Path
from shutil import copyfile

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from prlib.profiles import published_snapshots
from prlib.snapshot import Snapshot

DATASETS = ("mnist", "cifar10")
NETWORKS = {"undefended": "none", "redrawn": "pr"}


def copy_networks(app: Sphinx) -> None:
    """Put them beside the page's scripts."""
    if app.builder.name != "html":
        return
    folder = Path(app.outdir) / "play"
    folder.mkdir(parents=True, exist_ok=True)
    for dataset, (name, defence) in product(DATASETS, NETWORKS.items()):
        try:
            path = Snapshot.read(published_snapshots(dataset)[defence]).path
        except (ValueError, OSError) as error:
            raise ExtensionError(str(error)) from error
        copyfile(path, folder / f"{dataset}-{name}.safetensors")


def setup(app: Sphinx) -> dict[str, bool]:
    """Before pages are written, so that a damaged network is found first."""
    app.connect("builder-inited", copy_networks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""The book, executed once with tiny parameters and rendered once, for all tests that look at it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import papermill
import pytest
import torch

ROOT = Path(__file__).parents[1]
CHAPTERS = [path.stem for path in sorted((ROOT / "book").glob("*.ipynb"))]
TINY = {"profile": "sample", "datasets": ["mnist", "cifar10"], "epochs": [1], "n_train": 130, "n_test": 20}

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def chapters(tmp_path_factory):
    """The folder of all chapters, executed by papermill: real data, real training, tiny sizes."""
    folder = tmp_path_factory.mktemp("chapters")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRLIB_RESULTS", str(folder / "results"))
        patch.chdir(ROOT)
        for name in CHAPTERS:
            papermill.execute_notebook(
                ROOT / "book" / f"{name}.ipynb", folder / f"{name}.ipynb", parameters=TINY, progress_bar=False
            )
    return folder


@pytest.fixture(scope="session")
def site(chapters, tmp_path_factory):
    """The folder of the site rendered from those chapters; any warning of Sphinx fails it."""
    out = tmp_path_factory.mktemp("site")
    environment = os.environ | {"BIN": str(Path(sys.executable).parent)}
    command = [ROOT / "workflow" / "render", chapters, chapters / "results" / "custom" / "records", out]
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout[-4000:] + built.stderr[-4000:]
    shutil.rmtree(out / "_build" / ".doctrees", ignore_errors=True)
    return out / "_build" / "html"

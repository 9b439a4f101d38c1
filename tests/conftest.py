"""The book, executed once with tiny parameters and rendered once, and a browser for all tests that look at it."""

import functools
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import papermill
import pytest
import torch
from playwright.sync_api import Browser, Page, sync_playwright

from prlib.experiment import to_json
from prlib.record import read_record

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
    make_stale(chapters / "results" / "custom" / "records")
    environment = os.environ | {"BIN": str(Path(sys.executable).parent)}
    command = [ROOT / "workflow" / "render", chapters, chapters / "results" / "custom" / "records", out]
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout[-4000:] + built.stderr[-4000:]
    shutil.rmtree(out / "_build" / ".doctrees", ignore_errors=True)
    return out / "_build" / "html"


def make_stale(records: Path) -> None:
    """Add to the records one that an older version of the code has measured."""
    record = read_record(min(records.glob("*-clean-*.json")))
    experiment = replace(record.experiment, training=replace(record.experiment.training, seed=99))
    old = replace(record, experiment=experiment, results=0)
    (records / f"{experiment.name}.json").write_text(json.dumps(to_json(old)))


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next(filter(None, map(shutil.which, names)), None)
    if chromium is None:
        missing = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        missing(f"no Chromium to look at the pages with: none of {', '.join(names)} is on the PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        yield browser
        browser.close()


@pytest.fixture
def problems() -> list[str]:
    return []


@pytest.fixture
def tab(browser: Browser, address: str, problems: list[str]) -> Iterator[Page]:
    """A fresh tab; what goes wrong in it is added to the list of problems."""
    # Without motion a resized page has its final layout at once: the theme's side bars slide otherwise.
    context = browser.new_context(base_url=address, color_scheme="light", reduced_motion="reduce")
    context.route(lambda url: not url.startswith(address), lambda route: route.abort())
    tab = context.new_page()

    def note(event: str, describe: Callable[..., str | None]) -> None:
        tab.on(event, lambda item: problems.extend(filter(None, [describe(item)])))

    note("request", lambda r: None if r.url.startswith(address) else f"asks another host: {r.url}")
    note("response", lambda r: f"answered {r.status}: {r.url}" if r.status >= 400 else None)
    note("requestfailed", lambda r: f"request failed: {r.url}")
    note("console", lambda m: f"console: {m.text}" if m.type == "error" else None)
    note("pageerror", lambda error: f"script error: {error}")
    yield tab
    context.close()

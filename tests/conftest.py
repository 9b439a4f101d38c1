"""The book, executed once with tiny parameters and rendered once, and a browser for all tests that look at it."""

import functools
import gc
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import papermill
import pytest
import torch
from bs4 import BeautifulSoup
from filelock import FileLock, Timeout
from playwright.sync_api import Browser, Page, sync_playwright

from prlib.defences import frozen
from prlib.experiment import Attack, to_json
from prlib.record import read_record

ROOT = Path(__file__).parents[1]
CHAPTERS = [path.stem for path in sorted((ROOT / "book").glob("*.ipynb"))]
TINY = {"profile": "sample", "datasets": ["mnist"], "epochs": [1], "n_train": 130, "n_test": 4}

pytest_plugins = ["kernels"]

torch.set_num_threads(1)
# A process holds the site's parsed pages, among other things, which the collector would walk through again and again.
gc.set_threshold(100_000, 50, 100)

os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start: the other cores run other tests


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that look at the executed chapters or the site, which take minutes to make, and put them first.

    Of several processes the first begins with them, so that none waits for it.
    """
    for item in items:
        if {"chapters", "site"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("book")
    items.sort(key=lambda item: item.get_closest_marker("book") is None)


@pytest.fixture(scope="session")
def together(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder of this run that all of its processes share."""
    folder = tmp_path_factory.getbasetemp()
    return folder if worker_id == "master" else folder.parent


@contextmanager
def once(made: Path, timeout: float = -1) -> Iterator[bool]:
    """Whether it is still to be made, which no other process does meanwhile; Timeout if one is at it so long."""
    done = made.with_name(f"{made.name}.done")
    with FileLock(made.with_name(f"{made.name}.lock"), timeout=timeout):
        yield not done.exists()
        done.touch()


@pytest.fixture(scope="session")
def chapters(together: Path) -> Path:
    """The folder of all chapters, executed by papermill: real data, real training, tiny sizes."""
    folder = together / "chapters"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRLIB_RESULTS", str(folder / "results"))
        patch.chdir(ROOT)
        for timeout in (0, -1):  # first those that no other process is at, then wait for the others
            for name in CHAPTERS:
                with suppress(Timeout), once(folder / f"{name}.ipynb", timeout) as to_do:
                    if to_do:
                        papermill.execute_notebook(
                            ROOT / "book" / f"{name}.ipynb",
                            folder / f"{name}.ipynb",
                            parameters=TINY,
                            progress_bar=False,
                        )
    return folder


@pytest.fixture(scope="session")
def site(chapters: Path, together: Path) -> Path:
    """The folder of the site rendered from those chapters; any warning of Sphinx fails it."""
    out = together / "site"
    with once(out) as to_do:
        if to_do:
            make_stale(chapters / "results" / "custom" / "records")
            environment = os.environ | {"BIN": str(Path(sys.executable).parent)}
            command = [ROOT / "workflow" / "render", chapters, chapters / "results" / "custom" / "records", out]
            built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
            assert built.returncode == 0, built.stdout[-4000:] + built.stderr[-4000:]
            shutil.rmtree(out / "_build" / ".doctrees", ignore_errors=True)
    return out / "_build" / "html"


@functools.cache
def parsed(path: Path) -> BeautifulSoup:
    """A page of the site, to be read only: all tests of a process share it."""
    return BeautifulSoup(path.read_text("utf-8"), "html.parser")


def brief(attack: Attack) -> Attack:
    """The attack with few steps and draws, for tests of what uses it."""
    options = dict(attack.options)
    fewer = {name: min(options[name], most) for name, most in {"steps": 4, "draws": 3}.items() if name in options}
    return replace(attack, options=frozen(options | fewer))


def make_stale(records: Path) -> None:
    """Add to the records one that an older version of the code has measured."""
    record = read_record(min(records.glob("*-clean-*.json")))
    experiment = replace(record.experiment, training=replace(record.experiment.training, seed=99))
    old = replace(record, experiment=experiment, results=0)
    (records / f"{experiment.name}.json").write_text(json.dumps(to_json(old)))


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-store")  # every visit is a first one
        super().end_headers()


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    found = subprocess.run([ROOT / "workflow" / "chromium"], capture_output=True, encoding="utf-8", timeout=300)
    if found.returncode:
        missing = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        missing(f"the pages are not looked at: {found.stderr.strip()}")
    with sync_playwright() as playwright:
        no_other_host = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
        browser = playwright.chromium.launch(executable_path=found.stdout.strip(), args=[no_other_host])
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
    tab = context.new_page()

    def note(event: str, describe: Callable[..., str | None]) -> None:
        tab.on(event, lambda item: problems.extend(filter(None, [describe(item)])))

    note("request", lambda r: None if r.url.startswith(address) else f"asks another host: {r.url}")
    note("response", lambda r: f"answered {r.status}: {r.url}" if r.status >= 400 else None)
    # What a tab no longer wants when it goes on or becomes narrower is no failure.
    note("requestfailed", lambda r: None if r.failure == "net::ERR_ABORTED" else f"request failed: {r.url}")
    note("console", lambda m: f"console: {m.text}" if m.type == "error" else None)
    note("pageerror", lambda error: f"script error: {error}")
    yield tab
    context.close()

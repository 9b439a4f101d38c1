"""Taking the book along and publishing it: Colab, Binder, downloads, the PDF, the workflows of GitHub Actions."""

import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import yaml
from conftest import CHAPTERS, ROOT, parsed
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from pypdfium2 import PdfDocument
from sphinx.errors import ConfigError

FORK = "https://github.com/someone/a-fork"
CONFIG = (ROOT / "_config.yml").read_text()
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TAKE_AWAY = runpy.run_path(str(ROOT / "book" / "_ext" / "take_away.py"))


def fetching(url):
    """A chapter's cell that fetches the repository at that address."""
    execute = runpy.run_path(str(ROOT / "workflow" / "execute"))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Title")])
    for _ in range(2):  # the second time it is replaced, not added
        execute["set_fetch"](notebook, url)
    title, cell = notebook.cells
    assert (title.source, cell.id, cell.metadata.tags) == ("# Title", "colab", ["remove-cell"])
    execute["set_fetch"](notebook, "")
    assert notebook.cells == [title]
    return cell.source


def addresses(path):
    return [link["href"] for link in parsed(path).find_all("a", href=True)]


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapters_fetch_the_repository_that_the_configuration_names(name):
    url = yaml.safe_load(CONFIG)["repository"]["url"]
    cells = nbformat.read(ROOT / "book" / f"{name}.ipynb", 4).cells
    written = [cell.source for cell in cells if cell.id == "colab"]
    assert written == ([fetching(url)] if url else []), "make chapters"


@pytest.fixture
def origin(tmp_path):
    """A repository with what the cell uses of this one."""
    folder = tmp_path / "origin"
    shutil.copytree(ROOT / "prlib", folder / "prlib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "workflow", folder / "workflow")
    git = ["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "all"]):
        subprocess.run([*git, *command], check=True)
    return folder.as_uri()


@pytest.mark.parametrize("on_colab", [False, True])
def test_the_cell_makes_prlib_importable_on_colab_and_does_nothing_elsewhere(tmp_path, origin, on_colab):
    called, folder = tmp_path / "called", tmp_path / "content"
    folder.mkdir()
    python = tmp_path / "bin" / "python"  # in place of the one that would install packages
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\necho "$PWD $@" >> {called}\n')
    python.chmod(0o755)
    script = f"""
import sys, types
from IPython.core.interactiveshell import InteractiveShell
if {on_colab}:
    sys.modules["google.colab"] = types.ModuleType("google.colab")
for kernel in range(2):  # the second time everything is there
    InteractiveShell.instance().run_cell({fetching(FORK).replace(FORK, origin)!r}).raise_error()
import prlib
print("imported", prlib.__file__)
"""
    environment = os.environ | {"PATH": f"{python.parent}:{os.environ['PATH']}", "IPYTHONDIR": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    imported = Path(re.search(r"^imported (.*)", ran.stdout, re.MULTILINE)[1])
    if on_colab:
        assert imported == folder / "repository" / "prlib" / "__init__.py"
        assert called.read_text() == f"{folder}/repository workflow/colab\n"
    else:
        assert imported == ROOT / "prlib" / "__init__.py"
        assert not called.exists() and not list(folder.iterdir())


def test_colab_installs_what_is_missing_and_leaves_the_rest(monkeypatch):
    commands = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: commands.append(command[4:]))
    monkeypatch.chdir(ROOT)
    runpy.run_path("workflow/colab")
    (quiet, *names), (*_, nodeps) = commands
    assert quiet == "--quiet" and {"torch", "pooch", "safetensors"} <= set(names)
    assert all(re.fullmatch(r"[\w.-]+", name) for name in names)  # with a version pip would replace what is there
    assert "jupyter-book" not in names and (ROOT / nodeps).is_file()


def test_binder_and_the_container_install_what_was_tested_together():
    version = re.fullmatch(r"python-(3\.\d+)", (ROOT / "binder" / "runtime.txt").read_text().strip())[1]
    assert f"{version}.99" in SpecifierSet(PROJECT["requires-python"])
    assert os.access(ROOT / "binder" / "postBuild", os.X_OK) and os.access(ROOT / "workflow" / "install", os.X_OK)
    for file in ("binder/postBuild", "Containerfile", "Makefile"):
        assert re.search(r"workflow/install \S*python\b", (ROOT / file).read_text())


def pinned(name):
    """The names and versions of a file of requirements, each with its digests."""
    text = (ROOT / name).read_text()
    found = re.findall(r"(?m)^([\w.-]+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", text)
    assert len(found) == len(re.findall("(?m)^[^# ]", text))  # nothing else
    return {canonicalize_name(name): version for name, version, _ in found}


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-nodeps.txt", "benchmarks/requirements.txt"])
def test_every_dependency_is_pinned_with_its_digests(name):
    assert pinned(name)


def test_what_is_pinned_is_what_is_installed_and_all_that_prlib_needs():
    pins, python = pinned("requirements.txt"), SpecifierSet(PROJECT["requires-python"])
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["book"]]
    wanted += PROJECT["optional-dependencies"]["test"]
    assert {canonicalize_name(Requirement(one).name) for one in wanted} <= set(pins)
    least = re.search(r"(3\.\d+\.\d+)", PROJECT["requires-python"])[1]
    for name, version in pins.items():
        found = distribution(name)
        assert found.version.partition("+")[0] == version
        assert least in SpecifierSet(found.metadata.get("Requires-Python") or "")
    makefile, readme = ((ROOT / name).read_text() for name in ("Makefile", "README.md"))
    assert f"({least.replace('.', ', ')})" in makefile and makefile.count(f"Python {least} or newer") == 1
    assert f"Python {least} or newer" in readme and sys.version.split()[0] in python


def test_the_audit_is_of_one_version():
    assert re.search(r"pip install --quiet pip-audit==\d+\.\d+\.\d+\n", (ROOT / "Makefile").read_text())


def test_pages_link_to_nothing_that_needs_an_address_unless_it_is_known(site):
    if yaml.safe_load(CONFIG)["repository"]["url"]:
        pytest.skip("the address is known")
    for path in (site / "book").rglob("*.html"):
        assert not [link for link in addresses(path) if "colab.research" in link or "mybinder" in link]
        assert not parsed(path).select("link[rel=canonical], .btn-source-repository-button")


@pytest.mark.slow
def test_a_fork_needs_only_its_address(site, tmp_path):
    source = shutil.copytree(site.parent / "source", tmp_path / "source")
    config, changed = re.subn(r"(?m)^  url:.*$", f'  url: "{FORK}"', CONFIG)
    assert changed == 1
    (source / "_config.yml").write_text(config)
    (source / "_toc.yml").write_text("format: jb-book\nroot: book/references\nchapters:\n- file: book/setting\n")
    command = [Path(sys.executable).parent / "jupyter-book", "build", "--path-output", tmp_path, source]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"PDF": "1"}, capture_output=True, check=True)
    book = tmp_path / "_build" / "html" / "book"
    chapter, text = addresses(book / "setting.html"), addresses(book / "references.html")
    assert "https://colab.research.google.com/github/someone/a-fork/blob/main/book/setting.ipynb" in chapter
    assert "https://mybinder.org/v2/gh/someone/a-fork/main?urlpath=lab/tree/book/setting.ipynb" in chapter
    assert not [link for link in text if "colab.research" in link or "mybinder" in link]
    for name, links in (("setting.ipynb", chapter), ("references.md", text)):
        assert {FORK, f"{FORK}/blob/main/book/{name}?plain=1", f"../{TAKE_AWAY['PDF']}"} <= set(links)
    canonical = parsed(book / "setting.html").find("link", rel="canonical")
    assert canonical["href"] == "https://someone.github.io/a-fork/book/setting.html"


def with_address(url):
    config = SimpleNamespace(html_baseurl="", html_theme_options={"repository_url": url, "launch_buttons": {"a": "b"}})
    TAKE_AWAY["use_address"](None, config)
    return config


def test_where_the_pages_will_lie():
    assert with_address("").html_theme_options["launch_buttons"] == {}
    assert with_address(FORK).html_baseurl == "https://someone.github.io/a-fork/"
    assert with_address("https://github.com/Someone/someone.github.io").html_baseurl == "https://someone.github.io/"


@pytest.mark.parametrize("url", ["someone/a-fork", f"{FORK}/", f"{FORK}.git", "https://gitlab.com/someone/a-fork"])
def test_an_address_that_would_give_dead_links_is_refused(url):
    with pytest.raises(ConfigError, match=re.escape(repr(url))):
        with_address(url)


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_is_downloaded_as_the_executed_notebook(site, chapters, name):
    (link,) = [a for a in parsed(site / "book" / f"{name}.html").select("a.btn-download-source-button")]
    downloaded = (site / "book" / link["href"]).resolve()
    assert downloaded.suffix == ".ipynb" and downloaded.read_bytes() == (chapters / f"{name}.ipynb").read_bytes()
    code = [cell for cell in nbformat.read(downloaded, 4).cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code) and any(cell.outputs for cell in code)


def test_the_book_as_pdf(site, tmp_path, browser):
    command = [sys.executable, ROOT / "workflow" / "pdf", site, tmp_path / "book.pdf"]
    subprocess.run(command, check=True)
    pdf = PdfDocument(tmp_path / "book.pdf")
    assert {tuple(map(round, page.get_size())) for page in pdf} == {(595, 842)}
    text = [page.get_textpage().get_text_bounded() for page in pdf]
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    files = [toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])]
    titles = [parsed(site / f"{name}.html").h1.find_all(string=True, recursive=False)[0] for name in files]
    started = {entry.get_title(): entry.get_dest().get_index() for entry in pdf.get_toc() if entry.level == 0}
    contents = "".join("".join(text[1 : min(started.values())]).split())
    for title in titles:
        (start,) = [number for name, number in started.items() if name.endswith(title)]
        assert title.split()[0] in text[start], title
        assert re.search(rf"{re.escape(''.join(title.split()))}{start + 1}(?!\d)", contents), title
    captions = {c.get_text() for name in files for c in parsed(site / f"{name}.html").select(".caption-number")}
    whole = re.sub(r"\s+", " ", " ".join(text))
    assert captions and [c for c in captions if c.strip() not in whole] == []
    assert not re.search(r"Show code cell|\\\(|\\\[|report\.start", whole)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_call_make(path):
    jobs = yaml.safe_load(path.read_text())["jobs"]
    runs = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert runs and all(re.fullmatch(r"make [a-z-]+", run) and run.split()[1] in TARGETS for run in runs)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_trust_no_tag_and_keep_no_credentials(path):
    """A tag of somebody else's can be moved; what runs after the checkout needs no right to push."""
    workflow = yaml.safe_load(path.read_text())
    used = [step for job in workflow["jobs"].values() for step in job["steps"] if "uses" in step]
    assert used and all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", step["uses"]) for step in used)
    checkouts = [step for step in used if step["uses"].startswith("actions/checkout@")]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)
    assert workflow["permissions"] == {"contents": "read"}


def test_workflows_check_build_and_publish_every_week_and_on_every_push():
    jobs = {name: job for path in WORKFLOWS for name, job in yaml.safe_load(path.read_text())["jobs"].items()}
    runs = {name: [step["run"] for step in job["steps"] if "run" in step] for name, job in jobs.items()}
    triggers = {path.stem: yaml.safe_load(path.read_text())[True] for path in WORKFLOWS}  # YAML takes "on" for true
    assert triggers["weekly"]["schedule"] and triggers["site"]["push"] == {"branches": ["main"]}
    assert "pull_request" in triggers["site"]
    assert [run for run in ("make lint", "make test", "make book", "make pdf") if run not in runs["build"]] == []
    assert runs["audit"] == ["make audit"] and runs["links"] == ["make links"]
    assert jobs["deploy"]["permissions"] == {"pages": "write", "id-token": "write"}

"""No text of a record, a parameter, a YAML file or a benchmark puts markup into a page, or a file outside the site."""

import dataclasses
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill.cli
import pytest
import yaml
from bs4 import BeautifulSoup
from conftest import ROOT

from prlib import pages
from prlib.experiment import Attack, Defence, to_json
from prlib.pages.address import checked_address
from prlib.pages.content import code, literal, markdown, plain, told
from prlib.pages.tables import Table, frame
from prlib.profiles import Parameters
from prlib.record import parse_record, read_record

EVIL = [
    "<b id=evil>bold</b>",
    "<script>evil()</script>",
    "<img src=evil onerror='evil()'>",
    "`<b id=evil>`` <b id=evil> ```",
    "| <b id=evil> | x |",
    "end\n\n```{raw} html\n<b id=evil></b>\n```\n",
    "end\n:::\n\n:::{raw} html\n<b id=evil></b>\n:::\n",
    "{raw:html}`<b id=evil>` {download}`/etc/passwd`",
    "[evil](javascript:evil()) ![evil](http://evil/evil.png) <http://evil>",
    "**evil** _evil_ ~~evil~~ $evil$ &lt;b id=evil&gt; \\<b id=evil\\>",
    "{{ evil }} {% evil %} [evil]{#evil}",
]
ALL = " ".join(EVIL)
NAMES = ["../evil", "a/b", "a b", "<b>", "", ".evil", "a\nb", "évil", "a|b", "a`b", "a@b"]


def named(change):
    """A committed record as JSON, with something changed in it."""
    path = min((ROOT / "results/published/records").glob("mnist-*-fgsm-bim-mim-*.json"))
    data = to_json(read_record(path))
    change(data)
    return json.dumps(data).encode(), path


@pytest.mark.parametrize("name", NAMES)
def test_names_are_letters_digits_and_a_few_marks(name):
    attack = dict(Parameters("sample", ["mnist"]).experiments(["steps-none"])[0].attacks[0].options)
    for what, make in (("defence", Defence), ("attack", lambda name: Attack(name, tuple(attack.items())))):
        with pytest.raises(ValueError, match=f"^the name of the {what} must be made of letters"):
            make(name)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data["experiment"]["training"]["defence"].update(name="pr-../../evil"),
        lambda data: data["experiment"]["tested_with"][0].update(name="none-<b>"),
        lambda data: data["experiment"]["attacks"][0].update(name="fgsm/../evil"),
        lambda data: data["cells"][0].update(attack="<b>"),
        lambda data: data["cells"][0].update(tested_with="<b>"),
        lambda data: data["experiment"]["training"].update(dataset="../mnist"),
        lambda data: data["experiment"]["training"].update(source="<b>"),
    ],
)
def test_a_record_with_another_name_is_none(change):
    content, path = named(change)
    with pytest.raises(ValueError, match="is not a record of this library"):
        parse_record(content, path)


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/a/b; evil",
        "https://github.com/a/b\nevil",
        "https://github.com/a/$(evil)",
        "https://github.com/a/`evil`",
        "https://github.com/a/{evil}",
        'https://github.com/a/b"><script>',
        "--upload-pack=evil",
        "https://github.com/é/b",
        "http://github.com/a/b",
        "https://github.com/a/b/../../c",
        "https://github.com/a/..",
        "https://github.com/a/.",
        "https://github.com/-a/b",
        5,
    ],
)
def test_an_address_is_no_command(url, monkeypatch):
    with pytest.raises(ValueError, match=r"must be empty or like https://github\.com/OWNER/NAME"):
        checked_address(url)
    execute = runpy.run_path(str(ROOT / "workflow" / "execute"))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Title")])
    with pytest.raises(ValueError, match="must be empty or like"):
        execute["set_fetch"](notebook, url)


GOOD = [
    {},
    {"profile": "published", "datasets": ["cifar10-gray", "mnist"], "device": "cpu"},
    {"seeds": {0, 2**40}, "epochs": range(1, 4), "n_train": 500, "n_test": 1, "epsilon": 1e-07},
    {"epsilon": 1, "recompute": True, "seeds": [7]},
]


@pytest.mark.parametrize("text", [*EVIL, "$(evil)", "`evil`", "mnist'; evil '", "cpu; evil", "cuda:0\nevil", "mnist\n"])
def test_a_parameter_with_markup_is_refused(text):
    """In one line, which shows the value as Python writes it, before a page could show it in another way."""
    for parameter in dataclasses.fields(Parameters):
        good = parameter.metadata["example"] and [*json.loads(parameter.metadata["example"]), text]
        for value in (text, [text], good or {text: text}):
            with pytest.raises(ValueError, match=rf"^{parameter.name} (must be|is) [^\n]*; got [^\n]*$"):
                pages.start({parameter.name: value})


@pytest.mark.parametrize("given", GOOD)
def test_a_rerun_command_is_one_line_of_a_shell_which_gives_the_same_parameters(given):
    parameters = Parameters(**given)
    shown = pages.rerun_command("question1", parameters).data
    first, command, last = shown.split("\n")
    assert (first, last) == ("```bash", "```")
    program, *words = shlex.split(command)
    asked = papermill.cli.papermill.make_context(program, words).params
    assert (asked["notebook_path"], asked["output_path"]) == ("book/question1.ipynb", "_build/question1.ipynb")
    typed = {name: papermill.cli._resolve_type(value) for name, value in asked["parameters"]}
    for text in asked["parameters_yaml"]:
        typed |= yaml.safe_load(text)
    assert Parameters(**typed) == parameters and re.fullmatch(r"[\w .:/,'\[\]-]+", command)


def benchmark(path):
    table = {"name": "evil", "commit": ALL, "title": ALL, "threads": 1, "rows": [{ALL: ALL, "number": 1.5}]}
    machine = {"device": ALL, "cores": ALL, "system": ALL}
    path.write_text(json.dumps({"machine": machine, "versions": {}, "tables": [table]}))


def hostile():
    """A record whose free texts are all hostile."""
    _, path = named(lambda data: None)
    record = read_record(path)
    provenance = record.provenance | {"commit": ALL, "finished": EVIL[1], "versions": {ALL: ALL}}
    provenance |= {"machine": {"device": ALL, "cores": 2, "system": ALL}, "digests": {"test": ALL, ALL: ALL}}
    return dataclasses.replace(record, provenance=provenance)


def tables(folder, monkeypatch):
    """What chapters show of a hostile record and a hostile benchmark."""
    monkeypatch.setattr("prlib.pages.facts.BENCHMARKS", folder / "measured.json")
    benchmark(folder / "measured.json")
    record = hostile()
    each = [frame([{"text": literal(text), "code": code(text), "told": told(text)}]) for text in EVIL]
    shown = [Table(one, f"Evil {i}.", f"evil-{i}") for i, one in enumerate(each)]
    return [*shown, pages.provenance([record], "evil"), pages.costs([record]), pages.benchmark("evil")]


def test_what_a_notebook_shows_by_itself_holds_no_foreign_markup(tmp_path, monkeypatch):
    for table in tables(tmp_path, monkeypatch)[:-1]:
        soup = BeautifulSoup(table._repr_html_(), "html.parser")
        assert not soup.select("#evil, script, img, b, a") and "evil" in soup.get_text()


def test_values_are_shown_as_they_are():
    for text in EVIL:
        assert plain(code(text)) == text and "\n" not in markdown(literal(text)) + markdown(code(text))
    assert markdown(literal("AMD EPYC, 2 cores (0.5)")) == "AMD EPYC, 2 cores (0.5)"
    assert markdown(told("With `EXECUTOR=slurm`, it <b>.")) == r"With `EXECUTOR=slurm`, it \<b\>."


def refused():
    """Cells of a chapter that was given hostile parameters: what was injected, and how it ended."""
    for text in EVIL:
        with pytest.raises(ValueError) as raised:
            pages.start({"datasets": [text]})
        error = ("ValueError", str(raised.value), [f"ValueError: {text}"])
        printed = nbformat.v4.new_output("stream", name="stderr", text=f"prlib: {text}")
        failed = nbformat.v4.new_output("error", **dict(zip(("ename", "evalue", "traceback"), error, strict=True)))
        yield nbformat.v4.new_code_cell(
            f"# Parameters\ndatasets = [{text!r}]", execution_count=1, outputs=[printed, failed]
        )


@pytest.mark.slow
def test_the_site_holds_no_foreign_markup(tmp_path, monkeypatch):
    source = tmp_path / "source"
    (source / "records").mkdir(parents=True)
    for name in ("_ext", "_static", "_templates", "_root"):
        shutil.copytree(ROOT / "book" / name, source / "book" / name)
    shutil.copy(ROOT / "references.bib", source)
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    config["sphinx"]["config"]["nitpicky"] = False
    (source / "_config.yml").write_text(yaml.safe_dump(config))
    (source / "_toc.yml").write_text("format: jb-book\nroot: book/values\nchapters:\n- file: book/markdown\n")
    record = hostile()
    (source / "records" / f"{record.experiment.name}.json").write_text(json.dumps(to_json(record)))
    values = [shown._repr_markdown_() for shown in tables(tmp_path, monkeypatch)]
    author = [" ".join(text.split()) for text in EVIL]  # such as a claim of a YAML file, whose Markdown is meant
    for name, outputs in (("values", values), ("markdown", author)):
        cells = [nbformat.v4.new_markdown_cell(f"# Page {name}"), *refused()]
        for text in outputs:
            output = nbformat.v4.new_output("display_data", {"text/markdown": text, "text/plain": ""})
            cells.append(nbformat.v4.new_code_cell("1", execution_count=1, outputs=[output]))
        nbformat.write(nbformat.v4.new_notebook(cells=cells), source / "book" / f"{name}.ipynb")
    before = sorted(tmp_path.rglob("*"))
    build = [Path(sys.executable).parent / "jupyter-book", "build", "--path-output", tmp_path / "out", source]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    html = tmp_path / "out" / "_build" / "html"
    for page in [html / "book" / "values.html", html / "book" / "markdown.html", *(html / "records").glob("*.html")]:
        soup = BeautifulSoup(page.read_text(), "html.parser")
        shown = {"index": "<script>", "markdown": "evil"}.get(page.stem, "{#evil}")
        assert shown in soup.get_text(), done.stderr
        assert not soup.select("b, [onerror], img[src=evil], [href^=javascript]"), page
        assert not [script for script in soup.find_all("script") if "evil" in script.get_text()]
        if page.stem != "markdown":
            assert not soup.select("#evil, [src*=evil], article strong, article em")
    outside = [path for path in sorted(tmp_path.rglob("*")) if path not in before and "out" not in path.parts]
    assert outside == []

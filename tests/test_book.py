"""The chapters as notebooks: their parameters, what they refuse, what they show; and the workflow around them."""

import ast
import json
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import nbformat
import papermill
import pytest
import yaml
from conftest import CHAPTERS, ROOT, TINY

from prlib.pages.records import parameters_cell, start
from prlib.profiles import PROFILES, Parameters
from prlib.profiles.suites import read_profile, read_suites


def notebook(folder, name):
    return nbformat.read(Path(folder) / f"{name}.ipynb", 4)


def outputs(cells):
    for cell in cells:
        for output in cell.get("outputs", []):
            yield output.get("text", "") + "".join(output.get("data", {}).get("text/markdown", ""))


def test_every_chapter_is_in_the_table_of_contents():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    listed = {Path(chapter["file"]).name for part in toc["parts"] for chapter in part["chapters"]}
    assert set(CHAPTERS) <= listed | {Path(toc["root"]).name}


@pytest.mark.parametrize("name", CHAPTERS)
def test_parameters_are_flat_commented_literals_and_checked_next(name):
    cells = notebook(ROOT / "book", name).cells
    code = [cell for cell in cells if cell.cell_type == "code" and cell.id != "colab"]  # which workflow/execute wrote
    assert "parameters" in code[0].metadata.tags
    tree = ast.parse(code[0].source)
    values = {node.targets[0].id: ast.literal_eval(node.value) for node in tree.body}
    known = ["profile", "datasets", "seeds", "epochs", "n_train", "n_test", "epsilon", "device", "recompute"]
    assert list(values) == (known[:1] if name == "index" else known)  # the front page shows the published records
    assert known == [field.name for field in fields(Parameters)]
    assert Parameters(**values) == Parameters("published")
    assert code[0].source == parameters_cell(name)
    assert all("  # " in line for line in code[0].source.splitlines())
    assert "pages.start(globals())" in code[1].source


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapters_are_committed_executed(name):
    code = [cell for cell in notebook(ROOT / "book", name).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert any(cell.outputs for cell in code)


WRONG = [
    ({"eps": 0.3}, "'eps'"),
    ({"epsilon": 3}, "epsilon must be"),
    ({"seeds": 1}, "seeds must be a list"),
    ({"device": "abacus"}, "'abacus'"),
]


@pytest.mark.parametrize(("given", "named"), WRONG)
def test_wrong_parameters_are_refused(given, named):
    told = "\n".join(["# Parameters", *(f"{name} = {value!r}" for name, value in (TINY | given).items())])
    with pytest.raises(ValueError, match=named):
        start(TINY | given | {"In": ["", told]})


@pytest.mark.slow
def test_a_wrong_parameter_stops_a_chapter_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("PRLIB_RESULTS", str(tmp_path / "results"))
    given, named = WRONG[0]
    with pytest.raises(papermill.PapermillExecutionError, match=named):
        papermill.execute_notebook(
            ROOT / "book" / "question1.ipynb", tmp_path / "out.ipynb", parameters=TINY | given, progress_bar=False
        )
    assert not (tmp_path / "results").exists()


def test_a_chapter_starts_again_in_the_same_kernel_and_what_papermill_sets_is_still_checked():
    notebook = {"profile": "sample", "epsilon": 0.1, "In": ["", "profile = 'sample'", "# Parameters\nepsilon = 0.1\n"]}
    left = {"records": [], "rows": [1], "caption": "of an earlier run", "suites": ["sweep"], "n": 3}
    assert start(notebook) == start(notebook | left) == Parameters("sample", epsilon=0.1)
    with pytest.raises(ValueError, match="unknown parameter 'eps'"):
        start(notebook | {"eps": 0.1, "In": ["", "# Parameters\neps = float('nan')\n"]})


def test_the_suites_that_chapters_ask_for_are_those_that_profiles_run():
    cells = [cell for name in CHAPTERS for cell in notebook(ROOT / "book", name).cells]
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code" and cell.id != "colab")
    asked = {node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)} & set(read_suites())
    run = {name for profile in PROFILES for choice in read_profile(profile).experiments for name in choice.suites}
    assert run == set(read_suites()) == asked


def test_a_chapter_shows_what_was_measured_in_its_run(chapters):
    records = list((chapters / "results" / "custom" / "records").glob("*.json"))
    assert records and all(json.loads(path.read_text())["experiment"]["n_test"] <= 4 for path in records)
    for name, shown in (("question1", "-none-s0-e1-clean"), ("question2", "-pr-s0-e1-fgsm-bim-mim")):
        text = "\n".join(outputs(notebook(chapters, name).cells))
        assert "on this machine" in text and "custom · 130/4 images · 1 epochs" in text
        assert all(f"`{path.stem}`" in text for path in records if shown in path.name)
        assert "published · 60,000/10,000 images" in text  # which stand first


def test_the_verdict_page_lists_every_claim(chapters):
    text = "\n".join(outputs(notebook(chapters, "verdict").cells))
    from prlib import paper

    assert all(claim["claim"] in text for claim in paper.claims())
    words = re.findall(r"\[(yes|partly|no|open|not testable)\]\{\.verdict \.[a-z-]+\}", text)
    assert len(words) >= sum(2 if "cells" in claim else 1 for claim in paper.claims())


@pytest.mark.slow
def test_the_workflow_plans_one_job_for_each_training(tmp_path):
    environment = os.environ | {"PRLIB_RESULTS": str(tmp_path)}
    snakemake = [Path(sys.executable).parent / "snakemake", "--snakefile", "workflow/Snakefile", "--cores", "2"]
    command = [*snakemake, "--nolock", "--dry-run", "--config", "profile=published", "--", "site"]
    planned = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert planned.returncode == 0, planned.stderr
    experiments = Parameters(profile="published").experiments()
    assert re.search(rf"measure\s+{len({e.training for e in experiments})}\b", planned.stdout)
    assert re.search(rf"chapter\s+{len(CHAPTERS)}\b", planned.stdout)


def test_make_help_lists_the_targets():
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert all(f"make {target} " in listed for target in ("plan", "reproduce", "test", "book", "clean"))


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_tables_cells_in_a_notebook_have_no_marks_that_only_the_site_knows(name):
    outputs = [output for cell in notebook(ROOT / "book", name).cells for output in cell.get("outputs", [])]
    text = "".join("".join(output.get("data", {}).get("text/html", "")) for output in outputs)
    assert not re.findall(r"<t[dh][^>]*>[^<]*\]\{\.[^<]*", text)


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapters_speak_plainly(name):
    """Accuracies neither leave nor keep anything, and tables say what a network is and not what the code calls it."""
    cells = notebook(ROOT / "book", name).cells
    figures = [str(cell.metadata.get("mystnb", "")) for cell in cells]  # captions and alternative texts
    told = "\n".join([*(cell.source for cell in cells), *outputs(cells), *figures])
    told = re.sub(r"\(record:[^)]*\)", "", told)
    assert (
        re.findall(r".*attacks that know.*|.*\b(?:leaves?|keeps?) (?:\{|\[?\d+\.\d|\[?\d+%).*|.*lie these.*", told)
        == []
    )
    assert (
        re.findall(r"^\|.*\| (?:pr|pr-multi|pr-multi-image|\w+-true|\w+-quarter|none) \|.*", told, re.MULTILINE) == []
    )

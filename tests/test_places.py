"""Wherever it runs: paths, homes, users, locales, repositories of others."""

import ast
import gc
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import ROOT

from prlib import collector, pages, provenance
from prlib.machine import git

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def prlib(*arguments, **environment):
    """What the command line does in another environment."""
    command = [sys.executable, "-m", "prlib", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", errors="replace")


# Locales.


@pytest.mark.parametrize("folder", ["prlib", "workflow", "book/_ext", "benchmarks"])
def test_text_is_utf_8_in_files_whatever_the_locale(folder):
    """Ruff sees what is opened, and paths whose type is plain; here are all calls of these names."""
    paths = [path for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix in ("", ".py")]
    scripts = [path for path in paths if path.suffix or b"env python" in path.read_bytes()]
    calls = [node for path in scripts for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.Call)]
    named = [ast.unparse(node) for node in calls if getattr(node.func, "attr", "") in ("read_text", "write_text")]
    others = [ast.unparse(node) for node in calls if {"text"} & {keyword.arg for keyword in node.keywords}]
    assert scripts and [call for call in named if "'utf-8'" not in call and "'WHEEL'" not in call] == []
    assert [call for call in others if call.startswith("subprocess")] == []


def test_the_command_line_speaks_in_any_locale():
    helped = prlib("run", "--help", **ASCII)
    assert (helped.returncode, helped.stderr) == (0, "") and "cuda:0" in helped.stdout and "…" not in helped.stdout
    refused = prlib("run", "ε", **ASCII)
    assert refused.returncode == 2 and refused.stderr.startswith("prlib: no experiment")
    assert refused.stderr.count("\n") == 1


def test_a_stream_may_be_closed():
    command = 'exec "$0" -m prlib list --names nothing >&-'
    done = subprocess.run(["sh", "-c", command, sys.executable], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "prlib: no experiment of profile sample has a name that starts with 'nothing'\n"


# The commit in a record.


def commit_in(folder):
    """A repository with one file committed, and that commit."""
    folder.mkdir(exist_ok=True)
    (folder / "file").touch()
    run = ["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", folder.name]):
        subprocess.run([*run, *command], check=True)
    return subprocess.run([*run, "rev-parse", "HEAD"], capture_output=True, check=True).stdout


def test_git_speaks_of_the_folders_own_repository_alone(tmp_path, monkeypatch):
    outer = commit_in(tmp_path)
    library = tmp_path / "library"
    library.mkdir()
    with pytest.raises(FileNotFoundError, match="library is no git repository"):
        git("rev-parse", "HEAD", root=library)
    (library / ".git").mkdir()  # broken: git would look above
    with pytest.raises(OSError, match=r"git fails in .*library: fatal: not a git repository"):
        git("rev-parse", "HEAD", root=library)
    own = commit_in(library)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / ".git"))  # as in a hook
    assert git("rev-parse", "HEAD", root=library) == own != outer


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a folder to another user")
def test_a_repository_of_another_user_is_said_to_be_one(tmp_path, monkeypatch, capsys):
    commit_in(tmp_path)
    for path in (tmp_path, tmp_path / ".git"):
        os.chown(path, 12345, 12345)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(provenance, "git", lambda *arguments: git(*arguments, root=tmp_path))
    assert provenance._code() == (None, None)
    said = capsys.readouterr().err
    assert said.startswith("prlib: the record will name no commit of the code, since git fails in")
    assert "dubious ownership" in said and said.count("\n") == 1


def test_a_record_names_the_commit_of_this_code(tmp_path, monkeypatch, capsys):
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
    assert provenance._code()[0] == head.decode().strip()
    monkeypatch.setattr(provenance, "git", lambda *arguments: git(*arguments, root=Path(tmp_path)))
    assert provenance._code() == (None, None) and capsys.readouterr().err == ""


# Homes and users.


NOBODY = """
import os, sys
os.setgroups([]); os.setgid(23456); os.setuid(23456)
del os.environ["HOME"]
from prlib.command_line import main
for arguments, variables in (
    (["list", "--names", "--datasets", "mnist"], {}),
    (["run", "mnist-sample20-none-s0-e1-clean", "--n-train", "20", "--n-test", "20", "--epochs", "1"], {}),
    (["run", "mnist-full20-none-s0-e1-clean", "--profile", "published", "--n-train", "20", "--epochs", "1"], {}),
    (["list", "--names", "--datasets", "mnist"], {"PRLIB_RESULTS": "~/x"}),
):
    os.environ |= variables
    print("status", main([*arguments, "--progress", "none"] if arguments[0] == "run" else arguments), flush=True)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_a_user_whom_the_system_does_not_know_and_without_a_home(tmp_path):
    for parent in (folder for folder in (tmp_path, *tmp_path.parents) if "pytest" in str(folder)):
        parent.chmod(parent.stat().st_mode | 0o055)
    os.chown(tmp_path, 23456, 23456)
    environment = os.environ | {"PRLIB_RESULTS": str(tmp_path), "PYTHONPATH": str(ROOT)}
    environment.pop("PRLIB_DATA", None)
    done = subprocess.run(
        [sys.executable, "-c", f"import prlib.command_line, torch._dynamo\n{NOBODY}"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert re.findall(r"status (\d)", done.stdout) == ["0", "0", "2", "2"], done.stderr
    *_, data, results = done.stderr.splitlines()
    assert data.startswith("prlib: ~/.cache/prlib begins in a home folder, and there is none; set HOME, or name")
    assert results.startswith("prlib: ~/x begins in a home folder") and "Traceback" not in done.stderr


def test_make_gives_a_user_whom_the_system_does_not_know_a_name():
    """Which Snakemake asks for, as ``getpass`` does it, and finds nothing in the list of users."""
    unnamed = {name: value for name, value in os.environ.items() if name not in ("LOGNAME", "USER")}
    make = ["make", "--no-print-directory", "--eval=shown: ; @echo $$LOGNAME", "shown"]
    for given, told in (({}, str(os.getuid())), ({"USER": "ann"}, "ann"), ({"USER": "ann", "LOGNAME": "eva"}, "eva")):
        asked = subprocess.run(make, cwd=ROOT, env=unnamed | given, capture_output=True, text=True, check=True)
        assert asked.stdout == f"{told}\n"
    script = "import getpass, pwd; pwd.getpwuid = lambda uid: {}[uid]; print(getpass.getuser())"
    for variables, name in ((unnamed, ""), (unnamed | {"LOGNAME": "12345"}, "12345\n")):
        done = subprocess.run([sys.executable, "-c", script], env=variables, capture_output=True, text=True)
        assert done.stdout == name and ("KeyError" in done.stderr) == (name == "")


# Set-up.


def test_an_environment_of_another_python_is_made_anew_where_one_is_asked_for(tmp_path):
    """Of two stand-ins for Python, which say who they are; nothing is installed."""
    for name in ("requirements.txt", "requirements-nodeps.txt", "pyproject.toml", "workflow/install"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1e9, 1e9))
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/.ready").touch()
    for name, says in ((".venv/bin/python", "3.11"), ("same", "3.11"), ("other", "3.12")):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {says}\n")
        (tmp_path / name).chmod(0o755)

    def planned(*settings):
        make = ["make", "--file", ROOT / "Makefile", "--dry-run", "setup", *settings]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHON"}
        return subprocess.run(make, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout

    assert "Nothing to be done" in planned() and "Nothing to be done" in planned("PYTHON=./same")
    assert "./other -m venv .venv" in planned("PYTHON=./other")
    recipe = re.search(r'test ".*" = ".*" \|\| rm -rf \.venv', planned("PYTHON=./other"))[0]
    for python, kept in (("same", True), ("other", False)):
        subprocess.run(["sh", "-c", recipe.replace("./other", f"./{python}")], cwd=tmp_path, check=True)
        assert (tmp_path / ".venv/.ready").exists() == kept


# The site.


def test_two_renderings_take_turns(tmp_path):
    """The builder is a stand-in, which says when it begins and ends; the rest is the script itself."""
    book = tmp_path / "a clone"
    for folder in ("book", "prlib/sample", "results/tenth/records", "results/reference/records", "workflow", "bin"):
        (book / folder).mkdir(parents=True)
    for name in ("_config.yml", "_toc.yml", "references.bib", "CHANGELOG.md", "CITATION.cff", "prlib/sample/README.md"):
        (book / name).touch()
    (book / "results/published/records").mkdir(parents=True)
    (book / "results/published/records/one.json").touch()
    (book / "bin/python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (book / "bin/jupyter-book").write_text(
        '#!/bin/sh\necho begin >> said; ls "${10}/records" >> said; sleep 1; echo end >> said\n'
    )
    for script in (book / "bin").iterdir():
        script.chmod(0o755)
    command = [ROOT / "workflow" / "render", "book", "results/published/records", "."]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "BIN": str(book / "bin")}
    environment.pop("RENDERING", None)
    both = [subprocess.Popen(command, cwd=book, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = sorted(process.communicate()[1] for process in both)
    assert [process.returncode for process in both] == [0, 0] and said[0] == ""
    assert said[1].startswith("prlib: waiting for another process, which renders the site")
    assert (book / "said").read_text().split() == ["begin", "one.json", "end"] * 2


def test_what_the_tools_remember_stays_in_the_folder(tmp_path):
    """The variables that make sets, and where matplotlib, IPython, Jupyter and Snakemake then write."""
    shown = subprocess.run(
        ["make", "--no-print-directory", "--eval=shown: ; @env && echo $(SNAKEMAKE)", "shown"],
        cwd=ROOT,
        env=os.environ | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    variables = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    assert variables["PYTHONUTF8"] == "1" and f"XDG_CACHE_HOME={ROOT}/_build/tools" in shown.splitlines()[-1]
    script = (
        "import IPython.paths, jupyter_core.paths as j, matplotlib as m; "
        "print(m.get_configdir(), m.get_cachedir(), IPython.paths.get_ipython_dir(), j.jupyter_runtime_dir(), "
        "j.jupyter_config_dir(), j.jupyter_data_dir(), sep='\\n')"
    )
    told = subprocess.run(
        [sys.executable, "-c", script],
        env=variables | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert len(told) == 6 and all(path.startswith(f"{ROOT}/_build/tools/") for path in told)
    assert not list(tmp_path.iterdir())


# Python's collector.


def test_the_collector_rests_while_modules_are_imported_and_is_then_as_before():
    was_enabled = gc.isenabled()
    for begin in (gc.disable, gc.enable):
        begin()
        before = gc.isenabled()
        with suppress(ImportError), collector.paused():
            with collector.paused():
                assert not gc.isenabled()
            assert not gc.isenabled()
            raise ImportError
        assert gc.isenabled() == before
    assert was_enabled and gc.get_freeze_count() > 100_000 and pages  # whose modules are not looked through any more

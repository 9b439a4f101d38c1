"""The bundle for a machine without a network: unpacked, it runs; each part is small enough and the same bytes again."""

import gzip
import hashlib
import os
import re
import subprocess
import sys
import tarfile
import time
import zipfile
from importlib.metadata import version
from io import BytesIO
from pathlib import Path

import pytest
from conftest import ROOT

from prlib import bundle, tar
from prlib.data import missing
from prlib.originals import FILES, SHA256
from prlib.tar import Member


def wheel() -> list[Member]:
    """A tiny wheel, of pure Python, that no index has."""
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(zipfile.ZipInfo("greeting_of_the_bundle.py"), "TEXT = 'hello'\n")  # not dated by the clock
    return [Member("wheels/greeting_of_the_bundle-1-py3-none-any.whl", packed.getvalue())]


@pytest.fixture
def datasets(monkeypatch):
    """Contents that do not compress, instead of the datasets', which tests do not download."""
    contents = {path: os.urandom(100_000) for path in SHA256}
    monkeypatch.setattr(bundle, "read_original", lambda name, path, root: contents[path])
    return contents


def names(path: Path) -> list[str]:
    with tarfile.open(path) as archive:
        return archive.getnames()


@pytest.mark.slow
def test_unpacked_over_each_other_the_parts_run(datasets, tmp_path):
    parts = bundle.bundle(tmp_path / "parts", wheels=wheel)
    assert [path.name for path in parts] == ["part1-code.tar", "part2-mnist.tar", "part3-cifar10.tar"]
    (there := tmp_path / "there").mkdir()
    for path in reversed(parts):
        subprocess.run(["tar", "xf", path], cwd=there, check=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PRLIB"))}

    def do(*command: str) -> str:
        done = subprocess.run(command, cwd=there, env=kept | {"PYTHON": sys.executable}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "PyTorch" in do("workflow/gpu", "setup")  # which also holds if Python is of an environment itself
    listed = do("workflow/gpu", "list", "--names")
    assert listed.startswith("to-do mnist-full60000-none-s0-e1000-clean-") and listed.count("\n") == 48
    python = ".venv/bin/python"
    code = "import prlib, greeting_of_the_bundle, torch; print(prlib.__file__)"
    assert do(python, "-c", code).strip() == str(there / "prlib" / "__init__.py")
    code = "from prlib.provenance import provenance_of; p = provenance_of('cpu', False, {}, {}); "
    code += "print(p['commit'], p['dirty'], p['versions']['prlib'])"
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert do(python, "-c", code).split() == [head.strip(), "None", version("prlib")]
    for name, splits in FILES.items():
        assert all(missing(name, split, there / "data") == () for split in splits)
    for path, content in datasets.items():
        assert gzip.decompress((there / "data" / f"{path}.gz").read_bytes()) == content
    assert re.search("passed|skipped", do("workflow/gpu", "test"))


def test_the_same_commit_gives_the_same_bytes(datasets, tmp_path):
    def digests(folder: str) -> list[str]:
        parts = bundle.bundle(tmp_path / folder, wheels=wheel)
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in parts]

    once = digests("once")
    time.sleep(2)  # the unit of a zip file's clock, the coarsest of all that could stand in a part
    assert digests("again") == once


def test_the_code_is_the_committed_one(datasets, tmp_path):
    (part, *_) = bundle.bundle(tmp_path, wheels=wheel)
    command = ["git", "ls-tree", "-r", "--name-only", "HEAD", "--", *bundle.CODE]
    committed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    more = ["COMMIT", f"prlib-{version('prlib')}.dist-info/METADATA", wheel()[0].name]
    assert sorted(names(part)) == sorted(committed + more)
    assert {"prlib/profiles/paper.yaml", "tests/test_cuda.py", "workflow/gpu"} <= set(names(part))
    (script,) = (member for member in tar.read(part) if member.name == "workflow/gpu")
    assert script.executable and script.content == (ROOT / "workflow" / "gpu").read_bytes()


def test_parts_are_as_large_as_they_may_be_and_in_order(datasets, tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "CODE", ("LICENSE",))
    (tmp_path / "part9-old.tar").touch()
    parts = bundle.bundle(tmp_path, 0.25, wheels=wheel)
    assert sorted(tmp_path.glob("*")) == parts and max(path.stat().st_size for path in parts) <= 250_000
    held = [name for path in parts for name in names(path) if name.startswith("data/")]
    assert held == [f"data/{path}.gz" for path in SHA256]
    assert len(parts) == 1 + 4 + 3  # two files of 100 kB in each
    with pytest.raises(ValueError, match=r"--megabytes must be at least 0\.1 for data/MNIST"):
        bundle.bundle(tmp_path, 0.05, wheels=wheel)
    assert sorted(tmp_path.glob("*")) == parts


def test_the_wheels_fit_any_python_and_are_what_a_pytorch_image_may_lack():
    found = {wheel.name.lower(): wheel.version for wheel in bundle.portable()}
    assert {"torchattacks", "pooch", "platformdirs", "pytest", "pluggy", "safetensors", "filelock", "tqdm"} <= set(
        found
    )
    assert found["torchattacks"] == version("torchattacks")
    assert not {"torch", "numpy", "scipy", "pandas", "matplotlib", "torchvision", "sympy"} & set(found)


def test_without_a_repository_it_says_so(datasets, tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "_root", lambda: tmp_path)
    with pytest.raises(OSError, match="needs git and the repository"):
        bundle.bundle(tmp_path / "out", wheels=wheel)
    assert not (tmp_path / "out").exists()

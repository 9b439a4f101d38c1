"""What a machine with a GPU but without a network needs: the code, the wheels that it lacks, the datasets."""

import gzip
import io
import re
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path
from tempfile import TemporaryDirectory

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from prlib import tar
from prlib.machine import git
from prlib.originals import FILES, files_of, read_original, root_folder
from prlib.tar import Member

CODE = ("prlib", "tests", "workflow/gpu", "pyproject.toml", "README.md", "LICENSE")
"""What of the repository is needed there."""

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
"""The versions of CPython that a machine may have."""

EACH_PYTHON = ("pydantic-core",)
"""What is compiled for each version of CPython, and in no PyTorch image; the wheels unpack over each other."""

DATA = (("mnist", "fashion-mnist"), ("cifar10",))
"""The datasets that share parts, in the order of the parts."""


def bundle(
    folder: Path,
    megabytes: float = 60,
    data_root: str | None = None,
    wheels: Callable[[], Iterable[Member]] | None = None,
) -> list[Path]:
    """Pack the committed code, wheels and datasets into ``folder/part1-code.tar``, ``part2-mnist.tar`` and so on.

    Unpacked over each other, in any order, the parts are a working copy with ``data/`` and ``wheels/``; any of them
    can stay away, and what it holds is then missing there. The same commit, wheels and datasets give the same bytes.
    Parts that lie in the folder already are replaced.

    Args:
        megabytes: a part's size at most, in 10⁶ bytes.
        wheels: gives the wheels; None downloads them.

    Raises:
        ValueError: a file is larger than a part may be, or a dataset's is not the original.
        OSError: there is no repository, or a dataset or a wheel can be neither found nor downloaded.
    """
    commit, time = _git("log", "-1", "--format=%H %ct").decode().split()
    code = [*_code(), Member("COMMIT", f"{commit}\n".encode()), _metadata(), *(wheels or _wheels)()]
    groups = [("code", code)] + [(names[0], list(_data(names, data_root))) for names in DATA]
    parts = [(name, part) for name, members in groups for part in tar.split(members, megabytes)]
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"part{number}-{name}.tar" for number, (name, _) in enumerate(parts, start=1)]
    for path, (_, members) in zip(paths, parts, strict=True):
        tar.write(members, path, int(time))
    for old in set(folder.glob("part[0-9]*.tar")) - set(paths):
        old.unlink()
    return paths


def _code() -> Iterator[Member]:
    with tarfile.open(fileobj=io.BytesIO(_git("archive", "--format=tar", "HEAD", "--", *CODE))) as archived:
        for info in archived:
            if file := archived.extractfile(info):
                yield Member(info.name, file.read(), bool(info.mode & 0o100))


def _metadata() -> Member:
    """What tells the version of prlib where it is not installed."""
    project = _project()
    text = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    return Member(f"{project['name']}-{project['version']}.dist-info/METADATA", text.encode())


def _data(names: Iterable[str], root: str | None) -> Iterator[Member]:
    """The files of these datasets, checked and compressed, at their paths below ``data/``."""
    for name in names:
        for path in (path for split in FILES[name] for path in files_of(name, split)):
            content = read_original(name, path, root_folder(root))
            yield Member(f"data/{path}.gz", gzip.compress(content, mtime=0))


def _wheels() -> Iterator[Member]:
    """Download the wheels of ``portable`` and ``EACH_PYTHON`` in the versions that are installed here."""
    with TemporaryDirectory() as folder:
        _download(folder, PYTHONS[0], ("abi3", "none"), [f"{wheel.name}=={wheel.version}" for wheel in portable()])
        for python in PYTHONS:
            abi = f"cp{python.replace('.', '')}"
            _download(folder, python, (abi,), [f"{name}=={distribution(name).version}" for name in EACH_PYTHON])
        for path in sorted(Path(folder).glob("*.whl")):
            yield Member(f"wheels/{path.name}", path.read_bytes())


def _download(folder: str, python: str, abis: Iterable[str], names: Iterable[str]) -> None:
    platforms = ("any", "manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64")
    options = ["-qq", "--no-deps", "--only-binary=:all:", "--implementation=cp", f"--python-version={python}"]
    options += [f"--abi={name}" for name in abis] + [f"--platform={name}" for name in platforms]
    if subprocess.run([sys.executable, "-m", "pip", "download", *options, "--dest", folder, *names]).returncode:
        raise OSError("the wheels could not be downloaded; what pip says is above")


def portable() -> list[Distribution]:
    """What prlib and its tests import, and what that needs, as far as a wheel fits any CPython from 3.11 on.

    Those are pure Python, or built for the stable interface (abi3). The rest, PyTorch and NumPy above all, is the
    machine's own, but for ``EACH_PYTHON``.
    """
    wanted = [*map(Requirement, _project()["dependencies"]), Requirement("pytest"), Requirement("torchattacks")]
    found: dict[str, Distribution] = {}
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        if name in (*found, "torch") or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found[name] = distribution(name)
        if name != "torchattacks":  # which pins an old requests, and asks for what it does not import
            wanted += map(Requirement, found[name].requires or [])
    fits = re.compile(r"^Tag: \S+-(none-any|abi3-\S+)$", re.MULTILINE)
    return [found[name] for name in sorted(found) if fits.search(found[name].read_text("WHEEL") or "")]


def _project() -> dict:
    return tomllib.loads((_root() / "pyproject.toml").read_text("utf-8"))["project"]


def _root() -> Path:
    return Path(__file__).parents[1]


def _git(*arguments: str) -> bytes:
    try:
        return git(*arguments, root=_root())
    except OSError as error:
        raise OSError(f"a bundle needs git and the repository: {error}") from error

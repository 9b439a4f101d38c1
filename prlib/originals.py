"""The datasets' original files: what they are, where they come from, and that they are still what they were."""

import gzip
import hashlib
import os
import tempfile
import zlib
from pathlib import Path

from prlib.cifar import records
from prlib.download import Archive, fetch
from prlib.files import expanded, locked

_M, _F, _C = "MNIST/raw", "FashionMNIST/raw", "cifar-10-batches-bin"
_PYTHON = "cifar-10-batches-py"
_ARCHIVED = {_C: ("cifar-10-binary.tar.gz", "cifar-10-python.tar.gz")}

_LAYOUT = (
    f"the folder with the data must hold {_M}/, {_F}/ and {_C}/ (or {_PYTHON}/), and these the files themselves, each "
    "unpacked or as .gz"
)

LARGEST = 64 << 20
"""No file's content has more bytes; whatever has is not read to its end."""


def _idx(start: str) -> tuple[tuple[str, ...], ...]:
    return ((f"{start}-images-idx3-ubyte", f"{start}-labels-idx1-ubyte"),)


FILES: dict[str, dict[str, tuple[tuple[str, ...], ...]]] = {
    "mnist": {"train": _idx(f"{_M}/train"), "test": _idx(f"{_M}/t10k")},
    "fashion-mnist": {"train": _idx(f"{_F}/train"), "test": _idx(f"{_F}/t10k")},
    "cifar10": {
        "train": tuple((f"{_C}/data_batch_{i}.bin",) for i in range(1, 6)),
        "test": ((f"{_C}/test_batch.bin",),),
    },
}
"""The files of each split, read part by part; a part is a pair of idx files (images, labels) or one of CIFAR-10's.

:meta hide-value:
"""
SHA256 = {
    f"{_M}/train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    f"{_M}/train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    f"{_M}/t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    f"{_M}/t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    f"{_F}/train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    f"{_F}/train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    f"{_F}/t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    f"{_F}/t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    f"{_C}/data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    f"{_C}/data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    f"{_C}/data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    f"{_C}/data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    f"{_C}/data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    f"{_C}/test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
"""The digest of every file's decompressed content.

:meta hide-value:
"""
_MIRRORS = {
    _M: ("https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist"),
    _F: (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion",
    ),
}
_MD5 = {  # of the idx files as their sites serve them: gzipped
    f"{_M}/train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    f"{_M}/train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    f"{_M}/t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    f"{_M}/t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
    f"{_F}/train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    f"{_F}/train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
    f"{_F}/t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
    f"{_F}/t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
}


def _gzipped(path: str) -> Archive:
    folder, _, name = path.rpartition("/")
    return Archive(tuple(f"{site}/{name}.gz" for site in _MIRRORS[folder]), f"md5:{_MD5[path]}", (f"{path}.gz",))


ARCHIVES = (
    *(_gzipped(path) for path in _MD5),
    Archive(
        ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
        "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        tuple(path for path in SHA256 if path.startswith(_C)),
    ),
)
"""What is downloaded, with mirrors and checksums.

:meta hide-value:
"""


def files_of(name: str, split: str) -> list[str]:
    """The files of a split of one of ``FILES``, relative to the root."""
    return [path for part in FILES[name][split] for path in part]


def root_folder(root: str | Path | None) -> Path:
    """Where the full data is: ``root``, else ``$PRLIB_DATA``, else ``~/.cache/prlib``."""
    return expanded(root or os.environ.get("PRLIB_DATA") or "~/.cache/prlib")


def find(path: str, root: Path) -> Path:
    """Where a file is, plain, gzipped or in CIFAR-10's Python version, or else where it belongs."""
    plain = root / path
    python = root / _PYTHON / plain.stem if path.startswith(_C) else plain
    return next((file for file in (plain, root / f"{path}.gz", python) if file.is_file()), plain)


def read_original(name: str, path: str, root: Path) -> bytearray:
    """The decompressed content of a file of ``FILES[name]``, downloaded if it is missing.

    Raises:
        ValueError: it is not the original's, or the folder is laid out in another way; nothing is deleted.
        OSError: it cannot be downloaded or written.
    """
    if not find(path, root).is_file():
        _check_layout(path, root)
        try:
            _download(name, root)
        except ConnectionError as error:
            raise ConnectionError(f"{root} lacks {path}; {_LAYOUT}; {error}") from error
    file = find(path, root)
    content = _content(file)
    if content is None or hashlib.sha256(content).hexdigest() != SHA256[path]:
        advice = "move it away and the original will be downloaded"
        raise ValueError(f"{file} is not the original, whose content has SHA-256 {SHA256[path]}: {advice}")
    return content


def _content(file: Path) -> bytearray | None:
    """What the file holds, decompressed and as in the binary version; None if it is damaged or far too large."""
    try:
        with (gzip.open if file.suffix == ".gz" else open)(file, "rb") as stream:
            content = stream.read(LARGEST + 1)
        if len(content) > LARGEST:
            return None
        return records(content) if file.parent.name == _PYTHON else bytearray(content)
    except (gzip.BadGzipFile, EOFError, zlib.error, ValueError):
        return None


def _check_layout(path: str, root: Path) -> None:
    """Raise a ValueError if a file is not where it belongs but close by, or still packed."""
    folder, _, name = path.rpartition("/")
    places: tuple[Path, ...] = root, root / "raw", root / folder.partition("/")[0]
    dotted = name.replace("-idx", ".idx")  # as some copies are called
    names = (name, f"{name}.gz", name.removesuffix(".bin"), dotted, f"{dotted}.gz")
    places += tuple(place / "raw" for place in root.glob("*") if place.name.lower() == folder.partition("/")[0].lower())
    near = [place / file for place in (*places, root / folder) for file in names]
    near += [place / file for place in (root, root / folder) for file in _ARCHIVED.get(folder, ())]
    near += [*root.glob(f"*/{path}"), *root.glob(f"*/{path}.gz"), *root.glob(f"*/{_PYTHON}/{Path(name).stem}")]
    packed = root.is_file() and root.suffix in (".gz", ".tgz", ".tar", ".zip")
    if found := next((file for file in near if file.is_file()), packed and root):
        raise ValueError(f"{root} lacks {path}, but there is {found}; {_LAYOUT}")


def _download(name: str, root: Path) -> None:
    """Download what is missing of both splits, which may come in the same archive; one process at a time."""
    lock = f"prlib-{os.getuid()}-{hashlib.sha256(str(root.absolute()).encode()).hexdigest()[:16]}.lock"
    with locked(Path(tempfile.gettempdir()) / lock, f"downloads into {root}"):
        absent = {path for split in FILES[name] for path in files_of(name, split) if not find(path, root).is_file()}
        for archive in ARCHIVES:
            if wanted := [path for path in archive.gives if path.removesuffix(".gz") in absent]:
                fetch(archive, root, wanted)

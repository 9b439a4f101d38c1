"""Files: written all at once, read with errors that name them, and locked so that whoever waits says so."""

import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import MappingProxyType

from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

_SIGNS = (AttributeError, IndexError, KeyError, OSError, RuntimeError, TypeError, ValueError)
_DIGEST = "sha256"


def check_name(what: str, name: str) -> None:
    """Raise a ValueError unless a name can be part of files' names and of pages: no slash, no space, no markup."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError(f"the name of the {what} must be made of letters, digits, '.', '_' and '-'; got {name!r}")


def expanded(path: str | Path) -> Path:
    """A path whose ~ stands for the home folder; a ValueError says so where there is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:  # no HOME, and a user whom the system does not know, as in a container
        where = "set HOME, or name another folder (the datasets' by PRLIB_DATA, the records' by PRLIB_RESULTS)"
        raise ValueError(f"{path} begins in a home folder, and there is none; {where}") from error


def check_writable(path: Path) -> None:
    """Raise an OSError unless a file can be written there, if need be in new folders; nothing is left behind."""
    if path.is_dir():
        raise OSError(f"{path} cannot be written: it is a folder")
    try:
        with NamedTemporaryFile(dir=next(place for place in path.absolute().parents if place.exists())):
            pass
    except OSError as error:
        raise OSError(f"{path} cannot be written ({error})") from error


@contextmanager
def atomically(path: Path) -> Iterator[Path]:
    """Yield a path to write to that becomes ``path`` only once the block has ended, so that no file is half-written.

    One process at a time may write to ``path``; what a killed one leaves is overwritten by the next.

    Raises:
        OSError: it cannot be written, as on a full disk; it names the path, and what was there is unchanged.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OSError(f"{path} cannot be written, and stays as it was ({error})") from error


def save_tensors(tensors: Mapping[str, Tensor], path: Path, meta: Mapping[str, str] = MappingProxyType({})) -> None:
    """Write tensors as safetensors, atomically, and readable for whom the umask says.

    Beside ``meta`` the file holds a digest of all that it says, by which ``parse_tensors`` notices a changed bit.
    """
    plain = {name: value.contiguous() for name, value in tensors.items()}
    content = save(plain, {**meta, _DIGEST: _digest(save(plain), meta)})
    with atomically(path) as partial:
        partial.write_bytes(content)


def parse_tensors(content: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file.

    Raises:
        SafetensorError, ValueError: it is damaged; any bit is noticed in a file that holds its digest.
    """
    tensors = load(content)
    meta = json.loads(content[8 : _start(content)]).get("__metadata__") or {}
    digest = meta.pop(_DIGEST, None)
    if digest not in (None, _digest(content, meta)):
        raise ValueError("its content does not have the digest that it holds")
    return tensors, meta


def _digest(content: bytes, meta: Mapping[str, str]) -> str:
    said = json.dumps(dict(meta), sort_keys=True).encode()
    return hashlib.sha256(said + content[_start(content) :]).hexdigest()


def _start(content: bytes) -> int:
    """Where the numbers begin in a safetensors file."""
    return 8 + int.from_bytes(content[:8], "little")


@contextmanager
def intact(path: Path, what: str, advice: str) -> Iterator[None]:
    """Inside, a file is read: any sign that it is truncated, empty or another's becomes a ValueError that names it.

    Args:
        what: it should be, such as "a snapshot of a network".
        advice: what to do.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except (SafetensorError, *_SIGNS) as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise ValueError(f"{path} is not {what} ({why}); {advice}") from error


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """A lock file, held inside; the same process may hold it twice. Whoever waits says on stderr for what."""
    lock = FileLock(path, is_singleton=True)
    try:
        lock.acquire(timeout=0.2)  # whoever asks ``is_locked`` has it for a moment
    except Timeout:
        print(f"prlib: waiting for another process, which {what} (it holds {path})", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Whether another process is inside ``locked(path)``, or nobody could be."""
    if not path.exists():
        return False
    lock = FileLock(path, is_singleton=True)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return True
    lock.release()
    return False

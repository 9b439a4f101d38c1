"""Files: written all at once, read with errors that name them, and locked so that whoever waits says so."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

_SIGNS = (AttributeError, IndexError, KeyError, OSError, RuntimeError, TypeError, ValueError)


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


def save_tensors(tensors: Mapping[str, Tensor], path: Path, meta: Mapping[str, str] | None = None) -> None:
    """Write tensors as safetensors, atomically, and readable for whom the umask says."""
    content = save({name: value.contiguous() for name, value in tensors.items()}, None if meta is None else dict(meta))
    with atomically(path) as partial:
        partial.write_bytes(content)


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
        lock.acquire(timeout=0)
    except Timeout:
        print(f"prlib: waiting for another process, which {what} (it holds {path})", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()

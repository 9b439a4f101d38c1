"""Plain tar archives that are the same bytes for the same content, in parts of bounded size."""

import io
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from prlib.files import atomically


@dataclass(frozen=True)
class Member:
    """A file in an archive: its path there, what is in it, whether it can be run."""

    name: str
    content: bytes = field(repr=False)
    executable: bool = False


def split(members: Iterable[Member], megabytes: float) -> list[list[Member]]:
    """Deal the members out to archives, in their order, that are each at most so large (a megabyte is 10⁶ bytes).

    Raises:
        ValueError: a member is too large by itself, or the size is no positive number.
    """
    if not megabytes > 0:
        raise ValueError(f"--megabytes must be a positive number; got {megabytes:g}")
    parts: list[list[Member]] = []
    room = 0.0
    for member in members:
        # Headers, filling up to blocks of 512 bytes, and a line in a list of digests.
        needed = len(member.content) + len(member.name) + 3000
        if needed > (most := 1e6 * megabytes - 20_000):
            raise ValueError(
                f"--megabytes must be at least {(needed + 20_000) / 1e6:.1f} for {member.name}; got {megabytes:g}"
            )
        if needed > room:
            parts.append([])
            room = most
        parts[-1].append(member)
        room -= needed
    return parts


def write(members: Iterable[Member], path: Path, time: int = 0) -> None:
    """Write members to a tar file, all of the same time (in seconds since 1970) and of nobody in particular."""
    with atomically(path) as partial, tarfile.open(partial, "w", format=tarfile.PAX_FORMAT) as tar:
        for member in members:
            info = tarfile.TarInfo(member.name)
            info.size, info.mtime, info.mode = len(member.content), time, 0o755 if member.executable else 0o644
            tar.addfile(info, io.BytesIO(member.content))


def read(path: Path) -> list[Member]:
    """Read a tar file into memory; anything in it but plain files raises a ValueError that names it."""
    try:
        with tarfile.open(path, "r:") as tar:
            members = []
            for info in tar:
                if not info.isreg():
                    raise ValueError(f"{path} may hold plain files only; {info.name} is none")
                file = tar.extractfile(info)
                members.append(Member(info.name, file.read() if file else b"", bool(info.mode & 0o100)))
            return members
    except tarfile.TarError as error:
        raise ValueError(f"{path} is not a complete tar archive: {error}") from error

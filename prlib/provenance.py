"""Where numbers come from: code, versions, machine and time."""

import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from prlib.machine import device_name, git, peak_megabytes
from prlib.record import Provenance, Seconds


def provenance_of(device: str, tf32: bool, seconds: Seconds, digests: dict[str, str]) -> Provenance:
    """What a record that was measured just now says of its numbers' origin.

    Args:
        device: that networks were trained and judged on.
        tf32: whether it multiplied with 10 bits of precision.
        digests: of the images by split.
    """
    commit, dirty = _code()
    versions = {"python": platform.python_version()} | {name: version(name) for name in ("prlib", "torch", "numpy")}
    return {
        "commit": commit,
        "dirty": dirty,
        "versions": versions,
        "machine": {"device": device_name(device), "cores": os.cpu_count(), "system": platform.platform(terse=True)},
        "tf32": tf32,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": seconds,
        "peak_megabytes": peak_megabytes(),
        "digests": digests,
    }


def _code() -> tuple[str | None, bool | None]:
    """The code's commit, and whether it has been changed since; None where nobody knows."""
    bundled = Path(__file__).parents[1] / "COMMIT"  # code that was sent without its repository says what it is
    if bundled.exists():
        return bundled.read_text("utf-8").strip(), None
    try:
        status = git("status", "--porcelain", "--", "prlib", "pyproject.toml")
        return git("rev-parse", "HEAD").decode().strip(), bool(status)
    except FileNotFoundError:
        return None, None  # installed without its repository
    except OSError as error:
        print(f"prlib: the record will name no commit of the code, since {error}", file=sys.stderr)
        return None, None

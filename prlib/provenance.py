"""Where numbers come from: code, versions, machine and time."""

import os
import platform
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
    bundled = Path(__file__).parents[1] / "COMMIT"  # code that was sent without its repository says what it is
    status = None if bundled.exists() else git("status", "--porcelain", "--", "prlib", "pyproject.toml")
    versions = {"python": platform.python_version()} | {name: version(name) for name in ("prlib", "torch", "numpy")}
    return {
        "commit": bundled.read_text().strip() if bundled.exists() else git("rev-parse", "HEAD"),
        "dirty": None if status is None else bool(status),
        "versions": versions,
        "machine": {
            "device": device_name(device),
            "cores": os.cpu_count(),
            "system": platform.platform(terse=True),
        },
        "tf32": tf32,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": seconds,
        "peak_megabytes": peak_megabytes(),
        "digests": digests,
    }

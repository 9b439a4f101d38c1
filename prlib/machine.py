"""Where an experiment runs: devices, threads, memory and the code's commit."""

import ctypes
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch


def check_device(device: str) -> None:
    """Raise a ValueError unless torch can compute on the device."""
    available = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())] + ["cuda"] * torch.cuda.is_available()
    if device not in available:
        raise ValueError(f"device must be one of {', '.join(available)} on this machine; got {device!r}")


def device_name(device: str) -> str:
    """What the machine calls its processor, or the GPU."""
    if device != "cpu":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text("utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread inside, as experiments do; afterwards on as many as before.

    From then on the process keeps the memory that it frees (with glibc).
    """
    _keep_freed_memory()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def tf32_allowed(allowed: bool) -> Iterator[None]:
    """Let a GPU multiply with TF32's 10 bits inside, or not; afterwards as before."""
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = allowed
    try:
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.allow_tf32 = value


def peak_megabytes() -> int:
    """The most memory that the process has held so far."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says on Linux begins with the parent's memory
        return int(status.read_text("utf-8").partition("VmHWM:")[2].split()[0]) >> 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 20


def git(*arguments: str, root: Path = Path(__file__).parents[1]) -> bytes:
    """What git says of a folder's own repository, by default the library's, whatever variables name another one.

    Raises:
        FileNotFoundError: it has none; one that holds it among other folders is another project's.
        OSError: git is not there, or refuses, as in a folder that belongs to another user; in its own words.
    """
    if not (root / ".git").exists():
        raise FileNotFoundError(f"{root} is no git repository")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment["GIT_CEILING_DIRECTORIES"] = str(root.resolve().parent)
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, env=environment)
    except FileNotFoundError as error:
        raise OSError("git is not installed") from error
    if done.returncode:
        raise OSError(f"git fails in {root}: {' '.join(done.stderr.decode(errors='replace').split())}")
    return done.stdout


def _keep_freed_memory() -> None:
    # glibc returns large blocks to the system at once; getting them back takes about a tenth of a training.
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    for parameter in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
        getattr(libc, "mallopt", lambda *_: None)(parameter, 1 << 30)

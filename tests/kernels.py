"""A pytest plugin: chapters run in kernels that are forked from a process that has imported what chapters import.

PyTorch, pandas and Matplotlib take longer to import than most chapters to run, and records to read. Each kernel is a
process of its own, as any other, and ends with the tests at the latest.
"""

import gc
import multiprocessing
import os
import runpy
import sys
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from jupyter_client.launcher import launch_kernel
from jupyter_client.provisioning import local_provisioner

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(  # Adam imports the second; the last is found from the repository's root
    ["prlib.pages", "torch._dynamo", "ipykernel.kernelapp", "tests.warm"]
)


class Kernel:
    """A forked kernel with what ``LocalProvisioner`` asks of a ``subprocess.Popen``.

    Args:
        command: ``python -m ipykernel_launcher ARGUMENT ...``.
        env, cwd: as ``subprocess.Popen``'s.
    """

    stdin = stdout = stderr = None

    def __init__(self, command: Sequence[str], env: Mapping[str, str], cwd: str = ".", **kwargs: object) -> None:
        begun = CONTEXT.Event()
        arguments = (begun, command[2:], Path(cwd).resolve(), dict(env))
        self._process = CONTEXT.Process(target=_launch, args=arguments, daemon=True)
        self._process.start()
        assert self._process.pid
        self.pid = self._process.pid
        if not begun.wait(60):  # until then a signal to its group would be one to ours
            raise RuntimeError(f"a kernel has not begun after a minute; its exit status is {self.poll()}")
        self.kill, self.terminate = self._process.kill, self._process.terminate

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int | None:
        self._process.join()
        return self._process.exitcode

    def send_signal(self, signum: int) -> None:
        os.kill(self.pid, signum)


def _launch(begun: Event, arguments: list[str], cwd: Path, environment: dict[str, str]) -> None:
    os.setsid()
    begun.set()
    gc.freeze()
    sys.path[:] = [folder for folder in sys.path if folder != str(Path(__file__).parent)]  # which no reader has there
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    threading.Thread(target=_end_with, args=[multiprocessing.parent_process()], daemon=True).start()
    sys.argv = [*arguments, f"--IPKernelApp.parent_handle={os.getppid()}"]  # else it says how to end it by hand
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


def _end_with(tests: multiprocessing.process.BaseProcess) -> None:
    tests.join()
    os._exit(1)


def _forked(command: Sequence[str], **options: Any) -> Any:
    ours = list(command[:3]) == [sys.executable, "-m", "ipykernel_launcher"]
    return Kernel(command, **options) if ours else launch_kernel(list(command), **options)


if sys.platform == "linux":  # elsewhere a library may not work in a forked process
    local_provisioner.launch_kernel = _forked

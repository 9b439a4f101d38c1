"""A pytest plugin: chapters run in kernels that are forked from a process that has imported what chapters import.

PyTorch, pandas and Matplotlib take longer to import than most chapters to run. Each kernel is a process of its own, as
any other, and ends with the tests at the latest.
"""

import gc
import multiprocessing
import os
import runpy
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from jupyter_client.provisioning import local_provisioner

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["prlib.pages", "torch._dynamo", "ipykernel.kernelapp"])  # Adam imports the second


class Kernel:
    """A forked kernel with what ``LocalProvisioner`` asks of a ``subprocess.Popen``.

    Args:
        command: ``python -m ipykernel_launcher ARGUMENT ...``.
        env, cwd: as ``subprocess.Popen``'s.
    """

    stdin = stdout = stderr = None

    def __init__(self, command: Sequence[str], env: Mapping[str, str], cwd: str = ".", **kwargs: object) -> None:
        self._process = CONTEXT.Process(target=_launch, args=(command[2:], Path(cwd).resolve(), dict(env)), daemon=True)
        self._process.start()
        self.pid = self._process.pid or 0
        while os.getpgid(self.pid) != self.pid:  # until then a signal to its group would be one to ours
            time.sleep(0.001)
        self.kill, self.terminate = self._process.kill, self._process.terminate

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int | None:
        self._process.join()
        return self._process.exitcode

    def send_signal(self, signum: int) -> None:
        os.kill(self.pid, signum)


def _launch(arguments: list[str], cwd: Path, environment: dict[str, str]) -> None:
    os.setsid()
    gc.freeze()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    threading.Thread(target=_end_with, args=[multiprocessing.parent_process()], daemon=True).start()
    sys.argv = [*arguments, f"--IPKernelApp.parent_handle={os.getppid()}"]  # else it says how to end it by hand
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


def _end_with(tests: multiprocessing.process.BaseProcess) -> None:
    tests.join()
    os._exit(1)


local_provisioner.launch_kernel = Kernel  # type: ignore[assignment]

"""Several pieces of work side by side, each in a process of its own: a GPU, or a CPU's cores, shared by trainings."""

import multiprocessing
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from typing import Any, TextIO, TypeVar

from prlib import collector

T = TypeVar("T")


def take(waiting: list[T], busy: Callable[[T], bool]) -> T:
    """Remove the first task that is not busy, or the first of all if each of them is."""
    chosen = next((task for task in waiting if not busy(task)), waiting[0])
    waiting.remove(chosen)
    return chosen


def side_by_side(
    work: Callable[..., int], tasks: Mapping[str, tuple[Any, ...]], jobs: int, busy: Callable[[str], bool]
) -> dict[str, int]:
    """Call ``work(*arguments)`` for each named task, so many at a time, and return the tasks' exit statuses.

    What a task prints has its name in front of every line. A task that fails stops no other. An interruption, or the
    end of this process by SIGTERM, ends them all.

    Args:
        work: a function of a module, returning an exit status.
        tasks: their names and the arguments, which must be picklable.
        jobs: how many at a time.
        busy: whether another process is at work on a task, by its name; such tasks are begun last.
    """
    context = multiprocessing.get_context("spawn")  # a process that has used a GPU cannot be forked
    waiting, running = list(tasks), dict[str, SpawnProcess]()
    statuses: dict[str, int] = {}
    before = signal.signal(signal.SIGTERM, _end)
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                name = take(waiting, busy)
                # Pickled here, so that the process imports what the task needs when it has paused its collector.
                process = context.Process(target=_named, args=(name, pickle.dumps((work, tasks[name]))))
                with _interruptions_ignored():  # a terminal interrupts all; who starts this one ends it
                    process.start()
                running[name] = process
            wait([process.sentinel for process in running.values()])
            for name in [name for name, process in running.items() if not process.is_alive()]:
                statuses[name] = running.pop(name).exitcode or 0
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.join()
        signal.signal(signal.SIGTERM, before)
    return {name: statuses[name] for name in tasks}


def _end(signum: int, frame: object) -> None:
    sys.exit(128 + signum)


@contextmanager
def _interruptions_ignored() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which a process that is started inside takes over
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _named(name: str, task: bytes) -> None:
    with redirect_stdout(_Named(name, sys.stdout)), redirect_stderr(_Named(name, sys.stderr)):
        try:
            with collector.paused(freeze=True):
                work, arguments = pickle.loads(task)
            signal.signal(signal.SIGTERM, _end)  # from here on it clears up behind itself
            status = work(*arguments)
        except Exception:
            traceback.print_exc()
            status = 1
    sys.exit(status)


class _Named:
    """Puts a name in front of every line, and writes whole lines only, so that those of two processes do not mix."""

    def __init__(self, name: str, stream: TextIO) -> None:
        self.name, self.stream, self.line = name, stream, ""

    def write(self, text: str) -> int:
        *lines, self.line = (self.line + text).split("\n")
        if lines:
            self.stream.write("".join(f"{self.name}: {line}\n" for line in lines))
            self.stream.flush()
        return len(text)

    def flush(self) -> None:
        self.stream.flush()

    def isatty(self) -> bool:
        return False

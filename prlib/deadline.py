"""A time limit for whatever runs inside: work that would not be done in time is not begun, or left unstored."""

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

_END = ContextVar("_END", default=math.inf)


class OutOfTime(Exception):  # noqa: N818, nothing went wrong
    """The time limit is over, or would be before the next piece of work is done."""


@contextmanager
def time_limit(end: float) -> Iterator[None]:
    """Limit what runs inside to a moment of ``time.time()``, which processes share; infinity is no limit."""
    token = _END.set(end)
    try:
        yield
    finally:
        _END.reset(token)


def seconds_left() -> float:
    """How long there is until the time limit; infinity without one."""
    return _END.get() - time.time()


def check_time(needed: float = 0.0) -> None:
    """Raise ``OutOfTime`` unless there are more than so many seconds left."""
    if seconds_left() <= needed:
        raise OutOfTime


def in_time(items: Iterable[T]) -> Iterator[T]:
    """Yield the items, but none that would not be dealt with in time if it takes as long as the slowest so far."""
    slowest = 0.0
    for item in items:
        check_time(slowest)
        started = time.time()
        yield item
        slowest = max(slowest, time.time() - started)

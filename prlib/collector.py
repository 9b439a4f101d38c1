"""Python's garbage collector, which makes imports of seconds longer by a third."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """Import modules in here: what they define is no garbage, so that nobody need look through it meanwhile."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()

"""Python's garbage collector, which makes imports of seconds slower by a third."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """Import modules in here: what they define stays, so that nobody looks through it for garbage, now or later."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if before:
            gc.enable()

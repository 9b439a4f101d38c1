"""Python's garbage collector, which makes imports that take seconds longer by a third."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused(freeze: bool = False) -> Iterator[None]:
    """Collect no garbage in here, for imports: what they define stays.

    Args:
        freeze: that nothing of what is there in the end is ever looked through; only for who owns the process.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
        if freeze:
            gc.freeze()  # before it is back, or its first look is at all of this
    finally:
        if before:
            gc.enable()

"""Python's garbage collector, which makes imports that take seconds longer by a third."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """Collect no garbage in here, for imports: what they define stays.

    Whoever owns the process ends with ``gc.freeze()`` in here, or the collector's next look is at all of that.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()

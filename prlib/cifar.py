"""CIFAR-10's Python version, read without running what a pickle asks for."""

import io
import pickle
from typing import Any

import numpy as np

PIXELS = 3 * 32 * 32


def records(content: bytes) -> bytearray:
    """The records of the binary version, a label byte and 3,072 pixels each, of a batch of the Python version.

    Raises:
        ValueError: it is no such batch, or asks for anything but arrays.
    """
    try:
        batch = _Batch(io.BytesIO(content), encoding="bytes").load()
        _, shape, _, columns_first, pixels = batch[b"data"].state
        pixels = np.frombuffer(pixels, np.uint8).reshape(shape, order="F" if columns_first else "C")
        labels = np.array(batch[b"labels"], np.uint8).reshape(-1, 1)
        return bytearray(np.hstack([labels, pixels.reshape(-1, PIXELS)]).tobytes())
    except Exception as error:  # unpickling damaged content can raise anything
        raise ValueError(f"this is no batch of CIFAR-10's Python version: {error!r}") from error


class _Array:
    """What stands in for NumPy's arrays and types: it is never called, and keeps its state."""

    def __init__(self, *_: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Batch(pickle.Unpickler):
    """Knows the three names that such a file asks for, and has a stand-in for each."""

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "numpy" and name in ("_reconstruct", "ndarray", "dtype"):
            return _Array
        raise ValueError(f"a pickle that asks for {module}.{name} is not read")

"""The inside of a conversion's isolated process: one framework, one model, questions about it."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from importlib import import_module
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from hauberk.convert.messages import Answer, Greeting, Question, Setup, packed, unpacked
from hauberk.errors import HauberkError, InputError, one_line

Feeds = dict[str, NDArray[np.generic]]


class Model(Protocol):
    """What a module of `hauberk.convert.frameworks` makes of a file: `load(setup)` returns one.

    Attributes:
        version: Of the framework.
        notes: What a reader should know.
    """

    version: str
    notes: tuple[str, ...]

    def convert(self) -> tuple[bytes, tuple[str, ...]]:
        """The model as a serialised graph, and notes on how it was made."""

    def answer(self, feeds: Feeds) -> list[NDArray[np.generic]]:
        """What the framework itself answers."""


class _Handler:
    """Answers a conversion's questions."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.greeting = msgspec.msgpack.encode(Greeting(model.version, model.notes))

    def answer(self, question: bytes) -> bytes:
        asked = msgspec.msgpack.decode(question, type=Question)
        try:
            if asked.feeds is None:
                model, notes = self._model.convert()
                return msgspec.msgpack.encode(Answer(model=model, notes=notes))
            answered = self._model.answer({name: unpacked(array) for name, array in asked.feeds.items()})
        except (HauberkError, MemoryError):
            raise
        except Exception as error:  # frameworks raise anything, and what they say is what the user must know
            raise InputError(f"{type(error).__name__}: {one_line(error)}") from error
        return msgspec.msgpack.encode(Answer(outputs=tuple(map(packed, answered))))


_UNUSED = dict.fromkeys(("lightgbm", "xgboost"), ("dask", "pandas", "pyarrow", "sklearn"))
"""What libraries import where it is installed, and do not need to answer rows of numbers: a second of processor time,
and code that a hostile model has no business with."""


def begin(setup: bytes) -> _Handler:
    """Load a model in its framework; the target of `hauberk.sandbox.worker`, for a process with nothing else to do.

    Raises:
        InputError: The framework does not read it.
    """
    for name in _UNUSED.get(msgspec.msgpack.decode(setup, type=Setup).framework, ()):
        sys.modules.setdefault(name, None)  # type: ignore[arg-type] # how Python is told that there is none
    return start(setup)


def start(setup: bytes) -> _Handler:
    """Load a model in its framework.

    Raises:
        InputError: The framework does not read it.
    """
    warnings.simplefilter("ignore")  # of libraries, about what an isolated process cannot do
    # Libraries ask for folders of theirs, to find settings or to keep caches; no folder here can be written, and one
    # that is there and holds nothing of the kind will do.
    tempfile.tempdir = os.environ["TORCHINDUCTOR_CACHE_DIR"] = os.environ["KERAS_HOME"] = sys.prefix
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["HDF5_USE_FILE_LOCKING"] = "FALSE"
    told = msgspec.msgpack.decode(setup, type=Setup)
    module = import_module(f"hauberk.convert.frameworks.{told.framework}")
    try:
        return _Handler(module.load(told))
    except (HauberkError, MemoryError):
        raise
    except Exception as error:
        raise InputError(f"{told.framework} does not read it: {type(error).__name__}: {one_line(error)}") from error

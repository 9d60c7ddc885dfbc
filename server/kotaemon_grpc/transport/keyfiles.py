"""Files of certificates and keys: what is wrong with them is told to the operator."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kotaemon_grpc.auth import files
from kotaemon_grpc.auth.reload import SourceError
from kotaemon_grpc.core.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LOCK = ".lock"

MEND = "mend it or name another file"
INIT = 'run "kotaemon-grpc certs init" or name another file'
"""The advice about a file of the development PKI, which that command makes."""


def read(path: Path, what: str, advice: str = MEND) -> bytes:
    """Read a file that must be there.

    Args:
        path: the file.
        what: its kind, for the error: `certificate`, `key`.
        advice: what to do about a file that is not there, as the end of a sentence.

    Raises:
        OperatorError: it is missing, cannot be read, is no regular file or too large.
    """
    try:
        return files.read(path)
    except OSError as error:
        if isinstance(error, PermissionError):
            advice = "make it readable or name another file"
        raise OperatorError(
            f"{what} {path} cannot be read: {os.strerror(error.errno or 0).lower()}; {advice}"
        ) from None
    except SourceError as error:
        raise OperatorError(f"{what} {path} cannot be used: {error}; name another file") from None


@contextmanager
def writing(directory: Path) -> Iterator[None]:
    """Write to a directory, which is created with mode 0700 if it is missing.

    Raises:
        OperatorError: the directory cannot be written.
    """
    try:
        if not directory.is_dir():
            directory.parent.mkdir(parents=True, exist_ok=True)
            directory.mkdir(mode=files.PRIVATE_DIRECTORY, exist_ok=True)
        yield
    except OSError as error:
        raise OperatorError(
            f"cannot write certificates to {directory}: {os.strerror(error.errno or 0).lower()}; "
            "make it writable or choose another directory"
        ) from None


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the lock of a directory while writing to it; wait for it.

    Raises:
        OperatorError: the directory cannot be written.
    """
    with writing(directory), files.holding(directory / _LOCK):
        yield
